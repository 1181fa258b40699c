package bus_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/bus"
)

// BenchmarkDeliver is one message from the log to its Ack.
func BenchmarkDeliver(b *testing.B) {
	all := newTopics(b)
	_, w, err := all.open("ctl")
	if err != nil {
		b.Fatal(err)
	}
	const n = 2000
	for range n {
		d, err := events.NewDraft(uuid.UUID{1}, events.UnknownActor(), "Test", events.AccessDenied{Reason: events.UnknownKey})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := w.Append(b.Context(), d); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		s, err := bus.NewSubscriber(bus.SubscriberConfig{
			Consumer: "bench", Logs: all.reader, Cursors: &bus.MemoryCursors{}, Pause: time.Millisecond,
			Failed: func(_ string, err error) { b.Error(err) },
		})
		if err != nil {
			b.Fatal(err)
		}
		messages, err := s.Subscribe(b.Context(), "ctl")
		if err != nil {
			b.Fatal(err)
		}
		for i := 0; i < n && done < b.N; i++ {
			(<-messages).Ack()
			done++
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

package bus_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/bus"
	"github.com/holdfast-pam/holdfast/events/store"
)

const topic = "ctl"

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// bench is one log with what a test needs around it.
type bench struct {
	*testing.T
	all     *topics
	cursors bus.MemoryCursors
	failed  chan error
}

func newBench(t *testing.T) *bench {
	return &bench{T: t, all: newTopics(t), failed: make(chan error, 8)}
}

// write appends n events of one stream, their text being their number.
func (b *bench) write(n int) []events.Record {
	b.Helper()
	_, w, err := b.all.open(topic)
	if err != nil {
		b.Fatal(err)
	}
	var out []events.Record
	for i := range n {
		d, err := events.NewDraft(uuid.UUID{1}, events.UnknownActor(), "Test", events.AccessDenied{Detail: strconv.Itoa(i)})
		if err != nil {
			b.Fatal(err)
		}
		records, err := w.Append(b.Context(), d)
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, records...)
	}
	return out
}

func (b *bench) subscriber(cfg bus.SubscriberConfig) *bus.Subscriber {
	b.Helper()
	if cfg.Logs == nil {
		cfg.Logs = b.all.reader
	}
	if cfg.Cursors == nil {
		cfg.Cursors = &b.cursors
	}
	cfg.Consumer, cfg.Pause = "test", time.Millisecond
	cfg.Failed = func(_ string, err error) { b.failed <- err }
	s, err := bus.NewSubscriber(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

func (b *bench) subscribe(s *bus.Subscriber) <-chan *message.Message {
	b.Helper()
	messages, err := s.Subscribe(b.Context(), topic)
	if err != nil {
		b.Fatal(err)
	}
	return messages
}

// next takes a message and gives its record's position.
func (b *bench) next(messages <-chan *message.Message) (*message.Message, uint64) {
	b.Helper()
	select {
	case m, ok := <-messages:
		if !ok {
			b.Fatal("the subscription ended")
		}
		r, err := bus.RecordOf(m)
		if err != nil {
			b.Fatal(err)
		}
		return m, r.Header.Position
	case <-time.After(patience):
		b.Fatal("no message came")
	}
	return nil, 0
}

// take acknowledges n messages and gives their positions.
func (b *bench) take(messages <-chan *message.Message, n int) []uint64 {
	b.Helper()
	var at []uint64
	for range n {
		m, position := b.next(messages)
		at = append(at, position)
		m.Ack()
	}
	return at
}

func (b *bench) ended(messages <-chan *message.Message) {
	b.Helper()
	select {
	case _, ok := <-messages:
		if ok {
			b.Fatal("a message came after the end")
		}
	case <-time.After(patience):
		b.Fatal("the subscription did not end")
	}
}

func TestAMessageIsTheRecordAsStored(t *testing.T) {
	b := newBench(t)
	want := b.write(1)[0]
	m, _ := b.next(b.subscribe(b.subscriber(bus.SubscriberConfig{})))
	got, err := bus.RecordOf(m)
	if err != nil || string(got.Raw.Header) != string(want.Raw.Header) || string(got.Raw.Payload) != string(want.Raw.Payload) {
		t.Errorf("got %v, %v", got.Header, err)
	}
	if m.UUID != want.Header.ID.String() || m.Metadata[bus.MetaType] != "access.denied" || m.Metadata[bus.MetaPosition] != "1" {
		t.Errorf("message %s %v", m.UUID, m.Metadata)
	}
}

func TestASubscriberGoesOnWhereItsConsumerStopped(t *testing.T) {
	b := newBench(t)
	b.write(5)
	first := b.subscriber(bus.SubscriberConfig{})
	messages := b.subscribe(first)
	b.take(messages, 2)
	b.next(messages) // seen and not acknowledged: the site is lost here
	_ = first.Close()
	b.ended(messages)
	if got := b.take(b.subscribe(b.subscriber(bus.SubscriberConfig{})), 3); !slices.Equal(got, []uint64{3, 4, 5}) {
		t.Errorf("after the restart came %v", got)
	}
}

func TestARefusedMessageComesAgainBeforeAllOthers(t *testing.T) {
	b := newBench(t)
	b.write(2)
	messages := b.subscribe(b.subscriber(bus.SubscriberConfig{}))
	for range 3 {
		m, at := b.next(messages)
		if at != 1 {
			t.Fatalf("position %d came while 1 was refused", at)
		}
		m.Nack()
	}
	if got := b.take(messages, 2); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("got %v", got)
	}
}

func TestNothingComesBeforeTheAckOfTheOneBefore(t *testing.T) {
	b := newBench(t)
	b.write(2)
	messages := b.subscribe(b.subscriber(bus.SubscriberConfig{}))
	m, _ := b.next(messages)
	select {
	case <-messages:
		t.Fatal("a second message came")
	case <-time.After(20 * time.Millisecond):
	}
	m.Ack()
	b.take(messages, 1)
}

func TestRecordsAreFollowedAsTheyAreWritten(t *testing.T) {
	b := newBench(t)
	messages := b.subscribe(b.subscriber(bus.SubscriberConfig{}))
	for i := range 20 {
		b.write(1)
		if got := b.take(messages, 1); got[0] != uint64(i+1) {
			t.Fatalf("got %v after record %d", got, i+1)
		}
	}
}

func TestEpochsAreReadOneAfterAnother(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"epoch 1", "epoch 2"} {
		_, w, err := b.all.open(name)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			d, _ := events.NewDraft(uuid.UUID{1}, events.UnknownActor(), "", events.AccessDenied{Detail: name})
			if _, err := w.Append(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := b.subscriber(bus.SubscriberConfig{Logs: func(string) ([]bus.Log, error) {
		one, _, _ := b.all.open("epoch 1")
		two, _, err := b.all.open("epoch 2")
		return []bus.Log{one, two}, err
	}})
	if got := b.take(b.subscribe(s), 6); !slices.Equal(got, []uint64{1, 2, 3, 1, 2, 3}) {
		t.Errorf("got %v", got)
	}
}

func TestUnwantedRecordsMoveTheCursor(t *testing.T) {
	b := newBench(t)
	b.write(5000)
	log, w, _ := b.all.open(topic)
	d, _ := events.NewDraft(uuid.UUID{1}, events.UnknownActor(), "", events.UserDisabled{})
	s := b.subscriber(bus.SubscriberConfig{Wants: bus.Types("user.disabled")})
	messages := b.subscribe(s)
	if _, err := w.Append(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if _, at := b.next(messages); at != 5001 { // and no Ack
		t.Errorf("got %d", at)
	}
	_ = s.Close()
	if at, _ := b.cursors.Load(t.Context(), "test", log.Origin()); at != 4096 {
		t.Errorf("the cursor stands at %d, want the last step before the message that was not acknowledged", at)
	}
}

func TestAConsumerMayBeginAtTheEnd(t *testing.T) {
	b := newBench(t)
	b.write(3)
	log, _, _ := b.all.open(topic)
	if err := bus.AtEnd(t.Context(), &b.cursors, "test", log); err != nil {
		t.Fatal(err)
	}
	messages := b.subscribe(b.subscriber(bus.SubscriberConfig{}))
	b.write(1)
	if got := b.take(messages, 1); got[0] != 4 {
		t.Errorf("got %v", got)
	}
}

func TestASubscriptionEnds(t *testing.T) {
	for name, end := range map[string]func(b *bench, s *bus.Subscriber, cancel context.CancelFunc){
		"with its context": func(_ *bench, _ *bus.Subscriber, cancel context.CancelFunc) { cancel() },
		"with Close":       func(_ *bench, s *bus.Subscriber, _ context.CancelFunc) { _ = s.Close() },
		"with the log": func(b *bench, _ *bus.Subscriber, _ context.CancelFunc) {
			log, _, _ := b.all.open(topic)
			_ = log.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.write(1)
			s := b.subscriber(bus.SubscriberConfig{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			messages, err := s.Subscribe(ctx, topic)
			if err != nil {
				t.Fatal(err)
			}
			b.take(messages, 1)
			end(b, s, cancel)
			b.ended(messages)
			if len(b.failed) > 0 {
				t.Errorf("an end in order was called a failure: %v", <-b.failed)
			}
		})
	}
}

// brokenLog yields damage after its first record.
type brokenLog struct{ bus.Log }

func (l brokenLog) Read(ctx context.Context, from uint64) iter.Seq2[events.Entry, error] {
	return func(yield func(events.Entry, error) bool) {
		for e := range l.Log.Read(ctx, from) {
			if !yield(e, nil) || !yield(events.Entry{}, &store.DamageError{Origin: l.Origin(), Position: from + 1}) {
				return
			}
		}
	}
}

type brokenCursors struct{ bus.MemoryCursors }

func (*brokenCursors) Store(context.Context, string, events.Origin, uint64) error {
	return errors.New("disk full")
}

// What can't be read or kept ends the subscription, loudly, before anything is
// passed over.
func TestFailuresEndTheSubscriptionAndAreTold(t *testing.T) {
	b := newBench(t)
	b.write(3)
	log, _, _ := b.all.open(topic)
	far := &bus.MemoryCursors{}
	_ = far.Store(t.Context(), "test", log.Origin(), 99)
	for name, c := range map[string]struct {
		cfg  bus.SubscriberConfig
		want string
		get  int
	}{
		"damaged log":                {bus.SubscriberConfig{Cursors: &bus.MemoryCursors{}, Logs: func(string) ([]bus.Log, error) { return []bus.Log{brokenLog{log}}, nil }}, "damaged at position 2", 1},
		"cursor that can't be kept":  {bus.SubscriberConfig{Cursors: &brokenCursors{}}, "disk full", 1},
		"cursor of another log copy": {bus.SubscriberConfig{Cursors: far}, "another copy", 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bench{T: t, all: b.all, failed: make(chan error, 1)}
			messages := b.subscribe(b.subscriber(c.cfg))
			b.take(messages, c.get)
			b.ended(messages)
			if err := <-b.failed; !errorSays(err, c.want) {
				t.Errorf("told %v, want %q", err, c.want)
			}
		})
	}
	s := b.subscriber(bus.SubscriberConfig{Logs: func(string) ([]bus.Log, error) { return nil, nil }})
	if _, err := s.Subscribe(t.Context(), "none"); !errorSays(err, "no log") {
		t.Errorf("topic without a log: %v", err)
	}
	closed := b.subscriber(bus.SubscriberConfig{})
	_ = closed.Close()
	if _, err := closed.Subscribe(t.Context(), topic); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := bus.NewSubscriber(bus.SubscriberConfig{}); err == nil {
		t.Error("a subscriber without anything was made")
	}
}

func errorSays(err error, text string) bool {
	return err != nil && strings.Contains(err.Error(), text)
}

func TestPublishedDraftsAreOneCommitInTheLog(t *testing.T) {
	b := newBench(t)
	p := bus.NewPublisher(b.all.appender)
	parent := uuid.New()
	var messages []*message.Message
	for i := range 3 {
		m, err := bus.DraftMessage(events.Draft{
			ID: uuid.New(), Stream: uuid.UUID{9}, Actor: events.UserActor(events.UserID{UUID: uuid.UUID{7}}),
			Command: "Test", Parent: parent, Event: events.UserDisabled{Reason: fmt.Sprint(i)},
		})
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, m)
	}
	if err := p.Publish(topic, messages...); err != nil {
		t.Fatal(err)
	}
	got := b.subscribe(b.subscriber(bus.SubscriberConfig{}))
	for i := range 3 {
		m, _ := b.next(got)
		r, err := bus.RecordOf(m)
		if err != nil {
			t.Fatal(err)
		}
		e, err := r.Event()
		if err != nil || e.(events.UserDisabled).Reason != fmt.Sprint(i) || r.Header.ID.String() != messages[i].UUID ||
			r.Header.Parent != parent || r.Header.Actor.ID != (uuid.UUID{7}) || r.Header.Stream != (uuid.UUID{9}) || r.Header.Command != "Test" {
			t.Errorf("record %d: %+v %v", i, r.Header, err)
		}
		m.Ack()
	}
}

func TestOnlyDraftsCanBePublished(t *testing.T) {
	b := newBench(t)
	p := bus.NewPublisher(b.all.appender)
	good := func() *message.Message {
		d, _ := events.NewDraft(uuid.UUID{9}, events.UnknownActor(), "", events.UserDisabled{})
		m, err := bus.DraftMessage(d)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for name, spoil := range map[string]func(m *message.Message){
		"foreign metadata": func(m *message.Message) { m.Metadata["trace"] = "x" },
		"no stream":        func(m *message.Message) { delete(m.Metadata, bus.MetaStream) },
		"no id":            func(m *message.Message) { m.UUID = "x" },
		"nil id":           func(m *message.Message) { m.UUID = uuid.Nil.String() },
		"unknown type":     func(m *message.Message) { m.Metadata[bus.MetaType] = "moon.landed" },
		"bad version":      func(m *message.Message) { m.Metadata[bus.MetaVersion] = "99999" },
		"bad parent":       func(m *message.Message) { m.Metadata[bus.MetaParent] = "x" },
		"arbitrary bytes":  func(m *message.Message) { m.Payload = []byte("hello") },
	} {
		m := good()
		spoil(m)
		if err := p.Publish(topic, good(), m); !errors.Is(err, bus.ErrBadMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	log, _, _ := b.all.open(topic)
	if size, _ := log.Size(); size != 0 {
		t.Errorf("%d records were written beside a bad one", size)
	}
	_ = p.Close()
	if err := p.Publish(topic, good()); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A process manager that fails and panics still sees every event, in order,
// and after a restart the ones that it had not finished.
func TestRouterBringsEveryEventUntilItIsHandled(t *testing.T) {
	b := newBench(t)
	b.write(5)
	run := func(stopAt uint64) (seen []uint64) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, err := bus.NewRouter(bus.RouterConfig{Retries: 1, First: time.Millisecond, Close: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		tries := map[uint64]int{}
		err = bus.Handle(r, "manager", topic, b.subscriber(bus.SubscriberConfig{}),
			func(_ context.Context, at events.Record, e events.AccessDenied) error {
				n := at.Header.Position
				tries[n]++
				switch {
				case n == 2 && tries[n] == 1:
					return errors.New("not now")
				case n == 3 && tries[n] < 4: // more than the router retries
					panic("oops")
				case n == stopAt:
					cancel()
					return context.Canceled
				}
				seen = append(seen, n)
				if n == 5 {
					cancel()
				}
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Run(ctx); err != nil {
			t.Fatal(err)
		}
		return seen
	}
	if got := run(4); !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Errorf("first run saw %v", got)
	}
	if got := run(0); len(got) == 0 || got[0] > 4 || got[len(got)-1] != 5 {
		t.Errorf("second run saw %v", got)
	}
}

func FuzzRecordOf(f *testing.F) {
	f.Add([]byte{0, 0})
	f.Add([]byte{1, 0xa0, 1, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := bus.RecordOf(message.NewMessage("x", b)); err == nil && r.Header.Position == 0 {
			t.Error("a record without a position passed")
		}
	})
}

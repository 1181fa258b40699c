package projections

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/memory"
)

// memoryLog opens an empty log.
func memoryLog(t *testing.T, o events.Origin) store.Log {
	t.Helper()
	log, err := memory.New(o).Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

func appendTo(t *testing.T, log store.Log, records ...events.Record) {
	t.Helper()
	for _, r := range records {
		if err := log.Append(t.Context(), r.Header.Position-1, []events.Entry{r.Raw}); err != nil {
			t.Fatal(err)
		}
	}
}

// Two epochs of a site, the first one sealed, are followed as one history.
func TestEpochsOfASite(t *testing.T) {
	first := newSite(t, 1)
	second := newSite(t, 1)
	second.origin.Epoch = 2
	c, story := play(first)
	rec := first.origin
	rec.Kind = events.Rec
	e := &Epochs{
		Ctl: []store.Log{memoryLog(t, first.origin), memoryLog(t, second.origin)},
		Rec: []store.Log{memoryLog(t, rec)},
	}
	for _, r := range story {
		appendTo(t, e.logs(r.Header.Kind)[0], r)
	}
	if err := e.Ctl[0].Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := openTest(t, e)
	stop := running(t, p)
	for _, r := range story {
		if r.Header.Kind == events.Ctl {
			second.learn(r)
		}
	}
	removed := second.ctl(c.grant.UUID, events.GrantRemoved{Reason: "moved on"})
	go func() {
		time.Sleep(5 * time.Millisecond) // while the runner waits
		appendTo(t, e.Ctl[1], removed)
	}()
	if err := p.WaitFor(shortly(t), second.origin, 1); err != nil {
		t.Fatal(err)
	}
	if g, err := p.Grant(t.Context(), c.grant); err != nil || g.State != "removed" {
		t.Errorf("grant = %+v, %v", g, err)
	}
	if err := p.WaitFor(shortly(t), rec, first.rec); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	before := digestOf(t, p)
	if err := p.Rebuild(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if after := digestOf(t, p); after != before {
		t.Errorf("digest %s, rebuilt %s", before, after)
	}
}

func TestRecHeadersComeWithoutPayloads(t *testing.T) {
	s := newSite(t, 1)
	o := s.origin
	o.Kind = events.Rec
	e := &Epochs{Rec: []store.Log{memoryLog(t, o)}}
	appendTo(t, e.Rec[0], s.packets(events.SessionID{UUID: numbered('x', 1)}, 10))
	n := 0
	for r, err := range e.Records(t.Context(), events.Rec, events.Clock{}) {
		if n++; err != nil || r.Raw.Payload != nil || r.Header.PayloadSize != 10 {
			t.Errorf("record %+v, %v", r.Header, err)
		}
	}
	if n != 1 {
		t.Errorf("%d records, want 1", n)
	}
	if e.Watch(events.Ctl, events.Clock{}) != nil {
		t.Error("a kind without logs never wakes")
	}
}

func TestACheckpointBeyondTheLogIsRefused(t *testing.T) {
	s := newSite(t, 1)
	e := &Epochs{Ctl: []store.Log{memoryLog(t, s.origin)}}
	for _, err := range e.Records(t.Context(), events.Ctl, events.Clock{}.With(s.origin, 7)) {
		if err == nil || !strings.Contains(err.Error(), "another copy of the log") {
			t.Errorf("Records = %v", err)
		}
		return
	}
	t.Error("nothing was yielded")
}

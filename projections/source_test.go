package projections

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/applylog"
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

func orderFile(t *testing.T) *applylog.Log {
	t.Helper()
	order, err := applylog.Open(filepath.Join(t.TempDir(), "order"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = order.Close() })
	return order
}

func woven(t *testing.T, order *applylog.Log, ctl []store.Log, rec ...store.Log) *Woven {
	t.Helper()
	w := NewWoven(order, ctl, rec)
	t.Cleanup(w.Close)
	return w
}

// What two sites decided comes in the order in which this one applied it,
// whatever its log got meanwhile, from every place on the way; what is held and
// was not applied does not come at all.
func TestDecisionsComeInTheOrderOfTheirApplication(t *testing.T) {
	own, other := newSite(t, 1), newSite(t, 2)
	logs := map[events.Origin]store.Log{own.origin: memoryLog(t, own.origin), other.origin: memoryLog(t, other.origin)}
	order := orderFile(t)
	w := woven(t, order, []store.Log{logs[own.origin]})
	write := func(s *writerSite, n int) {
		for range n {
			appendTo(t, logs[s.origin], s.ctl(numbered('g', s.next), events.GrantRemoved{}))
		}
	}
	apply := func(o events.Origin, to uint64) {
		t.Helper()
		if err := order.Append(o, to); err != nil {
			t.Fatal(err)
		}
	}
	read := func(from events.Clock) (out []string) {
		t.Helper()
		for r, err := range w.Records(t.Context(), events.Ctl, from) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("%d.%d", map[events.Origin]int{own.origin: 1, other.origin: 2}[r.Header.Origin()], r.Header.Position))
		}
		return out
	}
	grown := w.Watch(events.Ctl, events.Clock{})
	write(own, 2)
	<-grown
	write(other, 3)
	w.Add(logs[other.origin])
	if got := read(events.Clock{}); !slices.Equal(got, []string{"1.1", "1.2"}) {
		t.Fatalf("before anything was applied: %v", got)
	}
	apply(own.origin, 2)
	apply(other.origin, 2)
	write(own, 3)
	all := []string{"1.1", "1.2", "2.1", "2.2", "1.3", "1.4", "1.5"}
	check := func() {
		t.Helper()
		for n := range len(all) {
			var from events.Clock
			for _, name := range all[:n] {
				o := own.origin
				if name[0] == '2' {
					o = other.origin
				}
				from = from.With(o, from.At(o)+1)
			}
			if got := read(from); !slices.Equal(got, all[n:]) {
				t.Errorf("after %v came %v", all[:n], got)
			}
		}
		if held := w.Held(events.Ctl); held.At(own.origin)+held.At(other.origin) != uint64(len(all)) {
			t.Errorf("held %s", held)
		}
	}
	check()
	grown = w.Watch(events.Ctl, w.Held(events.Ctl))
	apply(own.origin, 5)
	apply(other.origin, 3)
	w.Grew(events.Ctl)
	<-grown
	write(own, 1)
	all = append(all, "2.3", "1.6")
	check()
}

// Two epochs of a site, the first one sealed, are followed as one history.
func TestEpochsOfASite(t *testing.T) {
	first := newSite(t, 1)
	second := newSite(t, 1)
	second.origin.Epoch = 2
	c, story := play(first)
	rec := first.origin
	rec.Kind = events.Rec
	ctl, recs := []store.Log{memoryLog(t, first.origin), memoryLog(t, second.origin)}, memoryLog(t, rec)
	for _, r := range story {
		if r.Header.Kind == events.Rec {
			appendTo(t, recs, r)
			continue
		}
		appendTo(t, ctl[0], r)
	}
	if err := ctl[0].Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	order := orderFile(t)
	size, _ := ctl[0].Size()
	if err := order.Append(first.origin, size); err != nil {
		t.Fatal(err)
	}
	p := openTest(t, woven(t, order, ctl, recs))
	stop := running(t, p)
	for _, r := range story {
		if r.Header.Kind == events.Ctl {
			second.learn(r)
		}
	}
	removed := second.ctl(c.grant.UUID, events.GrantRemoved{Reason: "moved on"})
	go func() {
		time.Sleep(5 * time.Millisecond) // while the runner waits
		appendTo(t, ctl[1], removed)
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
	rec := memoryLog(t, o)
	e := woven(t, orderFile(t), []store.Log{memoryLog(t, s.origin)}, rec)
	appendTo(t, rec, s.packets(events.SessionID{UUID: numbered('x', 1)}, 10))
	n := 0
	for r, err := range e.Records(t.Context(), events.Rec, events.Clock{}) {
		if n++; err != nil || r.Raw.Payload != nil || r.Header.PayloadSize != 10 {
			t.Errorf("record %+v, %v", r.Header, err)
		}
	}
	if n != 1 {
		t.Errorf("%d records, want 1", n)
	}
}

func TestACheckpointBeyondTheLogIsRefused(t *testing.T) {
	s := newSite(t, 1)
	e := woven(t, orderFile(t), []store.Log{memoryLog(t, s.origin)})
	for _, err := range e.Records(t.Context(), events.Ctl, events.Clock{}.With(s.origin, 7)) {
		if err == nil || !strings.Contains(err.Error(), "another copy of the log") {
			t.Errorf("Records = %v", err)
		}
		return
	}
	t.Error("nothing was yielded")
}

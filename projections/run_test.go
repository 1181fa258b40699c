package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// running runs the projections until the test ends; the result stops them
// early and gives what Run returned.
func running(t *testing.T, p *Projections) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

func shortly(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestRunFollowsTheLogs(t *testing.T) {
	s, source := newSite(t, 1), newSource()
	p := openTest(t, source)
	stop := running(t, p)
	for i := range 20 {
		r := s.ctl(numbered('u', uint64(i)), events.UserAdded{Name: fmt.Sprint("user", i)})
		source.append(r)
		if err := p.WaitFor(shortly(t), s.origin, r.Header.Position); err != nil {
			t.Fatal(err)
		}
		if _, err := p.User(t.Context(), fmt.Sprint("user", i)); err != nil {
			t.Fatalf("read your writes: %v", err)
		}
	}
	session := events.SessionID{UUID: numbered('x', 1)}
	packets := s.packets(session, 10)
	source.append(packets)
	if err := p.WaitFor(shortly(t), packets.Header.Origin(), 1); err != nil {
		t.Fatal(err)
	}
	if extents, err := p.Extents(t.Context(), session, s.origin.Site); err != nil || len(extents) != 1 {
		t.Errorf("extents: %v, %v", extents, err)
	}
	if err := stop(); err != nil {
		t.Errorf("an orderly end gives %v", err)
	}
}

func TestWaitForEnds(t *testing.T) {
	s, source := newSite(t, 1), newSource()
	p := openTest(t, source)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.WaitFor(ctx, s.origin, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with its context: %v", err)
	}
	stop := running(t, p)
	waited := make(chan error, 1)
	go func() { waited <- p.WaitFor(shortly(t), s.origin, 1) }()
	for p.changesRunning() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err == nil || !strings.Contains(err.Error(), "not running") {
		t.Errorf("with Run: %v", err)
	}
}

func (p *Projections) changesRunning() int {
	p.notes.Lock()
	defer p.notes.Unlock()
	return p.running
}

func TestRunReturnsWhatWentWrong(t *testing.T) {
	s, source := newSite(t, 1), newSource()
	addUsers(s, source, "a", "poison", "b")
	p := openTest(t, source, append(registered(), counting(1, "poison"))...)
	stop := running(t, p)
	if err := p.WaitFor(shortly(t), s.origin, 3); err != nil {
		t.Fatalf("a projection that has stopped holds nobody up: %v", err)
	}
	// A rebuild gives the one that stopped another try; here it fails again.
	var failed *FailedError
	if err := p.Rebuild(t.Context(), nil); !errors.As(err, &failed) {
		t.Errorf("Rebuild = %v, want the failure of counting", err)
	}
	if users, err := p.Users(t.Context(), Filter{}); err != nil || len(users) != 3 {
		t.Errorf("the others are rebuilt: %v, %v", users, err)
	}
	failed = nil
	if err := stop(); !errors.As(err, &failed) || failed.Position != 2 {
		t.Errorf("Run = %v, want the failure of counting", err)
	}
}

// Damage in one kind of log stops what is built from that log, after the last
// record before it; everything else goes on, and so does what stopped when the
// log can be read again.
func TestDamageInOneLogStopsOnlyWhatReadsIt(t *testing.T) {
	damage := errors.New("log is damaged at position 41")
	for _, kind := range []events.Kind{events.Rec, events.Ctl} {
		t.Run(string(kind), func(t *testing.T) {
			s, source := newSite(t, 1), newSource()
			c, all := play(s)
			source.append(all...)
			source.breaks(kind, damage)
			p := openTest(t, source)
			told := make(chan *FailedError, len(registered()))
			p.told = func(e *FailedError) { told <- e }
			stop := running(t, p)
			rec := events.Origin{Site: s.origin.Site, Epoch: 1, Kind: events.Rec}
			for origin, end := range map[events.Origin]uint64{s.origin: s.next, rec: s.rec} {
				if err := p.WaitFor(shortly(t), origin, end); err != nil {
					t.Fatalf("what has stopped holds nobody up: %v", err)
				}
			}
			if e := <-told; !errors.Is(e, damage) || p.Trouble() != nil {
				t.Errorf("told of %v, in trouble for %v", e, p.Trouble())
			}
			_, users := p.Users(t.Context(), Filter{})
			_, extents := p.Extents(t.Context(), c.shell, s.origin.Site)
			for of, err := range map[events.Kind]error{events.Ctl: users, events.Rec: extents} {
				if of == kind != errors.Is(err, damage) {
					t.Errorf("reading a view of the %s log: %v", of, err)
				}
			}
			for _, status := range p.Status() {
				if status.Reads == kind != (status.Failed != "") || status.Behind != 0 {
					t.Errorf("status of %s: %+v", status.Name, status)
				}
			}
			if err := p.Rebuild(t.Context(), nil); !errors.Is(err, damage) {
				t.Errorf("Rebuild = %v, want the damage", err)
			}
			var failed *FailedError
			if err := stop(); !errors.As(err, &failed) || !errors.Is(err, damage) {
				t.Errorf("Run = %v, want what has stopped", err)
			}
			source.breaks("", nil)
			source.append(s.packets(c.shell, 10), s.ctl(numbered('u', 9), events.UserAdded{Name: "eve"}))
			for _, kind := range []events.Kind{events.Ctl, events.Rec} {
				if _, _, err := p.step(t.Context(), kind, true); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := p.User(t.Context(), "eve"); err != nil {
				t.Errorf("after the repair: %v", err)
			}
			if x, err := p.Extents(t.Context(), c.shell, s.origin.Site); err != nil || x[len(x)-1].Last != s.rec {
				t.Errorf("after the repair: %+v, %v", x, err)
			}
		})
	}
}

func TestTroubleIsWhyNothingIsApplied(t *testing.T) {
	p := openTest(t, newSource())
	stop := running(t, p)
	for p.changesRunning() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := p.Trouble(); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := p.Trouble(); err == nil || !strings.Contains(err.Error(), "not running") {
		t.Errorf("after its end: %v", err)
	}
}

// Who needs views that have ended has them run again, and waits for that and for no
// longer than it takes.
func TestViewsThatHaveEndedAreRunAgain(t *testing.T) {
	p := openTest(t, newSource())
	p.Again(t.Context(), func() { t.Error("what never ran has not ended") })
	if err := running(t, p)(); err != nil {
		t.Fatal(err)
	}
	var stop func() error
	p.Again(t.Context(), func() { stop = running(t, p) })
	if err := p.Trouble(); err != nil {
		t.Errorf("they are not running: %v", err)
	}
	p.Again(t.Context(), func() { t.Error("they run already") })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	p.Again(ctx, func() {}) // nobody does
	if ctx.Err() == nil {
		t.Error("it did not wait")
	}
}

func TestAStoppedProjectionIsTakenUpAgainByARebuild(t *testing.T) {
	s, source := newSite(t, 1), newSource()
	def := counting(1, "poison")
	broken := true
	apply := def.on[0].apply
	def.on[0].apply = func(w *writer, r *record) error {
		if broken && r.Header.Position == 2 {
			return errors.New("broken")
		}
		return apply(w, r)
	}
	p := openTest(t, source, def)
	addUsers(s, source, "a", "b")
	catchUp(t, p)
	stop := running(t, p)
	broken = false
	if err := p.Rebuild(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	addUsers(s, source, "c")
	if err := p.WaitFor(shortly(t), s.origin, 3); err != nil {
		t.Fatal(err)
	}
	if n := counted(t, p); n != 3 {
		t.Errorf("counted %d, want 3", n)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestRebuildWhileReadAndWritten(t *testing.T) {
	s, source := newSite(t, 1), newSource()
	c, all := play(s)
	source.append(all...)
	p := openTest(t, source)
	stop := running(t, p)
	if err := p.WaitFor(shortly(t), s.origin, s.next); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	workers.Go(func() {
		for ctx.Err() == nil {
			if _, err := p.Session(t.Context(), c.shell); err != nil {
				t.Errorf("while rebuilding: %v", err)
				return
			}
		}
	})
	workers.Go(func() {
		for i := 0; ctx.Err() == nil && i < 150; i++ {
			addUsers(s, source, fmt.Sprint("new", i))
			time.Sleep(time.Millisecond)
		}
	})
	for range 3 {
		if err := p.Rebuild(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	workers.Wait()
	if err := p.WaitFor(shortly(t), s.origin, s.next); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	catchUp(t, p)
	incremental := digestOf(t, p)
	if err := p.Rebuild(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if rebuilt := digestOf(t, p); rebuilt != incremental {
		t.Errorf("digest %s, rebuilt %s", incremental, rebuilt)
	}
}

func TestRebuildTellsItsProgress(t *testing.T) {
	source := longStory(t)
	addUsers(newSite(t, 2), source, make([]string, batchRecords)...)
	p := openTest(t, source)
	total := distance(events.Clock{}, source.Held(events.Ctl).Merge(source.Held(events.Rec)))
	var steps []uint64
	err := p.Rebuild(t.Context(), func(done, of uint64) {
		steps = append(steps, done)
		if of != total {
			t.Errorf("total is %d, want %d", of, total)
		}
	})
	if err != nil || len(steps) < 2 || !slices.IsSorted(steps) || steps[len(steps)-1] != total {
		t.Errorf("progress: %v of %d, %v", steps, total, err)
	}
}

func TestARebuildThatFailsLeavesTheOldOne(t *testing.T) {
	p, c, _ := opened(t)
	before := digestOf(t, p)
	source := p.source.(*fakeSource)
	source.err = errors.New("cannot read")
	if err := p.Rebuild(t.Context(), nil); !errors.Is(err, source.err) {
		t.Errorf("Rebuild = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	source.err = nil
	err := p.Rebuild(ctx, func(uint64, uint64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Rebuild = %v", err)
	}
	p.rebuilding.Lock()
	if err := p.Rebuild(t.Context(), nil); !errors.Is(err, ErrRebuilding) {
		t.Errorf("second Rebuild = %v", err)
	}
	p.rebuilding.Unlock()
	if got := digestOf(t, p); got != before {
		t.Errorf("digest went from %s to %s", before, got)
	}
	if _, err := p.Session(t.Context(), c.shell); err != nil {
		t.Error(err)
	}
	if names := files(t, p.files.dir); len(names) != 3 {
		t.Errorf("left over: %v", names)
	}
}

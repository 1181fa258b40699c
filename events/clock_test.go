package events

import (
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

var drawOrigin = rapid.Custom(func(t *rapid.T) Origin {
	var id uuid.UUID
	id[15] = rapid.Byte().Draw(t, "site") % 4
	return Origin{Site: SiteID{id}, Epoch: rapid.Uint32Range(1, 3).Draw(t, "epoch"), Kind: Ctl}
})

var drawClock = rapid.Custom(func(t *rapid.T) Clock {
	return NewClock(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ClockEntry {
		return ClockEntry{drawOrigin.Draw(t, "origin"), rapid.Uint64Range(0, 1<<40).Draw(t, "position")}
	}), 0, 8).Draw(t, "entries")...)
})

func TestClockMergeIsALeastUpperBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawClock.Draw(t, "a"), drawClock.Draw(t, "b"), drawClock.Draw(t, "c")
		m := a.Merge(b)
		if !m.Covers(a) || !m.Covers(b) {
			t.Fatalf("%s does not cover %s and %s", m, a, b)
		}
		if m.Compare(b.Merge(a)) != Equal || a.Merge(a).Compare(a) != Equal {
			t.Fatal("merge is not commutative and idempotent")
		}
		if a.Merge(b.Merge(c)).Compare(m.Merge(c)) != Equal {
			t.Fatal("merge is not associative")
		}
		if c.Covers(a) && c.Covers(b) && !c.Covers(m) {
			t.Fatalf("%s covers both but not their merge %s", c, m)
		}
	})
}

func TestClockCompare(t *testing.T) {
	o := func(n byte) Origin {
		var id uuid.UUID
		id[0] = n
		return Origin{Site: SiteID{id}, Epoch: 1, Kind: Ctl}
	}
	base := NewClock(ClockEntry{o(1), 3})
	more := base.With(o(2), 1)
	other := base.With(o(3), 1)
	for _, c := range []struct {
		a, b Clock
		want Order
	}{
		{Clock{}, Clock{}, Equal}, {base, base, Equal}, {base, more, Before},
		{more, base, After}, {more, other, Concurrent}, {Clock{}, base, Before},
	} {
		if got := c.a.Compare(c.b); got != c.want {
			t.Errorf("(%s).Compare(%s) = %v, want %v", c.a, c.b, got, c.want)
		}
	}
	if base.With(o(1), 0).Compare(Clock{}) != Equal {
		t.Error("setting a component to 0 does not remove it")
	}
	if base.At(o(2)) != 0 || more.At(o(2)) != 1 {
		t.Error("With changed the clock that it was called on")
	}
}

// Deltas decode to the clocks they were made from, step by step, and a moved
// component of a known origin costs few bytes.
func TestClockDeltas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w, r ClockCoder
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			next := w.Clock().Merge(drawClock.Draw(t, "clock"))
			d, err := w.Delta(next)
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Apply(d)
			if err != nil {
				t.Fatal(err)
			}
			if got.Compare(next) != Equal {
				t.Fatalf("decoded %s, want %s", got, next)
			}
		}
	})
	var w ClockCoder
	c := NewClock(ClockEntry{Origin{Epoch: 1, Kind: Ctl}, 10})
	if _, err := w.Delta(c); err != nil {
		t.Fatal(err)
	}
	d, err := w.Delta(c.With(Origin{Epoch: 1, Kind: Ctl}, 20))
	if err != nil || len(d) > 2 {
		t.Errorf("one known origin moved by 10: %d bytes, %v; want at most 2", len(d), err)
	}
	if _, err := w.Delta(Clock{}); err == nil {
		t.Error("a clock that goes back was accepted")
	}
	if _, err := w.Delta(w.Clock().With(Origin{Epoch: 1, Kind: Rec}, 1)); err == nil {
		t.Error("a component for a rec log was accepted")
	}
}

func FuzzClockDelta(f *testing.F) {
	var w ClockCoder
	d, err := w.Delta(NewClock(ClockEntry{Origin{Epoch: 1, Kind: Ctl}, 1}, ClockEntry{Origin{Epoch: 2, Kind: Ctl}, 300}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(d)
	f.Fuzz(func(t *testing.T, b []byte) {
		var k ClockCoder
		c, err := k.Apply(b)
		if err != nil {
			if len(k.known) != 0 || k.Clock().Compare(Clock{}) != Equal {
				t.Fatal("a refused delta changed the coder")
			}
			return
		}
		var again ClockCoder
		if _, err := again.Delta(c); err != nil {
			t.Fatalf("accepted %s, which does not encode: %v", c, err)
		}
	})
}

// A reader that begins from a snapshot goes on as one that read everything.
func TestClockSnapshot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w ClockCoder
		steps := rapid.IntRange(0, 10)
		step := func() (delta []byte) {
			delta, err := w.Delta(w.Clock().Merge(drawClock.Draw(t, "clock")))
			if err != nil {
				t.Fatal(err)
			}
			return delta
		}
		for range steps.Draw(t, "before") {
			step()
		}
		var r ClockCoder
		if _, err := r.Apply(w.Snapshot()); err != nil {
			t.Fatal(err)
		}
		for range steps.Draw(t, "after") {
			got, err := r.Apply(step())
			if err != nil || got.Compare(w.Clock()) != Equal {
				t.Fatalf("after the snapshot: %s, %v; want %s", got, err, w.Clock())
			}
		}
	})
}

// Of the logs of sites that have left nothing is written into clocks any more: a clock
// says what moved, and in each new log once what there is. So sites that have left need
// not be taken out of clocks (rule R18).
func TestLogsThatStandStillCostNothing(t *testing.T) {
	cost := func(left int) (first, event int) {
		var coder ClockCoder
		var clock Clock
		origin := func(n int) Origin {
			return Origin{Site: SiteID{UUID: uuid.UUID{14: byte(n >> 8), 15: byte(n)}}, Epoch: 1, Kind: Ctl}
		}
		for n := range 2 + left {
			clock = clock.With(origin(n), 100_000)
		}
		delta, err := coder.Delta(clock)
		if err != nil {
			t.Fatal(err)
		}
		first = len(delta)
		const steps = 1000
		for n := range uint64(steps) {
			clock = clock.With(origin(0), 100_001+n).With(origin(1), 100_001+n)
			if delta, err = coder.Delta(clock); err != nil {
				t.Fatal(err)
			}
			event += len(delta)
		}
		return first, event / steps
	}
	firstFew, eventFew := cost(0)
	firstMany, eventMany := cost(50)
	t.Logf("a site with two live peers: %d bytes for the first clock of a log and %d for each event; beside 50 that left %d and %d", firstFew, eventFew, firstMany, eventMany)
	if eventMany != eventFew || firstMany > firstFew+50*24 {
		t.Errorf("sites that have left cost something: %d bytes for each event instead of %d, %d for the first clock", eventMany, eventFew, firstMany)
	}
}

// Sites that are taken in without end make logs without end: what others write in theirs
// can be read all the same, goes on to claim what it knew before, and claims of the new
// ones as much as can be read.
func TestAttackMoreLogsThanAClockHolds(t *testing.T) {
	o := func(n int) Origin {
		var id uuid.UUID
		id[0], id[1], id[2] = 1, byte(n>>8), byte(n)
		return Origin{Site: SiteID{id}, Epoch: 1 << 30, Kind: Ctl}
	}
	var writer, reader ClockCoder
	last := o(1 << 15) // sorts behind all the others
	for round := range uint64(3) {
		var next Clock
		for n := range 2500 * int(round) {
			next.entries = append(next.entries, ClockEntry{o(n), round + 1<<20})
		}
		next.entries = append(next.entries, ClockEntry{last, round + 2})
		for again := range 3 {
			delta, err := writer.Delta(next)
			if err != nil {
				t.Fatal(err)
			}
			if len(delta) > MaxHeaderSize-4096 {
				t.Fatalf("a delta of %d bytes", len(delta))
			}
			got, err := reader.Apply(delta)
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			if got.Compare(writer.Clock()) != Equal || !next.Covers(got) || got.At(last) != round+2 {
				t.Fatalf("round %d: a reader comes to another clock than was written", round)
			}
			if want := min(2500*int(round)+1, maxClockOrigins); again == 2 && len(got.Entries()) != want {
				t.Errorf("round %d: %d logs are claimed, want %d", round, len(got.Entries()), want)
			}
		}
	}
}

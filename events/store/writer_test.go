package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/memory"
	"github.com/holdfast-pam/holdfast/events/store/storetest"
)

// slowLog is a log whose appends wait for the test and may be told to fail.
type slowLog struct {
	store.Log
	gate chan struct{} // nil for no waiting; one receive for each append

	mu      sync.Mutex
	full    bool
	fail    error
	commits [][]events.Entry
}

func (l *slowLog) Append(ctx context.Context, expect uint64, entries []events.Entry) error {
	if l.gate != nil {
		<-l.gate
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	if l.full && !store.MayUseHeadroom(ctx) {
		return fmt.Errorf("test: %w", store.ErrFull)
	}
	l.commits = append(l.commits, entries)
	return l.Log.Append(ctx, expect, entries)
}

func newSlowLog(tb testing.TB, gate chan struct{}) *slowLog {
	log, err := memory.New(storetest.Origin).Open()
	if err != nil {
		tb.Fatal(err)
	}
	return &slowLog{Log: log, gate: gate}
}

// chunk is a session record of a stream, numbered, of a size.
func chunk(tb testing.TB, stream byte, number, size int) events.Draft {
	d, err := events.NewDraft(uuid.UUID{stream}, events.SiteActor(storetest.Origin.Site), "",
		events.SessionPackets{First: uint64(number), Count: 1, Sealed: make([]byte, size)})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func prepare(tb testing.TB, d ...events.Draft) []store.Prepared {
	p, err := store.Prepare(d...)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// records reads a log and checks what the writer owns: positions and HLC.
func records(tb testing.TB, log store.Log) []events.Record {
	tb.Helper()
	var out []events.Record
	for e, err := range log.Read(context.Background(), 1) {
		if err != nil {
			tb.Fatal(err)
		}
		r, err := events.DecodeEntry(e)
		if err != nil {
			tb.Fatal(err)
		}
		if r.Header.Position != uint64(len(out))+1 || r.Header.Origin() != log.Origin() {
			tb.Fatalf("record %d says position %d of %s", len(out)+1, r.Header.Position, r.Header.Origin())
		}
		if n := len(out); n > 0 && r.Header.HLC <= out[n-1].Header.HLC {
			tb.Fatalf("HLC of record %d does not grow", n+1)
		}
		out = append(out, r)
	}
	return out
}

// number is what chunk was given.
func number(tb testing.TB, r events.Record) int {
	e, err := r.Event()
	if err != nil {
		tb.Fatal(err)
	}
	return int(e.(events.SessionPackets).First)
}

func TestAppendGivesRecords(t *testing.T) {
	log := newSlowLog(t, nil)
	w := newWriter(t, log)
	got, err := w.Append(t.Context(), chunk(t, 1, 1, 10), chunk(t, 2, 2, 9000), chunk(t, 1, 3, 10))
	if err != nil {
		t.Fatal(err)
	}
	stored := records(t, log)
	if len(got) != 3 || len(stored) != 3 || len(log.commits) != 1 {
		t.Fatalf("%d records returned, %d stored in %d commits; want 3, 3, 1", len(got), len(stored), len(log.commits))
	}
	for i := range got {
		if !bytes.Equal(got[i].Raw.Header, stored[i].Raw.Header) || got[i].Header.Position != uint64(i)+1 || number(t, stored[i]) != i+1 {
			t.Errorf("record %d differs from what is stored", i+1)
		}
	}
}

// TestStreamsKeepTheirOrder hands over groups of all sizes from several
// streams and checks every rule of the batches on what was committed.
func TestStreamsKeepTheirOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		log := newSlowLog(t, nil)
		w, err := store.NewWriter(log, store.WriterConfig{Ticker: &events.Ticker{Now: time.Now}, Now: time.Now, Queue: 1 << 20})
		if err != nil {
			rt.Fatal(err)
		}
		streams := rapid.IntRange(1, 5).Draw(rt, "streams")
		plans := make([][][]store.Prepared, streams)
		for s := range plans {
			n := 0
			for range rapid.IntRange(1, 25).Draw(rt, "groups") {
				var group []events.Draft
				for range rapid.IntRange(1, 3).Draw(rt, "drafts") {
					n++
					group = append(group, chunk(t, byte(s), n, rapid.SampledFrom([]int{10, 300, 5000, 40_000, 150_000}).Draw(rt, "size")))
				}
				plans[s] = append(plans[s], prepare(t, group...))
			}
		}
		var wg sync.WaitGroup
		total, last := 0, uint64(0)
		for s, plan := range plans {
			for _, g := range plan {
				total += len(g)
			}
			wg.Go(func() {
				for _, g := range plan {
					err := w.Submit(context.Background(), g, func(r []events.Record, err error) {
						if err != nil || len(r) != len(g) || r[0].Header.Position != last+1 {
							t.Errorf("stream %d: group of %d answered with %d records, %v, after position %d", s, len(g), len(r), err, last)
						}
						last = r[len(r)-1].Header.Position
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if err := w.Close(); err != nil {
			rt.Fatal(err)
		}
		next := map[uuid.UUID]int{}
		stored := records(t, log)
		for _, r := range stored {
			next[r.Header.Stream]++
			if n := number(t, r); n != next[r.Header.Stream] {
				rt.Fatalf("stream %x: record %d was stored in place %d", r.Header.Stream[:1], n, next[r.Header.Stream])
			}
		}
		if len(stored) != total {
			rt.Fatalf("%d of %d records are stored", len(stored), total)
		}
		checkCommits(rt, log)
	})
}

// checkCommits checks the caps: over 1 MiB only with a single group.
func checkCommits(t *rapid.T, log *slowLog) {
	for i, c := range log.commits {
		size := 0
		for _, e := range c {
			size += len(e.Header) + len(e.Payload)
		}
		if size > 1<<20 && len(c) > 3 {
			t.Errorf("commit %d has %d records of %d bytes", i, len(c), size)
		}
	}
}

// TestSmallGoesFirst queues bulk, then a keystroke, while a commit is under
// way: the keystroke is in the next commit, which is short.
func TestSmallGoesFirst(t *testing.T) {
	gate := make(chan struct{})
	log := newSlowLog(t, gate)
	w := newWriter(t, log)
	var wg sync.WaitGroup
	submit := func(d events.Draft) {
		wg.Add(1)
		if err := w.Submit(t.Context(), prepare(t, d), func(_ []events.Record, err error) {
			if err != nil {
				t.Error(err)
			}
			wg.Done()
		}); err != nil {
			t.Fatal(err)
		}
	}
	submit(chunk(t, 1, 1, 32<<10))
	for i := range 60 {
		submit(chunk(t, 1, i+2, 32<<10))
	}
	submit(chunk(t, 2, 1, 50))  // a keystroke of another stream
	submit(chunk(t, 1, 62, 50)) // a small one of the bulk stream must not overtake
	close(gate)
	wg.Wait()
	place := -1
	for i, c := range log.commits {
		for _, e := range c {
			if h, _ := events.DecodeHeader(e.Header); h.Stream == (uuid.UUID{2}) {
				place = i
			}
		}
	}
	if place < 0 || place > 2 {
		t.Errorf("the keystroke is in commit %d of %d", place, len(log.commits))
	}
	for i, c := range log.commits[place:] {
		size := 0
		for _, e := range c {
			size += len(e.Payload)
		}
		if size > 132<<10 && i == 0 {
			t.Errorf("the commit with the keystroke has %d bytes", size)
		}
	}
	got := 0
	for _, r := range records(t, log) {
		if r.Header.Stream == (uuid.UUID{1}) {
			if got++; number(t, r) != got {
				t.Fatalf("bulk record %d in place %d", number(t, r), got)
			}
		}
	}
}

func TestFullFailsOnlyWhatMayNotUseHeadroom(t *testing.T) {
	gate := make(chan struct{}, 100)
	log := newSlowLog(t, gate)
	w := newWriter(t, log)
	log.full = true
	type answer struct {
		who string
		err error
	}
	answers := make(chan answer, 10)
	submit := func(ctx context.Context, who string, d events.Draft) {
		if err := w.Submit(ctx, prepare(t, d), func(_ []events.Record, err error) { answers <- answer{who, err} }); err != nil {
			t.Fatal(err)
		}
	}
	submit(t.Context(), "plain", chunk(t, 1, 1, 10))
	submit(store.WithHeadroom(t.Context()), "marked", chunk(t, 2, 2, 10))
	submit(t.Context(), "plain", chunk(t, 1, 3, 50_000))
	submit(store.WithHeadroom(t.Context()), "marked", chunk(t, 1, 4, 10))
	for range 50 {
		gate <- struct{}{}
	}
	for range 4 {
		if a := <-answers; (a.who == "plain") != errors.Is(a.err, store.ErrFull) || a.who == "marked" && a.err != nil {
			t.Errorf("%s draft: %v", a.who, a.err)
		}
	}
	log.mu.Lock()
	log.full = false
	log.mu.Unlock()
	if _, err := w.Append(t.Context(), chunk(t, 1, 5, 10)); err != nil {
		t.Errorf("after space came back: %v", err)
	}
	if n := len(records(t, log)); n != 3 {
		t.Errorf("%d records, want 3", n)
	}
}

func TestFailureFailsEverything(t *testing.T) {
	gate := make(chan struct{})
	log := newSlowLog(t, gate)
	w, err := store.NewWriter(log, store.WriterConfig{Ticker: &events.Ticker{Now: time.Now}, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("disk on fire")
	log.fail = cause
	answers := make(chan error, 10)
	for i := range 5 {
		if err := w.Submit(t.Context(), prepare(t, chunk(t, 1, i+1, 10_000*i)), func(_ []events.Record, err error) { answers <- err }); err != nil {
			t.Fatal(err)
		}
	}
	close(gate)
	for range 5 {
		if err := <-answers; !errors.Is(err, cause) || !errors.Is(err, store.ErrClosed) {
			t.Errorf("waiting draft: %v", err)
		}
	}
	if _, err := w.Append(t.Context(), chunk(t, 1, 6, 1)); !errors.Is(err, cause) || !errors.Is(err, store.ErrClosed) {
		t.Errorf("later draft: %v", err)
	}
	if err := w.Close(); !errors.Is(err, cause) {
		t.Errorf("Close = %v", err)
	}
}

func TestQueueIsBounded(t *testing.T) {
	gate := make(chan struct{})
	log := newSlowLog(t, gate)
	w, err := store.NewWriter(log, store.WriterConfig{Ticker: &events.Ticker{Now: time.Now}, Now: time.Now, Queue: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	done := func([]events.Record, error) {}
	accepted := 0
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for ; accepted < 100; accepted++ {
		if err = w.Submit(ctx, prepare(t, chunk(t, 1, accepted+1, 20_000)), done); err != nil {
			break
		}
	}
	if !errors.Is(err, context.DeadlineExceeded) || accepted < 4 || accepted > 10 {
		t.Errorf("%d groups of 20 kB were taken, then %v", accepted, err)
	}
	close(gate)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(records(t, log)); n != accepted {
		t.Errorf("%d records of %d accepted", n, accepted)
	}
	if err := w.Submit(t.Context(), prepare(t, chunk(t, 1, 1, 1)), done); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Submit after Close = %v", err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

func TestAppendTakesBackWhatWaits(t *testing.T) {
	gate := make(chan struct{})
	log := newSlowLog(t, gate)
	w := newWriter(t, log)
	first := make(chan error, 1)
	if err := w.Submit(t.Context(), prepare(t, chunk(t, 1, 1, 10)), func(_ []events.Record, err error) { first <- err }); err != nil {
		t.Fatal(err)
	}
	gate <- struct{}{} // the first commit is under way or done
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	second := make(chan error, 1)
	if err := w.Submit(t.Context(), prepare(t, chunk(t, 1, 2, 10)), func(_ []events.Record, err error) { second <- err }); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // the worker takes it and waits at the gate
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := w.Append(ctx, chunk(t, 1, 3, 10)); !errors.Is(err, context.Canceled) {
		t.Errorf("Append = %v, want Canceled", err)
	}
	close(gate)
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	if n := len(records(t, log)); n != 2 {
		t.Errorf("%d records; the one that was taken back must not be there", n)
	}
}

func TestPrepareRefuses(t *testing.T) {
	if _, err := store.Prepare(events.Draft{Event: struct{}{}}); !errors.Is(err, events.ErrUnknownType) {
		t.Errorf("undeclared event: %v", err)
	}
	if _, err := store.Prepare(chunk(t, 1, 1, events.MaxPayloadSize)); !errors.Is(err, store.ErrBadAppend) {
		t.Errorf("huge payload: %v", err)
	}
	long := chunk(t, 1, 1, 1)
	long.Command = strings.Repeat("x", 1000)
	if _, err := store.Prepare(long); !errors.Is(err, store.ErrBadAppend) {
		t.Errorf("long command: %v", err)
	}
	w := newWriter(t, newSlowLog(t, nil))
	if _, err := w.Append(t.Context()); !errors.Is(err, store.ErrBadAppend) {
		t.Errorf("no drafts: %v", err)
	}
}

// TestClockIsRestored reopens a ctl log and goes on with its clock, although
// the site's view is behind at first.
func TestClockIsRestored(t *testing.T) {
	origin := storetest.Origin
	origin.Kind = events.Ctl
	other := events.Origin{Site: events.SiteID{UUID: uuid.UUID{9}}, Epoch: 2, Kind: events.Ctl}
	disk := memory.New(origin)
	applied := events.NewClock(events.ClockEntry{Origin: other, Position: 5})
	var future events.HLC
	for life := range 3 {
		log, err := disk.Open()
		if err != nil {
			t.Fatal(err)
		}
		now := func() time.Time { return time.Unix(1000-int64(life), 0) } // goes back from life to life
		w, err := store.NewWriter(log, store.WriterConfig{Ticker: &events.Ticker{Now: now}, Now: now, Clock: func() events.Clock { return applied }})
		if err != nil {
			t.Fatal(err)
		}
		r, err := w.Append(t.Context(), chunk(t, 1, 1, 1), chunk(t, 1, 2, 1))
		if err != nil {
			t.Fatal(err)
		}
		if r[0].Header.HLC <= future {
			t.Errorf("life %d: HLC went back", life)
		}
		future = r[1].Header.HLC
		if life == 0 {
			applied = events.NewClock(events.ClockEntry{Origin: other, Position: 3}, events.ClockEntry{Origin: origin, Position: 1})
		}
		if err := errors.Join(w.Close(), log.Close()); err != nil {
			t.Fatal(err)
		}
	}
	log, err := disk.Open()
	if err != nil {
		t.Fatal(err)
	}
	var coder events.ClockCoder
	for _, r := range records(t, log) {
		if _, err := coder.Apply(r.Header.Clock); err != nil {
			t.Fatal(err)
		}
	}
	if c := coder.Clock(); c.At(other) != 5 || c.At(origin) != 1 {
		t.Errorf("the log's clock is %s", c)
	}
}

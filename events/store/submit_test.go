package store_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// TestSubmitBulkPassesNobody submits small records as part of bulk: they stay
// behind it, and neither they nor bulk say that somebody is typing.
func TestSubmitBulkPassesNobody(t *testing.T) {
	gate := make(chan struct{})
	log := newSlowLog(t, gate)
	w := newWriter(t, log)
	var wg sync.WaitGroup
	submit := func(how func(p []store.Prepared, done func([]events.Record, error)) error, d events.Draft) {
		t.Helper()
		wg.Add(1)
		if err := how(prepare(t, d), func(_ []events.Record, err error) {
			if err != nil {
				t.Error(err)
			}
			wg.Done()
		}); err != nil {
			t.Fatal(err)
		}
	}
	asBulk := func(p []store.Prepared, done func([]events.Record, error)) error {
		return w.SubmitBulk(t.Context(), p, done)
	}
	plainly := func(p []store.Prepared, done func([]events.Record, error)) error {
		return w.Submit(t.Context(), p, done)
	}
	submit(asBulk, chunk(t, 1, 1, 32<<10)) // is being written
	gate <- struct{}{}
	submit(asBulk, chunk(t, 2, 1, 32<<10))
	submit(asBulk, chunk(t, 3, 1, 50))
	if w.Crowded() {
		t.Error("crowded by bulk")
	}
	submit(plainly, chunk(t, 4, 1, 50))
	if !w.Crowded() {
		t.Error("not crowded by a keystroke")
	}
	close(gate)
	wg.Wait()
	var order []byte
	for _, r := range records(t, log)[1:] {
		order = append(order, r.Header.Stream[0])
	}
	// What the writer took before the keystroke came may go before it.
	if s := string(order); s != "\x04\x02\x03" && s != "\x02\x04\x03" && s != "\x02\x03\x04" {
		t.Errorf("order of streams %v", order)
	}
}

// TestSubmitHereCommitsInTheCaller expects the answer when SubmitHere returns,
// whatever it is.
func TestSubmitHereCommitsInTheCaller(t *testing.T) {
	log := newSlowLog(t, nil)
	w := newWriter(t, log)
	here := func(n int) (answer error, answered bool) {
		err := w.SubmitHere(t.Context(), prepare(t, chunk(t, 1, n, 50)), func(r []events.Record, err error) {
			answer, answered = err, true
			if err == nil && (len(r) != 1 || r[0].Header.Stream != uuid.UUID{1}) {
				t.Errorf("records %+v", r)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return answer, answered
	}
	for n := range 3 {
		if err, answered := here(n + 1); err != nil || !answered {
			t.Fatalf("submission %d: answered %v, %v", n, answered, err)
		}
	}
	log.full = true
	if err, answered := here(4); !errors.Is(err, store.ErrFull) || !answered {
		t.Errorf("full log: answered %v, %v", answered, err)
	}
	log.full = false
	if err, answered := here(4); err != nil || !answered {
		t.Errorf("log with room again: answered %v, %v", answered, err)
	}
	if got := len(records(t, log)); got != 4 {
		t.Errorf("%d records", got)
	}
}

// TestSubmitHereFromMany has goroutines commit for each other: each gets its
// answer, and each stream keeps its order.
func TestSubmitHereFromMany(t *testing.T) {
	log := newSlowLog(t, nil)
	w := newWriter(t, log)
	const streams, each = 8, 50
	var all sync.WaitGroup
	for s := range streams {
		all.Go(func() {
			for n := range each {
				answered := make(chan error, 1)
				err := w.SubmitHere(t.Context(), prepare(t, chunk(t, byte(s), n, 50)), func(_ []events.Record, err error) { answered <- err })
				if err := errors.Join(err, <-answered); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	next := map[byte]int{}
	for _, r := range records(t, log) {
		s := r.Header.Stream[0]
		if number(t, r) != next[s] {
			t.Fatalf("stream %d: record %d in place %d", s, number(t, r), next[s])
		}
		next[s]++
	}
	if len(next) != streams || next[0] != each {
		t.Errorf("records of each stream: %v", next)
	}
}

package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

func testAppendRead(t *testing.T, h *harness) {
	if h.log.Origin() != Origin {
		t.Fatalf("Origin = %s", h.log.Origin())
	}
	for _, n := range []int{1, 1, 7, 100, 1, 3} {
		h.append(n, 40*n)
		h.verify()
	}
}

func testEmpty(t *testing.T, h *harness) {
	h.verify()
	h.reopen()
	h.verify()
	for _, err := range h.log.Read(t.Context(), 0) {
		if err == nil {
			t.Fatal("reading from position 0 gave an entry")
		}
	}
	h.compare(5, nil)
}

func testFencing(_ *testing.T, h *harness) {
	h.append(3, 10)
	h.append(2, 10)
	h.refused(store.ErrFenced, 6, Entries(6, 1, 10)) // ahead
	h.refused(store.ErrFenced, 4, Entries(4, 1, 10)) // inside a commit
	h.refused(store.ErrFenced, 3, Entries(9, 2, 10)) // other content
	h.refused(store.ErrFenced, 0, Entries(0, 2, 10)) // part of a commit
	h.refused(store.ErrFenced, 0, Entries(0, 5, 10)) // more than the commit
	h.append(1, 10)
	h.verify()
}

// testTwoWriters races appends for every position: one wins each.
func testTwoWriters(t *testing.T, h *harness) {
	const writers, rounds = 4, 20
	for round := range uint64(rounds) {
		var wg sync.WaitGroup
		results := make([]error, writers)
		for w := range writers {
			wg.Go(func() {
				results[w] = h.log.Append(t.Context(), round, Entries(round+uint64(w)<<32, 1, 10))
			})
		}
		wg.Wait()
		won := -1
		for w, err := range results {
			switch {
			case err == nil && won >= 0:
				t.Fatalf("two writers got position %d", round+1)
			case err == nil:
				won = w
			case !errors.Is(err, store.ErrFenced):
				t.Fatal(err)
			}
		}
		if won < 0 {
			t.Fatalf("nobody got position %d", round+1)
		}
	}
	if size, _ := h.log.Size(); size != rounds {
		t.Fatalf("size %d after %d rounds", size, rounds)
	}
}

func testRetry(t *testing.T, h *harness) {
	h.append(2, 100)
	h.append(3, 100)
	h.append(1, 100)
	for range 2 {
		h.check(h.log.Append(t.Context(), 2, Entries(2, 3, 100)))
		h.check(h.log.Append(t.Context(), 5, Entries(5, 1, 100)))
		h.check(h.log.Append(t.Context(), 0, Entries(0, 2, 100)))
		h.verify()
		h.reopen()
	}
	changed := Entries(5, 1, 100)
	changed[0].Payload[99] ^= 1
	h.refused(store.ErrFenced, 5, changed)
}

func testReopen(_ *testing.T, h *harness) {
	for i := range 12 {
		h.append(i%3+1, 200*i)
		if i%2 == 0 {
			h.reopen()
		}
		if i%4 == 0 {
			h.reopen() // without an append between
		}
		h.verify()
	}
}

func testPrefixReads(_ *testing.T, h *harness) {
	for i := range 40 {
		h.append(i%4+1, 64*i)
	}
	for from := range h.want {
		h.compare(uint64(from)+1, h.want[from:])
	}
	h.compare(uint64(len(h.want))+1, nil)
	h.compare(1<<60, nil)
}

func testAbsentPayload(_ *testing.T, h *harness) {
	entries := Entries(0, 4, 500)
	entries[0].Payload = nil
	entries[1].Payload = []byte{}
	entries[3].Payload = nil
	h.appendThese(entries)
	only := Entries(4, 1, 0)
	only[0].Payload = nil
	h.appendThese(only)
	h.verify()
	h.reopen()
	h.verify()
	k, ok := h.log.(store.AbsentKeeper)
	if !ok {
		return
	}
	for from, want := range map[uint64][]uint64{1: {1, 4, 5}, 2: {4, 5}, 5: {5}, 6: nil} {
		var got []uint64
		for p, err := range k.Absent(h.Context(), from) {
			if err != nil {
				h.Fatal(err)
			}
			got = append(got, p)
		}
		if !slices.Equal(got, want) {
			h.Errorf("absent from %d: %d, want %d", from, got, want)
		}
	}
}

func testBigEntries(_ *testing.T, h *harness) {
	h.append(1, 10)
	h.append(1, events.MaxPayloadSize)
	h.append(3, 700_000)
	big := Entries(5, 1, 10)
	big[0].Header = append(big[0].Header, make([]byte, events.MaxHeaderSize-len(big[0].Header))...)
	h.appendThese(big)
	h.append(500, 33)
	h.verify()
	h.reopen()
	h.verify()
}

func testBadEntries(_ *testing.T, h *harness) {
	h.append(1, 10)
	h.refused(store.ErrBadAppend, 1, nil)
	h.refused(store.ErrBadAppend, 1, []events.Entry{{Payload: []byte("no header")}})
	h.refused(store.ErrBadAppend, 1, []events.Entry{{Header: make([]byte, events.MaxHeaderSize+1)}})
	h.refused(store.ErrBadAppend, 1, []events.Entry{{Header: []byte("h"), Payload: make([]byte, events.MaxPayloadSize+1)}})
	h.refused(store.ErrBadAppend, 1, Entries(1, 3, events.MaxPayloadSize))
	h.append(1, 10)
	h.verify()
}

func testCancelled(t *testing.T, h *harness) {
	h.append(2, 10)
	ctx := canceled(t)
	if err := h.log.Append(ctx, 2, Entries(2, 1, 10)); !errors.Is(err, context.Canceled) {
		t.Errorf("Append = %v", err)
	}
	if err := h.log.Seal(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Seal = %v", err)
	}
	var last error
	for _, last = range h.log.Read(ctx, 1) {
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("Read ended with %v", last)
	}
	h.append(1, 10)
	h.verify()
}

func testWatch(t *testing.T, h *harness) {
	at0, at2 := h.log.Watch(0), h.log.Watch(2)
	if closed(at0) || closed(at2) {
		t.Fatal("closed before anything was appended")
	}
	h.append(1, 10)
	wait(t, at0)
	if closed(at2) {
		t.Fatal("size 1 is not over 2")
	}
	h.append(2, 10)
	wait(t, at2)
	wait(t, h.log.Watch(0))
	at9 := h.log.Watch(9)
	h.check(h.log.Close())
	wait(t, at9)
	wait(t, h.log.Watch(99))
	h.log = nil
}

func wait(t *testing.T, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(10 * time.Second):
		t.Fatal("the watch was not closed")
	}
}

func testSeal(t *testing.T, h *harness) {
	h.append(3, 10)
	for range 2 {
		h.check(h.log.Seal(t.Context()))
		h.check(h.log.Seal(t.Context()))
		h.refused(store.ErrSealed, 3, Entries(3, 1, 10))
		h.check(h.log.Append(t.Context(), 0, Entries(0, 3, 10))) // a retry is still answered
		h.reopen()
		h.refused(store.ErrSealed, 3, Entries(3, 1, 10))
	}
}

func testClose(t *testing.T, h *harness) {
	h.append(3, 10)
	log := h.log
	h.check(log.Close())
	h.log = nil
	if err := log.Append(t.Context(), 3, Entries(3, 1, 10)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Append = %v", err)
	}
	if err := log.Seal(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Seal = %v", err)
	}
	for _, err := range log.Read(t.Context(), 1) {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("Read = %v", err)
		}
	}
	if err := log.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	h.reopen()
	h.verify()
}

func testLocked(t *testing.T, h *harness) {
	if second, err := h.open(); !errors.Is(err, store.ErrLocked) {
		t.Fatalf("opening twice = %v, %v; want ErrLocked", second, err)
	}
	h.append(1, 10)
	h.verify()
}

// testReaders reads while a writer appends: every reader sees a gap-free
// prefix that is at least what was acknowledged before it began and no more
// than what the log calls durable after it ended.
func testReaders(t *testing.T, h *harness) {
	const commits = 60
	done := make(chan struct{})
	var wg sync.WaitGroup
	for r := range 3 {
		wg.Go(func() {
			for !closed(done) {
				before, _ := h.log.Size()
				n := uint64(0)
				for e, err := range h.log.Read(t.Context(), 1) {
					if err != nil {
						t.Error(err)
						return
					}
					n++
					if want := Entries(n-1, 1, 0)[0].Header; string(e.Header) != string(want) {
						t.Errorf("reader %d: entry %d is %q", r, n, e.Header)
						return
					}
				}
				if after, _ := h.log.Size(); n < before || n > after {
					t.Errorf("reader %d saw %d entries; the log had %d before and %d after", r, n, before, after)
					return
				}
			}
		})
	}
	for i := range commits {
		h.append(i%5+1, 50*i)
	}
	close(done)
	wg.Wait()
	h.verify()
}

func testStopEarly(t *testing.T, h *harness) {
	h.append(50, 100)
	for range 20 {
		n := 0
		for range h.log.Read(t.Context(), 1) {
			if n++; n == 10 {
				break
			}
		}
	}
	h.verify()
}

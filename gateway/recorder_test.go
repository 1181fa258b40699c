package gateway

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// slowLog takes submissions and answers them when it is told to.
type slowLog struct {
	t testing.TB

	mu   sync.Mutex
	took []int // how many records each submission had
	done []func(error)

	manner  manner // of the last one
	crowded bool
}

func (l *slowLog) submit(prepared []store.Prepared, m manner, done func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, len(prepared))
	l.manner = m
	l.done = append(l.done, done)
}

func (l *slowLog) commit() {
	l.t.Helper()
	l.mu.Lock()
	if len(l.done) == 0 {
		l.t.Fatal("nothing was submitted")
	}
	done := l.done[0]
	l.done = l.done[1:]
	l.mu.Unlock()
	done(nil)
	synctest.Wait()
}

func (l *slowLog) want(took ...int) {
	l.t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if diff := cmp.Diff(took, l.took); diff != "" {
		l.t.Errorf("records of each submission (-want +got):\n%s", diff)
	}
}

// pass lets time pass and what is due happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// batchOf is a batch with one record of a size.
func batchOf(t testing.TB, size int) *batch {
	d, err := (&scribe{}).draft(events.SessionPackets{})
	must(t, err)
	p, err := store.PrepareEncoded(d, make([]byte, size))
	must(t, err)
	return &batch{prepared: []store.Prepared{p}}
}

func TestGathering(t *testing.T) {
	const key, bulk = 100, 200 << 10
	// run gives a recorder whose last submission, of bulk, has just become durable while nothing waited.
	run := func(name string, f func(t *testing.T, log *slowLog, r *recorder, add func(size int))) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &slowLog{t: t}
				written := 0
				r := &recorder{submit: log.submit, crowded: func() bool { return log.crowded }, wrote: func(out []*batch) { written += len(out) }, failed: func(err error) { t.Error(err) }}
				added := 0
				add := func(size int) {
					added++
					if group, m := r.add(batchOf(t, size)); group != nil {
						r.submit(slices.Clone(group), m, r.done)
					}
				}
				add(bulk)
				log.want(1)
				log.commit()
				f(t, log, r, add)
				r.stopping(t, log)
				if written != added {
					t.Errorf("%d of %d batches are durable in the end", written, added)
				}
				for _, b := range append(r.waiting[:cap(r.waiting)], r.out[:cap(r.out)]...) {
					if b != nil {
						t.Error("it keeps a batch, with its buffers, that has gone to the log")
					}
				}
			})
		})
	}
	run("bulk waits for more, but not for long", func(t *testing.T, log *slowLog, _ *recorder, add func(int)) {
		add(bulk)
		add(bulk)
		log.want(1)
		pass(gatherTime)
		log.want(1, 2)
	})
	run("enough is not kept waiting", func(t *testing.T, log *slowLog, _ *recorder, add func(int)) {
		for range gatherSize/bulk + 1 {
			add(bulk)
		}
		log.want(1, gatherSize/bulk+1)
	})
	run("what came during a commit gathers as well", func(t *testing.T, log *slowLog, _ *recorder, add func(int)) {
		add(bulk)
		pass(gatherTime)
		add(key)
		log.commit()
		log.want(1, 1)
		pass(gatherTime)
		log.want(1, 1, 1)
	})
	run("a key after bulk has stopped goes at once", func(t *testing.T, log *slowLog, _ *recorder, add func(int)) {
		pass(2 * gatherTime)
		add(key)
		log.want(1, 1)
		if log.manner != asBulk {
			t.Error("it may be a window adjustment, and passes others")
		}
		log.commit()
		pass(bulkMemory)
		add(key)
		log.want(1, 1, 1)
		if log.manner != plainly {
			t.Error("it is somebody's typing, and goes as bulk")
		}
		log.commit()
		add(key)
		log.want(1, 1, 1, 1)
	})
	run("a reader that has no room hurries", func(t *testing.T, log *slowLog, r *recorder, add func(int)) {
		add(bulk)
		r.hurry()
		r.hurry()
		log.want(1, 1)
		pass(2 * gatherTime) // the timer finds nothing to do
		log.want(1, 1)
	})
	run("others' keystrokes make it submit less at a time", func(t *testing.T, log *slowLog, _ *recorder, add func(int)) {
		log.crowded = true
		add(bulk)
		log.want(1)
		add(bulk) // over crowdedSize together, so it goes at once, and alone
		log.want(1, 1)
		add(bulk)
		log.commit()
		log.want(1, 1, 1)
		log.crowded = false
		add(bulk)
		log.commit()
		pass(gatherTime)
		log.want(1, 1, 1, 2)
	})
	run("the end doesn't wait", func(t *testing.T, log *slowLog, _ *recorder, add func(int)) {
		add(bulk)
		log.want(1)
	})
}

// stopping stops the recorder while its log goes on.
func (r *recorder) stopping(t testing.TB, log *slowLog) {
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	synctest.Wait()
	for {
		log.mu.Lock()
		left := len(log.done)
		log.mu.Unlock()
		if left == 0 {
			break
		}
		log.commit()
	}
	<-stopped
}

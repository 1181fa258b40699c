package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// submitFunc hands records to the rec log as one contiguous group and calls done once: with nil when they are durable. It
// is called with no lock held that done takes.
type submitFunc func(prepared []store.Prepared, m manner, done func(error))

// manner is how a submission is to be treated.
type manner int

const (
	plainly manner = iota
	here           // committed by the calling goroutine, if nobody else is committing; unless the log has a releaseFunc, done was called then
	asBulk         // part of a bulk stream: others' small records go first
)

// releaseFunc calls then once what the rec log holds up to a position may be acted on: at once, or later from another
// goroutine, where it has to be durable somewhere else, too.
type releaseFunc func(position uint64, then func())

// submitTo is the submitFunc for a log's writer. durable, which may be nil, is given the records of each group that is;
// release, which may be nil, says when they count.
func submitTo(w *store.Writer, durable func([]events.Record), release releaseFunc) submitFunc {
	return func(prepared []store.Prepared, m manner, done func(error)) {
		submit := w.Submit
		switch m {
		case here:
			submit = w.SubmitHere
		case asBulk:
			submit = w.SubmitBulk
		}
		err := submit(context.Background(), prepared, func(records []events.Record, err error) {
			if durable != nil && err == nil {
				durable(records)
			}
			if release != nil && err == nil && len(records) > 0 {
				release(records[len(records)-1].Header.Position, func() { done(nil) })
				return
			}
			done(err)
		})
		if err != nil {
			done(err)
		}
	}
}

const (
	// submitSize bounds one submission, in bytes, unless a single batch is larger.
	submitSize = 1 << 20
	// A commit costs about the same whatever it holds. So while bulk flows, a submission gathers gatherSize bytes, or for
	// gatherTime after the one before, whichever comes first.
	bulkGroup  = 64 << 10              // a submission of so many bytes is bulk
	bulkMemory = 50 * time.Millisecond // what follows so soon belongs to it: window adjustments above all
	gatherSize = 768 << 10
	gatherTime = time.Millisecond
	// crowdedSize takes the place of both sizes while somebody else's keystrokes would wait for the commit.
	crowdedSize = 256 << 10
	// fullRetry is how long the recorder waits before it tries a full log again.
	fullRetry = 200 * time.Millisecond
)

// recorder writes the batches of one session to the log, in the order of the relay's steps. One submission is out at
// a time, so that at any moment, and after any crash, the log holds a prefix of the session.
type recorder struct {
	submit  submitFunc
	crowded func() bool        // others' small records are on their way to the log
	pause   time.Duration      // how long a full log is retried
	wrote   func(out []*batch) // called when the batches are durable
	failed  func(error)        // called once when they can't be

	mu      sync.Mutex
	waiting []*batch
	size    int              // of waiting, in bytes
	out     []*batch         // submitted
	outSize int              // of out, in bytes
	group   []store.Prepared // what was submitted
	manner  manner           // in which it was
	since   time.Time        // when the log was first full; zero while it isn't
	retry   *time.Timer      // of a full log
	stopped bool             // a full log is not tried again
	broken  bool
	bulk    time.Time     // when the last submission of bulk was durable
	holding bool          // waiting gathers until the timer fires
	gather  *time.Timer   // nil until there was bulk
	idle    chan struct{} // closed when nothing is out or waiting; nil then
}

// add takes a batch. Batches come in the order of the relay's steps. It returns what the caller has to submit now, and in
// which manner; nil while a submission is out.
func (r *recorder) add(b *batch) ([]store.Prepared, manner) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken {
		return nil, plainly // the session is ending and its readers are about to hear of it
	}
	r.waiting = append(r.waiting, b)
	r.size += b.size()
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	if len(r.out) > 0 || r.hold() {
		return nil, plainly
	}
	r.next()
	return r.group, r.manner
}

// hold says that what waits is to gather, and sees to its end; mu is held, and nothing is out.
func (r *recorder) hold() bool {
	if r.size >= gatherSize || r.size >= crowdedSize && r.crowded() || r.stopped || !r.holding && time.Since(r.bulk) > gatherTime {
		r.holding = false
		return false
	}
	if !r.holding {
		r.holding = true
		if r.gather == nil {
			r.gather = time.AfterFunc(gatherTime, r.hurry)
		} else {
			r.gather.Reset(gatherTime)
		}
	}
	return true
}

// hurry submits what gathers. It is called without locks.
func (r *recorder) hurry() {
	r.mu.Lock()
	if !r.holding {
		r.mu.Unlock()
		return
	}
	r.holding = false
	r.next()
	group, m := r.group, r.manner
	r.mu.Unlock()
	r.submit(group, m, r.done)
}

// next moves waiting batches into the submission; mu is held.
func (r *recorder) next() {
	r.group = r.group[:0]
	n, size, most := 0, 0, submitSize
	if r.size > crowdedSize && r.crowded() {
		most = crowdedSize
	}
	for n < len(r.waiting) {
		b := r.waiting[n]
		if n > 0 && size+b.size() > most {
			break
		}
		size += b.size()
		r.group = append(r.group, b.prepared...)
		n++
	}
	r.size -= size
	r.manner = plainly
	if r.outSize = size; size >= bulkGroup || time.Since(r.bulk) < bulkMemory {
		r.manner = asBulk
	}
	r.out = append(r.out[:0], r.waiting[:n]...)
	left := copy(r.waiting, r.waiting[n:])
	clear(r.waiting[left:]) // an idle session keeps no batches
	r.waiting = r.waiting[:left]
}

// done takes the outcome of the submission that is out. It runs in the goroutine that made the commit, so whatever
// might wait gets a goroutine of its own.
func (r *recorder) done(err error) {
	if err != nil {
		r.refused(err)
		return
	}
	r.mu.Lock()
	out := r.out
	r.mu.Unlock()
	r.wrote(out) // before stop may return
	r.mu.Lock()
	r.out, r.since = nil, time.Time{}
	if r.outSize >= bulkGroup {
		r.bulk = time.Now()
	}
	clear(r.group) // an idle session keeps no payloads
	var group []store.Prepared
	var m manner
	switch {
	case len(r.waiting) == 0:
		close(r.idle)
		r.idle = nil
	case !r.hold():
		r.next()
		group, m = r.group, r.manner
	}
	r.mu.Unlock()
	if group != nil {
		go r.submit(group, m, r.done)
	}
}

// refused deals with a log that didn't take the submission: a full one is tried again for a while, since space may be
// made; anything else ends the recording.
func (r *recorder) refused(err error) {
	r.mu.Lock()
	now := time.Now()
	if r.since.IsZero() {
		r.since = now
	}
	again := errors.Is(err, store.ErrFull) && !r.stopped && now.Sub(r.since) < r.pause
	if again {
		r.retry = time.AfterFunc(fullRetry, r.resubmit)
	} else {
		r.broken = true
		close(r.idle)
		r.idle = nil
	}
	r.mu.Unlock()
	if !again {
		r.failed(fmt.Errorf("record the session: %w", err))
	}
}

func (r *recorder) resubmit() {
	r.mu.Lock()
	group, m := r.group, r.manner
	r.mu.Unlock()
	r.submit(group, m, r.done)
}

// stop waits until everything added is durable or can't be. A log that is full is given up.
func (r *recorder) stop() {
	r.mu.Lock()
	r.stopped = true
	if r.retry != nil && r.retry.Stop() {
		r.retry = nil
		go r.resubmit() // for the last time
	}
	idle := r.idle
	r.mu.Unlock()
	r.hurry()
	if idle != nil {
		<-idle
	}
}

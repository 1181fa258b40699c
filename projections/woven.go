package projections

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/applylog"
	"github.com/holdfast-pam/holdfast/events/store"
)

// Woven is the [Source] over the logs of all sites that a site holds. Decisions
// come in the order in which this site applied them, as its apply log keeps it,
// and behind that the end of the log that this site is writing. So what is held
// and not applied yet is not seen, and nothing comes before what it knew of.
type Woven struct {
	order   *applylog.Log
	writing map[events.Kind]store.Log // the newest epoch of this site's own logs

	mask func(*events.Header, events.Clock) string // nil: everything counts; set before use

	mu    sync.Mutex // guards what follows
	logs  map[events.Origin]store.Log
	moved map[events.Kind]chan struct{} // closed and renewed when a log of the kind has more
	stop  chan struct{}
	ended sync.WaitGroup
}

// NewWoven makes a source over a site's own logs of all epochs, the oldest
// first. The caller closes it before the logs.
func NewWoven(order *applylog.Log, ctl, rec []store.Log) *Woven {
	w := &Woven{
		order: order, writing: map[events.Kind]store.Log{}, logs: map[events.Origin]store.Log{},
		moved: map[events.Kind]chan struct{}{}, stop: make(chan struct{}),
	}
	for kind, own := range map[events.Kind][]store.Log{events.Ctl: ctl, events.Rec: rec} {
		for _, log := range own {
			w.logs[log.Origin()] = log
			w.writing[kind] = log
		}
		w.moved[kind] = make(chan struct{})
		if log := w.writing[kind]; log != nil {
			size, _ := log.Size() // before anybody can wait for more
			w.ended.Go(func() { w.follow(log, size) })
		}
	}
	return w
}

// Mask tells the source why records have no effect, "" for those that have one.
// It is called before the source is read.
func (w *Woven) Mask(why func(h *events.Header, clock events.Clock) string) { w.mask = why }

// Masked implements [Source].
func (w *Woven) Masked(h *events.Header, clock events.Clock) string {
	if w.mask == nil {
		return ""
	}
	return w.mask(h, clock)
}

// Add makes another site's log part of the source. One that is known already
// is left as it is.
func (w *Woven) Add(log store.Log) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := log.Origin()
	if w.logs[o] != nil {
		return
	}
	w.logs[o] = log
	w.wake(o.Kind)
}

// Grew wakes who waits for logs of a kind: another site's log has more, of
// decisions once they are applied.
func (w *Woven) Grew(kind events.Kind) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wake(kind)
}

// Close ends what follows the logs; who watches is woken.
func (w *Woven) Close() {
	close(w.stop)
	w.ended.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for kind := range w.moved {
		w.wake(kind)
	}
}

func (w *Woven) wake(kind events.Kind) {
	if w.moved[kind] == nil {
		return
	}
	close(w.moved[kind])
	w.moved[kind] = make(chan struct{})
}

// followPause bounds how often the growth of the own log wakes who waits for
// several.
const followPause = 10 * time.Millisecond

// follow passes the growth of the log being written on to who waits for all
// logs of its kind. Who waits began to, perhaps, when there was only this one.
func (w *Woven) follow(log store.Log, size uint64) {
	for {
		select {
		case <-log.Watch(size):
		case <-w.stop:
			return
		}
		next, _ := log.Size()
		if next == size {
			return // the log was closed
		}
		size = next
		w.Grew(log.Origin().Kind)
		select {
		case <-time.After(followPause):
		case <-w.stop:
			return
		}
	}
}

// all lists the logs of one kind in the order of their origins.
func (w *Woven) all(kind events.Kind) []store.Log {
	w.mu.Lock()
	defer w.mu.Unlock()
	var logs []store.Log
	for o, log := range w.logs {
		if o.Kind == kind {
			logs = append(logs, log)
		}
	}
	slices.SortFunc(logs, func(a, b store.Log) int { return a.Origin().Compare(b.Origin()) })
	return logs
}

// Log is one of the logs, also beyond what was applied of it.
func (w *Woven) Log(o events.Origin) (store.Log, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if log := w.logs[o]; log != nil {
		return log, nil
	}
	return nil, fmt.Errorf("log %s was applied and is not here; restore it from a replica or a backup", o)
}

// Records implements [Source].
func (w *Woven) Records(ctx context.Context, kind events.Kind, from events.Clock) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		stretches, err := w.stretches(kind, from)
		if err != nil {
			yield(events.Record{}, err)
			return
		}
		for _, s := range stretches {
			n := s.from
			for r, err := range readLog(ctx, s.log, s.from) {
				if !yield(r, err) || err != nil {
					return
				}
				if n++; n > s.to {
					break
				}
			}
		}
	}
}

// stretch is a part of a log.
type stretch struct {
	log      store.Log
	from, to uint64
}

// stretches are the parts of the logs that from does not cover, in the order in
// which they are to be read.
func (w *Woven) stretches(kind events.Kind, from events.Clock) ([]stretch, error) {
	if kind == events.Rec {
		var out []stretch
		for _, log := range w.all(kind) {
			size, _ := log.Size()
			if err := reaches(log, size, from); err != nil {
				return nil, err
			}
			if at := from.At(log.Origin()); at < size {
				out = append(out, stretch{log, at + 1, size})
			}
		}
		return out, nil
	}
	// The size first: what the own log gets from now on may know of runs that
	// are not in the list below.
	own := w.writing[events.Ctl]
	size, _ := own.Size()
	if err := reaches(own, size, from); err != nil {
		return nil, err
	}
	var out []stretch
	done := from
	for _, run := range w.order.After(from) {
		first := max(run.From, done.At(run.Origin)+1)
		if run.To < first {
			continue
		}
		log, err := w.Log(run.Origin)
		if err != nil {
			return nil, err
		}
		out = append(out, stretch{log, first, run.To})
		done = done.With(run.Origin, run.To)
	}
	if at := done.At(own.Origin()); at < size {
		out = append(out, stretch{own, at + 1, size})
	}
	return out, nil
}

// reaches refuses a checkpoint beyond the end of a log.
func reaches(log store.Log, size uint64, from events.Clock) error {
	if at := from.At(log.Origin()); at > size {
		return fmt.Errorf("read log %s after position %d: it has %d records; this checkpoint is of another copy of the log", log.Origin(), at, size)
	}
	return nil
}

// Held implements [Source]. Of other sites' decisions it is what was applied.
func (w *Woven) Held(kind events.Kind) events.Clock {
	held := events.Clock{}
	if kind == events.Ctl {
		held = w.order.Clock()
	}
	for _, log := range w.all(kind) {
		if own := w.writing[kind]; kind == events.Ctl && log != own {
			continue
		}
		size, _ := log.Size()
		held = held.With(log.Origin(), size)
	}
	return held
}

// Watch implements [Source].
func (w *Woven) Watch(kind events.Kind, from events.Clock) <-chan struct{} {
	w.mu.Lock()
	moved := w.moved[kind] // before Held, so that nothing is missed
	w.mu.Unlock()
	if !from.Covers(w.Held(kind)) {
		ready := make(chan struct{})
		close(ready)
		return ready
	}
	return moved
}

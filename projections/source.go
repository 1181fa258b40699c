package projections

import (
	"context"
	"fmt"
	"iter"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// Source is what projections need of the logs that a site holds: its own of
// every epoch, and those of other sites. All methods are safe for concurrent
// use.
type Source interface {
	// Records yields the records of all logs of one kind that from does not
	// cover, up to the durable end at the time of the call: each log in the
	// order of its positions without gaps, and in the ctl logs no record
	// before what its clock covers. Payloads of rec records are left out. It
	// stops after the first error, which it yields.
	Records(ctx context.Context, kind events.Kind, from events.Clock) iter.Seq2[events.Record, error]

	// Masked says why a ctl record that Records gave is kept without effect, ""
	// for one that may have one: its site may not decide such a thing.
	Masked(h *events.Header, clock events.Clock) string

	// Held is the end of every log of one kind.
	Held(kind events.Kind) events.Clock

	// Watch returns a channel that is closed once a log of this kind holds a
	// record that from does not cover, or once the source is closed.
	Watch(kind events.Kind, from events.Clock) <-chan struct{}
}

// readLog yields the records of a log from a position on, payloads of rec
// records left out.
func readLog(ctx context.Context, log store.Log, from uint64) iter.Seq2[events.Record, error] {
	read := log.Read
	if log.Origin().Kind == events.Rec {
		read = log.Headers
	}
	return func(yield func(events.Record, error) bool) {
		next := from
		for entry, err := range read(ctx, from) {
			var r events.Record
			if err == nil {
				r, err = events.DecodeEntry(entry)
			}
			if err != nil {
				yield(r, fmt.Errorf("read log %s at position %d: %w", log.Origin(), next, err))
				return
			}
			if !yield(r, nil) {
				return
			}
			next++
		}
	}
}

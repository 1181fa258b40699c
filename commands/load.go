package commands

import (
	"context"
	"fmt"
	"iter"

	"github.com/holdfast-pam/holdfast/events"
)

// progressStep is how many records pass between two reports of progress.
const progressStep = 50_000

// Load applies the history of ctl logs, given in causal order, to s and
// returns how many records it read. It stops at the first error: a state that
// misses something must not decide. progress, if any, is told the count every
// 50,000 records and at the end.
func Load(ctx context.Context, s interface{ Apply(events.Record) error }, history iter.Seq2[events.Record, error], progress func(records uint64)) (uint64, error) {
	if progress == nil {
		progress = func(uint64) {}
	}
	n := uint64(0)
	for r, err := range history {
		if err != nil {
			return n, fmt.Errorf("load decisions after %d records: %w", n, err)
		}
		if err := s.Apply(r); err != nil {
			return n, fmt.Errorf("load decisions after %d records: %w", n, err)
		}
		if n++; n%progressStep == 0 {
			progress(n)
			if err := ctx.Err(); err != nil {
				return n, err
			}
		}
	}
	progress(n)
	return n, nil
}

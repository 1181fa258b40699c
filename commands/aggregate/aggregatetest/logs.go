package aggregatetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// Logs are the records of the logs that a site holds.
type Logs map[events.Origin][]events.Record

// Origins names the logs, in an order that depends on nothing else.
func (l Logs) Origins() []events.Origin {
	return slices.SortedFunc(maps.Keys(l), events.Origin.Compare)
}

// Fold is the state of the logs, from nothing, with what counts by their own word.
func (l Logs) Fold() (*aggregate.State, error) {
	var holds aggregate.Holds
	for range 8 {
		state := aggregate.New()
		state.SetHolds(holds)
		err := l.each(state.At, func(records []events.Record) (n int, err error) {
			for _, r := range records {
				if err := state.Apply(r); err != nil {
					return n, err
				}
				n++
			}
			return n, nil
		})
		if holds = state.Holds(); err != nil || holds.Equal(state.HeldWith()) {
			return state, err
		}
	}
	return nil, fmt.Errorf("what counts of %d logs does not settle", len(l))
}

// Deliver hands a site what of the logs has not taken effect there.
func (l Logs) Deliver(at func(events.Origin) uint64, deliver func(context.Context, []events.Record) (int, error)) error {
	return l.each(at, func(records []events.Record) (int, error) { return deliver(context.Background(), records) })
}

// each takes the rest of each log as far as its causes are there, until nothing more is.
func (l Logs) each(at func(events.Origin) uint64, take func([]events.Record) (int, error)) error {
	for progress := true; progress; {
		progress = false
		for _, o := range l.Origins() {
			rest := l[o][at(o):]
			if len(rest) == 0 {
				continue
			}
			n, err := take(rest)
			if err != nil && !errors.Is(err, aggregate.ErrEarly) {
				return err
			}
			progress = progress || n > 0
		}
	}
	return nil
}

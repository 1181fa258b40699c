package replay

import (
	"errors"
	"fmt"
	"iter"

	"github.com/holdfast-pam/holdfast/events"
)

// FirstSession selects the first session channel that was opened: the one that a plain ssh uses.
const FirstSession = -1

// ErrNoChannel says that a recording doesn't have the channel that was asked for.
var ErrNoChannel = errors.New("no such channel in the recording")

// IncompleteError says that a recording lacks packets. What there is was used.
type IncompleteError struct {
	Missing   uint64           // packets
	Direction events.Direction // of the first gap
	Number    uint64           // of the first missing packet in it
}

func (e *IncompleteError) Error() string {
	return fmt.Sprintf("the recording lacks %d packets, the first is packet %d (%s); everything else was exported",
		e.Missing, e.Number, e.Direction)
}

// gaps collects what is missing.
type gaps struct{ lost *IncompleteError }

func (g *gaps) add(e *Event) {
	if g.lost == nil {
		g.lost = &IncompleteError{Direction: e.Direction, Number: e.Number}
	}
	g.lost.Missing += e.Missing
}

func (g *gaps) err() error {
	if g.lost == nil {
		return nil
	}
	return g.lost
}

// picker finds the channel that was asked for.
type picker struct {
	want   int // FirstSession, or an index
	chosen *Channel
	opened int
}

func (p *picker) match(e *Event) bool {
	if e.Kind == KindOpen {
		p.opened++
	}
	c := e.Channel
	if c == nil {
		return false
	}
	if p.chosen == nil {
		first := p.want == FirstSession && c.Type == "session" && e.Kind == KindOpened && !e.Dropped
		if first || p.want == c.Index {
			p.chosen = c
		}
	}
	return p.chosen == c
}

func (p *picker) err() error {
	switch {
	case p.chosen != nil:
		return nil
	case p.want == FirstSession:
		return fmt.Errorf("%w: it has %d channels, and none is an open session; choose one by its number", ErrNoChannel, p.opened)
	}
	return fmt.Errorf("%w: channel %d of %d (they count from 0)", ErrNoChannel, p.want, p.opened)
}

// onChannel is the events of one channel that took effect, and the gaps (whose Channel is nil). At the end it yields
// the error if there is no such channel, or if there were gaps.
func onChannel(src Source, channel int) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		p, lost := picker{want: channel}, gaps{}
		for e, err := range Events(src) {
			if err != nil {
				yield(Event{}, err)
				return
			}
			if e.Kind == KindGap {
				lost.add(&e)
			} else if !p.match(&e) || e.Dropped {
				continue
			}
			if !yield(e, nil) {
				return
			}
		}
		err := p.err()
		if err == nil {
			err = lost.err()
		}
		if err != nil {
			yield(Event{}, err)
		}
	}
}

// forEach calls each for every event up to the first error.
func forEach(all iter.Seq2[Event, error], each func(*Event) error) error {
	for e, err := range all {
		if err != nil {
			return err
		}
		if err := each(&e); err != nil {
			return err
		}
	}
	return nil
}

package replay

import (
	"iter"

	"github.com/holdfast-pam/holdfast/events"
)

// How far ByTime looks ahead in one direction for what happened before in the other. A recording has the two in blocks
// that were gathered for milliseconds.
const (
	aheadEvents = 256
	aheadBytes  = 1 << 20
)

// ByTime puts the events of both directions in the order of their times, as far as a bounded look-ahead sees; the
// order inside each direction stays as it is. It is for viewing: the order of [Events] is that of cause and effect.
func ByTime(all iter.Seq2[Event, error]) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		var m merge
		for e, err := range all {
			if err != nil {
				if m.flush(yield, true) {
					yield(Event{}, err)
				}
				return
			}
			m.add(e)
			if !m.flush(yield, false) {
				return
			}
		}
		m.flush(yield, true)
	}
}

// merge holds the events of each direction that were read and not given out.
type merge struct {
	queues [2][]arrived
	bytes  [2]int
	count  uint64
}

// arrived is an event with its place among those of both directions, which decides between equal times.
type arrived struct {
	Event
	place uint64
}

func (a *arrived) before(b *arrived) bool {
	return a.At < b.At || a.At == b.At && a.place < b.place
}

func (m *merge) add(e Event) {
	i := 0
	if e.Direction == events.Out {
		i = 1
	}
	m.queues[i] = append(m.queues[i], arrived{e, m.count})
	m.count++
	m.bytes[i] += len(e.Packet)
}

// flush gives out what is known to be next; with all set, everything.
func (m *merge) flush(yield func(Event, error) bool, all bool) bool {
	for {
		i := 0
		switch in, out := m.queues[0], m.queues[1]; {
		case len(in) > 0 && len(out) > 0:
			if out[0].before(&in[0]) {
				i = 1
			}
		case len(in) == 0 && len(out) == 0:
			return true
		default:
			if len(in) == 0 {
				i = 1
			}
			if !all && len(m.queues[i]) < aheadEvents && m.bytes[i] < aheadBytes {
				return true
			}
		}
		e := m.queues[i][0]
		if m.queues[i] = m.queues[i][1:]; len(m.queues[i]) == 0 {
			m.queues[i] = nil
		}
		m.bytes[i] -= len(e.Packet)
		if !yield(e.Event, nil) {
			return false
		}
	}
}

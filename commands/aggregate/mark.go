package aggregate

import (
	"cmp"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Mark is the place of an event: where it stands in its log, what its site
// knew when it wrote it, and who caused it. Marks are shared and read-only.
type Mark struct {
	ID       uuid.UUID // of the event
	Stream   uuid.UUID // its aggregate
	Origin   events.Origin
	Position uint64
	HLC      events.HLC
	Wall     int64 // microseconds since 1970 UTC, by the site's clock
	Actor    events.Actor
	Clock    events.Clock
}

// Time is the site's wall-clock time at the event, UTC.
func (m *Mark) Time() time.Time { return time.UnixMicro(m.Wall).UTC() }

// Knows reports whether n happened before m: m's site had applied n.
func (m *Mark) Knows(n *Mark) bool {
	if m.Origin == n.Origin {
		return m.Position > n.Position
	}
	return m.Clock.At(n.Origin) >= n.Position
}

// Compare orders marks by hybrid clock, origin and position. The order extends
// Knows, and only sorts.
func (m *Mark) Compare(n *Mark) int {
	if c := cmp.Compare(m.HLC, n.HLC); c != 0 {
		return c
	}
	if c := m.Origin.Compare(n.Origin); c != 0 {
		return c
	}
	return cmp.Compare(m.Position, n.Position)
}

// heads holds the values that were put without knowing of each other: one,
// unless sites wrote while they could not hear each other.
type heads[T any] []head[T]

type head[T any] struct {
	at    *Mark
	value T
}

// put adds a value in place of those that at knew of. It does not matter in
// which order concurrent values come.
func (h *heads[T]) put(at *Mark, value T) {
	next := make(heads[T], 0, len(*h)+1)
	for _, old := range *h {
		if !at.Knows(old.at) {
			next = append(next, old)
		}
	}
	*h = append(next, head[T]{at, value})
}

// newest is the head that sorts last. There must be one.
func (h heads[T]) newest() head[T] {
	last := h[0]
	for _, other := range h[1:] {
		if other.at.Compare(last.at) > 0 {
			last = other
		}
	}
	return last
}

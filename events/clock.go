package events

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Clock is a vector clock: for each origin the position up to which a site had
// applied that log. An origin without an entry stands at 0. Values are
// immutable; the zero value is the empty clock.
type Clock struct {
	entries []ClockEntry // sorted by origin, no zero positions
}

// ClockEntry is one component of a [Clock].
type ClockEntry struct {
	Origin   Origin `json:"origin"`
	Position uint64 `json:"pos"`
}

// NewClock builds a clock; of several entries for one origin the greatest
// position counts.
func NewClock(entries ...ClockEntry) Clock {
	var c Clock
	for _, e := range entries {
		if e.Position > c.At(e.Origin) {
			c = c.With(e.Origin, e.Position)
		}
	}
	return c
}

// Entries lists the components in the order of their origins.
func (c Clock) Entries() []ClockEntry { return slices.Clone(c.entries) }

// At is the position that c covers of an origin.
func (c Clock) At(o Origin) uint64 {
	if i, ok := c.find(o); ok {
		return c.entries[i].Position
	}
	return 0
}

// With is c with one component set.
func (c Clock) With(o Origin, position uint64) Clock {
	i, ok := c.find(o)
	out := slices.Clone(c.entries)
	switch {
	case ok && position == 0:
		out = slices.Delete(out, i, i+1)
	case ok:
		out[i].Position = position
	case position > 0:
		out = slices.Insert(out, i, ClockEntry{o, position})
	}
	return Clock{out}
}

// Merge is the least clock that covers both.
func (c Clock) Merge(d Clock) Clock {
	out := c
	for _, e := range d.entries {
		if e.Position > out.At(e.Origin) {
			out = out.With(e.Origin, e.Position)
		}
	}
	return out
}

// Covers reports whether everything in d is in c.
func (c Clock) Covers(d Clock) bool {
	for _, e := range d.entries {
		if c.At(e.Origin) < e.Position {
			return false
		}
	}
	return true
}

// Order is how two clocks stand to each other.
type Order int

const (
	// Equal clocks cover the same.
	Equal Order = iota
	// Before means that the other one covers more.
	Before
	// After means that this one covers more.
	After
	// Concurrent clocks each cover something that the other does not.
	Concurrent
)

// Compare tells how c stands to d.
func (c Clock) Compare(d Clock) Order {
	switch over, under := c.Covers(d), d.Covers(c); {
	case over && under:
		return Equal
	case over:
		return After
	case under:
		return Before
	}
	return Concurrent
}

// String gives "origin:position" pairs joined by commas.
func (c Clock) String() string {
	var parts []string
	for _, e := range c.entries {
		parts = append(parts, fmt.Sprintf("%s:%d", e.Origin, e.Position))
	}
	return strings.Join(parts, ",")
}

// maxClockText bounds a clock that people pass around.
const maxClockText = 1 << 20

// ParseClock reads what [Clock.String] gave, with the origins of any kind.
func ParseClock(text string) (Clock, error) {
	if len(text) > maxClockText {
		return Clock{}, fmt.Errorf("%w: %d bytes", ErrBadClock, len(text))
	}
	var c Clock
	for part := range strings.SplitSeq(text, ",") {
		name, position, ok := strings.Cut(part, ":")
		o, err := ParseOrigin(name)
		n, bad := strconv.ParseUint(position, 10, 64)
		if !ok || err != nil || bad != nil || n == 0 || c.At(o) > 0 {
			return Clock{}, fmt.Errorf("%w: %q is not SITE/EPOCH/KIND:POSITION, or comes twice", ErrBadClock, part)
		}
		c = c.With(o, n)
	}
	return c, nil
}

// ParseOrigin reads what [Origin.String] gave.
func ParseOrigin(text string) (Origin, error) {
	parts := strings.Split(text, "/")
	if len(parts) != 3 {
		return Origin{}, fmt.Errorf("%q does not name a log; want SITE/EPOCH/KIND", text)
	}
	site, err := uuid.Parse(parts[0])
	epoch, bad := strconv.ParseUint(parts[1], 10, 32)
	o := Origin{Site: SiteID{UUID: site}, Epoch: uint32(epoch), Kind: Kind(parts[2])}
	if err != nil || bad != nil || epoch == 0 || !o.Kind.Valid() || o.String() != text {
		return Origin{}, fmt.Errorf("%q does not name a log; want SITE/EPOCH/KIND", text)
	}
	return o, nil
}

func (c Clock) find(o Origin) (int, bool) {
	return slices.BinarySearchFunc(c.entries, o, func(e ClockEntry, o Origin) int { return e.Origin.Compare(o) })
}

// ErrBadClock says that the bytes of a clock delta do not decode.
var ErrBadClock = errors.New("not a valid clock delta")

const (
	// maxClockOrigins bounds a clock read from bytes.
	maxClockOrigins = 4096
	// maxDelta bounds a delta, so that it fits into a header with all that there is
	// besides; maxStep is the longest part of one.
	maxDelta = 48 << 10
	maxStep  = 2 + 16 + 2*binary.MaxVarintLen64
)

// ClockCoder turns the clocks of one log's records, in log order, into deltas
// against the record before, and back. Origins are written out once and named
// by a small number afterwards, so that a moved component costs about two
// bytes. Writer and reader of a log each keep one; its state after record n is
// a function of the records up to n. Not safe for concurrent use.
//
// A delta is a sequence of (number, advance), both uvarint; a number equal to
// the count of origins known so far introduces one and is followed by 16 bytes
// of site and the epoch as uvarint (the kind is always ctl).
type ClockCoder struct {
	known []Origin
	last  Clock
}

// Clock is the clock after the last delta.
func (k *ClockCoder) Clock() Clock { return k.last }

// Snapshot is the delta that takes a fresh coder to k's state, so that a reader
// can go on where another one stopped.
func (k *ClockCoder) Snapshot() []byte {
	var b []byte
	for n, o := range k.known {
		b = binary.AppendUvarint(b, uint64(n))
		b = append(b, o.Site.UUID[:]...)
		b = binary.AppendUvarint(b, uint64(o.Epoch))
		b = binary.AppendUvarint(b, k.last.At(o))
	}
	return b
}

// Delta encodes the step from the last clock to next. Components never go
// back: next must cover the last clock, and only ctl logs have components.
//
// A clock may claim less than there is, but not go beyond what can be read, or its log
// would be at its end: whoever makes logs without end would silence all sites. So what
// is too much for one delta is left to the next one, logs that are not known yet first;
// and of those that are too many for a clock none is ever claimed.
func (k *ClockCoder) Delta(next Clock) ([]byte, error) {
	if !next.Covers(k.last) {
		return nil, fmt.Errorf("%w: clock went back from %s to %s", ErrBadClock, k.last, next)
	}
	var b []byte
	var unknown []int
	var said []ClockEntry // nil as long as that is all of next
	leave := func(i int, at uint64) {
		if said == nil {
			said = slices.Clone(next.entries)
		}
		said[i].Position = at
	}
	for i, e := range next.entries {
		if e.Origin.Kind != Ctl {
			return nil, fmt.Errorf("%w: %s is not a ctl log", ErrBadClock, e.Origin)
		}
		switch before := k.last.At(e.Origin); {
		case e.Position == before:
		case before == 0:
			unknown = append(unknown, i)
		case len(b)+maxStep > maxDelta:
			leave(i, before)
		default:
			b = binary.AppendUvarint(b, uint64(slices.Index(k.known, e.Origin)))
			b = binary.AppendUvarint(b, e.Position-before)
		}
	}
	for _, i := range unknown {
		e := next.entries[i]
		if len(b)+maxStep > maxDelta || len(k.known) == maxClockOrigins {
			leave(i, 0)
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(k.known)))
		b = append(b, e.Origin.Site.UUID[:]...)
		b = binary.AppendUvarint(b, uint64(e.Origin.Epoch))
		b = binary.AppendUvarint(b, e.Position)
		k.known = append(k.known, e.Origin)
	}
	if k.last = next; said != nil {
		k.last = Clock{slices.DeleteFunc(said, func(e ClockEntry) bool { return e.Position == 0 })}
	}
	return b, nil
}

// Apply decodes the next delta and returns the clock after it. After an error
// the coder is unchanged.
func (k *ClockCoder) Apply(delta []byte) (Clock, error) {
	known, next := k.known, k.last
	for b := delta; len(b) > 0; {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(known)) || n >= maxClockOrigins {
			return Clock{}, fmt.Errorf("%w: origin number", ErrBadClock)
		}
		b = b[w:]
		if n == uint64(len(known)) {
			o, rest, err := readOrigin(b)
			if err != nil {
				return Clock{}, err
			}
			if slices.Contains(known, o) {
				return Clock{}, fmt.Errorf("%w: %s is introduced twice", ErrBadClock, o)
			}
			known, b = append(slices.Clip(known), o), rest
		}
		step, w := binary.Uvarint(b)
		at := next.At(known[n])
		if w <= 0 || step == 0 || at+step < at {
			return Clock{}, fmt.Errorf("%w: advance of %s", ErrBadClock, known[n])
		}
		b, next = b[w:], next.With(known[n], at+step)
	}
	k.known, k.last = known, next
	return next, nil
}

func readOrigin(b []byte) (Origin, []byte, error) {
	o := Origin{Kind: Ctl}
	if len(b) < 16 {
		return o, nil, fmt.Errorf("%w: origin cut short", ErrBadClock)
	}
	copy(o.Site.UUID[:], b)
	epoch, w := binary.Uvarint(b[16:])
	if w <= 0 || epoch == 0 || epoch > 1<<32-1 {
		return o, nil, fmt.Errorf("%w: epoch", ErrBadClock)
	}
	o.Epoch = uint32(epoch)
	return o, b[16+w:], nil
}

package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ErrBadState is wrapped by every error about bytes that are no relay's state.
var ErrBadState = errors.New("not the state of a relay")

// stateVersion begins the written form. Its rest is uvarints: policy flags, the two limits, per direction the three
// counts and the queue; then the number of channels and each one's fields. Channels are ordered by the client's number,
// those still being opened by the target after them by the target's, so equal states have equal bytes.
const stateVersion = 1

const (
	flagOpenedOut = 1 << iota // the target opened it
	flagConfirmed
	flagClosedIn
	flagClosedOut
)

// MarshalBinary writes the state. A relay that saw a protocol error has none: its session is over.
func (r *Relay) MarshalBinary() ([]byte, error) {
	if r.broken != nil {
		return nil, fmt.Errorf("write the relay's state: %w", r.broken)
	}
	b := []byte{stateVersion, r.policy.flags()}
	b = binary.AppendUvarint(b, uint64(r.limits.Channels))
	b = binary.AppendUvarint(b, uint64(r.limits.Owed))
	for d := range r.dir {
		c := r.dir[d].counts
		for _, v := range []uint64{c.Received, c.Sent, c.Bytes} {
			b = binary.AppendUvarint(b, v)
		}
		b = r.dir[d].owed.append(b)
	}
	all := r.channels()
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, c := range all {
		b = c.append(b)
	}
	return b, nil
}

// channels lists the live channels in the order of the written form.
func (r *Relay) channels() []*channel {
	var all []*channel
	for _, d := range []Direction{Out, In} {
		ids := slices.Sorted(maps.Keys(r.dir[d].byID))
		for _, id := range ids {
			if c := r.dir[d].byID[id]; d == Out || !c.confirmed {
				all = append(all, c)
			}
		}
	}
	return all
}

func (c *channel) append(b []byte) []byte {
	var flags byte
	for flag, set := range map[byte]bool{
		flagOpenedOut: c.opened == Out, flagConfirmed: c.confirmed, flagClosedIn: c.closed[In], flagClosedOut: c.closed[Out],
	} {
		if set {
			flags |= flag
		}
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(c.id[In]))
	b = binary.AppendUvarint(b, uint64(c.id[Out]))
	return c.owed[Out].append(c.owed[In].append(b))
}

// append writes the number of debts, then each: 0 for the other side's, 1 + number for one of the gateway's own.
func (q *queue) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(q.len()))
	for _, d := range q.debts[q.head:] {
		v := uint64(0)
		if d.refused {
			v = d.number + 1
		}
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func (p Policy) flags() (f byte) {
	for i, set := range []bool{p.DirectTCPIP, p.DirectStreamLocal, p.RemoteTCPIP, p.RemoteStreamLocal, p.Agent} {
		if set {
			f |= 1 << i
		}
	}
	return f
}

func policyOf(f byte) Policy {
	on := func(i int) bool { return f&(1<<i) != 0 }
	return Policy{DirectTCPIP: on(0), DirectStreamLocal: on(1), RemoteTCPIP: on(2), RemoteStreamLocal: on(3), Agent: on(4)}
}

// UnmarshalBinary replaces r by the state in b. After an error r is unchanged.
func (r *Relay) UnmarshalBinary(b []byte) error {
	s := stateReader{rest: b}
	if v := s.byte(); v != stateVersion {
		return fmt.Errorf("%w: version %d, this holdfast reads %d", ErrBadState, v, stateVersion)
	}
	policy := policyOf(s.byte())
	n := New(policy, Limits{Channels: s.count(1 << 20), Owed: s.count(1 << 20)})
	for d := range n.dir {
		n.dir[d].counts = Counts{Received: s.uint(), Sent: s.uint(), Bytes: s.uint()}
		n.dir[d].owed = s.queue(n.limits.Owed)
	}
	for range s.count(n.limits.Channels) {
		s.channel(n)
	}
	if s.bad || len(s.rest) > 0 {
		return ErrBadState
	}
	*r = *n
	return nil
}

// stateReader takes values off the front; the first bad one sticks.
type stateReader struct {
	rest []byte
	bad  bool
}

func (s *stateReader) byte() byte {
	if len(s.rest) == 0 {
		s.bad = true
		return 0
	}
	v := s.rest[0]
	s.rest = s.rest[1:]
	return v
}

func (s *stateReader) uint() uint64 {
	v, n := binary.Uvarint(s.rest)
	if n <= 0 {
		s.bad, s.rest = true, nil
		return 0
	}
	s.rest = s.rest[n:]
	return v
}

// count reads a number of things, which can't be more than most.
func (s *stateReader) count(most int) int {
	v := s.uint()
	if v > uint64(most) {
		s.bad, s.rest = true, nil
		return 0
	}
	return int(v)
}

func (s *stateReader) id() uint32 { return uint32(s.count(1<<32 - 1)) }

func (s *stateReader) queue(most int) (q queue) {
	n := s.count(most)
	for range min(n, len(s.rest)) {
		v := s.uint()
		q.push(debt{refused: v > 0, number: max(v, 1) - 1})
	}
	if q.len() < n || n > 0 && q.first().refused {
		s.bad = true
	}
	return q
}

// channel reads one channel and enters it under its numbers.
func (s *stateReader) channel(r *Relay) {
	if s.bad {
		return
	}
	flags := s.byte()
	c := &channel{confirmed: flags&flagConfirmed != 0}
	if flags&flagOpenedOut != 0 {
		c.opened = Out
	}
	c.closed = [2]bool{flags&flagClosedIn != 0, flags&flagClosedOut != 0}
	c.id = [2]uint32{s.id(), s.id()}
	c.owed = [2]queue{s.queue(r.limits.Owed), s.queue(r.limits.Owed)}
	for _, d := range []Direction{In, Out} {
		if !c.confirmed && d == c.opened {
			continue // its number is not known yet
		}
		if r.dir[d].byID[c.id[d]] != nil {
			s.bad = true
		}
		r.dir[d].byID[c.id[d]] = c
	}
	s.bad = s.bad || c.closed[In] && c.closed[Out]
	r.live++
}

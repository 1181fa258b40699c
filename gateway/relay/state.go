package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-pam/holdfast/commands/destination"
	"github.com/holdfast-pam/holdfast/replay/transfer"
)

// ErrBadState is wrapped by every error about bytes that are no relay's state.
var ErrBadState = errors.New("not the state of a relay")

// stateVersion begins the written form. Its rest is uvarints, and texts behind their length: the policy, the three
// limits, the listeners, the totals of forwardings; per direction the three counts and the queue; then the number of
// channels and each one's fields. Channels are ordered by the client's number, those still being opened by the target
// after them by the target's, so equal states have equal bytes.
const stateVersion = 3

const (
	flagOpenedOut = 1 << iota // the target opened it
	flagConfirmed
	flagClosedIn
	flagClosedOut
	flagAgent
	flagForward
	flagGuarded
	flagCut
)

// How a debt is written: one of these, then the number of the refused request or the index of the listener.
const (
	debtPlain = iota
	debtRefused
	debtListen
	debtCancel
	debtStarts
)

// maxGuard bounds the state of a guard, in bytes.
const maxGuard = 32 << 10

// MarshalBinary writes the state. A relay that saw a protocol error has none: its session is over.
func (r *Relay) MarshalBinary() ([]byte, error) {
	if r.broken != nil {
		return nil, fmt.Errorf("write the relay's state: %w", r.broken)
	}
	b := r.policy.append([]byte{stateVersion})
	for _, v := range []int{r.limits.Channels, r.limits.Owed, r.limits.Listeners, len(r.listeners)} {
		b = binary.AppendUvarint(b, uint64(v))
	}
	for _, l := range r.listeners {
		b = appendText(append(b, flags(l.socket, l.inForce)), l.host)
		b = binary.AppendUvarint(b, uint64(l.port))
	}
	for _, v := range []uint64{r.forwards, r.moved[In], r.moved[Out]} {
		b = binary.AppendUvarint(b, v)
	}
	for d := range r.dir {
		c := r.dir[d].counts
		for _, v := range []uint64{c.Received, c.Sent, c.Bytes} {
			b = binary.AppendUvarint(b, v)
		}
		b = r.dir[d].owed.append(b, r.listeners)
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
	b = append(b, flags(c.opened == Out, c.confirmed, c.closed[In], c.closed[Out], c.agent, c.forward != nil, c.guard != nil, c.cut))
	for _, v := range []uint64{uint64(c.id[In]), uint64(c.id[Out]), c.bytes[In], c.bytes[Out]} {
		b = binary.AppendUvarint(b, v)
	}
	if f := c.forward; f != nil {
		b = binary.AppendUvarint(b, f.serial)
		b = appendText(appendText(appendText(b, f.kind), f.to), f.origin)
	}
	if c.guard != nil {
		state, _ := c.guard.MarshalBinary() // it never fails
		b = appendText(b, string(state))
	}
	return c.owed[Out].append(c.owed[In].append(b, nil), nil)
}

// flags packs up to eight booleans, the first as the lowest bit.
func flags(set ...bool) (f byte) {
	for i, on := range set {
		if on {
			f |= 1 << i
		}
	}
	return f
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// append writes the number of debts, then each. The effect on a listener that is gone is none.
func (q *queue) append(b []byte, listeners []*listener) []byte {
	b = binary.AppendUvarint(b, uint64(q.len()))
	for _, d := range q.debts[q.head:] {
		i := slices.Index(listeners, d.effect.listener)
		switch {
		case d.refused:
			b = binary.AppendUvarint(append(b, debtRefused), d.number)
		case d.starts:
			b = append(b, debtStarts)
		case i < 0:
			b = append(b, debtPlain)
		case d.effect.cancel:
			b = binary.AppendUvarint(append(b, debtCancel), uint64(i))
		default:
			b = binary.AppendUvarint(append(b, debtListen), uint64(i))
		}
	}
	return b
}

func (p Policy) append(b []byte) []byte {
	b = append(b, flags(p.Agent, p.NoPTY, p.NoShell, p.NoExec, p.NoSFTP, p.NoSubsystem, p.NoUpload, p.NoDownload))
	for _, rules := range [][]destination.Rule{p.To, p.Listen} {
		b = binary.AppendUvarint(b, uint64(len(rules)))
		for _, r := range rules {
			b = appendText(b, r.String())
		}
	}
	return b
}

// UnmarshalBinary replaces r by the state in b. After an error r is unchanged.
func (r *Relay) UnmarshalBinary(b []byte) error {
	s := stateReader{rest: b}
	if v := s.byte(); v != stateVersion {
		return fmt.Errorf("%w: version %d, this holdfast reads %d", ErrBadState, v, stateVersion)
	}
	n := New(s.policy(), Limits{Channels: s.count(1 << 20), Owed: s.count(1 << 20), Listeners: s.count(1 << 20)})
	for range s.count(n.limits.Listeners) {
		s.listener(n)
	}
	n.forwards, n.moved = s.uint(), [2]uint64{s.uint(), s.uint()}
	for d := range n.dir {
		n.dir[d].counts = Counts{Received: s.uint(), Sent: s.uint(), Bytes: s.uint()}
		n.dir[d].owed = s.queue(n.limits.Owed, n.listeners)
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

func (s *stateReader) text(most int) string {
	n := s.count(most)
	if s.bad || n > len(s.rest) {
		s.bad, s.rest = true, nil
		return ""
	}
	v := string(s.rest[:n])
	s.rest = s.rest[n:]
	return v
}

func (s *stateReader) policy() Policy {
	f := s.byte()
	return Policy{
		Agent: f&1 != 0, NoPTY: f&2 != 0, NoShell: f&4 != 0, NoExec: f&8 != 0, NoSFTP: f&16 != 0, NoSubsystem: f&32 != 0,
		NoUpload: f&64 != 0, NoDownload: f&128 != 0,
		To: s.rules(), Listen: s.rules(),
	}
}

func (s *stateReader) rules() (rules []destination.Rule) {
	for range s.count(1 << 10) {
		r, err := destination.Parse(s.text(destination.MaxLength))
		if s.bad = s.bad || err != nil; s.bad {
			return nil
		}
		rules = append(rules, r)
	}
	return rules
}

func (s *stateReader) listener(r *Relay) {
	if s.bad {
		return
	}
	f := s.byte()
	r.listeners = append(r.listeners, &listener{socket: f&1 != 0, inForce: f&2 != 0, host: s.text(destination.MaxLength), port: s.id()})
}

func (s *stateReader) queue(most int, listeners []*listener) (q queue) {
	n := s.count(most)
	for range min(n, len(s.rest)) {
		var d debt
		switch s.byte() {
		case debtPlain:
		case debtStarts:
			d.starts = true
		case debtRefused:
			d.refused, d.number = true, s.uint()
		case debtListen:
			d.effect = effect{listener: s.pick(listeners)}
		case debtCancel:
			d.effect = effect{listener: s.pick(listeners), cancel: true}
		default:
			s.bad = true
		}
		q.push(d)
	}
	if q.len() < n || n > 0 && q.first().refused {
		s.bad = true
	}
	return q
}

func (s *stateReader) pick(listeners []*listener) *listener {
	i := s.uint()
	if i >= uint64(len(listeners)) {
		s.bad = true
		return nil
	}
	return listeners[i]
}

// channel reads one channel and enters it under its numbers.
func (s *stateReader) channel(r *Relay) {
	if s.bad {
		return
	}
	flags := s.byte()
	c := &channel{confirmed: flags&flagConfirmed != 0, agent: flags&flagAgent != 0}
	if flags&flagOpenedOut != 0 {
		c.opened = Out
	}
	c.closed = [2]bool{flags&flagClosedIn != 0, flags&flagClosedOut != 0}
	c.id = [2]uint32{s.id(), s.id()}
	c.bytes = [2]uint64{s.uint(), s.uint()}
	if flags&flagForward != 0 {
		c.forward = &forward{serial: s.uint(), kind: s.text(maxDetail), to: s.text(maxDetail), origin: s.text(maxDetail)}
	}
	c.cut = flags&flagCut != 0
	if flags&flagGuarded != 0 {
		c.guard = transfer.NewGuard(r.policy.gate())
		s.bad = s.bad || c.guard.UnmarshalBinary([]byte(s.text(maxGuard))) != nil
	}
	c.owed = [2]queue{s.queue(r.limits.Owed, nil), s.queue(r.limits.Owed, nil)}
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

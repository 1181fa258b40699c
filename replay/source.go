package replay

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/holdfast-pam/holdfast/events"
)

// Record is one record of a session in the rec log: exactly one of the pointers is set.
type Record struct {
	Packets *events.SessionPackets
	Block   []byte // the opened block of Packets; it must not change afterwards
	Made    *events.SessionPacketMade
	Dropped *events.SessionPacketDropped
	Altered *events.SessionPacketAltered
}

// Item is one packet of a session with what became of it.
type Item struct {
	Direction events.Direction
	Packet    events.Packet // Number counts the packets received in Direction; if Made, those sent in it
	Made      bool          // by the gateway
	Dropped   bool          // received, and not passed on
	Why       string        // it was dropped
	Altered   []events.Edit // made in it before it was passed on; Packet is as received
	Missing   uint64        // packets of Direction just before this one that the recording lacks
}

// Source is a session's items: each direction in the order in which its packets were sent, and no item before the one
// that caused it. An error ends it. The bytes of items may be kept.
type Source = iter.Seq2[Item, error]

// ErrRecordOrder says that a recording breaks the order which [Items] needs.
var ErrRecordOrder = errors.New("recording is out of order")

const (
	maxWaiting   = 1 << 16 // drops and made packets that may wait for their place, per direction
	maxHeldBytes = 8 << 20 // packets that may wait for a cause in the other direction
)

// Items puts the records of one session, in the order of the rec log, together to a [Source]. Two rules bind whoever
// writes the log; they hold by themselves if a commit takes the drops and made packets of a step before its packets:
//
//   - session.packet_dropped or session.packet_altered stands before the session.packets that holds its packet. Else the packet would already
//     have been given out as delivered: that is [ErrRecordOrder].
//   - session.packet_made stands before the session.packets that holds the next packet sent after it in its direction.
//     Else it comes late, and may be taken for the reply to a later request.
//
// Missing packets are no error: the item after them tells their number.
func Items(records iter.Seq2[Record, error]) Source {
	return func(yield func(Item, error) bool) {
		a := newAssembler()
		for r, err := range records {
			if err == nil {
				err = a.add(r)
			}
			if err != nil {
				a.drain(yield, true)
				yield(Item{}, err)
				return
			}
			if !a.drain(yield, a.heldBytes > maxHeldBytes) {
				return
			}
		}
		a.drain(yield, true)
	}
}

// assembler holds what can't be given out yet.
type assembler struct {
	sides     [2]side
	heldBytes int
}

// side is one direction.
type side struct {
	next    uint64 // number of the packet expected from the log
	seen    uint64 // number of the packet to be given out next
	sent    uint64 // packets given out that were sent: not dropped, or made
	dropped map[uint64]string
	altered map[uint64][]events.Edit
	made    []*events.SessionPacketMade // by Output
	held    []Item                      // packets that wait behind a made one
}

func newAssembler() *assembler {
	a := &assembler{}
	for i := range a.sides {
		a.sides[i].dropped, a.sides[i].altered = map[uint64]string{}, map[uint64][]events.Edit{}
	}
	return a
}

// index is 0 for the client's packets and 1 for the target's.
func index(d events.Direction) (int, error) {
	switch d {
	case events.In:
		return 0, nil
	case events.Out:
		return 1, nil
	}
	return 0, fmt.Errorf("%w: direction %q is neither in nor out", ErrRecordOrder, d)
}

func (a *assembler) add(r Record) error {
	switch {
	case r.Packets != nil:
		return a.addPackets(r.Packets, r.Block)
	case r.Made != nil:
		return a.addMade(r.Made)
	case r.Dropped != nil:
		return a.addDropped(r.Dropped)
	case r.Altered != nil:
		return a.addAltered(r.Altered)
	}
	return fmt.Errorf("%w: an empty record", ErrRecordOrder)
}

func (a *assembler) addPackets(p *events.SessionPackets, block []byte) error {
	i, err := index(p.Direction)
	if err != nil {
		return err
	}
	s := &a.sides[i]
	if p.First < s.next {
		return fmt.Errorf("%w: packet %d (%s) stands in it twice", ErrRecordOrder, p.First, p.Direction)
	}
	packets, err := p.Packets(block)
	if err != nil {
		return fmt.Errorf("packets %d and following (%s): %w", p.First, p.Direction, err)
	}
	missing := p.First - s.next
	for _, packet := range packets {
		why, dropped := s.dropped[packet.Number]
		delete(s.dropped, packet.Number)
		s.held = append(s.held, Item{Direction: p.Direction, Packet: packet, Dropped: dropped, Why: why, Missing: missing, Altered: s.altered[packet.Number]})
		delete(s.altered, packet.Number)
		a.heldBytes += len(packet.Bytes)
		missing = 0
	}
	s.next = p.First + uint64(len(packets))
	return nil
}

func (a *assembler) addMade(m *events.SessionPacketMade) error {
	i, err := index(m.Direction)
	if err != nil {
		return err
	}
	s := &a.sides[i]
	if len(s.made) == maxWaiting {
		return fmt.Errorf("%w: %d made packets (%s) wait for their place", ErrRecordOrder, maxWaiting, m.Direction)
	}
	at, _ := slices.BinarySearchFunc(s.made, m.Output, func(e *events.SessionPacketMade, output uint64) int {
		if e.Output <= output {
			return -1
		}
		return 1
	})
	s.made = slices.Insert(s.made, at, m)
	return nil
}

func (a *assembler) addDropped(d *events.SessionPacketDropped) error {
	i, err := index(d.Direction)
	if err != nil {
		return err
	}
	switch s := &a.sides[i]; {
	case d.Number < s.next:
		return fmt.Errorf("%w: packet %d (%s) is said to be dropped only after it", ErrRecordOrder, d.Number, d.Direction)
	case len(s.dropped) == maxWaiting:
		return fmt.Errorf("%w: %d dropped packets (%s) are not in it", ErrRecordOrder, maxWaiting, d.Direction)
	default:
		s.dropped[d.Number] = d.Why
		return nil
	}
}

func (a *assembler) addAltered(e *events.SessionPacketAltered) error {
	i, err := index(e.Direction)
	if err != nil {
		return err
	}
	switch s := &a.sides[i]; {
	case e.Number < s.next:
		return fmt.Errorf("%w: packet %d (%s) is said to be altered only after it", ErrRecordOrder, e.Number, e.Direction)
	case len(s.altered) == maxWaiting:
		return fmt.Errorf("%w: %d altered packets (%s) are not in it", ErrRecordOrder, maxWaiting, e.Direction)
	default:
		s.altered[e.Number] = e.Edits
		return nil
	}
}

// drain gives out what can be. With all set, it doesn't wait for what an item should stand behind. It is false when
// the consumer wants no more.
func (a *assembler) drain(yield func(Item, error) bool, all bool) bool {
	for progress := true; progress; {
		progress = false
		for i := range a.sides {
			for {
				item, ok := a.take(i, all)
				if !ok {
					break
				}
				if progress = true; !yield(item, nil) {
					return false
				}
			}
		}
	}
	return true
}

// take removes the next item of direction i, if there is one whose place and cause have come.
func (a *assembler) take(i int, all bool) (Item, bool) {
	s, other := &a.sides[i], &a.sides[1-i]
	if len(s.made) > 0 {
		m := s.made[0]
		if m.Output <= s.sent || all && len(s.held) == 0 {
			waits := other.seen <= m.Refuses
			if m.Instead {
				waits = s.seen <= m.Refuses
			}
			switch {
			case waits && m.Instead && len(s.held) > 0: // the packet that it stands for comes first
			case waits && !all:
				return Item{}, false
			default:
				s.made = s.made[1:]
				s.sent++
				return madeItem(m), true
			}
		}
	}
	if len(s.held) == 0 {
		return Item{}, false
	}
	item := s.held[0]
	if s.held = s.held[1:]; len(s.held) == 0 {
		s.held = nil
	}
	a.heldBytes -= len(item.Packet.Bytes)
	s.skip(item)
	s.seen = item.Packet.Number + 1
	if !item.Dropped {
		s.sent++
	}
	return item, true
}

// skip counts the packets missing before item as sent, but those known to be dropped.
func (s *side) skip(item Item) {
	if item.Missing == 0 {
		return
	}
	s.sent += item.Missing
	maps.DeleteFunc(s.altered, func(number uint64, _ []events.Edit) bool { return number < item.Packet.Number })
	for number := range s.dropped {
		if number < item.Packet.Number {
			delete(s.dropped, number)
			s.sent--
		}
	}
}

func madeItem(m *events.SessionPacketMade) Item {
	return Item{
		Direction: m.Direction, Made: true,
		Packet: events.Packet{Number: m.Output, At: microseconds(m.At), Bytes: m.Packet},
	}
}

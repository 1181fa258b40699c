package relay

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
	"github.com/holdfast-pam/holdfast/replay/transfer"
)

// ErrProtocol is wrapped by every error about a side that broke RFC 4254. The session can't go on after one.
var ErrProtocol = errors.New("protocol error")

// Limits bounds the state. Zero fields take the defaults.
type Limits struct {
	Channels int // open at once; further opens are refused. Default 256
	Owed     int // replies owed on one channel and direction, or for global requests; one more ends the session. Default 1024

	Listeners int // of ssh -R at once; further ones are refused. Default 64
}

const (
	defaultChannels  = 256
	defaultOwed      = 1024
	defaultListeners = 64
)

// Texts of the CHANNEL_OPEN_FAILUREs that the gateway makes.
const (
	textNotAllowed = "not allowed by the gateway"
	textTooMany    = "too many channels in this session"
)

// Relay is the state of one session. Make one with [New] or [Relay.UnmarshalBinary]; not safe for concurrent use.
type Relay struct {
	policy Policy
	limits Limits
	dir    [2]direction // by the Direction that packets travel in
	live   int          // channels, also those that are still being opened
	broken error        // the protocol error that ended it

	listeners []*listener // in the order of the requests
	forwards  uint64      // channels of forwardings so far
	moved     [2]uint64   // data of those that are closed, by direction
}

// direction is the state of one packet sequence.
type direction struct {
	counts Counts
	owed   queue               // replies to global requests that travelled in this direction
	byID   map[uint32]*channel // by the recipient number that packets of this direction carry
}

// channel is known from its CHANNEL_OPEN until both sides have sent CHANNEL_CLOSE, or until the open failed.
type channel struct {
	opened    Direction // that the CHANNEL_OPEN travelled in
	confirmed bool
	id        [2]uint32 // recipient number in packets of a direction
	closed    [2]bool   // a CLOSE travelled in that direction
	owed      [2]queue  // replies to requests that travelled in that direction
	bytes     [2]uint64 // data received, by direction
	agent     bool      // a session that asked for the client's agent
	forward   *forward  // what it is beside a session; nil for one

	guard *transfer.Guard // of a session whose files may not go both ways; nil otherwise
	cut   bool            // guarded, and the client's half has ended
}

// forward is what makes a channel one of a forwarding.
type forward struct {
	serial           uint64
	kind, to, origin string
}

// note is the channel as the outside is told of it.
func (c *channel) note(failure string) *Channel {
	f := c.forward
	return &Channel{Serial: f.serial, Direction: c.opened, Type: f.kind, To: f.to, Origin: f.origin, Bytes: c.bytes, Failure: failure}
}

// New starts the relay of a session.
func New(policy Policy, limits Limits) *Relay {
	if limits.Channels <= 0 {
		limits.Channels = defaultChannels
	}
	if limits.Owed <= 0 {
		limits.Owed = defaultOwed
	}
	if limits.Listeners <= 0 {
		limits.Listeners = defaultListeners
	}
	r := &Relay{policy: policy, limits: limits}
	for d := range r.dir {
		r.dir[d].byID = map[uint32]*channel{}
	}
	return r
}

// Counts tells what went through a direction.
func (r *Relay) Counts(d Direction) Counts { return r.dir[d].counts }

// Channels counts the channels that are open or being opened.
func (r *Relay) Channels() int { return r.live }

// Forwards tells of the channels of forwardings: those that are open now, by their serials; how many there were; and
// the data received on all of them, by direction.
func (r *Relay) Forwards() (open []Channel, channels uint64, bytes [2]uint64) {
	bytes = r.moved
	for _, c := range r.channels() {
		if c.forward != nil {
			open = append(open, *c.note(""))
			bytes[In], bytes[Out] = bytes[In]+c.bytes[In], bytes[Out]+c.bytes[Out]
		}
	}
	slices.SortFunc(open, func(a, b Channel) int { return cmp.Compare(a.Serial, b.Serial) })
	return open, r.forwards, bytes
}

// Step takes the next packet received in direction d and appends what is to be done to outputs, in order.
//
// An error wraps [ErrProtocol]: the packet is dropped (an output says so), the session must end, and every later Step
// fails alike. Outputs appended before that Drop still hold.
func (r *Relay) Step(d Direction, packet []byte, outputs []Output) ([]Output, error) {
	if r.broken != nil {
		return outputs, r.broken
	}
	s := step{Relay: r, d: d, number: r.dir[d].counts.Received, packet: packet, outputs: outputs}
	r.dir[d].counts.Received++
	if err := s.run(); err != nil {
		r.broken = fmt.Errorf("packet %d from the %s: %w", s.number, sender(d), err)
		s.drop(bound(err.Error()))
		return s.outputs, r.broken
	}
	return s.outputs, nil
}

func sender(d Direction) string {
	if d == In {
		return "client"
	}
	return "target"
}

// step is the work on one packet.
type step struct {
	*Relay
	d       Direction
	number  uint64
	packet  []byte
	outputs []Output
}

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

func (s *step) run() error {
	if len(s.packet) == 0 {
		return violation("empty packet")
	}
	switch n := s.packet[0]; n {
	case sshwire.MsgChannelData, sshwire.MsgChannelExtendedData:
		return s.data()
	case sshwire.MsgChannelWindowAdjust:
		return s.adjust()
	case sshwire.MsgGlobalRequest:
		return s.globalRequest()
	case sshwire.MsgRequestSuccess, sshwire.MsgRequestFailure:
		return s.globalReply()
	case sshwire.MsgChannelOpen:
		return s.open()
	case sshwire.MsgChannelOpenConfirmation:
		return s.confirm()
	case sshwire.MsgChannelOpenFailure:
		return s.fail()
	case sshwire.MsgChannelEOF:
		return s.eof()
	case sshwire.MsgChannelClose:
		return s.close()
	case sshwire.MsgChannelRequest:
		return s.channelRequest()
	case sshwire.MsgChannelSuccess, sshwire.MsgChannelFailure:
		return s.channelReply()
	default:
		if n < sshwire.MsgConnectionFirst || n > sshwire.MsgConnectionLast {
			return violation("message %d is not of the connection layer", n)
		}
		s.forward()
		return nil
	}
}

func (s *step) forward() {
	c := &s.dir[s.d].counts
	s.outputs = append(s.outputs, Output{Kind: Forward, Direction: s.d, Number: c.Sent, Packet: s.packet})
	c.Sent++
}

func (s *step) drop(why string) {
	s.outputs = append(s.outputs, Output{Kind: Drop, Direction: s.d, Number: s.number, What: why})
}

// refuse drops the packet for policy's sake.
func (s *step) refuse(what, detail string) {
	s.drop("refused: " + what)
	s.outputs = append(s.outputs, Output{Kind: Refused, Direction: s.d, Number: s.number, What: what, Detail: detail})
}

// tell notes what the packet does to a channel of a forwarding.
func (s *step) tell(kind Kind, c *channel, failure string) {
	s.outputs = append(s.outputs, Output{Kind: kind, Direction: s.d, Number: s.number, Channel: c.note(failure)})
}

// make sends a packet of our own in direction d, because of a refused packet that travelled the other way.
func (s *step) make(d Direction, packet []byte, refuses uint64) {
	c := &s.dir[d].counts
	s.outputs = append(s.outputs, Output{Kind: Make, Direction: d, Number: c.Sent, Packet: packet, Refuses: refuses})
	c.Sent++
}

// makeInstead is make because of a refused packet that travelled the same way, if that was the one at hand.
func (s *step) makeInstead(d Direction, packet []byte) {
	s.make(d, packet, s.number)
	s.outputs[len(s.outputs)-1].Instead = d == s.d
}

// bound cuts the text of an error to what an event takes.
func bound(text string) string {
	if len(text) > maxDetail {
		return text[:maxDetail]
	}
	return text
}

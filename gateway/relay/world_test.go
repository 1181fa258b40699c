package relay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// world is a model of a client and a target that pipeline requests at each other through a relay. Each request carries
// a number in its payload, and a success carries the number of the request that it answers, so that a reply which
// reaches the wrong request shows.
type world struct {
	t     *rapid.T
	relay *Relay
	twin  *Relay // sees the same packets, but is never written out and read back
	next  uint32 // request number

	wire [2][][]byte // received by the gateway's leg, not stepped yet; by direction
	sent [2][][]byte // put out by the relay, not yet read by the receiver
	side [2]*endpoint
	law  law
}

// endpoint is the client (index In: it sends in that direction) or the target.
type endpoint struct {
	global   []want            // own global requests that wait for a reply
	answer   [][]byte          // replies owed to the other side, in order
	channels map[uint32]*mouth // by own number
	nextID   uint32
}

// want is what a request must be answered with.
type want struct {
	number  uint32
	refused bool
}

// mouth is one end of a channel.
type mouth struct {
	peer      uint32
	confirmed bool
	refused   bool // the gateway must refuse the open, or has
	sentClose bool
	want      []want
}

func newWorld(t *rapid.T, policy Policy) *world {
	w := &world{t: t, relay: New(policy, Limits{}), twin: New(policy, Limits{}), law: newLaw(t, policy)}
	for d := range w.side {
		w.side[d] = &endpoint{channels: map[uint32]*mouth{}, nextID: uint32(d) * 1000}
	}
	return w
}

func (w *world) send(d Direction, packet []byte) { w.wire[d] = append(w.wire[d], packet) }

func (w *world) number() (uint32, []byte) {
	w.next++
	return w.next, binary.BigEndian.AppendUint32(nil, w.next)
}

var globalNames = [2][]string{
	{"keepalive@openssh.com", "no-more-sessions@openssh.com", listenTCPIP, listenTCPIP, cancelTCPIP, listenSocket, cancelSocket, "odd@example.com"},
	{"keepalive@openssh.com", "odd@example.com", listenTCPIP},
}

// sendGlobal sends a request whose number is in its payload; for those of ssh -R it is in the port or path.
func (w *world) sendGlobal(d Direction) {
	name := rapid.SampledFrom(globalNames[d]).Draw(w.t, "global request")
	n, payload := w.number()
	named := n
	if asked := w.law.asked; len(asked) > 0 && (name == cancelTCPIP || name == cancelSocket) {
		named = rapid.SampledFrom(asked).Draw(w.t, "listener")
	}
	switch name {
	case listenTCPIP, cancelTCPIP:
		payload = cat(str(rapid.SampledFrom([]string{"localhost", "localhost", "192.0.2.1"}).Draw(w.t, "host")), port(named))
	case listenSocket, cancelSocket:
		payload = str(fmt.Sprintf("/run/%d", named))
	}
	if name == listenTCPIP || name == listenSocket {
		w.law.asked = append(w.law.asked, n)
	}
	wantReply := rapid.Bool().Draw(w.t, "want reply")
	if wantReply {
		w.side[d].global = append(w.side[d].global, want{number: n})
	}
	w.law.names[d] = append(w.law.names[d], n)
	w.send(d, sshwire.GlobalRequest{Type: name, WantReply: wantReply, Payload: payload}.Append(nil))
}

var channelNames = [2][]string{{"session", "session", directTCPIP, directSocket, "x11"}, {forwardedTCPIP, forwardedTCPIP, forwardedSocket, agentChannel}}

func (w *world) sendOpen(d Direction) {
	e := w.side[d]
	name := rapid.SampledFrom(channelNames[d]).Draw(w.t, "channel type")
	listener := uint32(1)
	if len(w.law.asked) > 0 {
		listener = rapid.SampledFrom(w.law.asked).Draw(w.t, "listener")
	}
	var payload []byte
	switch name {
	case directTCPIP:
		payload = tcp(rapid.SampledFrom([]string{"db", "web"}).Draw(w.t, "host"), 80)
	case directSocket:
		payload = cat(str(rapid.SampledFrom([]string{"/run/1", "/etc/1"}).Draw(w.t, "path")), str(""), port(0))
	case forwardedTCPIP:
		payload = tcp("localhost", listener)
	case forwardedSocket:
		payload = cat(str(fmt.Sprintf("/run/%d", listener)), str(""))
	}
	e.nextID++
	e.channels[e.nextID] = &mouth{}
	w.send(d, sshwire.ChannelOpen{Type: name, Sender: e.nextID, Window: 1 << 20, MaxPacket: 1 << 15, Payload: payload}.Append(nil))
}

// pick gives one of the side's channels that it may send on, or nil.
func (w *world) pick(d Direction) *mouth {
	var ready []*mouth
	for id := range w.side[d].nextID + 1 {
		if m := w.side[d].channels[id]; m != nil && m.confirmed && !m.sentClose {
			ready = append(ready, m)
		}
	}
	if len(ready) == 0 {
		return nil
	}
	return rapid.SampledFrom(ready).Draw(w.t, "channel")
}

func (w *world) sendOnChannel(d Direction) {
	m := w.pick(d)
	if m == nil {
		return
	}
	n, payload := w.number()
	switch rapid.IntRange(0, 9).Draw(w.t, "message") {
	case 0:
		m.sentClose = true
		w.send(d, sshwire.ChannelClose{Recipient: m.peer}.Append(nil)) // answers that are still queued come late
	case 1:
		w.send(d, sshwire.ChannelData{Recipient: m.peer, Data: payload}.Append(nil))
	case 2:
		w.send(d, sshwire.ChannelExtendedData{Recipient: m.peer, Type: 1, Data: payload}.Append(nil))
	case 3:
		w.send(d, sshwire.ChannelWindowAdjust{Recipient: m.peer, Bytes: n}.Append(nil))
	default:
		name := rapid.SampledFrom([]string{"exec", "x11-req", "pty-req", "auth-agent-req@openssh.com", "signal", "odd@example.com"}).Draw(w.t, "request")
		wantReply := rapid.Bool().Draw(w.t, "want reply")
		if wantReply {
			m.want = append(m.want, want{number: n})
		}
		w.send(d, sshwire.ChannelRequest{Recipient: m.peer, Type: name, WantReply: wantReply, Payload: payload}.Append(nil))
	}
}

// reply sends the oldest answer owed by the side that sends in d.
func (w *world) reply(d Direction) {
	if e := w.side[d]; len(e.answer) > 0 {
		w.send(d, e.answer[0])
		e.answer = e.answer[1:]
	}
}

// step gives the relay the next packet of a direction and checks what it does with it.
func (w *world) step(d Direction) {
	if len(w.wire[d]) == 0 {
		return
	}
	packet := w.wire[d][0]
	w.wire[d] = w.wire[d][1:]
	if rapid.IntRange(0, 9).Draw(w.t, "move") == 0 {
		w.move()
	}
	before := bytes.Clone(packet)
	allowed := w.law.judge(w, d, packet)
	if !allowed {
		w.refused(d, packet)
	}
	outputs, err := w.relay.Step(d, packet, nil)
	if err != nil {
		w.t.Fatalf("%s packet %x: %v", d, packet, err)
	}
	same, err := w.twin.Step(d, packet, nil)
	if err != nil || !reflect.DeepEqual(same, outputs) {
		w.t.Fatalf("moved relay does %v, the one that stayed %v (%v)", outputs, same, err)
	}
	fate := 0
	for _, o := range outputs {
		switch o.Kind {
		case Forward:
			if o.Direction != d || &o.Packet[0] != &packet[0] || !bytes.Equal(packet, before) {
				w.t.Fatalf("packet was changed or turned round")
			}
			fate++
		case Drop:
			fate++
			continue
		case Refused:
			continue
		case Opened, Closed:
			w.law.told(w.t, o)
			continue
		}
		if want := w.relay.Counts(o.Direction).Sent - uint64(remaining(outputs, o)); o.Number != want {
			w.t.Fatalf("output number %d, want %d", o.Number, want)
		}
		w.sent[o.Direction] = append(w.sent[o.Direction], o.Packet)
	}
	if outputs[0].Kind == Drop && len(outputs) == 1 && packet[0] != sshwire.MsgChannelSuccess && packet[0] != sshwire.MsgChannelFailure &&
		packet[0] != sshwire.MsgGlobalRequest && packet[0] != sshwire.MsgChannelRequest {
		w.t.Fatalf("packet %x was dropped: %s", packet, outputs[0].What)
	}
	if fate != 1 {
		w.t.Fatalf("packet was forwarded or dropped %d times", fate)
	}
	passed := slices.ContainsFunc(outputs, func(o Output) bool { return o.Kind == Forward })
	if must := packet[0] == sshwire.MsgChannelOpen || packet[0] == sshwire.MsgGlobalRequest; passed != allowed && (must || passed) {
		w.t.Fatalf("packet %q passed: %t, allowed: %t", packet, passed, allowed)
	}
}

// refused notes at the sender that a packet of its can't have a good answer.
func (w *world) refused(d Direction, packet []byte) {
	e := w.side[d]
	mark := func(wants []want, number uint32) {
		for i := range wants {
			wants[i].refused = wants[i].refused || wants[i].number == number
		}
	}
	switch packet[0] {
	case sshwire.MsgGlobalRequest:
		mark(e.global, w.law.number)
	case sshwire.MsgChannelOpen:
		m, _ := sshwire.ParseChannelOpen(packet)
		e.channels[m.Sender].refused = true
	case sshwire.MsgChannelRequest:
		m, _ := sshwire.ParseChannelRequest(packet)
		for _, c := range e.channels {
			mark(c.want, binary.BigEndian.Uint32(m.Payload))
		}
	}
}

// remaining counts the sends in o's direction from o on.
func remaining(outputs []Output, o Output) (n int) {
	for _, p := range outputs {
		if (p.Kind == Forward || p.Kind == Make) && p.Direction == o.Direction && p.Number >= o.Number {
			n++
		}
	}
	return n
}

// move writes the relay's state out and goes on with a relay that has read it back.
func (w *world) move() {
	state, err := w.relay.MarshalBinary()
	if err != nil {
		w.t.Fatal(err)
	}
	var next Relay
	if err := next.UnmarshalBinary(state); err != nil {
		w.t.Fatalf("read back %x: %v", state, err)
	}
	again, err := next.MarshalBinary()
	if err != nil || !bytes.Equal(state, again) {
		w.t.Fatalf("state %x became %x (%v)", state, again, err)
	}
	w.relay = &next
}

// receive lets the side that d leads to read its next packet.
func (w *world) receive(d Direction) {
	if len(w.sent[d]) == 0 {
		return
	}
	packet := w.sent[d][0]
	w.sent[d] = w.sent[d][1:]
	e := w.side[d.Other()]
	switch packet[0] {
	case sshwire.MsgGlobalRequest:
		m, _ := sshwire.ParseGlobalRequest(packet)
		number := w.law.passed[d][0]
		w.law.passed[d] = w.law.passed[d][1:]
		if m.WantReply {
			e.answer = append(e.answer, w.decide(sshwire.RequestSuccess{Payload: port(number)}.Append(nil), sshwire.RequestFailure{}.Append(nil)))
		}
	case sshwire.MsgRequestSuccess, sshwire.MsgRequestFailure:
		e.global = w.settle(e.global, packet[0] == sshwire.MsgRequestSuccess, packet[1:])
	case sshwire.MsgChannelOpen:
		m, _ := sshwire.ParseChannelOpen(packet)
		w.accept(d.Other(), m)
	case sshwire.MsgChannelOpenConfirmation:
		m, _ := sshwire.ParseChannelOpenConfirmation(packet)
		c := e.channels[m.Recipient]
		if c.refused {
			w.t.Fatal("a channel that must be refused was confirmed")
		}
		c.confirmed, c.peer = true, m.Sender
	case sshwire.MsgChannelOpenFailure:
		m, _ := sshwire.ParseChannelOpenFailure(packet)
		delete(e.channels, m.Recipient)
	case sshwire.MsgChannelRequest:
		m, _ := sshwire.ParseChannelRequest(packet)
		if c := e.channels[m.Recipient]; m.WantReply && !c.sentClose {
			// A success on a channel has no payload: what tells replies apart is success and failure.
			e.answer = append(e.answer, w.decide(sshwire.ChannelSuccess{Recipient: c.peer}.Append(nil), sshwire.ChannelFailure{Recipient: c.peer}.Append(nil)))
		}
	case sshwire.MsgChannelSuccess, sshwire.MsgChannelFailure:
		id := binary.BigEndian.Uint32(packet[1:])
		c := e.channels[id]
		c.want = w.settle(c.want, packet[0] == sshwire.MsgChannelSuccess, nil)
	case sshwire.MsgChannelClose:
		w.closed(d.Other(), binary.BigEndian.Uint32(packet[1:]))
	}
}

func (w *world) decide(yes, no []byte) []byte {
	if rapid.Bool().Draw(w.t, "answer") {
		return yes
	}
	return no
}

func (w *world) accept(d Direction, m sshwire.ChannelOpen) {
	e := w.side[d]
	if rapid.IntRange(0, 4).Draw(w.t, "accept") == 0 {
		w.send(d, sshwire.ChannelOpenFailure{Recipient: m.Sender, Reason: 2}.Append(nil))
		return
	}
	e.nextID++
	e.channels[e.nextID] = &mouth{confirmed: true, peer: m.Sender}
	w.send(d, sshwire.ChannelOpenConfirmation{Recipient: m.Sender, Sender: e.nextID, Window: 1, MaxPacket: 1}.Append(nil))
}

// closed handles a CLOSE: unanswered requests stay so, as nothing more comes or goes on the channel.
func (w *world) closed(d Direction, id uint32) {
	e := w.side[d]
	c := e.channels[id]
	if !c.sentClose {
		c.sentClose = true
		w.send(d, sshwire.ChannelClose{Recipient: c.peer}.Append(nil))
	}
	kept := e.answer[:0:0]
	for _, a := range e.answer {
		if a[0] < sshwire.MsgChannelSuccess || binary.BigEndian.Uint32(a[1:]) != c.peer {
			kept = append(kept, a)
		}
	}
	e.answer = kept
	delete(e.channels, id)
}

// settle checks a reply against the request that waits longest.
func (w *world) settle(wants []want, success bool, payload []byte) []want {
	if len(wants) == 0 {
		w.t.Fatal("a reply came that nobody waits for")
	}
	switch first := wants[0]; {
	case success && first.refused:
		w.t.Fatalf("request %d was refused by the gateway and got another request's success", first.number)
	case success && payload != nil && binary.BigEndian.Uint32(payload) != first.number:
		w.t.Fatalf("request %d got the reply of request %d", first.number, binary.BigEndian.Uint32(payload))
	}
	return wants[1:]
}

// run takes random actions on both sides and in the middle.
func (w *world) run(steps int) {
	for range steps {
		d := Direction(rapid.IntRange(0, 1).Draw(w.t, "direction"))
		switch rapid.IntRange(0, 9).Draw(w.t, "action") {
		case 0, 1:
			w.sendGlobal(d)
		case 2:
			w.sendOpen(d)
		case 3, 4:
			w.sendOnChannel(d)
		case 5:
			w.reply(d)
		case 6, 7:
			w.step(d)
		default:
			w.receive(d)
		}
	}
}

// drain lets everything under way arrive, until both sides are silent.
func (w *world) drain() {
	for busy := true; busy; {
		busy = false
		for _, d := range []Direction{In, Out} {
			for len(w.wire[d]) > 0 || len(w.sent[d]) > 0 || len(w.side[d].answer) > 0 {
				busy = true
				w.reply(d)
				w.step(d)
				w.receive(d)
			}
		}
	}
}

func TestEveryReplyReachesItsRequest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, drawPolicy(t))
		w.run(rapid.IntRange(1, 300).Draw(t, "steps"))
		w.drain()
		for d, e := range w.side {
			if len(e.global) > 0 {
				t.Fatalf("%s: global request %d never got its reply", Direction(d), e.global[0].number)
			}
			for id, c := range e.channels {
				if len(c.want) > 0 && !c.sentClose {
					t.Fatalf("%s: request %d on channel %d never got its reply", Direction(d), c.want[0].number, id)
				}
			}
			if q := &w.relay.dir[d].owed; q.len() > 0 {
				t.Fatalf("%s: the relay still holds %d debts", Direction(d), q.len())
			}
		}
		w.law.end(t, w.relay)
	})
}

package relay

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/commands/destination"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// law is a second opinion on what the relay must let pass, and on what it must tell of forwardings. It knows each
// channel by the number that its opener gave it, which no other channel of the world has.
type law struct {
	number uint32 // of the global request that was judged last

	local, remote, agent, noPTY bool

	asked  []uint32          // numbers of all listeners that were ever asked for
	names  [2][]uint32       // numbers of the global requests on the wire, in order
	passed [2][]uint32       // of those that were passed and not received
	waits  []asking          // client's requests that the target owes an answer to
	force  map[string]bool   // listeners in force, by name
	agents map[uint32]bool   // the target's numbers of sessions that asked for the agent
	shut   map[uint32]bool   // the target's numbers of channels that somebody closed
	who    [2]map[uint32]int // serials by the recipient number in packets of a direction
	moved  []*Channel        // by serial
	open   map[int]bool
}

// asking is a request of the client that may change the listeners.
type asking struct {
	name   string
	cancel bool
	reply  bool
}

func drawPolicy(t *rapid.T) (p Policy) {
	parse := func(texts ...string) (list []destination.Rule) {
		for _, text := range texts {
			r, err := destination.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, r)
		}
		return list
	}
	if rapid.Bool().Draw(t, "local") {
		p.To = parse("db:80", "/run/*")
	}
	if rapid.Bool().Draw(t, "remote") {
		p.Listen = parse("localhost:*", "/run/*")
	}
	p.Agent, p.NoPTY = rapid.Bool().Draw(t, "agent"), rapid.Bool().Draw(t, "no terminal")
	return p
}

func newLaw(_ *rapid.T, p Policy) law {
	return law{
		local: len(p.To) > 0, remote: len(p.Listen) > 0, agent: p.Agent, noPTY: p.NoPTY,
		force: map[string]bool{}, agents: map[uint32]bool{}, shut: map[uint32]bool{}, open: map[int]bool{},
		who: [2]map[uint32]int{{}, {}},
	}
}

// judge says whether a packet that is about to be stepped may pass as far as policy goes, and notes what it does.
func (l *law) judge(w *world, d Direction, packet []byte) bool {
	id := uint32(0)
	if len(packet) >= 5 {
		id = binary.BigEndian.Uint32(packet[1:])
	}
	switch packet[0] {
	case sshwire.MsgGlobalRequest:
		m, _ := sshwire.ParseGlobalRequest(packet)
		return l.global(d, m)
	case sshwire.MsgRequestSuccess, sshwire.MsgRequestFailure:
		if d == Out {
			l.answered(packet[0] == sshwire.MsgRequestSuccess)
		}
	case sshwire.MsgChannelOpen:
		m, _ := sshwire.ParseChannelOpen(packet)
		return l.opens(d, m)
	case sshwire.MsgChannelOpenConfirmation:
		m, _ := sshwire.ParseChannelOpenConfirmation(packet)
		if serial, ok := l.who[d][id]; ok {
			l.who[d.Other()][m.Sender] = serial
		}
	case sshwire.MsgChannelData, sshwire.MsgChannelExtendedData:
		if serial, ok := l.who[d][id]; ok {
			l.moved[serial].Bytes[d] += 4 // every packet of data in the world carries a number
		}
	case sshwire.MsgChannelRequest:
		m, _ := sshwire.ParseChannelRequest(packet)
		return l.request(d, m)
	case sshwire.MsgChannelClose:
		l.closes(w, d, id)
	}
	return true
}

func (l *law) global(d Direction, m sshwire.GlobalRequest) bool {
	l.number = l.names[d][0]
	l.names[d] = l.names[d][1:]
	allowed := m.Type == "keepalive@openssh.com" || d == In && m.Type == "no-more-sessions@openssh.com"
	if d == In && (strings.Contains(m.Type, "tcpip-forward") || strings.Contains(m.Type, "streamlocal-forward")) {
		a := asking{name: fmt.Sprintf("%q", m.Payload), cancel: strings.HasPrefix(m.Type, "cancel-"), reply: m.WantReply}
		if a.cancel {
			pending := slices.ContainsFunc(l.waits, func(b asking) bool { return b.name == a.name && !b.cancel })
			allowed = l.force[a.name] || pending
		} else {
			allowed = l.remote && !strings.Contains(string(m.Payload), "192.0.2.1")
		}
		if allowed && a.reply {
			l.waits = append(l.waits, a)
		} else if allowed {
			l.apply(a, true)
		}
	} else if allowed && d == In && m.WantReply {
		l.waits = append(l.waits, asking{reply: true})
	}
	if allowed {
		l.passed[d] = append(l.passed[d], l.number)
	}
	return allowed
}

func (l *law) answered(success bool) {
	a := l.waits[0]
	l.waits = l.waits[1:]
	l.apply(a, success)
}

func (l *law) apply(a asking, success bool) {
	switch {
	case a.name == "" || !success:
	case a.cancel:
		delete(l.force, a.name)
		for i := range l.waits { // what was cancelled before its own answer came is nothing then
			if l.waits[i].name == a.name {
				l.waits[i].name = ""
			}
		}
	default:
		l.force[a.name] = true
	}
}

func (l *law) opens(d Direction, m sshwire.ChannelOpen) (allowed bool) {
	p := openPlace(m)
	switch m.Type {
	case sessionChannel:
		return d == In
	case directTCPIP:
		allowed = d == In && l.local && p.host == "db"
	case directSocket:
		allowed = d == In && l.local && p.host == "/run/1"
	case forwardedTCPIP:
		allowed = l.force[fmt.Sprintf("%q", cat(str("localhost"), port(p.port)))]
	case forwardedSocket:
		allowed = l.force[fmt.Sprintf("%q", str(p.host))]
	case agentChannel:
		allowed = len(l.agents) > 0
	}
	if allowed {
		serial := len(l.moved)
		l.who[d.Other()][m.Sender] = serial
		l.moved = append(l.moved, &Channel{Serial: uint64(serial), Direction: d, Type: m.Type, To: p.String(), Origin: p.from})
	}
	return allowed
}

func (l *law) request(d Direction, m sshwire.ChannelRequest) bool {
	switch {
	case d == Out:
		return true
	case m.Type == "x11-req", m.Type == "pty-req" && l.noPTY:
		return false
	case m.Type != "auth-agent-req@openssh.com":
		return true
	}
	_, forwarding := l.who[In][m.Recipient]
	if !l.agent || forwarding {
		return false
	}
	if !l.shut[m.Recipient] {
		l.agents[m.Recipient] = true
	}
	return true
}

// closes notes which channel of the target's is shut.
func (l *law) closes(w *world, d Direction, id uint32) {
	target := id
	if d == Out {
		for own, m := range w.side[Out].channels {
			if m.peer == id && m.confirmed {
				target = own
			}
		}
	}
	l.shut[target] = true
	delete(l.agents, target)
}

// told checks what the relay says of a channel.
func (l *law) told(t *rapid.T, o Output) {
	serial := int(o.Channel.Serial)
	if serial >= len(l.moved) || l.open[serial] == (o.Kind == Opened) {
		t.Fatalf("it tells of channel %d at a wrong time", serial)
	}
	want, got := *l.moved[serial], *o.Channel
	got.Failure = ""
	if got != want {
		t.Fatalf("it tells %+v, want %+v", got, want)
	}
	l.open[serial] = o.Kind == Opened
}

func (l *law) end(t *rapid.T, r *Relay) {
	open, n, total := r.Forwards()
	var want []Channel
	var bytes [2]uint64
	for serial, c := range l.moved {
		bytes[In], bytes[Out] = bytes[In]+c.Bytes[In], bytes[Out]+c.Bytes[Out]
		if l.open[serial] {
			want = append(want, *c)
		}
	}
	if !slices.Equal(open, want) || n != uint64(len(l.moved)) || total != bytes {
		t.Fatalf("open %+v of %d, %v bytes; want %+v of %d, %v", open, n, total, want, len(l.moved), bytes)
	}
}

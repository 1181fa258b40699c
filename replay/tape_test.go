package replay

import (
	"bytes"
	"iter"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// tape records a session as a gateway does: what is sent between two commits may stand in the log in any order, but
// for the rules of [Items]. A side acts on what it received only after the commit that holds it.
type tape struct {
	now     time.Duration
	sides   [2]tapeSide
	records []Record
	outLead bool // in a commit, the target's packets stand before the client's
	block   int  // packets in a block at most; 0: all of a commit
}

type tapeSide struct {
	received, sent uint64
	packets        []events.Packet
	drops          []*events.SessionPacketDropped
	made           []*events.SessionPacketMade
}

// message is a message of the connection layer.
type message interface{ Append([]byte) []byte }

var directions = [2]events.Direction{events.In, events.Out}

// raw receives a packet of direction i that is passed on.
func (p *tape) raw(i int, packet []byte) {
	s := &p.sides[i]
	s.packets = append(s.packets, events.Packet{Number: s.received, At: p.now, Bytes: packet})
	s.received++
	s.sent++
}

func (p *tape) pass(i int, m message) { p.raw(i, m.Append(nil)) }

// drop receives a packet that is not passed on, and returns its number.
func (p *tape) drop(i int, m message) uint64 {
	p.raw(i, m.Append(nil))
	s := &p.sides[i]
	s.sent--
	s.drops = append(s.drops, &events.SessionPacketDropped{Direction: directions[i], Number: s.received - 1, Why: "refused"})
	return s.received - 1
}

// make sends a packet of the gateway in direction i.
func (p *tape) make(i int, m message, refuses uint64) {
	s := &p.sides[i]
	s.made = append(s.made, &events.SessionPacketMade{
		Direction: directions[i], Output: s.sent, At: uint64(p.now.Microseconds()), Packet: m.Append(nil), Refuses: refuses,
	})
	s.sent++
}

func (p *tape) commit() *tape {
	order := []int{0, 1}
	if p.outLead {
		order = []int{1, 0}
	}
	for _, i := range order {
		for _, d := range p.sides[i].drops {
			p.records = append(p.records, Record{Dropped: d})
		}
		for _, m := range p.sides[i].made {
			p.records = append(p.records, Record{Made: m})
		}
	}
	for _, i := range order {
		s := &p.sides[i]
		for rest := s.packets; len(rest) > 0; {
			n := len(rest)
			if p.block > 0 {
				n = min(n, p.block)
			}
			p.records = append(p.records, packetsRecord(directions[i], rest[:n]))
			rest = rest[n:]
		}
		s.packets, s.drops, s.made = nil, nil, nil
	}
	return p
}

func packetsRecord(d events.Direction, packets []events.Packet) Record {
	first := packets[0]
	var block []byte
	prev := first.At
	for _, p := range packets {
		block = events.AppendPacket(block, prev, p.At, p.Bytes)
		prev = max(prev, p.At)
	}
	return Record{
		Packets: &events.SessionPackets{
			Direction: d, First: first.Number, Count: uint64(len(packets)), At: uint64(first.At.Microseconds()),
		},
		Block: block,
	}
}

// source is what was recorded up to the last commit.
func (p *tape) source() Source { return Items(recordsOf(p.records)) }

func recordsOf(records []Record) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// open opens a channel from the client, numbered id by the client and id+100 by the target.
func (p *tape) open(id uint32, kind string) *tape {
	p.pass(0, sshwire.ChannelOpen{Type: kind, Sender: id, Window: 1 << 20, MaxPacket: 1 << 15})
	p.commit()
	p.pass(1, sshwire.ChannelOpenConfirmation{Recipient: id, Sender: id + 100, Window: 1 << 20, MaxPacket: 1 << 15})
	return p.commit()
}

// ask sends a request of the client on channel id and lets the target answer it.
func (p *tape) ask(id uint32, kind string, payload []byte) *tape {
	p.pass(0, sshwire.ChannelRequest{Recipient: id + 100, Type: kind, WantReply: true, Payload: payload})
	p.commit()
	p.pass(1, sshwire.ChannelSuccess{Recipient: id})
	return p.commit()
}

func (p *tape) stdin(id uint32, s string) {
	p.pass(0, sshwire.ChannelData{Recipient: id + 100, Data: []byte(s)})
}

func (p *tape) stdout(id uint32, s string) {
	p.pass(1, sshwire.ChannelData{Recipient: id, Data: []byte(s)})
}

func (p *tape) stderr(id uint32, s string) {
	p.pass(1, sshwire.ChannelExtendedData{Recipient: id, Type: sshwire.ExtendedDataStderr, Data: []byte(s)})
}

// exit ends the program of channel id, and the channel.
func (p *tape) exit(id, status uint32) *tape {
	p.pass(1, sshwire.ChannelRequest{Recipient: id, Type: "exit-status", Payload: sshwire.ExitStatus{Code: status}.Append(nil)})
	return p.close(id)
}

func (p *tape) close(id uint32) *tape {
	p.pass(1, sshwire.ChannelEOF{Recipient: id})
	p.pass(1, sshwire.ChannelClose{Recipient: id})
	p.commit()
	p.pass(0, sshwire.ChannelClose{Recipient: id + 100})
	return p.commit()
}

func (p *tape) wait(d time.Duration) *tape {
	p.now += d
	return p
}

// shell is a short session with a terminal: typed commands, output in UTF-8 that packets cut, a resize, a status.
func shell() *tape {
	p := &tape{}
	p.wait(1500*time.Microsecond).open(0, "session")
	p.ask(0, "env", sshwire.EnvRequest{Name: "LANG", Value: "C.UTF-8"}.Append(nil))
	p.ask(0, "pty-req", sshwire.PtyRequest{Term: "xterm-256color", Columns: 40, Rows: 6}.Append(nil))
	p.wait(20*time.Millisecond).ask(0, "shell", nil)
	p.wait(3250*time.Microsecond).stdout(0, "\x1b]0;web1\x07$ ")
	p.wait(time.Second).stdin(0, "ls\r")
	p.wait(700*time.Microsecond).stdout(0, "ls\r\n\x1b[1;34mcaf\xc3")
	p.wait(100*time.Microsecond).stdout(0, "\xa9\x1b[0m  <a&b>  \xff.txt\r\n$ ")
	p.commit()
	p.wait(2 * time.Second)
	p.pass(0, sshwire.ChannelRequest{Recipient: 100, Type: "window-change", Payload: sshwire.WindowChange{Columns: 60, Rows: 8}.Append(nil)})
	p.wait(500*time.Millisecond).stdin(0, "\x1b[A\x04")
	p.commit().wait(time.Millisecond).stdout(0, "logout\r\n")
	return p.exit(0, 3)
}

// command is "ssh host command" without a terminal.
func command() *tape {
	p := &tape{}
	p.wait(time.Millisecond).open(0, "session")
	p.ask(0, "exec", sshwire.ExecRequest{Command: "make \x00\xff 'x'"}.Append(nil))
	p.wait(10*time.Millisecond).stdout(0, "one\r\ntwo\ttabbed\n")
	p.wait(10*time.Millisecond).stderr(0, "warning: caf\xc3")
	p.wait(10*time.Millisecond).stderr(0, "\xa9 \x1b]52;c;aGk=\x07 \u202e \u009b31m\n")
	p.wait(10*time.Millisecond).stdout(0, "half a character: \xe6\xbc")
	p.stdin(0, "input")
	p.pass(0, sshwire.ChannelEOF{Recipient: 100})
	return p.commit().exit(0, 0)
}

// collect is all of a sequence; it fails on an error.
func collect[T any](t testing.TB, seq iter.Seq2[T, error]) []T {
	t.Helper()
	var all []T
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

func rawOf(t testing.TB, src Source, channel int, s Stream) string {
	t.Helper()
	var b bytes.Buffer
	if err := Raw(&b, src, RawOptions{Channel: channel, Stream: s}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

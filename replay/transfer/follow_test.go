package transfer

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
	"github.com/holdfast-pam/holdfast/replay"
)

// tape is the packets of a session with one channel, number 0 on both sides.
type tape struct {
	items   []replay.Item
	numbers [2]uint64
}

type message interface{ Append([]byte) []byte }

func (p *tape) pass(target bool, m message) *tape {
	i, d := 0, events.In
	if target {
		i, d = 1, events.Out
	}
	p.items = append(p.items, replay.Item{
		Direction: d, Packet: events.Packet{Number: p.numbers[i], At: time.Duration(len(p.items)) * time.Millisecond, Bytes: m.Append(nil)},
	})
	p.numbers[i]++
	return p
}

func newTape() *tape {
	p := &tape{}
	return p.pass(false, sshwire.ChannelOpen{Type: "session"}).pass(true, sshwire.ChannelOpenConfirmation{})
}

func (p *tape) ask(kind, command string) *tape {
	return p.pass(false, sshwire.ChannelRequest{Type: kind, WantReply: true, Payload: sshwire.ExecRequest{Command: command}.Append(nil)})
}

func (p *tape) yes() *tape { return p.pass(true, sshwire.ChannelSuccess{}) }
func (p *tape) no() *tape  { return p.pass(true, sshwire.ChannelFailure{}) }

func (p *tape) data(all []said) *tape {
	for _, s := range all {
		p.pass(s.target, sshwire.ChannelData{Data: s.bytes})
	}
	return p
}

func (p *tape) source() replay.Source {
	return func(yield func(replay.Item, error) bool) {
		for _, i := range p.items {
			if !yield(i, nil) {
				return
			}
		}
	}
}

// TestWhichProgramRuns: a channel runs the first program that the target can start, whatever was asked for around it.
func TestWhichProgramRuns(t *testing.T) {
	removes := hello().do(0, fxpRemove, "f").all
	for _, c := range []struct {
		name string
		tape *tape
		want Kind // of the only operation; "" for none
	}{
		{"sftp", newTape().ask("subsystem", "sftp").yes().data(removes), KindRemove},
		{"data before the answer", newTape().ask("subsystem", "sftp").data(removes).yes(), KindRemove},
		{"a shell", newTape().ask("shell", "").yes().data(removes), ""},
		{"refused", newTape().ask("subsystem", "sftp").no().data(removes), ""},
		{"a second try", newTape().ask("subsystem", "x").no().ask("exec", "sftp-server").yes().data(removes), KindRemove},
		{"the first fails", newTape().ask("subsystem", "x").ask("subsystem", "sftp").no().yes().data(removes), KindRemove},
		{"the first runs", newTape().ask("subsystem", "sftp").ask("exec", "cat").yes().no().data(removes), KindRemove},
		{"the first runs, and is none", newTape().ask("exec", "cat").ask("subsystem", "sftp").yes().no().data(removes), ""},
		{"all at once", newTape().ask("subsystem", "x").ask("subsystem", "sftp").data(removes[:1]).no().yes().data(removes[1:]), KindUndecoded},
		{"the second runs", newTape().ask("subsystem", "x").ask("subsystem", "sftp").data(removes[:1]).yes().yes().data(removes[1:]), KindUndecoded},
	} {
		t.Run(c.name, func(t *testing.T) {
			ops := collect(t, c.tape.source())
			if c.want == "" && len(ops) > 0 || c.want != "" && (len(ops) != 1 || ops[0].Kind != c.want) {
				t.Errorf("want %q: %+v", c.want, ops)
			}
		})
	}
}

// TestWhatNeverPassed: packets that the gateway dropped are no part of a conversation.
func TestWhatNeverPassed(t *testing.T) {
	p := newTape().ask("subsystem", "sftp").yes().data(hello().all).data([]said{{false, packet(fxpRemove, 1, "f")}})
	last := &p.items[len(p.items)-1]
	last.Dropped = true
	if ops := collect(t, p.source()); len(ops) != 0 {
		t.Errorf("%+v", ops)
	}
	last.Dropped = false
	if ops := collect(t, p.source()); len(ops) != 1 || ops[0].Note != "no reply" {
		t.Errorf("%+v", ops)
	}
	p = newTape().ask("exec", "scp -t x").no() // by the gateway
	p.items[2].Dropped, p.items[3].Made = true, true
	if ops := collect(t, p.ask("subsystem", "sftp").yes().data(hello().do(0, fxpRemove, "f").all).source()); len(ops) != 1 {
		t.Errorf("%+v", ops)
	}
}

// TestRecordingsThatBreak: gaps and errors end the decoding, and what was under way is told.
func TestRecordingsThatBreak(t *testing.T) {
	k := hello().open("f", creating, "h").write("h", 0, "abc")
	p := newTape().ask("subsystem", "sftp").yes().data(k.all)
	n := len(p.items)
	p.data(k.close("h").all[len(k.all)-2:])
	p.items[n].Missing = 3
	ops := collect(t, p.source())
	if len(ops) != 3 || ops[1].Kind != KindFile || ops[1].Complete || ops[2].Kind != KindUndecoded {
		t.Errorf("%+v", ops)
	}
	broken := errors.New("the disk is gone")
	var got []Operation
	var failed error
	for o, err := range Operations(func(yield func(replay.Item, error) bool) {
		for _, i := range p.items[:n] {
			yield(i, nil)
		}
		yield(replay.Item{}, broken)
	}) {
		if failed = err; err == nil {
			got = append(got, o)
		}
	}
	if !errors.Is(failed, broken) || len(got) != 2 || got[1].Bytes != 3 {
		t.Errorf("%v: %+v", failed, got)
	}
}

// TestChannelsAreBounded: channels that a recording never closes are let go of.
func TestChannelsAreBounded(t *testing.T) {
	told := 0
	f := NewFollower(func(Operation) { told++ })
	request := sshwire.ChannelRequest{Type: "exec", WantReply: true, Payload: sshwire.ExecRequest{Command: "rsync --server . x"}.Append(nil)}.Append(nil)
	for range 3 * maxFollowed {
		c := &replay.Channel{State: replay.Open}
		f.Event(&replay.Event{Kind: replay.KindRequest, Direction: events.In, Channel: c, Packet: request, Request: "exec", Command: "rsync --server . x"})
		f.Event(&replay.Event{Kind: replay.KindData, Direction: events.In, Channel: c, Stream: replay.In, Data: []byte("x")})
	}
	if len(f.channels) != maxFollowed || told != 2*maxFollowed {
		t.Errorf("%d followed, %d told", len(f.channels), told)
	}
	if f.End(0); told != 3*maxFollowed {
		t.Errorf("%d told", told)
	}
}

package gateway

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/gatewaytest"
	"github.com/holdfast-pam/holdfast/gateway/relay"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// A side that opens channels without end which policy refuses, and never reads the refusals, is held back: neither
// memory nor the log grows any more, the other side is served, and the session can be ended.
func TestStormOfRefusedChannels(t *testing.T) {
	for _, from := range []relay.Direction{relay.In, relay.Out} {
		t.Run(sideOf(from), func(t *testing.T) {
			r := newRig(t, 1<<20, func(s *session) {
				s.refuse = func(context.Context, events.SessionRefused) error { return nil }
			})
			r.open()
			storming := map[relay.Direction]*gatewaytest.End{relay.In: r.client, relay.Out: r.target}[from]
			var sent atomic.Int64
			go func() { // ends with the session
				for id := uint32(100); ; id++ {
					open := sshwire.ChannelOpen{Type: "x11", Sender: id, Window: 1 << 20, MaxPacket: 1 << 15}.Append(nil)
					if storming.WritePacket(open) != nil || storming.Flush() != nil {
						return
					}
					sent.Add(1)
				}
			}()
			settled(t, sent.Load)
			if n := r.session.underWay(from); n > inflightSoft+16*burstSize { // a burst, with what it made
				t.Errorf("after %d opens %d bytes are under way", sent.Load(), n)
			}
			if from == relay.In { // the other way is open
				send(t, r.target, toClient("not read, but taken"))
			} else {
				send(t, r.client, toTarget("not read, but taken"))
			}
			began := time.Now()
			r.session.End(events.EndedByKill, "enough", "enough")
			if e := r.wait(); e.Reason != events.EndedByKill || !e.Complete {
				t.Errorf("ended %+v", e)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the end took %v", took)
			}
		})
	}
}

// underWay adds up what the lanes hold of one direction: the blocks, and what was made of them.
func (s *session) underWay(d relay.Direction) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[*batch]bool{}
	for _, l := range s.lanes {
		for _, q := range l.queue {
			if q.batch.d == d && !seen[q.batch] {
				seen[q.batch] = true
				n += max(len(q.batch.block), q.batch.size())
			}
		}
	}
	return n
}

// What a client does to channel windows is the target's to judge. It costs the gateway nothing, nobody else notices, and
// the recording is whole.
func TestWindowAbuse(t *testing.T) {
	s := newSite(t, onDisk(t))
	d := s.sshd()
	c := s.dial(d.User + "+web1")
	id := s.exec(c, "exec sleep 60")
	before := heap()
	write := func(m message) bool { return c.WritePacket(m.Append(nil)) == nil && c.Flush() == nil }
	for range 3 {
		write(sshwire.ChannelWindowAdjust{Recipient: id, Bytes: 1<<32 - 1})
	}
	write(sshwire.ChannelOpen{Type: "session", Sender: 7, Window: 0, MaxPacket: 0})
	chunk := sshwire.ChannelData{Recipient: id, Data: make([]byte, 32<<10)}
	sent := 0
	for sent < 16<<20 && write(chunk) { // sshd gives a window of 2 MiB and may hang up
		sent += len(chunk.Data)
	}
	if took := heap() - before; took > stuckHeap {
		t.Errorf("after %d bytes over the window the session takes %d KiB", sent, took>>10)
	}
	s.unaffected(d)
	c.Close()
	for n := range 2 {
		if e := s.ended(n + 1); !e.Complete {
			t.Errorf("ended %+v", e)
		}
	}
}

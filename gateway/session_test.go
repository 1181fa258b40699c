package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/gateway/gatewaytest"
	"github.com/holdfast-pam/holdfast/gateway/relay"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

func TestNothingPassesTheCommit(t *testing.T) {
	r := newRig(t, 1<<20)
	r.open()
	r.log.hold(true)
	send(t, r.client, toTarget("typed"))
	send(t, r.target, toClient("printed"))
	waitFor(t, func() bool { in, out := r.session.cursors(); return in.Received == 2 && out.Received == 2 })
	time.Sleep(20 * time.Millisecond)
	if r.client.ReadReady() || r.target.ReadReady() {
		t.Fatal("a packet was delivered before its record was durable")
	}
	if in, _ := r.session.cursors(); in.Committed != 1 || in.Delivered != 1 {
		t.Errorf("cursors %+v while the log waits", in)
	}
	r.log.hold(false)
	want(t, r.target, toTarget("typed"))
	want(t, r.client, toClient("printed"))
	r.client.Close()
	r.wait()
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come")
		}
	}
}

// Everything that one side sent before it left reaches the other side before that is disconnected.
func TestLastBytesArrive(t *testing.T) {
	for _, side := range []string{"client", "target"} {
		t.Run(side, func(t *testing.T) {
			r := newRig(t, 4<<10) // less than what is sent: the receiver is slow
			r.open()
			from, to, what, reason := r.client, r.target, toTarget, events.EndedByClient
			if side == "target" {
				from, to, what, reason = r.target, r.client, toClient, events.EndedByTarget
			}
			var sent []message
			for i := range 500 {
				sent = append(sent, what("%d %s", i, strings.Repeat("x", 1000)))
			}
			go func() {
				for _, m := range sent {
					_ = from.WritePacket(m.Append(nil))
				}
				_ = from.Flush()
				_ = from.Disconnect(11, "bye\x1b[2J")
			}()
			want(t, to, sent...)
			_, err := wantEnd(to)
			var bye *sshwire.DisconnectError
			if !errors.As(err, &bye) || bye.Text != "the "+side+" closed the connection" {
				t.Errorf("the other side got %v", err)
			}
			e := r.wait()
			if e.Reason != reason || !e.Complete || e.Detail != side+" disconnected: bye?[2J" {
				t.Errorf("ended %+v", e)
			}
			if c := map[string]events.Cursors{"client": e.In, "target": e.Out}[side]; c.Delivered != 501 || c.Committed != 501 || c.Received != 501 {
				t.Errorf("cursors %+v, want 501", c)
			}
		})
	}
}

func TestRefusalIsAnEventBeforeItsEffect(t *testing.T) {
	r := newRig(t, 1<<20)
	r.open()
	keepalive := sshwire.GlobalRequest{Type: "keepalive@openssh.com", WantReply: true}
	forward := sshwire.GlobalRequest{Type: "tcpip-forward", WantReply: true, Payload: []byte("\x00\x00\x00\x01*\x00\x00\x00\x50")}
	send(t, r.client, keepalive, forward, keepalive)
	want(t, r.target, keepalive, keepalive)
	if e := <-r.refused; e.What != "request tcpip-forward" || e.Detail != "*:80" || e.Number != 2 || e.Direction != events.In {
		t.Errorf("refused %+v", e)
	}
	success, failure := sshwire.RequestSuccess{}, sshwire.RequestFailure{}
	send(t, r.target, success, success)
	want(t, r.client, success, failure, success)
	r.client.Close()
	r.wait()
	var kinds []string
	for _, e := range r.log.events(t) {
		typ, _ := events.TypeOf(e)
		kinds = append(kinds, typ.Name)
	}
	// the drop stands before the packets that hold it, the reply between the two that it came between
	all := strings.Join(kinds, " ")
	if !strings.Contains(all, "session.packet_dropped session.packets session.packets session.packet_made session.packets") {
		t.Errorf("log: %s", all)
	}
}

func TestRefusalThatCannotBeRecordedEndsTheSession(t *testing.T) {
	r := newRig(t, 1<<20)
	r.open()
	r.session.refuse = func(context.Context, events.SessionRefused) error { return store.ErrFull }
	send(t, r.client, sshwire.ChannelOpen{Type: "direct-tcpip", Sender: 9})
	if packets, _ := wantEnd(r.client); len(packets) > 0 {
		t.Errorf("the client got %q", packets)
	}
	if e := r.wait(); e.Reason != events.EndedByStorage {
		t.Errorf("ended %+v", e)
	}
}

func TestProtocolErrorEndsBothSides(t *testing.T) {
	r := newRig(t, 1<<20)
	r.open()
	send(t, r.client, toTarget("good"), sshwire.ChannelData{Recipient: 99, Data: []byte("bad")}, toTarget("never"))
	packets, err := wantEnd(r.target)
	var bye *sshwire.DisconnectError
	if len(packets) != 1 || !errors.As(err, &bye) || bye.Text != "the client broke the SSH protocol" {
		t.Errorf("target got %q, %v", packets, err)
	}
	if _, err := wantEnd(r.client); !errors.As(err, &bye) || bye.Reason != sshwire.ReasonProtocolError {
		t.Errorf("client got %v", err)
	}
	e := r.wait()
	if e.Reason != events.EndedByProtocol || e.In.Received != 3 || !strings.Contains(e.Detail, "channel 99") {
		t.Errorf("ended %+v", e)
	}
}

func TestEndFromOutside(t *testing.T) {
	r := newRig(t, 1<<10)
	r.open()
	go func() { // neither side reads: nothing may depend on that
		for range 100 {
			_ = r.client.WritePacket(toTarget("%s", strings.Repeat("x", 1000)).Append(nil))
			_ = r.client.Flush()
		}
	}()
	waitFor(t, func() bool { in, _ := r.session.cursors(); return in.Received > 1 })
	began := time.Now()
	r.session.End(events.EndedByKill, "by somebody", "killed: somebody's reason")
	e := r.wait()
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
	if e.Reason != events.EndedByKill || e.Detail != "by somebody" {
		t.Errorf("ended %+v", e)
	}
	for text, end := range map[string]*gatewaytest.End{"killed: somebody's reason": r.client, "the gateway ended the session": r.target} {
		var bye *sshwire.DisconnectError
		if _, err := wantEnd(end); !errors.As(err, &bye) || bye.Text != text {
			t.Errorf("got %v, want %q", err, text)
		}
	}
}

// What a target says when it hangs up is its bytes too: nothing of it passes before an event holds it.
func TestWordsOfADisconnectStayHere(t *testing.T) {
	r := newRig(t, 1<<20)
	r.open()
	r.log.hold(true)
	defer r.log.hold(false)
	must(t, r.target.Disconnect(11, "s3cret of the target"))
	var bye *sshwire.DisconnectError
	if _, err := wantEnd(r.client); !errors.As(err, &bye) || strings.Contains(bye.Text, "s3cret") {
		t.Errorf("the client got %v", err)
	}
	if e := r.wait(); e.Detail != "target disconnected: s3cret of the target" {
		t.Errorf("ended %+v", e)
	}
}

// A kill cuts short the wait for a receiver that doesn't take what the departed side sent.
func TestKillWhileDraining(t *testing.T) {
	r := newRig(t, 1<<10)
	r.open()
	go func() {
		for range 20 {
			_ = r.client.WritePacket(toTarget("%s", strings.Repeat("x", 1000)).Append(nil))
		}
		_ = r.client.Flush()
		r.client.Close()
	}()
	<-r.session.ended
	r.session.End(events.EndedByKill, "", "killed")
	if e := r.wait(); e.Reason != events.EndedByClient {
		t.Errorf("ended %+v", e)
	}
}

func TestFullLogPausesThenGoesOn(t *testing.T) {
	r := newRig(t, 1<<20)
	r.open()
	r.log.fail(store.ErrFull)
	send(t, r.client, toTarget("a"), toTarget("b"))
	waitFor(t, func() bool { in, _ := r.session.cursors(); return in.Received == 3 })
	send(t, r.client, toTarget("c"))
	time.Sleep(50 * time.Millisecond)
	if r.target.ReadReady() {
		t.Fatal("delivered while the log is full")
	}
	r.log.fail(nil)
	want(t, r.target, toTarget("a"), toTarget("b"), toTarget("c"))
	r.client.Close()
	if e := r.wait(); !e.Complete {
		t.Errorf("ended %+v", e)
	}
	r.log.sent(t, r.session, events.In) // checks the order of the records
}

func TestStorageFailureEndsTheSession(t *testing.T) {
	for name, err := range map[string]error{"full for too long": store.ErrFull, "closed": store.ErrClosed} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1<<20)
			r.open()
			r.log.fail(err)
			send(t, r.client, toTarget("lost"))
			if packets, end := wantEnd(r.target); len(packets) > 0 {
				t.Errorf("target got %q, %v", packets, end)
			}
			var bye *sshwire.DisconnectError
			if _, end := wantEnd(r.client); !errors.As(end, &bye) || !strings.Contains(bye.Text, "can't be recorded") {
				t.Errorf("client got %v", end)
			}
			e := r.wait()
			if e.Reason != events.EndedByStorage || e.Complete || e.In.Committed != 1 || e.In.Received != 2 {
				t.Errorf("ended %+v", e)
			}
		})
	}
}

// A reader waits while too much is under way, goes on in a key exchange of its own leg, and gives up at the hard bound.
func TestInflightBound(t *testing.T) {
	r := newRig(t, 1<<10)
	r.open()
	chunk := toTarget("%s", strings.Repeat("x", 30_000)).Append(nil)
	go func() {
		for r.client.WritePacket(chunk) == nil && r.client.Flush() == nil {
		}
	}()
	inflight := func() int {
		r.session.mu.Lock()
		defer r.session.mu.Unlock()
		return r.session.lanes[relay.In].inflight
	}
	waitFor(t, func() bool { return inflight() >= inflightSoft })
	time.Sleep(50 * time.Millisecond)
	if n := inflight(); n > inflightSoft+2*burstSize {
		t.Errorf("%d bytes in flight", n)
	}
	r.session.legs[relay.In].rekey.onRekey(true)
	if e := r.wait(); e.Reason != events.EndedByProtocol || !strings.Contains(e.Detail, "key exchange does not end") {
		t.Errorf("ended %+v", e)
	}
}

// Random traffic both ways with refusals in it: each side gets exactly what the log says it was sent.
func TestLogHoldsWhatWasDelivered(t *testing.T) {
	r := newRig(t, 64<<10)
	r.open()
	got := map[string][][]byte{}
	var mu sync.Mutex
	var readers sync.WaitGroup
	for name, end := range map[string]*gatewaytest.End{"client": r.client, "target": r.target} {
		readers.Go(func() {
			for p, err := end.ReadPacket(); err == nil; p, err = end.ReadPacket() {
				mu.Lock()
				got[name] = append(got[name], bytes.Clone(p))
				mu.Unlock()
			}
		})
	}
	var writers sync.WaitGroup
	for i, end := range []*gatewaytest.End{r.client, r.target} {
		writers.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			for n := range 2000 {
				var m message = sshwire.ChannelData{Recipient: uint32(2 - i), Data: bytes.Repeat([]byte{byte(n)}, rnd.IntN(6000))}
				if n%100 == 0 {
					m = sshwire.GlobalRequest{Type: "odd@example.com", WantReply: true}
				}
				_ = end.WritePacket(m.Append(nil))
				if n%7 == 0 {
					_ = end.Flush()
				}
			}
			_ = end.Flush()
		})
	}
	writers.Wait()
	waitFor(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got["client"]) >= 2000 && len(got["target"]) >= 2000 // 1980 of the other side, 20 refusals of the gateway
	})
	r.target.Close()
	e := r.wait()
	r.client.Close()
	readers.Wait()
	for name, d := range map[string]events.Direction{"client": events.Out, "target": events.In} {
		logged := r.log.sent(t, r.session, d)[1:] // open() has read the first
		if len(got[name]) != len(logged) {
			t.Fatalf("%s got %d packets, the log has %d", name, len(got[name]), len(logged))
		}
		for i := range logged {
			if !bytes.Equal(logged[i], got[name][i]) {
				t.Fatalf("%s: packet %d differs", name, i)
			}
		}
	}
	if !e.Complete || e.In.Committed != e.In.Received {
		t.Errorf("ended %+v", e)
	}
}

func TestReadEnded(t *testing.T) {
	tests := []struct {
		d    relay.Direction
		err  error
		want string
	}{
		{relay.In, io.EOF, "client closed|client closed the connection|the client closed the connection"},
		{relay.Out, io.EOF, "target closed|target closed the connection|the target closed the connection"},
		{relay.Out, &sshwire.DisconnectError{Reason: 2, Text: "go\naway"}, "target closed|target disconnected: go?away|the target closed the connection"},
		{relay.In, &sshwire.ProtocolError{Reason: 2, Err: errors.New("bad")}, "protocol error|bad|the client broke the SSH protocol"},
		{relay.In, errors.New("reset"), "client closed|client: reset|the client closed the connection"},
	}
	for _, tt := range tests {
		e := readEnded(tt.d, tt.err)
		if diff := cmp.Diff(tt.want, fmt.Sprintf("%s|%s|%s", e.reason, e.detail, e.text)); diff != "" {
			t.Error(diff)
		}
	}
}

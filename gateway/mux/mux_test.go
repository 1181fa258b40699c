package mux

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/gateway/gatewaytest"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// client speaks to a mux packet by packet.
type client struct {
	t   *testing.T
	end *gatewaytest.End
	err chan error // what Serve returned
}

func serve(t *testing.T, limits Limits, handler Handler) *client {
	return serveAll(t, limits, Handlers{Session: handler})
}

func serveAll(t *testing.T, limits Limits, handlers Handlers) *client {
	gatewaytest.NoLeaks(t)
	ours, theirs := gatewaytest.Pipe(1 << 20)
	c := &client{t: t, end: ours, err: make(chan error, 1)}
	go func() { c.err <- Serve(context.Background(), theirs, limits, handlers) }()
	t.Cleanup(func() { ours.Close() })
	return c
}

type message interface{ Append([]byte) []byte }

func (c *client) send(messages ...message) {
	c.t.Helper()
	for _, m := range messages {
		if err := c.end.WritePacket(m.Append(nil)); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := c.end.Flush(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) packet() []byte {
	c.t.Helper()
	p, err := c.end.ReadPacket()
	if err != nil {
		c.t.Fatal(err)
	}
	return bytes.Clone(p)
}

// want reads packets and compares them.
func (c *client) want(messages ...message) {
	c.t.Helper()
	for _, m := range messages {
		if got := c.packet(); !bytes.Equal(got, m.Append(nil)) {
			c.t.Fatalf("got %q, want %q", got, m.Append(nil))
		}
	}
}

// broken waits for Serve's end by a protocol error.
func (c *client) broken(what string) {
	c.t.Helper()
	select {
	case err := <-c.err:
		if !errors.Is(err, ErrProtocol) {
			c.t.Errorf("%s: Serve = %v, want a protocol error", what, err)
		}
	case <-time.After(5 * time.Second):
		c.t.Errorf("%s: Serve goes on", what)
	}
}

func (c *client) open(id uint32) {
	c.t.Helper()
	c.send(sshwire.ChannelOpen{Type: "session", Sender: id, Window: 1 << 20, MaxPacket: 1 << 15})
	c.want(sshwire.ChannelOpenConfirmation{Recipient: id, Sender: 0, Window: window, MaxPacket: maxPacket})
}

func request(kind string, payload message) sshwire.ChannelRequest {
	r := sshwire.ChannelRequest{Recipient: 0, Type: kind, WantReply: true}
	if payload != nil {
		r.Payload = payload.Append(nil)
	}
	return r
}

var yes, no = sshwire.ChannelSuccess{Recipient: 7}, sshwire.ChannelFailure{Recipient: 7}

func TestOneSession(t *testing.T) {
	var got Session
	c := serve(t, Limits{Env: 64}, func(_ context.Context, s *Session) uint32 {
		got = Session{Command: s.Command, Shell: s.Shell, Pty: s.Pty, Env: s.Env}
		size := <-s.Resized()
		in, err := io.ReadAll(s)
		fmt.Fprintf(s, "in %s %v %v", in, err, size)
		fmt.Fprintf(s.Stderr(), "signal %s", <-s.Signals())
		return 42
	})
	c.open(7)
	c.send(
		request("pty-req", sshwire.PtyRequest{Term: "xterm", Columns: 80, Rows: 24, Modes: []byte{0}}),
		request("env", sshwire.EnvRequest{Name: "LANG", Value: "C"}),
		request("env", sshwire.EnvRequest{Name: "BIG", Value: strings.Repeat("x", 64)}),
		request("x11-req", nil), request("subsystem", sshwire.SubsystemRequest{Name: "sftp"}),
		request("exec", sshwire.ExecRequest{Command: "session ls"}), request("shell", nil),
		request("window-change", sshwire.WindowChange{Columns: 100, Rows: 30}),
		request("signal", sshwire.SignalRequest{Signal: "INT"}),
		sshwire.ChannelData{Data: []byte("hello")}, sshwire.ChannelEOF{},
		sshwire.GlobalRequest{Type: "keepalive@openssh.com", WantReply: true},
	)
	c.want(yes, yes, no, no, no, yes, no, yes, yes, sshwire.RequestFailure{})
	c.want(
		sshwire.ChannelData{Recipient: 7, Data: []byte("in hello <nil> {100 30}")},
		sshwire.ChannelExtendedData{Recipient: 7, Type: 1, Data: []byte("signal INT")},
		sshwire.ChannelRequest{Recipient: 7, Type: "exit-status", Payload: sshwire.ExitStatus{Code: 42}.Append(nil)},
		sshwire.ChannelEOF{Recipient: 7}, sshwire.ChannelClose{Recipient: 7},
	)
	want := Session{Command: "session ls", Pty: &Pty{"xterm", Size{80, 24}, []byte{0}}, Env: []Var{{"LANG", "C"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("handler saw %+v, want %+v", got, want)
	}
	c.send(sshwire.ChannelClose{})
	c.open(8) // number 0 is free again
	c.end.Close()
	if err := <-c.err; err != nil {
		t.Errorf("Serve = %v after the client hung up", err)
	}
}

// Echo through windows in both directions, several channels at once.
func TestBulkOnSeveralChannels(t *testing.T) {
	const channels, size = 4, 3 << 20
	ours, theirs := gatewaytest.Pipe(64 << 10)
	gatewaytest.NoLeaks(t)
	done := make(chan error, 1)
	go func() {
		done <- Serve(context.Background(), theirs, Limits{}, Handlers{Session: func(_ context.Context, s *Session) uint32 {
			if _, err := io.Copy(s, s); err != nil {
				return 1
			}
			return 0
		}})
	}()
	want := make([]byte, size)
	_, _ = rand.Read(want)
	e := &echo{t: t, end: ours, data: want, channels: map[uint32]*echoChannel{}}
	e.run(channels)
	ours.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// echo is a client that sends data on several channels as windows allow and checks what comes back.
type echo struct {
	t        *testing.T
	end      *gatewaytest.End
	data     []byte
	channels map[uint32]*echoChannel // by our number
}

type echoChannel struct {
	peer, window uint32
	sent         int
	back         []byte
	window2      uint32 // that we have given
	exit         bool
	closed       bool
}

func (e *echo) write(messages ...message) {
	for _, m := range messages {
		_ = e.end.WritePacket(m.Append(nil))
	}
	go func() { _ = e.end.Flush() }() // the reader must not wait for room
}

func (e *echo) run(n uint32) {
	for i := range n {
		e.channels[i+100] = &echoChannel{window2: 100_000}
		e.write(sshwire.ChannelOpen{Type: "session", Sender: i + 100, Window: 100_000, MaxPacket: 10_000})
	}
	for closed := uint32(0); closed < n; {
		p, err := e.end.ReadPacket()
		if err != nil {
			e.t.Fatal(err)
		}
		closed += e.take(bytes.Clone(p))
	}
	for id, c := range e.channels {
		if !c.exit || !bytes.Equal(c.back, e.data) {
			e.t.Errorf("channel %d: %d of %d bytes came back, exit status %v", id, len(c.back), len(e.data), c.exit)
		}
	}
}

func (e *echo) take(p []byte) (closed uint32) {
	switch p[0] {
	case sshwire.MsgChannelOpenConfirmation:
		m, _ := sshwire.ParseChannelOpenConfirmation(p)
		c := e.channels[m.Recipient]
		c.peer, c.window = m.Sender, m.Window
		e.write(sshwire.ChannelRequest{Recipient: c.peer, Type: "shell"})
		e.push(c)
	case sshwire.MsgChannelWindowAdjust:
		m, _ := sshwire.ParseChannelWindowAdjust(p)
		c := e.channels[m.Recipient]
		c.window += m.Bytes
		e.push(c)
	case sshwire.MsgChannelData:
		m, _ := sshwire.ParseChannelData(p)
		c := e.channels[m.Recipient]
		if c.window2 < uint32(len(m.Data)) || len(m.Data) > 10_000 {
			e.t.Fatalf("%d bytes came into a window of %d", len(m.Data), c.window2)
		}
		c.window2 -= uint32(len(m.Data))
		c.back = append(c.back, m.Data...)
		if c.window2 < 50_000 {
			e.write(sshwire.ChannelWindowAdjust{Recipient: c.peer, Bytes: 50_000})
			c.window2 += 50_000
		}
	case sshwire.MsgChannelRequest:
		m, _ := sshwire.ParseChannelRequest(p)
		e.channels[m.Recipient].exit = m.Type == "exit-status" && m.Payload[3] == 0
	case sshwire.MsgChannelClose:
		return 1
	}
	return 0
}

func (e *echo) push(c *echoChannel) {
	for c.window > 0 && c.sent < len(e.data) {
		n := min(int(c.window), maxPacket, len(e.data)-c.sent)
		e.write(sshwire.ChannelData{Recipient: c.peer, Data: e.data[c.sent : c.sent+n]})
		c.sent, c.window = c.sent+n, c.window-uint32(n)
	}
	if c.sent == len(e.data) && !c.closed {
		c.closed = true
		e.write(sshwire.ChannelEOF{Recipient: c.peer})
	}
}

func TestRefusals(t *testing.T) {
	c := serve(t, Limits{Channels: 1}, func(ctx context.Context, _ *Session) uint32 { <-ctx.Done(); return 0 })
	c.send(sshwire.ChannelOpen{Type: "direct-tcpip", Sender: 3, MaxPacket: 1})
	c.want(sshwire.ChannelOpenFailure{Recipient: 3, Reason: 1, Text: "channels of this type are not served here"})
	c.open(7)
	c.send(sshwire.ChannelOpen{Type: "session", Sender: 4, MaxPacket: 1})
	c.want(sshwire.ChannelOpenFailure{Recipient: 4, Reason: 4, Text: "too many channels"})
	c.send(sshwire.GlobalRequest{Type: "tcpip-forward", WantReply: true})
	c.want(sshwire.RequestFailure{})
}

func TestWhatBreaksAConnection(t *testing.T) {
	big := make([]byte, maxPacket)
	overflow := make([]message, window/maxPacket+1)
	for i := range overflow {
		overflow[i] = sshwire.ChannelData{Data: big}
	}
	tests := map[string][]message{
		"data over the window":         overflow,
		"packet over the maximum":      {sshwire.ChannelData{Data: make([]byte, maxPacket+1)}},
		"data on an unknown channel":   {sshwire.ChannelData{Recipient: 9}},
		"data after its end":           {sshwire.ChannelEOF{}, sshwire.ChannelData{Data: []byte("x")}},
		"data after close":             {sshwire.ChannelClose{}, sshwire.ChannelData{Data: []byte("x")}},
		"window over 2^32-1":           {sshwire.ChannelWindowAdjust{Bytes: 0xffffffff}},
		"reply to nothing":             {sshwire.RequestSuccess{}},
		"channel reply to nothing":     {sshwire.ChannelSuccess{}},
		"malformed pty-req":            {sshwire.ChannelRequest{Type: "pty-req", Payload: []byte{1}}},
		"channel that takes no data":   {sshwire.ChannelOpen{Type: "session", Sender: 4}},
		"confirmation of nothing":      {sshwire.ChannelOpenConfirmation{}},
		"request on unknown channel":   {sshwire.ChannelRequest{Recipient: 5, Type: "exec"}},
		"window of an unknown channel": {sshwire.ChannelWindowAdjust{Recipient: 5}},
	}
	for name, messages := range tests {
		t.Run(name, func(t *testing.T) {
			c := serve(t, Limits{}, func(ctx context.Context, _ *Session) uint32 { <-ctx.Done(); return 0 })
			c.open(7)
			c.send(request("shell", nil))
			c.want(yes)
			c.send(messages...)
			c.broken(name)
		})
	}
}

// A client that asks and never reads the answers is given up before they fill memory.
func TestClientThatDoesNotRead(t *testing.T) {
	ours, theirs := gatewaytest.Pipe(1 << 10)
	gatewaytest.NoLeaks(t)
	done := make(chan error, 1)
	go func() { done <- Serve(context.Background(), theirs, Limits{}, Handlers{}) }()
	go func() {
		open := sshwire.ChannelOpen{Type: "x11"}.Append(nil)
		for {
			if ours.WritePacket(open) != nil || ours.Flush() != nil {
				return
			}
		}
	}()
	if err := <-done; !errors.Is(err, ErrProtocol) {
		t.Errorf("Serve = %v", err)
	}
}

// A handler that waits for input or for the window is freed when the client closes the channel, the connection or ctx ends.
func TestHandlersAreFreed(t *testing.T) {
	for name, handler := range map[string]Handler{
		"reading": func(_ context.Context, s *Session) uint32 { _, _ = io.Copy(io.Discard, s); return 0 },
		"writing": func(_ context.Context, s *Session) uint32 {
			for {
				if _, err := s.Write(make([]byte, 1<<20)); err != nil {
					return 1
				}
			}
		},
		"waiting": func(ctx context.Context, _ *Session) uint32 { <-ctx.Done(); return 2 },
	} {
		for _, how := range []string{"close", "hang up", "cancel"} {
			t.Run(name+", "+how, func(t *testing.T) {
				gatewaytest.NoLeaks(t)
				ours, theirs := gatewaytest.Pipe(8 << 20)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				freed, served := make(chan struct{}), make(chan error, 1)
				go func() {
					served <- Serve(ctx, theirs, Limits{}, Handlers{Session: func(ctx context.Context, s *Session) uint32 {
						defer close(freed)
						return handler(ctx, s)
					}})
				}()
				c := &client{t: t, end: ours}
				c.open(7)
				c.send(request("shell", nil))
				c.want(yes)
				switch how {
				case "close":
					c.send(sshwire.ChannelClose{})
				case "hang up":
					ours.Close()
				case "cancel":
					cancel()
				}
				select {
				case <-freed:
				case <-time.After(5 * time.Second):
					t.Fatal("handler still runs")
				}
				ours.Close()
				<-served
			})
		}
	}
}

// FuzzServe feeds arbitrary packets to a mux whose handler echoes.
func FuzzServe(f *testing.F) {
	var seed []byte
	for _, m := range []message{
		sshwire.ChannelOpen{Type: "session", Sender: 7, Window: 100, MaxPacket: 10}, request("env", sshwire.EnvRequest{Name: "A", Value: "b"}),
		request("shell", nil), sshwire.ChannelData{Data: []byte("hi")}, sshwire.ChannelEOF{}, sshwire.ChannelClose{},
	} {
		p := m.Append(nil)
		seed = append(append(seed, byte(len(p))), p...)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, script []byte) {
		ours, theirs := gatewaytest.Pipe(1 << 20)
		done := make(chan error, 1)
		go func() {
			done <- Serve(context.Background(), theirs, Limits{Channels: 2, Env: 100}, Handlers{
				Session: func(_ context.Context, s *Session) uint32 { _, _ = io.Copy(s, s); return 0 },
				Stream: func(_ context.Context, s *Stream) {
					if s.Port != 1 && s.Accept() == nil {
						_, _ = io.Copy(s, s)
					}
				},
			})
		}()
		for len(script) > 0 {
			n := min(int(script[0]), len(script)-1)
			_ = ours.WritePacket(script[1 : 1+n])
			script = script[1+n:]
		}
		_ = ours.Flush()
		ours.Close()
		<-done
	})
}

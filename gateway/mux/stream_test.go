package mux

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

func direct(host string, port uint32, window uint32) sshwire.ChannelOpen {
	to := sshwire.DirectTCPIP{Host: host, Port: port, Origin: "192.0.2.9", OriginPort: 4000}
	return sshwire.ChannelOpen{Type: "direct-tcpip", Sender: 7, Window: window, MaxPacket: 1 << 15, Payload: to.Append(nil)}
}

func serveStreams(t *testing.T, limits Limits, handler StreamHandler) *client {
	return serveAll(t, limits, Handlers{Stream: handler})
}

var accepted = sshwire.ChannelOpenConfirmation{Recipient: 7, Sender: 0, Window: streamWindow, MaxPacket: maxPacket}

// A stream carries bytes both ways, each direction ends by itself, and its number is free after both closed.
func TestStream(t *testing.T) {
	again := false
	c := serveStreams(t, Limits{Streams: 1}, func(ctx context.Context, s *Stream) {
		if again {
			_ = s.Accept()
			<-ctx.Done()
			return
		}
		again = true
		if s.Host != "web1" || s.Port != 22 {
			t.Errorf("stream to %s port %d", s.Host, s.Port)
		}
		if err := s.Accept(); err != nil {
			t.Error(err)
		}
		if s.Accept() == nil || s.Refuse(1, "") == nil {
			t.Error("a stream was decided on twice")
		}
		in, err := io.ReadAll(s)
		if err != nil || string(in) != "hello" {
			t.Errorf("read %q, %v", in, err)
		}
		if _, err := s.Write([]byte("bye")); err != nil {
			t.Error(err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Error(err)
		}
		if _, err := s.Write([]byte("more")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("write after the end: %v", err)
		}
	})
	c.send(direct("web1", 22, 1<<20))
	c.want(accepted)
	c.send(sshwire.ChannelData{Data: []byte("hello")}, sshwire.ChannelEOF{})
	c.want(sshwire.ChannelData{Recipient: 7, Data: []byte("bye")}, sshwire.ChannelEOF{Recipient: 7}, sshwire.ChannelClose{Recipient: 7})
	c.send(direct("web1", 22, 1<<20))
	c.want(sshwire.ChannelOpenFailure{Recipient: 7, Reason: sshwire.OpenResourceShortage, Text: "too many channels"})
	c.send(request("exec", sshwire.ExecRequest{Command: "id"})) // late: nothing may follow our close
	c.send(sshwire.ChannelClose{}, direct("web1", 22, 1<<20))
	c.want(accepted)
	c.send(request("exec", sshwire.ExecRequest{Command: "id"}))
	c.want(no)
}

func TestStreamRefused(t *testing.T) {
	c := serveStreams(t, Limits{}, func(_ context.Context, s *Stream) {
		if s.Host == "told" {
			_ = s.Refuse(sshwire.OpenConnectFailed, "no such target")
		}
	})
	c.send(direct("told", 22, 1))
	c.want(sshwire.ChannelOpenFailure{Recipient: 7, Reason: sshwire.OpenConnectFailed, Text: "no such target"})
	c.send(direct("untold", 22, 1))
	c.want(sshwire.ChannelOpenFailure{Recipient: 7, Reason: sshwire.OpenConnectFailed, Text: "not served"})
	c.send(sshwire.ChannelOpen{Type: "session", Sender: 7, MaxPacket: 1})
	c.want(sshwire.ChannelOpenFailure{Recipient: 7, Reason: 1, Text: "channels of this type are not served here"})
}

// What a client sends before its stream is accepted, or beyond its window, breaks the connection.
func TestWhatBreaksAStream(t *testing.T) {
	malformed := direct("web1", 22, 1)
	malformed.Payload = malformed.Payload[:6]
	overflow := make([]message, streamWindow/maxPacket+1)
	for i := range overflow {
		overflow[i] = sshwire.ChannelData{Data: make([]byte, maxPacket)}
	}
	mute := direct("web1", 22, 1)
	mute.MaxPacket = 0
	for name, tt := range map[string]struct {
		accept   bool
		messages []message
	}{
		"data before it is accepted":   {false, []message{direct("web1", 22, 1), sshwire.ChannelData{Data: []byte("x")}}},
		"window before it is accepted": {false, []message{direct("web1", 22, 1), sshwire.ChannelWindowAdjust{Bytes: 1}}},
		"close before it is accepted":  {false, []message{direct("web1", 22, 1), sshwire.ChannelClose{}}},
		"cut short":                    {false, []message{malformed}},
		"takes no data":                {false, []message{mute}},
		"data over the window":         {true, overflow},
	} {
		t.Run(name, func(t *testing.T) {
			c := serveStreams(t, Limits{}, func(ctx context.Context, s *Stream) {
				if tt.accept {
					_ = s.Accept()
				}
				<-ctx.Done()
			})
			if tt.accept {
				c.send(direct("web1", 22, 1))
				c.want(accepted)
			}
			c.send(tt.messages...)
			c.broken(name)
		})
	}
}

// Deadlines free waiting calls, can be moved, and do no harm when they are lifted.
func TestStreamDeadlines(t *testing.T) {
	done := make(chan struct{})
	c := serveStreams(t, Limits{}, func(_ context.Context, s *Stream) {
		defer close(done)
		_ = s.Accept()
		buf := make([]byte, 10)
		_ = s.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := s.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		_ = s.SetReadDeadline(time.Time{})
		if n, err := s.Read(buf); n != 2 || err != nil {
			t.Errorf("read %d, %v", n, err)
		}
		waiting := make(chan error, 1)
		go func() { _, err := s.Read(buf); waiting <- err }()
		time.Sleep(5 * time.Millisecond)
		_ = s.SetDeadline(time.Unix(1, 0)) // the past frees at once
		if err := <-waiting; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("waiting read: %v", err)
		}
		_ = s.SetDeadline(time.Time{})
		_ = s.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		n, err := s.Write(make([]byte, 100)) // the window takes 3
		if n != 3 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("wrote %d, %v", n, err)
		}
	})
	c.send(direct("web1", 22, 3))
	c.want(accepted)
	time.Sleep(30 * time.Millisecond)
	c.send(sshwire.ChannelData{Data: []byte("hi")})
	c.want(sshwire.ChannelData{Recipient: 7, Data: []byte{0, 0, 0}})
	<-done
}

// A stream ends with its handler, its connection or its context, and frees who waits on it.
func TestStreamIsFreed(t *testing.T) {
	for _, how := range []string{"close", "hang up"} {
		t.Run(how, func(t *testing.T) {
			freed := make(chan error, 1)
			c := serveStreams(t, Limits{}, func(ctx context.Context, s *Stream) {
				_ = s.Accept()
				_, err := s.Read(make([]byte, 1))
				<-ctx.Done()
				freed <- err
			})
			c.send(direct("web1", 22, 3))
			c.want(accepted)
			if how == "close" {
				c.send(sshwire.ChannelClose{})
			} else {
				c.end.Close()
			}
			select {
			case err := <-freed:
				if err != io.EOF {
					t.Errorf("read: %v", err)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("the handler still runs")
			}
		})
	}
}

// Much data comes through windows in order, both ways at once.
func TestStreamBulk(t *testing.T) {
	const size = 5 << 20
	c := serveStreams(t, Limits{}, func(_ context.Context, s *Stream) {
		_ = s.Accept()
		if n, err := io.Copy(s, s); n != size || err != nil {
			t.Errorf("copied %d, %v", n, err)
		}
	})
	c.send(direct("web1", 22, size))
	c.want(accepted)
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * i >> 8)
	}
	room, more := uint32(streamWindow), make(chan uint32, 1000)
	go func() {
		for rest := data; len(rest) > 0; {
			n := min(len(rest), int(room), maxPacket)
			if n == 0 {
				room += <-more
				continue
			}
			_ = c.end.WritePacket(sshwire.ChannelData{Data: rest[:n]}.Append(nil))
			_ = c.end.Flush()
			rest, room = rest[n:], room-uint32(n)
		}
		_ = c.end.WritePacket(sshwire.ChannelEOF{}.Append(nil))
		_ = c.end.Flush()
	}()
	var back []byte
	for {
		p := c.packet()
		switch p[0] {
		case sshwire.MsgChannelWindowAdjust:
			a, _ := sshwire.ParseChannelWindowAdjust(p)
			more <- a.Bytes
		case sshwire.MsgChannelData:
			d, _ := sshwire.ParseChannelData(p)
			back = append(back, d.Data...)
		case sshwire.MsgChannelClose:
			if !bytes.Equal(back, data) {
				t.Errorf("%d of %d bytes came back", len(back), size)
			}
			return
		}
	}
}

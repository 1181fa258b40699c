package mux

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// Stream is a direct-tcpip channel (RFC 4254 section 7.2) that ends here: the client believes it to be a TCP
// connection to Host and Port. It becomes a [net.Conn] with Accept. All methods but Accept and Refuse are safe for
// concurrent use.
type Stream struct {
	Host string // as sent; nothing was looked up
	Port uint32

	channel
	local, remote net.Addr
	decided       bool // Accept or Refuse was called; the handler's goroutine owns it
}

var _ net.Conn = (*Stream)(nil)

// StreamHandler serves one stream. It must call Accept or Refuse, and return soon after ctx is done, which is when the
// client closed the channel or the connection ended. The stream is closed when it returns, and refused if it did neither.
type StreamHandler func(ctx context.Context, s *Stream)

// addressed is a connection below that knows its ends.
type addressed interface {
	LocalAddr() net.Addr
	RemoteAddr() net.Addr
}

// openStream starts the handler of a direct-tcpip channel; it decides whether the channel opens. Where the client says
// that the connection came from is its own word, and not used. mux.mu is held.
func (m *mux) openStream(o sshwire.ChannelOpen, to sshwire.DirectTCPIP) {
	s := &Stream{Host: to.Host, Port: to.Port, channel: newChannel(m, o, streamWindow)}
	s.pending = true
	if c, ok := m.conn.(addressed); ok {
		s.local, s.remote = c.LocalAddr(), c.RemoteAddr()
	}
	m.channels[s.id] = &s.channel
	m.streams++
	ctx, cancel := context.WithCancel(m.ctx)
	s.cancel = cancel
	m.work.Go(func() {
		defer cancel()
		m.handlers.Stream(ctx, s)
		if !s.decided {
			_ = s.Refuse(sshwire.OpenConnectFailed, "not served") // an error is the connection's end
		}
		_ = s.Close() // likewise
	})
}

var errDecided = errors.New("the stream was accepted or refused before")

// Accept opens the channel.
func (s *Stream) Accept() error {
	s.mux.mu.Lock()
	defer s.mux.mu.Unlock()
	if err := s.decide(); err != nil {
		return err
	}
	return s.mux.send(sshwire.ChannelOpenConfirmation{Recipient: s.peer, Sender: s.id, Window: s.window, MaxPacket: maxPacket}.Append(nil))
}

// Refuse answers the client's wish with a failure. reason is one of the sshwire.Open… constants; text is for the
// person.
func (s *Stream) Refuse(reason uint32, text string) error {
	s.mux.mu.Lock()
	defer s.mux.mu.Unlock()
	if err := s.decide(); err != nil {
		return err
	}
	s.clientGone, s.sentClose = true, true
	s.mux.forget(&s.channel)
	return s.mux.send(sshwire.ChannelOpenFailure{Recipient: s.peer, Reason: reason, Text: text}.Append(nil))
}

// decide marks the stream as decided on; mux.mu is held.
func (s *Stream) decide() error {
	if s.decided {
		return errDecided
	}
	s.decided, s.pending = true, false
	return s.mux.err
}

// CloseWrite says that no more data follows; the other direction stays open.
func (s *Stream) CloseWrite() error {
	s.mux.mu.Lock()
	defer s.mux.mu.Unlock()
	if s.mute() {
		return nil
	}
	s.sentEOF = true
	s.mux.cond.Broadcast()
	return s.mux.send(sshwire.ChannelEOF{Recipient: s.peer}.Append(nil))
}

// Close closes the channel after what was written. What was received and not read is dropped.
func (s *Stream) Close() error {
	s.mux.mu.Lock()
	defer s.mux.mu.Unlock()
	s.set(&s.readBy, time.Time{})
	s.set(&s.writeBy, time.Time{})
	s.input, s.inputEOF = nil, true
	s.mux.cond.Broadcast()
	if s.sentClose || s.clientGone {
		return nil
	}
	s.sentClose = true
	return s.mux.send(sshwire.ChannelClose{Recipient: s.peer}.Append(nil))
}

// LocalAddr is our end of the connection below.
func (s *Stream) LocalAddr() net.Addr { return s.local }

// RemoteAddr is the client's end of the connection below.
func (s *Stream) RemoteAddr() net.Addr { return s.remote }

// SetDeadline is that of [net.Conn].
func (s *Stream) SetDeadline(t time.Time) error {
	s.mux.mu.Lock()
	defer s.mux.mu.Unlock()
	s.set(&s.readBy, t)
	s.set(&s.writeBy, t)
	return nil
}

// SetReadDeadline is that of [net.Conn].
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.mux.mu.Lock()
	defer s.mux.mu.Unlock()
	s.set(&s.readBy, t)
	return nil
}

// SetWriteDeadline is that of [net.Conn].
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.mux.mu.Lock()
	defer s.mux.mu.Unlock()
	s.set(&s.writeBy, t)
	return nil
}

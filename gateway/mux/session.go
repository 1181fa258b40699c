package mux

import (
	"context"
	"io"
	"math"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// Size is that of a terminal, in characters.
type Size struct{ Columns, Rows uint32 }

// Pty is the terminal that a client asked for.
type Pty struct {
	Term  string // value of TERM, as sent
	Size  Size   // at first; see Session.Resized
	Modes []byte // encoded as in RFC 4254 section 8
}

// Var is an environment variable as sent. Nothing obeys it by itself.
type Var struct{ Name, Value string }

// Session is one channel. Its fields are set before the handler runs and don't change. Read, Write, Stderr's Write and
// CloseWrite may be used by one goroutine each at a time.
type Session struct {
	Command string // as sent; empty for a shell
	Shell   bool   // no command was given
	Pty     *Pty   // nil without a terminal
	Env     []Var

	mux     *mux
	id      uint32 // ours
	peer    uint32 // the client's
	started bool   // the handler runs
	cancel  context.CancelFunc
	resized chan Size
	signals chan string
	envSize int

	// guarded by mux.mu
	input      []byte // received, not yet read; a window at most
	inputEOF   bool
	consumed   uint32 // read, not yet given back to the client's window
	received   uint32 // window that the client still has
	sendable   uint32 // window that we still have
	sendMax    uint32
	sentEOF    bool
	sentClose  bool
	clientGone bool // the client closed the channel, or the connection ended
}

func newSession(m *mux, o sshwire.ChannelOpen) *Session {
	return &Session{
		mux: m, id: m.freeID(), peer: o.Sender, received: window, sendable: o.Window, sendMax: min(o.MaxPacket, maxPacket),
		resized: make(chan Size, 1), signals: make(chan string, 16), cancel: func() {},
	}
}

// Read gives standard input, and io.EOF after its end or when the channel is gone.
func (s *Session) Read(p []byte) (int, error) {
	s.mux.mu.Lock()
	defer s.mux.mu.Unlock()
	for len(s.input) == 0 && !s.inputEOF && !s.clientGone && len(p) > 0 {
		s.mux.cond.Wait()
	}
	n := copy(p, s.input)
	s.input = s.input[n:]
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	s.consumed += uint32(n)
	if s.consumed >= window/2 && !s.inputEOF && !s.clientGone && !s.sentClose {
		adjust := sshwire.ChannelWindowAdjust{Recipient: s.peer, Bytes: s.consumed}
		s.received, s.consumed = s.received+s.consumed, 0
		return n, s.mux.send(adjust.Append(nil))
	}
	return n, nil
}

// Write sends standard output. It waits for the client's window.
func (s *Session) Write(p []byte) (int, error) {
	return s.send(p, func(chunk []byte) []byte { return sshwire.ChannelData{Recipient: s.peer, Data: chunk}.Append(nil) })
}

// Stderr sends standard error.
func (s *Session) Stderr() io.Writer { return stderr{s} }

type stderr struct{ s *Session }

func (e stderr) Write(p []byte) (int, error) {
	return e.s.send(p, func(chunk []byte) []byte {
		return sshwire.ChannelExtendedData{Recipient: e.s.peer, Type: sshwire.ExtendedDataStderr, Data: chunk}.Append(nil)
	})
}

func (s *Session) send(p []byte, pack func([]byte) []byte) (n int, err error) {
	m := s.mux
	m.mu.Lock()
	defer m.mu.Unlock()
	for n < len(p) {
		for !s.mute() && (s.sendable == 0 || m.queued >= outputRoom) {
			m.cond.Wait()
		}
		if s.mute() {
			return n, errGone
		}
		chunk := p[n:min(len(p), n+int(min(s.sendable, s.sendMax)))]
		if err := m.send(pack(chunk)); err != nil {
			return n, err
		}
		s.sendable -= uint32(len(chunk))
		n += len(chunk)
	}
	return n, nil
}

// mute says that nothing may be sent on the channel any more.
func (s *Session) mute() bool { return s.clientGone || s.sentEOF || s.sentClose }

// Resized gives the terminal's size after it changed; only the newest one is kept.
func (s *Session) Resized() <-chan Size { return s.resized }

// Signals gives the signals that the client sent, by name without SIG. Those that nobody takes are dropped.
func (s *Session) Signals() <-chan string { return s.signals }

// run serves the channel and tells the client the exit status after the last byte.
func (s *Session) run(ctx context.Context) {
	exit := s.mux.handler(ctx, s)
	s.cancel()
	s.mux.mu.Lock()
	defer s.mux.mu.Unlock()
	if s.clientGone {
		return
	}
	status := sshwire.ChannelRequest{Recipient: s.peer, Type: "exit-status", Payload: sshwire.ExitStatus{Code: exit}.Append(nil)}
	s.sentEOF, s.sentClose = true, true
	for _, p := range [][]byte{
		status.Append(nil), sshwire.ChannelEOF{Recipient: s.peer}.Append(nil), sshwire.ChannelClose{Recipient: s.peer}.Append(nil),
	} {
		if s.mux.send(p) != nil {
			return // the reader gives the client up
		}
	}
}

// shut marks the channel as gone; mux.mu is held.
func (s *Session) shut() {
	s.clientGone = true
	s.cancel()
}

// data takes CHANNEL_DATA. What comes after an end of data, or for an extended type, has no reader here.
func (m *mux) data(p []byte) error {
	id, data, ordinary, err := parseData(p)
	if err != nil {
		return malformed(err)
	}
	s, err := m.find(id)
	if err != nil {
		return err
	}
	if uint32(len(data)) > s.received || len(data) > maxPacket {
		return violation("%d bytes on channel %d, whose window is %d", len(data), id, s.received)
	}
	s.received -= uint32(len(data))
	switch {
	case s.inputEOF:
		return violation("data after its end on channel %d", id)
	case s.sentClose || !ordinary:
		return nil
	}
	s.input = append(s.input, data...)
	m.cond.Broadcast()
	return nil
}

func parseData(p []byte) (id uint32, data []byte, ordinary bool, err error) {
	if p[0] == sshwire.MsgChannelData {
		d, err := sshwire.ParseChannelData(p)
		return d.Recipient, d.Data, true, err
	}
	d, err := sshwire.ParseChannelExtendedData(p)
	return d.Recipient, d.Data, false, err
}

func (m *mux) adjust(p []byte) error {
	a, err := sshwire.ParseChannelWindowAdjust(p)
	if err != nil {
		return malformed(err)
	}
	s, err := m.find(a.Recipient)
	if err != nil {
		return err
	}
	if a.Bytes > math.MaxUint32-s.sendable {
		return violation("window of channel %d grows over 2^32-1", a.Recipient) // RFC 4254 section 5.2
	}
	s.sendable += a.Bytes
	m.cond.Broadcast()
	return nil
}

func (m *mux) eof(p []byte) error {
	e, err := sshwire.ParseChannelEOF(p)
	if err != nil {
		return malformed(err)
	}
	s, err := m.find(e.Recipient)
	if err != nil {
		return err
	}
	s.inputEOF = true
	m.cond.Broadcast()
	return nil
}

func (m *mux) close(p []byte) error {
	c, err := sshwire.ParseChannelClose(p)
	if err != nil {
		return malformed(err)
	}
	s, err := m.find(c.Recipient)
	if err != nil {
		return err
	}
	delete(m.channels, s.id)
	s.shut()
	m.cond.Broadcast()
	if s.sentClose {
		return nil
	}
	s.sentClose = true
	return m.send(sshwire.ChannelClose{Recipient: s.peer}.Append(nil))
}

package mux

import (
	"context"
	"io"

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

// Session is one session channel: Read gives standard input, Write sends standard output. Its fields are set before the
// handler runs and don't change. Read, Write and Stderr's Write may be used by one goroutine each at a time.
type Session struct {
	Command string // as sent; empty for a shell
	Shell   bool   // no command was given
	Pty     *Pty   // nil without a terminal
	Env     []Var

	channel
	started bool // the handler runs
	resized chan Size
	signals chan string
	envSize int
}

func newSession(m *mux, o sshwire.ChannelOpen) *Session {
	s := &Session{channel: newChannel(m, o, window), resized: make(chan Size, 1), signals: make(chan string, 16)}
	s.session = s
	return s
}

// Stderr sends standard error.
func (s *Session) Stderr() io.Writer { return stderr{s} }

type stderr struct{ s *Session }

func (e stderr) Write(p []byte) (int, error) {
	return e.s.send(p, func(chunk []byte) []byte {
		return sshwire.ChannelExtendedData{Recipient: e.s.peer, Type: sshwire.ExtendedDataStderr, Data: chunk}.Append(nil)
	})
}

// Resized gives the terminal's size after it changed; only the newest one is kept.
func (s *Session) Resized() <-chan Size { return s.resized }

// Signals gives the signals that the client sent, by name without SIG. Those that nobody takes are dropped.
func (s *Session) Signals() <-chan string { return s.signals }

// run serves the channel and tells the client the exit status after the last byte.
func (s *Session) run(ctx context.Context) {
	exit := s.mux.handlers.Session(ctx, s)
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

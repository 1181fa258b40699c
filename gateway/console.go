package gateway

import (
	"context"
	"io"
	"net"
	"sync"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/mux"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// Console serves what people get who log in without naming a target.
type Console interface {
	// Run runs one line for a person and returns its exit status. It must return soon after ctx is done.
	Run(ctx context.Context, r *ConsoleRequest) (exit int)
}

// ConsoleRequest is one line at the console, from a person whom the gateway has authenticated.
type ConsoleRequest struct {
	User        events.UserID
	Name        string
	Role        events.Role
	Fingerprint string        // of the key that they proved
	Factor      events.Factor // how they proved a second factor; zero for none
	Login       string        // SSH user name as sent
	Source      string        // client's address
	Line        string        // as sent; empty for a shell
	Terminal    *ConsoleTerminal
	Stdin       io.Reader
	Stdout      io.Writer
	Stderr      io.Writer
}

// ConsoleTerminal is the terminal that the client has, in characters.
type ConsoleTerminal struct {
	Term          string // as sent
	Columns, Rows int
	Resized       <-chan mux.Size
}

// console serves a connection that names no target until it ends.
func (s *Server) console(ctx context.Context, conn *sshwire.Conn, nc net.Conn, l *login) {
	source := conn.RemoteAddr().String()
	e := &live{LiveSession: LiveSession{
		User: l.identity.user, UserName: l.identity.name, Source: source, Started: s.cfg.Now(),
		fingerprint: l.identity.fingerprint, certificate: l.identity.certificate, console: source,
	}}
	e.tcp, _ = nc.(*net.TCPConn)
	var closing sync.WaitGroup
	var ending sync.Mutex // orders hangUp, which may come late, and the wait for it
	ended := false
	defer func() {
		ending.Lock()
		ended = true
		ending.Unlock()
		closing.Wait()
	}()
	jumps := newJumper(s, l)
	e.hangUp = func(text string) {
		ending.Lock()
		defer ending.Unlock()
		if ended {
			return
		}
		closing.Go(func() {
			jumps.settle()
			_ = conn.Disconnect(sshwire.ReasonByApplication, text) // takes up to four seconds
		})
	}
	s.enlist(e)
	defer s.lives.remove(e)
	s.check(e, uuid.Nil)
	err := mux.Serve(ctx, conn, mux.Limits{NoPTY: !l.identity.permits.pty}, mux.Handlers{Stream: jumps.serve, Session: func(ctx context.Context, c *mux.Session) uint32 {
		if l.identity.expired(s.cfg.Now()) {
			_, _ = io.WriteString(c.Stderr(), "your certificate has expired; get a new one and log in again\n") // nobody is left to tell
			return 255
		}
		r := &ConsoleRequest{
			User: l.identity.user, Name: l.identity.name, Role: l.identity.role, Fingerprint: l.identity.fingerprint, Factor: l.identity.factor,
			Login: l.name, Source: source, Line: c.Command, Stdin: c, Stdout: c, Stderr: c.Stderr(),
		}
		if c.Pty != nil {
			r.Terminal = &ConsoleTerminal{
				Term: c.Pty.Term, Columns: int(c.Pty.Size.Columns), Rows: int(c.Pty.Size.Rows), Resized: c.Resized(),
			}
		}
		return uint32(s.cfg.Console.Run(ctx, r)) //nolint:gosec // exit statuses are 0 to 255
	}})
	s.log.Debug("console connection ended", "source", source, "error", err)
}

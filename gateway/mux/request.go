package mux

import (
	"context"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// request answers a CHANNEL_REQUEST in the order of its coming.
func (m *mux) request(p []byte) error {
	r, err := sshwire.ParseChannelRequest(p)
	if err != nil {
		return malformed(err)
	}
	c, err := m.find(r.Recipient)
	if err != nil {
		return err
	}
	if c.sentClose {
		return nil // no reply may follow a close
	}
	s, accepted, start := c.session, false, false
	if s != nil { // a stream knows no requests
		if accepted, start, err = s.obey(r); err != nil {
			return malformed(err)
		}
	}
	if r.WantReply {
		reply := sshwire.ChannelFailure{Recipient: c.peer}.Append(nil)
		if accepted {
			reply = sshwire.ChannelSuccess{Recipient: c.peer}.Append(nil)
		}
		if err := m.send(reply); err != nil {
			return err
		}
	}
	if start {
		s.started = true
		ctx, cancel := context.WithCancel(m.ctx)
		s.cancel = cancel
		m.work.Go(func() { s.run(ctx) })
	}
	return nil
}

// obey does what a request asks; start says that the handler must run.
func (s *Session) obey(r sshwire.ChannelRequest) (accepted, start bool, err error) {
	switch r.Type {
	case "pty-req":
		accepted, err = s.terminal(r.Payload)
	case "env":
		accepted, err = s.variable(r.Payload)
	case "shell":
		if s.started {
			return false, false, nil
		}
		s.Shell = true
		return true, true, nil
	case "exec":
		return s.exec(r.Payload)
	case "window-change":
		accepted, err = s.resize(r.Payload)
	case "signal":
		accepted, err = s.signal(r.Payload)
	case "eow@openssh.com":
		accepted = true // the client has no reader left: what is written to it is lost, as in a pipe
	}
	return accepted, false, err
}

func (s *Session) terminal(payload []byte) (bool, error) {
	p, err := sshwire.ParsePtyRequest(payload)
	if err != nil || s.started || s.Pty != nil || s.mux.limits.NoPTY {
		return false, err
	}
	s.Pty = &Pty{Term: p.Term, Size: Size{p.Columns, p.Rows}, Modes: append([]byte(nil), p.Modes...)}
	return true, nil
}

func (s *Session) variable(payload []byte) (bool, error) {
	v, err := sshwire.ParseEnvRequest(payload)
	size := len(v.Name) + len(v.Value) + 32
	if err != nil || s.started || s.envSize+size > s.mux.limits.Env {
		return false, err
	}
	s.envSize += size
	s.Env = append(s.Env, Var{v.Name, v.Value})
	return true, nil
}

func (s *Session) exec(payload []byte) (accepted, start bool, err error) {
	e, err := sshwire.ParseExecRequest(payload)
	if err != nil || s.started {
		return false, false, err
	}
	s.Command = e.Command
	return true, true, nil
}

func (s *Session) resize(payload []byte) (bool, error) {
	w, err := sshwire.ParseWindowChange(payload)
	if err != nil || s.Pty == nil {
		return false, err
	}
	select {
	case <-s.resized: // nobody took the one before: the newest counts
	default:
	}
	s.resized <- Size{w.Columns, w.Rows} // has room: only the connection's reader sends
	return true, nil
}

func (s *Session) signal(payload []byte) (bool, error) {
	g, err := sshwire.ParseSignalRequest(payload)
	if err != nil {
		return false, err
	}
	select {
	case s.signals <- g.Signal:
	default:
	}
	return true, nil
}

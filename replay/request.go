package replay

import "github.com/holdfast-pam/holdfast/gateway/sshwire"

// request reads a CHANNEL_REQUEST and notes on the channel what it says (RFC 4254 sections 5.4 and 6).
func (d *decoder) request(i int, e *Event) error {
	m, err := sshwire.ParseChannelRequest(e.Packet)
	if err != nil {
		return err
	}
	c := d.find(i, e, m.Recipient)
	if c == nil {
		return nil
	}
	if err := e.readRequest(m); err != nil {
		return err
	}
	e.Kind, e.Request, e.Payload = KindRequest, m.Type, m.Payload
	if m.WantReply {
		c.pending[i].push(m.Type)
	}
	if !e.Dropped {
		c.note(i, e)
	}
	return nil
}

// readRequest takes the fields of the requests that replay understands.
func (e *Event) readRequest(m sshwire.ChannelRequest) error {
	switch m.Type {
	case "pty-req":
		p, err := sshwire.ParsePtyRequest(m.Payload)
		e.Term, e.Cols, e.Rows = cut(p.Term, maxName), p.Columns, p.Rows
		return err
	case "window-change":
		p, err := sshwire.ParseWindowChange(m.Payload)
		e.Cols, e.Rows = p.Columns, p.Rows
		return err
	case "exec":
		p, err := sshwire.ParseExecRequest(m.Payload)
		e.Command = cut(p.Command, maxFact)
		return err
	case "subsystem":
		p, err := sshwire.ParseSubsystemRequest(m.Payload)
		e.Command = cut(p.Name, maxFact)
		return err
	case "signal":
		p, err := sshwire.ParseSignalRequest(m.Payload)
		e.Signal = cut(p.Signal, maxName)
		return err
	case "exit-status":
		p, err := sshwire.ParseExitStatus(m.Payload)
		e.Status = p.Code
		return err
	case "exit-signal":
		p, err := sshwire.ParseExitSignal(m.Payload)
		e.Signal, e.Detail = cut(p.Signal, maxName), cut(p.Text, maxName)
		return err
	}
	return nil
}

// note keeps what a request that was passed on says of its channel. Requests count only from the side that may make
// them: the client, but for the exit of a program.
func (c *Channel) note(i int, e *Event) {
	fromClient := i == 0
	switch {
	case !fromClient && e.Request == "exit-status":
		status := e.Status
		c.ExitStatus = &status
	case !fromClient && e.Request == "exit-signal":
		c.ExitSignal = Text(e.Signal)
	case !fromClient:
	case e.Request == "pty-req":
		c.Pty = &Pty{Term: Text(e.Term), Cols: e.Cols, Rows: e.Rows}
	case e.Request == "window-change" && c.Pty != nil:
		c.Pty.Cols, c.Pty.Rows = e.Cols, e.Rows
	case e.Request == "shell", e.Request == "exec", e.Request == "subsystem":
		if c.Program == nil || c.Program.Refused { // a channel runs one program
			c.Program = &Program{Kind: e.Request, Command: Text(e.Command)}
		}
	case e.Request == "env" && len(c.Env) < maxEnv:
		if v, err := sshwire.ParseEnvRequest(e.Payload); err == nil {
			c.Env = append(c.Env, Env{Name: Text(cut(v.Name, maxName)), Value: Text(cut(v.Value, maxName))})
		}
	}
}

// reply reads CHANNEL_SUCCESS and CHANNEL_FAILURE: replies come in the order of the requests.
func (d *decoder) reply(i int, e *Event) error {
	var recipient uint32
	var err error
	if e.OK = e.Packet[0] == sshwire.MsgChannelSuccess; e.OK {
		var m sshwire.ChannelSuccess
		m, err = sshwire.ParseChannelSuccess(e.Packet)
		recipient = m.Recipient
	} else {
		var m sshwire.ChannelFailure
		m, err = sshwire.ParseChannelFailure(e.Packet)
		recipient = m.Recipient
	}
	if err != nil {
		return err
	}
	c := d.find(i, e, recipient)
	if c == nil {
		return nil
	}
	e.Kind = KindReply
	if e.Dropped {
		return nil
	}
	if e.Request = c.pending[1-i].pop(); !e.OK && i == 1 {
		c.undo(e.Request)
	}
	return nil
}

// undo takes back what a refused request had said.
func (c *Channel) undo(request string) {
	switch request {
	case "pty-req":
		c.Pty = nil
	case "shell", "exec", "subsystem":
		if c.Program != nil {
			c.Program.Refused = true
		}
	}
}

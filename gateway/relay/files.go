package relay

import (
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
	"github.com/holdfast-pam/holdfast/replay/transfer"
)

// gate is what the policy says of files.
func (p Policy) gate() transfer.Gate {
	return transfer.Gate{Upload: !p.NoUpload, Download: !p.NoDownload}
}

// guarded makes the guard of a session channel, nil where files may go both ways.
func (p Policy) guarded() *transfer.Guard {
	if g := p.gate(); !g.Open() {
		return transfer.NewGuard(g)
	}
	return nil
}

// startsFiles decides on a client's request as far as files go. starts says that it asks for a program, so that the guard
// is to hear of the answer.
func (s *step) startsFiles(c *channel, m sshwire.ChannelRequest) (r *transfer.Refusal, starts bool) {
	if c.guard == nil || s.d != In {
		return nil, false
	}
	command, err := "", error(nil)
	switch m.Type {
	case "exec":
		var p sshwire.ExecRequest
		p, err = sshwire.ParseExecRequest(m.Payload)
		command = p.Command
	case "subsystem":
		var p sshwire.SubsystemRequest
		p, err = sshwire.ParseSubsystemRequest(m.Payload)
		command = p.Name
	case "shell":
	default:
		return nil, false
	}
	if err != nil { // the target might read another name
		return &transfer.Refusal{What: "request " + m.Type, Reason: "it can't be read"}, true
	}
	return c.guard.Request(m.Type, command), true
}

// guardedData passes on data of a channel whose files are guarded: as it is, with bytes changed, or not at all.
func (s *step) guardedData(c *channel, data []byte) {
	var v transfer.Verdict
	switch {
	case s.packet[0] != sshwire.MsgChannelData && s.d == In:
		s.drop("only plain data goes to a program whose files are guarded")
		return
	case s.packet[0] != sshwire.MsgChannelData:
	case s.d == In:
		v = c.guard.FromClient(data)
	default:
		v = c.guard.FromTarget(data)
	}
	switch {
	case v.End && s.d == In:
		s.drop("refused: transfer of files")
	case len(v.Edits) == 0:
		s.forward()
	default:
		s.alter(v.Edits, len(s.packet)-len(data))
	}
	for _, r := range v.Refusals {
		if !r.Told {
			s.outputs = append(s.outputs, Output{Kind: Refused, Direction: s.d, Number: s.number, What: r.What, Detail: detailOf(r)})
		}
	}
	if v.End && !c.cut {
		c.cut = true
		s.makeInstead(In, sshwire.ChannelEOF{Recipient: c.id[In]}.Append(nil))
	}
}

// detailOf says what was refused and why, in at most maxDetail bytes.
func detailOf(r transfer.Refusal) string {
	reason := " (" + r.Reason + ")"
	if r.Detail == "" {
		return bound(r.Reason)
	}
	text := clean(r.Detail)
	return clean(text[:min(len(text), maxDetail-len(reason)-len("[]:4294967295"))] + reason)
}

// alter passes the packet on with edits that count from a place in it.
func (s *step) alter(edits []events.Edit, from int) {
	for i := range edits {
		edits[i].At += uint64(from)
	}
	changed, err := events.ApplyEdits(s.packet, edits)
	if err != nil { // never: the guard was given this data
		s.drop(bound(err.Error()))
		return
	}
	s.outputs = append(s.outputs, Output{Kind: Altered, Direction: s.d, Number: s.number, Edits: edits})
	s.packet = changed
	s.forward()
}

package relay

import (
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
	"github.com/holdfast-pam/holdfast/replay/transfer"
)

// globalRequest decides on a GLOBAL_REQUEST (RFC 4254 section 4).
func (s *step) globalRequest() error {
	m, err := sshwire.ParseGlobalRequest(s.packet)
	if err != nil {
		return violation("%v", err)
	}
	if s.d == Out && m.Type == hostKeysAnnounced && !m.WantReply {
		s.drop("host keys of the target are not for the client")
		return nil
	}
	e, allowed := s.allowsGlobal(m)
	if !allowed {
		s.refuse("request "+m.Type, listenPlace(m).String())
		return s.owe(&s.dir[s.d].owed, m.WantReply, debt{refused: true}, sshwire.RequestFailure{}.Append)
	}
	s.forward()
	if !m.WantReply {
		s.apply(e, true, nil)
	}
	return s.owe(&s.dir[s.d].owed, m.WantReply, debt{effect: e}, sshwire.RequestFailure{}.Append)
}

// allowsGlobal decides on a global request. Unknown ones may not pass.
func (s *step) allowsGlobal(m sshwire.GlobalRequest) (e effect, allowed bool) {
	switch {
	case m.Type == "keepalive@openssh.com":
		return e, true
	case s.d == Out:
		return e, false
	}
	switch m.Type {
	case "no-more-sessions@openssh.com":
		return e, true
	case listenTCPIP, cancelTCPIP, listenSocket, cancelSocket:
		return s.listens(m)
	}
	return e, false
}

// globalReply passes a REQUEST_SUCCESS or REQUEST_FAILURE to the request that waits longest.
func (s *step) globalReply() error {
	if s.packet[0] == sshwire.MsgRequestFailure {
		if _, err := sshwire.ParseRequestFailure(s.packet); err != nil {
			return violation("%v", err)
		}
	}
	q := &s.dir[s.d.Other()].owed
	if q.len() == 0 {
		return violation("reply to a global request that nobody made")
	}
	s.apply(q.first().effect, s.packet[0] == sshwire.MsgRequestSuccess, s.packet)
	q.pop()
	s.forward()
	s.settle(q, s.d, sshwire.RequestFailure{}.Append)
	return nil
}

// channelRequest decides on a CHANNEL_REQUEST (RFC 4254 section 5.4).
func (s *step) channelRequest() error {
	m, err := sshwire.ParseChannelRequest(s.packet)
	if err != nil {
		return violation("%v", err)
	}
	c := s.speaking(m.Recipient)
	switch {
	case c == nil && !m.WantReply:
		s.drop("request on a channel that is not open")
		return nil
	case c == nil:
		return violation("request %s on channel %d, which is not open", m.Type, m.Recipient)
	}
	refused := !s.allowsRequest(c, m.Type, m.Payload)
	refusal, starts := (*transfer.Refusal)(nil), false
	if !refused {
		refusal, starts = s.startsFiles(c, m)
	}
	switch {
	case refusal != nil:
		refused = true
		s.refuse("request "+m.Type, detailOf(*refusal))
	case refused:
		s.refuse("request "+m.Type, "")
	default:
		c.agent = c.agent || s.d == In && asksAgent(m.Type)
		s.forward()
	}
	if c.closed[s.d.Other()] {
		return nil // the requester was told that the channel is closed: no reply comes
	}
	return s.owe(&c.owed[s.d], m.WantReply, debt{refused: refused, starts: starts && !refused}, sshwire.ChannelFailure{Recipient: c.id[s.d.Other()]}.Append)
}

// channelReply passes a CHANNEL_SUCCESS or CHANNEL_FAILURE to the channel's request that waits longest.
func (s *step) channelReply() error {
	id, err := replyRecipient(s.packet)
	if err != nil {
		return violation("%v", err)
	}
	c := s.speaking(id)
	if c == nil {
		s.drop("reply on a channel that is not open")
		return nil
	}
	q := &c.owed[s.d.Other()]
	if q.len() == 0 {
		return violation("reply to a request on channel %d that nobody made", id)
	}
	if q.first().starts {
		c.guard.Answered(s.packet[0] == sshwire.MsgChannelSuccess)
	}
	q.pop()
	s.forward()
	s.settle(q, s.d, sshwire.ChannelFailure{Recipient: id}.Append)
	return nil
}

func replyRecipient(packet []byte) (uint32, error) {
	if packet[0] == sshwire.MsgChannelSuccess {
		m, err := sshwire.ParseChannelSuccess(packet)
		return m.Recipient, err
	}
	m, err := sshwire.ParseChannelFailure(packet)
	return m.Recipient, err
}

// owe notes the reply that the packet at hand asks for, and pays it at once if it is ours and nothing is before it.
func (s *step) owe(q *queue, wanted bool, d debt, failure func([]byte) []byte) error {
	if !wanted {
		return nil
	}
	if q.len() >= s.limits.Owed {
		return violation("more than %d requests wait for a reply", s.limits.Owed)
	}
	if d.refused {
		d.number = s.number
	}
	q.push(d)
	s.settle(q, s.d.Other(), failure)
	return nil
}

// settle pays the gateway's own debts at the head of q, in direction d.
func (s *step) settle(q *queue, d Direction, failure func([]byte) []byte) {
	for q.len() > 0 && q.first().refused {
		s.make(d, failure(nil), q.first().number)
		q.pop()
	}
}

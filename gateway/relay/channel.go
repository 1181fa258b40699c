package relay

import (
	"fmt"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// open decides on a CHANNEL_OPEN (RFC 4254 section 5.1). A refusal carries the opener's number, so it goes out at once.
func (s *step) open() error {
	m, err := sshwire.ParseChannelOpen(s.packet)
	if err != nil {
		return violation("%v", err)
	}
	back := s.d.Other()
	if s.dir[back].byID[m.Sender] != nil {
		return violation("channel number %d is opened twice", m.Sender)
	}
	to := openPlace(m)
	if m.Type == sessionChannel {
		to.readable = true // it leads nowhere; what else it says is the target's to judge
	}
	if !s.allowsOpen(m.Type, to) {
		s.refuseOpen(m, to, sshwire.OpenAdministrativelyProhibited, textNotAllowed)
		return nil
	}
	if s.live >= s.limits.Channels {
		s.refuseOpen(m, to, sshwire.OpenResourceShortage, textTooMany)
		return nil
	}
	c := &channel{opened: s.d}
	if m.Type == sessionChannel {
		c.guard = s.policy.guarded()
	} else {
		c.forward = &forward{serial: s.forwards, kind: m.Type, to: to.String(), origin: to.from}
		s.forwards++
		s.tell(Opened, c, "")
	}
	c.id[back] = m.Sender
	s.dir[back].byID[m.Sender] = c
	s.live++
	s.forward()
	return nil
}

func (s *step) refuseOpen(m sshwire.ChannelOpen, to place, reason uint32, text string) {
	s.refuse("channel "+m.Type, to.String())
	failure := sshwire.ChannelOpenFailure{Recipient: m.Sender, Reason: reason, Text: text}
	s.make(s.d.Other(), failure.Append(nil), s.number)
}

// confirm takes a CHANNEL_OPEN_CONFIRMATION: from now on both numbers are known.
func (s *step) confirm() error {
	m, err := sshwire.ParseChannelOpenConfirmation(s.packet)
	if err != nil {
		return violation("%v", err)
	}
	c := s.opening(m.Recipient)
	if c == nil {
		return violation("channel %d is confirmed, which nobody opened", m.Recipient)
	}
	back := s.d.Other()
	if s.dir[back].byID[m.Sender] != nil {
		return violation("channel number %d is given twice", m.Sender)
	}
	c.confirmed = true
	c.id[back] = m.Sender
	s.dir[back].byID[m.Sender] = c
	s.forward()
	return nil
}

// fail takes a CHANNEL_OPEN_FAILURE of the other side.
func (s *step) fail() error {
	m, err := sshwire.ParseChannelOpenFailure(s.packet)
	if err != nil {
		return violation("%v", err)
	}
	c := s.opening(m.Recipient)
	if c == nil {
		return violation("channel %d is refused, which nobody opened", m.Recipient)
	}
	s.ended(c, openFailure(m))
	delete(s.dir[s.d].byID, m.Recipient)
	s.live--
	s.forward()
	return nil
}

func (s *step) data() error {
	id, data, err := dataOf(s.packet)
	if err != nil {
		return violation("%v", err)
	}
	c := s.speaking(id)
	if c == nil {
		return violation("data on channel %d, which is not open", id)
	}
	s.dir[s.d].counts.Bytes += uint64(len(data))
	c.bytes[s.d] += uint64(len(data))
	if c.guard != nil {
		s.guardedData(c, data)
		return nil
	}
	s.forward()
	return nil
}

func dataOf(packet []byte) (id uint32, data []byte, err error) {
	if packet[0] == sshwire.MsgChannelData {
		m, err := sshwire.ParseChannelData(packet)
		return m.Recipient, m.Data, err
	}
	m, err := sshwire.ParseChannelExtendedData(packet)
	return m.Recipient, m.Data, err
}

// adjust takes a CHANNEL_WINDOW_ADJUST. Some implementations send one after their CLOSE; it says nothing then.
func (s *step) adjust() error {
	m, err := sshwire.ParseChannelWindowAdjust(s.packet)
	if err != nil {
		return violation("%v", err)
	}
	if s.speaking(m.Recipient) == nil {
		s.drop("window of a channel that is not open")
		return nil
	}
	s.forward()
	return nil
}

func (s *step) eof() error {
	m, err := sshwire.ParseChannelEOF(s.packet)
	if err != nil {
		return violation("%v", err)
	}
	c := s.speaking(m.Recipient)
	if c == nil {
		return violation("end of data on channel %d, which is not open", m.Recipient)
	}
	if c.guard != nil && s.d == In {
		if c.cut {
			s.drop("the client's half of this channel has ended")
			return nil
		}
		c.cut = true
	}
	s.forward()
	return nil
}

// close takes a CHANNEL_CLOSE. With the second one both numbers are free, as no side sends on the channel any more.
func (s *step) close() error {
	m, err := sshwire.ParseChannelClose(s.packet)
	if err != nil {
		return violation("%v", err)
	}
	c := s.speaking(m.Recipient)
	if c == nil {
		return violation("close of channel %d, which is not open", m.Recipient)
	}
	c.closed[s.d] = true
	c.owed[s.d.Other()] = queue{} // replies can't follow a close
	if c.closed[s.d.Other()] {
		delete(s.dir[In].byID, c.id[In])
		delete(s.dir[Out].byID, c.id[Out])
		s.live--
		s.ended(c, "")
	}
	s.forward()
	return nil
}

// ended notes that a channel is no more.
func (s *step) ended(c *channel, failure string) {
	if c.forward == nil {
		return
	}
	s.moved[In] += c.bytes[In]
	s.moved[Out] += c.bytes[Out]
	s.tell(Closed, c, failure)
}

// openFailure says why a channel was not opened (RFC 4254 section 5.1).
func openFailure(m sshwire.ChannelOpenFailure) string {
	why := map[uint32]string{1: "prohibited", 2: "connect failed", 3: "unknown type", 4: "resource shortage"}[m.Reason]
	if why == "" {
		why = fmt.Sprintf("reason %d", m.Reason)
	}
	if m.Text != "" {
		why += ": " + m.Text
	}
	return clean(why)
}

// speaking finds the confirmed channel that a packet of this direction may be sent on: its sender hasn't closed it.
func (s *step) speaking(id uint32) *channel {
	c := s.dir[s.d].byID[id]
	if c == nil || !c.confirmed || c.closed[s.d] {
		return nil
	}
	return c
}

// opening finds the channel whose open, sent the other way, this packet answers.
func (s *step) opening(id uint32) *channel {
	c := s.dir[s.d].byID[id]
	if c == nil || c.confirmed || c.opened == s.d {
		return nil
	}
	return c
}

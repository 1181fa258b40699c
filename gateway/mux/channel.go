package mux

import (
	"context"
	"io"
	"math"
	"os"
	"time"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// channel is what every open channel has, whatever it carries. All but its owner's fields are guarded by mux.mu.
type channel struct {
	mux     *mux
	id      uint32 // ours
	peer    uint32 // the client's
	session *Session
	cancel  context.CancelFunc
	pending bool // a stream that was neither accepted nor refused: the client doesn't know its number

	window     uint32 // that the client is given at most
	input      []byte // received, not yet read; a window at most
	inputEOF   bool
	consumed   uint32 // read, not yet given back to the client's window
	received   uint32 // window that the client still has
	sendable   uint32 // window that we still have
	sendMax    uint32
	sentEOF    bool
	sentClose  bool
	clientGone bool // the client closed the channel, or the connection ended

	readBy, writeBy deadline
}

func newChannel(m *mux, o sshwire.ChannelOpen, window uint32) channel {
	return channel{
		mux: m, id: m.freeID(), peer: o.Sender, window: window, received: window,
		sendable: o.Window, sendMax: min(o.MaxPacket, maxPacket), cancel: func() {},
	}
}

// deadline is a moment after which waiting calls give up.
type deadline struct {
	timer  *time.Timer
	passed bool
}

// set replaces the deadline; the zero time is none. c.mux.mu is held.
func (c *channel) set(d *deadline, at time.Time) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	left := time.Until(at)
	d.passed = !at.IsZero() && left <= 0
	if !at.IsZero() && left > 0 {
		var own *time.Timer
		own = time.AfterFunc(left, func() {
			c.mux.mu.Lock()
			defer c.mux.mu.Unlock()
			if d.timer == own { // else it was replaced while it fired
				d.passed = true
				c.mux.cond.Broadcast()
			}
		})
		d.timer = own
	}
	c.mux.cond.Broadcast()
}

// Read gives what the client sent, and io.EOF after its end or when the channel is gone.
func (c *channel) Read(p []byte) (int, error) {
	c.mux.mu.Lock()
	defer c.mux.mu.Unlock()
	for len(c.input) == 0 && !c.inputEOF && !c.clientGone && !c.readBy.passed && len(p) > 0 {
		c.mux.cond.Wait()
	}
	if c.readBy.passed {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, c.input)
	c.input = c.input[n:]
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	c.consumed += uint32(n)
	if c.consumed >= c.window/2 && !c.inputEOF && !c.clientGone && !c.sentClose {
		adjust := sshwire.ChannelWindowAdjust{Recipient: c.peer, Bytes: c.consumed}
		c.received, c.consumed = c.received+c.consumed, 0
		return n, c.mux.send(adjust.Append(nil))
	}
	return n, nil
}

// Write sends data. It waits for the client's window.
func (c *channel) Write(p []byte) (int, error) {
	return c.send(p, func(chunk []byte) []byte {
		return sshwire.ChannelData{Recipient: c.peer, Data: chunk}.Append(make([]byte, 0, len(chunk)+dataHeader))
	})
}

// dataHeader is what a CHANNEL_DATA has beside its data.
const dataHeader = 9

func (c *channel) send(p []byte, pack func([]byte) []byte) (n int, err error) {
	m := c.mux
	m.mu.Lock()
	defer m.mu.Unlock()
	for n < len(p) {
		for !c.mute() && !c.writeBy.passed && (c.sendable == 0 || m.queued >= outputRoom) {
			m.cond.Wait()
		}
		switch {
		case c.mute():
			return n, errGone
		case c.writeBy.passed:
			return n, os.ErrDeadlineExceeded
		}
		chunk := p[n:min(len(p), n+int(min(c.sendable, c.sendMax)))]
		if err := m.send(pack(chunk)); err != nil {
			return n, err
		}
		c.sendable -= uint32(len(chunk))
		n += len(chunk)
	}
	return n, nil
}

// mute says that nothing may be sent on the channel any more.
func (c *channel) mute() bool { return c.clientGone || c.sentEOF || c.sentClose }

// shut marks the channel as gone; mux.mu is held.
func (c *channel) shut() {
	c.clientGone = true
	c.cancel()
}

// data takes CHANNEL_DATA. What comes after an end of data, or for an extended type, has no reader here.
func (m *mux) data(p []byte) error {
	id, data, ordinary, err := parseData(p)
	if err != nil {
		return malformed(err)
	}
	c, err := m.find(id)
	if err != nil {
		return err
	}
	if uint32(len(data)) > c.received || len(data) > maxPacket {
		return violation("%d bytes on channel %d, whose window is %d", len(data), id, c.received)
	}
	c.received -= uint32(len(data))
	switch {
	case c.inputEOF:
		return violation("data after its end on channel %d", id)
	case c.sentClose || !ordinary:
		return nil
	}
	c.input = append(c.input, data...)
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
	c, err := m.find(a.Recipient)
	if err != nil {
		return err
	}
	if a.Bytes > math.MaxUint32-c.sendable {
		return violation("window of channel %d grows over 2^32-1", a.Recipient) // RFC 4254 section 5.2
	}
	c.sendable += a.Bytes
	m.cond.Broadcast()
	return nil
}

func (m *mux) eof(p []byte) error {
	e, err := sshwire.ParseChannelEOF(p)
	if err != nil {
		return malformed(err)
	}
	c, err := m.find(e.Recipient)
	if err != nil {
		return err
	}
	c.inputEOF = true
	m.cond.Broadcast()
	return nil
}

func (m *mux) close(p []byte) error {
	r, err := sshwire.ParseChannelClose(p)
	if err != nil {
		return malformed(err)
	}
	c, err := m.find(r.Recipient)
	if err != nil {
		return err
	}
	m.forget(c)
	c.shut()
	m.cond.Broadcast()
	if c.sentClose {
		return nil
	}
	c.sentClose = true
	return m.send(sshwire.ChannelClose{Recipient: c.peer}.Append(nil))
}

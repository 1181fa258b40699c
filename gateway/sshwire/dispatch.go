package sshwire

import (
	"errors"
	"fmt"
	"io"
)

// read returns the next packet above the transport layer: authentication's before login, the connection's after it.
func (c *Conn) read() ([]byte, error) {
	for {
		p, err := c.next()
		if err != nil {
			return nil, err
		}
		deliver, err := c.dispatch(p)
		if err != nil {
			return nil, err
		}
		if deliver {
			return p, nil
		}
	}
}

// next reads one packet, and bounds what a stranger may send.
func (c *Conn) next() ([]byte, error) {
	p, err := c.in.next()
	if err != nil {
		return nil, c.readError(err)
	}
	if !c.authenticated.Load() && c.in.total.Load() > preAuthMaxBytes {
		return nil, violation(ReasonProtocolError, "over %d bytes before login", preAuthMaxBytes)
	}
	return p, nil
}

// readError names the peer in errors of the network; io.EOF between packets stays as it is.
func (c *Conn) readError(err error) error {
	var breach *ProtocolError
	if err == io.EOF || errors.As(err, &breach) {
		return err
	}
	return fmt.Errorf("read from %s: %w", c.conn.RemoteAddr(), err)
}

// dispatch deals with transport messages (RFC 4253 sections 7, 11, 12) and refuses what the state forbids. It says
// whether p is for the layer above.
func (c *Conn) dispatch(p []byte) (deliver bool, err error) {
	number, k := p[0], &c.kex
	first := k.rounds == 0
	switch {
	case number == MsgDisconnect:
		return false, parseDisconnect(p)
	case number == MsgIgnore || number == MsgDebug || number == MsgUnimplemented:
		if first && k.strict {
			return false, unexpected(number, "within a strict key exchange")
		}
		return false, nil
	case number == MsgKexInit:
		return false, c.peerKexInit(p)
	case k.stage == kexMessage:
		return false, c.takeKexMessage(p)
	case k.stage == kexNewKeys:
		if number != MsgNewKeys {
			return false, unexpected(number, "instead of NEWKEYS")
		}
		return false, c.takeNewKeys(p)
	case first || (number >= MsgKexInit && number <= 49):
		return false, unexpected(number, "outside a key exchange")
	case number == MsgExtInfo && !c.authenticated.Load():
		return false, c.takeExtInfo(p)
	}
	return c.dispatchUpper(number)
}

// dispatchUpper is dispatch for the layers above, outside a key exchange.
func (c *Conn) dispatchUpper(number byte) (deliver bool, err error) {
	login := !c.authenticated.Load()
	switch {
	case number == MsgServiceRequest, number == MsgServiceAccept, number >= 50 && number <= 79:
		if login {
			return true, nil
		}
		if c.server && number == MsgUserauthRequest {
			return false, nil // RFC 4252 section 5.1: to be ignored after success
		}
		return false, unexpected(number, "after login")
	case number >= MsgConnectionFirst && number <= MsgConnectionLast:
		if login {
			return false, unexpected(number, "before login")
		}
		return true, c.whileOpen()
	case login:
		return false, unexpected(number, "before login")
	}
	return false, c.unimplemented()
}

// whileOpen starts a key exchange when the peer's keys are worn, and bounds what a peer sends instead of answering one.
func (c *Conn) whileOpen() error {
	if from := c.kexFrom.Load(); from > 0 && c.in.total.Load()-from > maxWhileKex {
		return violation(ReasonKeyExchangeFailed, "peer sent over %d bytes and no answer to our KEXINIT", maxWhileKex)
	}
	if c.in.worn(&c.cfg) {
		return c.Rekey()
	}
	return nil
}

// unimplemented answers the packet just read with UNIMPLEMENTED: RFC 4253 section 11.4. It is bounded, since a
// peer could send such packets and never read.
func (c *Conn) unimplemented() error {
	c.mu.Lock()
	c.out.seal(appendUint32([]byte{MsgUnimplemented}, c.in.Sequence-1), 0)
	over := c.out.buffered() > 4*outputLimit
	c.mu.Unlock()
	if over {
		return violation(ReasonProtocolError, "peer sends unknown messages and doesn't read the answers")
	}
	c.push()
	return nil
}

// push gets what the reading goroutine has sealed on its way. During login nothing else is in flight, so the
// write is made at once and its failure is found by the next read or write.
func (c *Conn) push() {
	if c.authenticated.Load() {
		c.kexChanged()
		return
	}
	_ = c.Flush()
}

// parseDisconnect gives the peer's DISCONNECT as an error: RFC 4253 section 11.1.
func parseDisconnect(p []byte) error {
	f := open(p, MsgDisconnect)
	e := &DisconnectError{Reason: f.uint32("reason code"), Text: f.string("description")}
	if f.why == "" {
		return e // the language tag is not looked at: some peers leave it out
	}
	return &ProtocolError{ReasonProtocolError, f.err("DISCONNECT")}
}

package sshwire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Bounds of the version exchange, RFC 4253 section 4.2: a line has at most 255 bytes with its CR LF, and only a
// server may send other lines before its version.
const (
	maxVersionLine = 255
	maxBannerLine  = 8 << 10
	maxBannerLines = 64
)

// Server runs the server's side of the key exchange and of authentication over nc. ctx bounds all of it: its
// deadline is the login grace time, and a *DisconnectError as its cause is what the peer is told. On an error nc is closed and the peer was told why as far as it may know; the error is a
// *LoginError when a login failed, a *ProtocolError when the peer broke the protocol.
func Server(ctx context.Context, nc net.Conn, cfg *ServerConfig) (*Conn, error) {
	full, err := cfg.withDefaults()
	if err == nil {
		err = cfg.check()
	}
	c := newConn(nc, full, true)
	if err == nil {
		err = c.useHostKeys(cfg.HostKeys)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c.establish(ctx, func() error {
		if err := c.exchangeAsServer(ctx, cfg.FitOffer); err != nil {
			return err
		}
		return (&serverLogin{c: c, cfg: cfg, auth: cfg.Auth}).run(ctx)
	})
}

// TurnAway tells a client why it gets no connection, before a word about keys, and closes nc. It takes at most four
// seconds. It sends a version line and a DISCONNECT: the lines that RFC 4253 section 4.2 allows before them are
// shown by hardly any client.
func TurnAway(nc net.Conn, version string, reason uint32, text string) {
	cfg, err := Config{Version: version}.withDefaults()
	if err != nil {
		nc.Close()
		return
	}
	c := newConn(nc, cfg, true)
	c.sendVersion()
	_ = c.Disconnect(reason, text) // best effort: the client is refused either way
}

// Client runs the client's side of the key exchange and of authentication over nc. ctx bounds all of it. On an error nc
// is closed; the error is an *AuthError when the server took none of the ways to log in.
func Client(ctx context.Context, nc net.Conn, cfg *ClientConfig) (*Conn, error) {
	full, err := cfg.withDefaults()
	if err == nil {
		err = cfg.check()
	}
	c := newConn(nc, full, false)
	c.user, c.kex.check = cfg.User, cfg.HostKey
	var hostKeys []string
	if err == nil {
		hostKeys, err = chosen("host key algorithm", cfg.HostKeyAlgorithms, defaultHostKeyAlgorithms, known(signatureSchemes))
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	c.kex.offer = offer{full.KeyExchanges, hostKeys, full.Ciphers, full.MACs}
	return c.establish(ctx, func() error {
		if err := c.exchangeAsClient(); err != nil {
			return err
		}
		return (&clientLogin{c: c, cfg: cfg}).run()
	})
}

// establish runs the way to an authenticated connection within ctx.
func (c *Conn) establish(ctx context.Context, run func() error) (*Conn, error) {
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		if c.conn.SetDeadline(time.Unix(1, 0)) != nil {
			c.conn.Close() // a connection without deadlines
		}
	})
	err := run()
	if !stop() {
		<-cut // or its deadline would end what the peer is told below
		err = tooLate(ctx, c.conn.RemoteAddr(), err)
	}
	if err != nil {
		c.giveUp(ctx, err)
		return nil, err
	}
	_ = c.conn.SetDeadline(time.Time{}) // fails only where none could be set
	return c, nil
}

// tooLate says that ctx ended the login, and keeps whose it was.
func tooLate(ctx context.Context, peer net.Addr, err error) error {
	late := fmt.Errorf("SSH login with %s: %w", peer, context.Cause(ctx))
	var lost *LoginError
	if errors.As(err, &lost) {
		return &LoginError{User: lost.User, Err: late}
	}
	return late
}

// giveUp tells the peer why there is no login, if it isn't the one who said so, and closes.
func (c *Conn) giveUp(ctx context.Context, err error) {
	var breach *ProtocolError
	var refused *refusal
	var auth *AuthError
	switch {
	case ctx.Err() != nil:
		late := &DisconnectError{ReasonByApplication, "login took too long"}
		_ = errors.As(context.Cause(ctx), &late)
		c.sendDisconnect(late.Reason, late.Text)
	case errors.As(err, &breach):
		c.sendDisconnect(breach.Reason, breach.Error())
	case errors.As(err, &refused):
		c.refuseDropbear(refused.text)
		_ = c.Disconnect(refused.reason, refused.text)
	case errors.As(err, &auth):
		c.sendDisconnect(ReasonNoMoreAuthMethods, "no way to authenticate")
	}
	_ = c.Close()
}

// refuseDropbear adds to a refusal what Dropbear's client understands: it takes a DISCONNECT for success and shows no
// text of it, but shows a banner, and exits with an error after a failure that leaves no method.
func (c *Conn) refuseDropbear(text string) {
	if !c.isDropbear() {
		return
	}
	c.queue(appendString(appendString([]byte{MsgUserauthBanner}, clip(text)+"\r\n"), ""), 0)
	c.queue(appendBool(appendString([]byte{MsgUserauthFailure}, ""), false), 0)
}

func (c *Conn) isDropbear() bool { return strings.HasPrefix(c.clientVersion, "SSH-2.0-dropbear") }

// useHostKeys puts the algorithms that the keys can serve into the offer.
func (c *Conn) useHostKeys(signers []ssh.Signer) error {
	k := &c.kex
	k.offer = offer{KeyExchanges: c.cfg.KeyExchanges, Ciphers: c.cfg.Ciphers, MACs: c.cfg.MACs}
	k.signers = map[string]ssh.Signer{}
	for _, s := range signers {
		names := schemesOf(s)
		if len(names) == 0 {
			return fmt.Errorf("host key %s can't be used with SSH", s.PublicKey().Type())
		}
		for _, n := range names {
			if k.signers[n] != nil {
				return fmt.Errorf("two host keys for %s; keep one", n)
			}
			k.signers[n] = s
			k.offer.HostKeys = append(k.offer.HostKeys, n)
		}
	}
	return nil
}

// sendVersion puts our identification string before everything else.
func (c *Conn) sendVersion() {
	line := []byte(c.cfg.Version + "\r\n")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.pending = outputs.Get().(*[]byte)
	*c.out.pending = append(*c.out.pending, line...)
}

func (c *Conn) exchangeAsServer(ctx context.Context, fit bool) error {
	c.serverVersion = c.cfg.Version
	c.sendVersion()
	if !fit {
		if err := c.startFirstKex(); err != nil {
			return err
		}
	}
	if err := c.Flush(); err != nil {
		return err
	}
	line, err := c.in.line(maxVersionLine)
	if err != nil {
		return c.readError(err)
	}
	if c.clientVersion, err = checkVersion(line); err != nil {
		return err
	}
	if fit {
		if err := c.fitOffer(ctx); err != nil {
			return err
		}
	}
	return c.finishFirstKex()
}

func (c *Conn) exchangeAsClient() error {
	c.clientVersion = c.cfg.Version
	c.sendVersion()
	if err := c.Flush(); err != nil {
		return err
	}
	for n := 0; !strings.HasPrefix(c.serverVersion, "SSH-"); n++ {
		if n == maxBannerLines {
			return violation(ReasonProtocolError, "server sent %d lines and no SSH version", n)
		}
		line, err := c.in.line(maxBannerLine)
		if err != nil {
			return c.readError(err)
		}
		c.serverVersion = line
	}
	var err error
	if c.serverVersion, err = checkVersion(c.serverVersion); err != nil {
		return err
	}
	if err := c.startFirstKex(); err != nil {
		return err
	}
	return c.finishFirstKex()
}

// checkVersion takes the peer's identification string: RFC 4253 section 4.2, and 1.99 of section 5.1.
func checkVersion(line string) (string, error) {
	if len(line) > maxVersionLine-1 || !printable(line) {
		return "", violation(ReasonProtocolError, "version line is too long or not printable: %w", ErrMalformed)
	}
	if !strings.HasPrefix(line, "SSH-2.0-") && !strings.HasPrefix(line, "SSH-1.99-") {
		return "", violation(ReasonVersionNotSupported, "peer is %q; only SSH 2.0 is spoken", line)
	}
	return line, nil
}

func (c *Conn) startFirstKex() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.startKex()
	return err
}

// fitOffer looks at the client's KEXINIT, if it comes soon, before ours is made.
func (c *Conn) fitOffer(ctx context.Context) error {
	if c.conn.SetReadDeadline(time.Now().Add(fitOfferWait)) != nil {
		return nil // without a deadline two waiting ends would wait for ever
	}
	p, err := c.in.next()
	_ = c.conn.SetReadDeadline(time.Time{})
	if ctx.Err() != nil {
		return c.readError(ctx.Err())
	}
	var slow net.Error
	if errors.As(err, &slow) && slow.Timeout() {
		return nil // too slow: it gets the whole list
	}
	if err != nil {
		return c.readError(err)
	}
	if theirs, err := parseKexInit(p); err == nil {
		c.kex.offer.fit(theirs)
	}
	_, err = c.dispatch(p)
	return err
}

// finishFirstKex reads until both sides use the first keys. Our KEXINIT goes out with it if it hasn't yet.
func (c *Conn) finishFirstKex() error {
	if err := c.startFirstKex(); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return err
	}
	for c.kex.rounds == 0 {
		p, err := c.next()
		if err != nil {
			return err
		}
		if _, err := c.dispatch(p); err != nil {
			return err
		}
	}
	return nil
}

// opened turns the connection over to the layer above, once authentication has succeeded.
func (c *Conn) opened() {
	c.authenticated.Store(true)
	c.kex.check = nil // the host key is known from here on
	c.in.maxPayload = uint32(c.cfg.MaxPacket)
	if c.cfg.RekeyInterval <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.regular = time.AfterFunc(c.cfg.RekeyInterval, func() {
		if c.Rekey() != nil {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err == nil {
			c.regular.Reset(c.cfg.RekeyInterval)
		}
	})
}

// send seals a message of the login and writes it out. Login is one goroutine's alone.
func (c *Conn) send(p []byte) error {
	c.queue(p, 0)
	return c.Flush()
}

func (c *Conn) queue(p []byte, block int) {
	c.mu.Lock()
	c.out.seal(p, block)
	c.mu.Unlock()
}

package sshwire

import (
	"bytes"
	"crypto"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// kexStage is where the peer's half of a key exchange stands.
type kexStage int

const (
	kexIdle    kexStage = iota // its KEXINIT has not come
	kexMessage                 // its message 30 (from a client) or 31 (from a server) is due
	kexNewKeys                 // its NEWKEYS is due
)

// kexState is the key exchange as the reading goroutine sees it.
type kexState struct {
	sessionID  []byte
	algorithms Algorithms
	hostKey    []byte // the server's key blob, the same in every exchange
	offer      offer
	signers    map[string]ssh.Signer // host key algorithm -> signer; server role
	check      func(net.Addr, ssh.PublicKey) error
	strict     bool
	extInfo    bool     // the client asked for EXT_INFO
	sigAlgs    []string // the server's server-sig-algs, as far as we know them; nil where it sent none

	// The exchange under way.
	stage     kexStage
	peerInit  []byte
	dropGuess bool
	exchange  exchange
	public    []byte // what offer made; client role
	agreed    Algorithms
	inKeys    keys // wait for the peer's NEWKEYS
	rounds    int  // exchanges finished
}

// startKex sends our KEXINIT unless an exchange is under way. Called with mu held; when it returns true the caller
// calls kexChanged after unlocking.
func (c *Conn) startKex() (bool, error) {
	if c.busy {
		return false, nil
	}
	var extras []string
	if c.inits == 0 {
		extras = []string{strictServer}
		if !c.server {
			extras = []string{extInfoClient, strictClient}
		}
	}
	init, err := c.kex.offer.kexInit(c.cfg.Rand, extras)
	if err != nil {
		return false, fmt.Errorf("make KEXINIT: %w", err)
	}
	c.inits++
	c.busy, c.held = true, true
	c.kexFrom.Store(c.in.total.Load())
	c.offered = init.append(nil)
	c.out.seal(c.offered, 0)
	c.timeout = time.AfterFunc(rekeyTimeout, func() {
		_ = c.fail(fmt.Errorf("key exchange with %s did not finish within %v", c.conn.RemoteAddr(), rekeyTimeout))
		c.conn.Close()
	})
	return true, nil
}

// peerKexInit takes the peer's KEXINIT, answers with ours if it is not out yet, and settles the algorithms.
func (c *Conn) peerKexInit(p []byte) error {
	k := &c.kex
	if k.stage != kexIdle {
		return unexpected(MsgKexInit, "within a key exchange")
	}
	theirs, err := parseKexInit(p)
	if err != nil {
		return &ProtocolError{ReasonProtocolError, err}
	}
	k.peerInit = bytes.Clone(p)
	c.mu.Lock()
	started, err := c.startKex()
	offered := c.offered
	c.mu.Unlock()
	if err != nil {
		return err
	}
	ours, err := parseKexInit(offered)
	if err != nil {
		return err
	}
	if err := c.settle(theirs, ours); err != nil {
		return err
	}
	if !c.server {
		if err := c.sendOffer(); err != nil {
			return err
		}
	}
	if started || !c.server {
		c.push()
	}
	return nil
}

// settle works out what theirs and ours have in common, and on the first exchange the extensions.
func (c *Conn) settle(theirs, ours *kexInit) error {
	k := &c.kex
	client, server := ours, theirs
	if c.server {
		client, server = theirs, ours
	}
	if k.sessionID == nil {
		k.strict = slices.Contains(client.KeyExchanges, strictClient) && slices.Contains(server.KeyExchanges, strictServer)
		k.extInfo = slices.Contains(client.KeyExchanges, extInfoClient)
		if k.strict && c.in.Sequence != 1 {
			return violation(ReasonKeyExchangeFailed, "strict key exchange: %d packets came before KEXINIT", c.in.Sequence-1)
		}
	}
	kex, hostKey, clientOut, serverOut, err := agree(client, server)
	if err != nil {
		return err
	}
	// cloned, or they would keep the lists that they were taken from
	clientOut = DirectionAlgorithms{strings.Clone(clientOut.Cipher), strings.Clone(clientOut.MAC)}
	serverOut = DirectionAlgorithms{strings.Clone(serverOut.Cipher), strings.Clone(serverOut.MAC)}
	k.agreed = Algorithms{KeyExchange: strings.Clone(kex), HostKey: strings.Clone(hostKey), In: serverOut, Out: clientOut, Strict: k.strict}
	if c.server {
		k.agreed.In, k.agreed.Out = clientOut, serverOut
	}
	k.exchange = exchanges[kex].make(c.cfg.Rand)
	k.dropGuess = guessedWrong(theirs, ours)
	k.stage = kexMessage
	return nil
}

// sendOffer sends message 30, the client's public value.
func (c *Conn) sendOffer() error {
	public, err := c.kex.exchange.offer()
	if err != nil {
		return fmt.Errorf("key exchange: %w", err)
	}
	c.kex.public = public
	c.mu.Lock()
	c.out.seal(appendString([]byte{MsgKexECDHInit}, public), 0)
	c.mu.Unlock()
	return nil
}

// takeKexMessage takes the peer's message of the exchange: RFC 4253 section 8, RFC 5656 section 4.
func (c *Conn) takeKexMessage(p []byte) error {
	if c.kex.dropGuess {
		if p[0] < 30 || p[0] > 49 {
			return unexpected(p[0], "where its guessed key exchange packet was due")
		}
		c.kex.dropGuess = false
		return nil
	}
	if c.server {
		return c.answerOffer(p)
	}
	return c.takeReply(p)
}

// answerOffer is the server's half: reply, NEWKEYS, and EXT_INFO after the first.
func (c *Conn) answerOffer(p []byte) error {
	k := &c.kex
	f := open(p, MsgKexECDHInit)
	theirs := f.bytes("client's public value")
	if err := f.err("key exchange message 30"); err != nil {
		return &ProtocolError{ReasonKeyExchangeFailed, err}
	}
	public, secret, err := k.exchange.answer(theirs)
	if err != nil {
		return violation(ReasonKeyExchangeFailed, "key exchange %s: %w", k.agreed.KeyExchange, err)
	}
	signer := k.signers[k.agreed.HostKey]
	hostKey := signer.PublicKey().Marshal()
	h := c.exchangeHash(hostKey, theirs, public, secret)
	signature, err := sign(signer, c.cfg.Rand, h, signatureSchemes[k.agreed.HostKey].signature)
	if err != nil {
		return fmt.Errorf("sign key exchange with host key %s: %w", ssh.FingerprintSHA256(signer.PublicKey()), err)
	}
	reply := appendString([]byte{MsgKexECDHReply}, hostKey)
	reply = appendString(appendString(reply, public), ssh.Marshal(signature))
	k.hostKey = hostKey
	return c.sendNewKeys(reply, secret, h)
}

// takeReply is the client's half: check the server's proof, then NEWKEYS.
func (c *Conn) takeReply(p []byte) error {
	k := &c.kex
	f := open(p, MsgKexECDHReply)
	hostKey := f.bytes("host key")
	theirs := f.bytes("server's public value")
	signature := f.bytes("signature")
	if err := f.err("key exchange message 31"); err != nil {
		return &ProtocolError{ReasonKeyExchangeFailed, err}
	}
	secret, err := k.exchange.finish(theirs)
	if err != nil {
		return violation(ReasonKeyExchangeFailed, "key exchange %s: %w", k.agreed.KeyExchange, err)
	}
	h := c.exchangeHash(hostKey, k.public, theirs, secret)
	if err := c.checkHostKey(hostKey, h, signature); err != nil {
		return &ProtocolError{ReasonHostKeyNotVerifiable, err}
	}
	return c.sendNewKeys(nil, secret, h)
}

// checkHostKey verifies the server's proof and, on the first exchange, asks the owner. Later keys must be the same.
func (c *Conn) checkHostKey(blob, h, signature []byte) error {
	k := &c.kex
	key, err := verify(blob, k.agreed.HostKey, h, signature)
	if err != nil {
		return fmt.Errorf("host key of %s: %w", c.conn.RemoteAddr(), err)
	}
	if k.hostKey != nil {
		if !bytes.Equal(k.hostKey, blob) {
			return fmt.Errorf("host key of %s changed within the connection", c.conn.RemoteAddr())
		}
		return nil
	}
	if err := k.check(c.conn.RemoteAddr(), key); err != nil {
		return err
	}
	k.hostKey = bytes.Clone(blob)
	return nil
}

// sendNewKeys sends reply (a server's) and NEWKEYS, takes the new keys into use for what we send, and keeps the
// peer's for its NEWKEYS.
func (c *Conn) sendNewKeys(reply, secret, h []byte) error {
	k := &c.kex
	if k.sessionID == nil {
		k.sessionID = h
	}
	hash := exchanges[k.agreed.KeyExchange].hash
	toServer, toClient := byte('A'), byte('B')
	in, out := toClient, toServer
	if c.server {
		in, out = toServer, toClient
	}
	k.inKeys = k.derive(hash, secret, h, k.agreed.In, in)
	outKeys := k.derive(hash, secret, h, k.agreed.Out, out)

	c.mu.Lock()
	if reply != nil {
		c.out.seal(reply, 0)
	}
	c.out.seal([]byte{MsgNewKeys}, 0)
	err := c.out.install(outKeys, k.strict)
	if c.server && k.extInfo && k.rounds == 0 {
		c.out.seal(extInfo(), 0)
	}
	c.held = false
	c.cond.Broadcast()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	k.stage = kexNewKeys
	c.push()
	return nil
}

// takeNewKeys ends the exchange: from here on the peer uses the new keys.
func (c *Conn) takeNewKeys(p []byte) error {
	k := &c.kex
	if len(p) != 1 {
		return &ProtocolError{ReasonProtocolError, malformed("NEWKEYS", "bytes after its end")}
	}
	if err := c.in.install(k.inKeys, k.strict); err != nil {
		return err
	}
	k.algorithms = k.agreed
	k.stage, k.peerInit, k.exchange, k.public, k.inKeys = kexIdle, nil, nil, nil, keys{}
	k.rounds++
	c.mu.Lock()
	c.busy, c.offered = false, nil
	c.kexFrom.Store(0)
	c.timeout.Stop()
	c.mu.Unlock()
	return nil
}

// exchangeHash is H of RFC 4253 section 8 and its successors.
func (c *Conn) exchangeHash(hostKey, clientPublic, serverPublic, secret []byte) []byte {
	c.mu.Lock()
	clientInit, serverInit := c.offered, c.kex.peerInit
	c.mu.Unlock()
	if c.server {
		clientInit, serverInit = serverInit, clientInit
	}
	b := appendString(appendString(nil, c.clientVersion), c.serverVersion)
	b = appendString(appendString(b, clientInit), serverInit)
	b = appendString(appendString(appendString(b, hostKey), clientPublic), serverPublic)
	return sum(exchanges[c.kex.agreed.KeyExchange].hash, append(b, secret...))
}

func sum(h crypto.Hash, data []byte) []byte {
	d := h.New()
	d.Write(data)
	return d.Sum(nil)
}

// derive makes one direction's keys: RFC 4253 section 7.2. letter is 'A' for client to server, 'B' for the way back:
// IV, key and MAC key are two letters apart.
func (k *kexState) derive(hash crypto.Hash, secret, h []byte, a DirectionAlgorithms, letter byte) keys {
	expand := func(letter byte, n int) []byte {
		prefix := append(bytes.Clone(secret), h...)
		out := sum(hash, append(append(bytes.Clone(prefix), letter), k.sessionID...))
		for len(out) < n {
			out = append(out, sum(hash, append(bytes.Clone(prefix), out...))...)
		}
		return out[:n:n]
	}
	spec := ciphers[a.Cipher]
	return keys{
		Cipher: a.Cipher, MAC: a.MAC,
		IV:     expand(letter, spec.iv),
		Key:    expand(letter+2, spec.key),
		MACKey: expand(letter+4, macs[a.MAC].key),
	}
}

// extInfo is the server's EXT_INFO: RFC 8308 sections 2.3 and 3.1, OpenSSH PROTOCOL section 1.12.
// ping@openssh.com is not announced: what is typed must not be mixed with chaff that nobody recorded.
func extInfo() []byte {
	p := appendUint32([]byte{MsgExtInfo}, 2)
	p = appendString(appendString(p, "server-sig-algs"), strings.Join(userSignatures, ","))
	return appendString(appendString(p, "publickey-hostbound@openssh.com"), "0")
}

// ours are those of known that are in theirs; not nil, and nothing of theirs is kept.
func ours(known, theirs []string) []string {
	both := make([]string, 0, len(known))
	for _, n := range known {
		if slices.Contains(theirs, n) {
			both = append(both, n)
		}
	}
	return both
}

// takeExtInfo reads the peer's EXT_INFO; only the server's server-sig-algs means something to us.
func (c *Conn) takeExtInfo(p []byte) error {
	f := open(p, MsgExtInfo)
	for n := f.uint32("number of extensions"); n > 0 && f.why == ""; n-- {
		name, value := f.string("extension name"), f.bytes("extension value")
		if !c.server && name == "server-sig-algs" {
			c.kex.sigAlgs = ours(userSignatures, strings.Split(string(value), ","))
		}
	}
	if err := f.err("EXT_INFO"); err != nil {
		return &ProtocolError{ReasonProtocolError, err}
	}
	return nil
}

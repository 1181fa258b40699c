package sshwire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// hostile is an end that follows the protocol up to a step and then sends what it likes.
type hostile struct{ *Conn }

func newHostile(t *testing.T, nc net.Conn, server bool) hostile {
	cfg := must(Config{}.withDefaults())
	h := hostile{newConn(nc, cfg, server)}
	if server {
		if err := h.useHostKeys(testServer().HostKeys); err != nil {
			t.Fatal(err)
		}
	} else {
		h.kex.offer = offer{cfg.KeyExchanges, defaultHostKeyAlgorithms, cfg.Ciphers, cfg.MACs}
		h.kex.check = func(net.Addr, ssh.PublicKey) error { return nil }
	}
	return h
}

// The steps up to which a hostile end behaves.
var steps = []string{"version sent", "KEXINIT sent", "NEWKEYS due", "keys in use", "service accepted", "logged in", "KEXINIT in session"}

// reach brings the hostile end to a step.
func (h hostile) reach(step string) error {
	h.clientVersion, h.serverVersion = DefaultVersion, DefaultVersion
	h.sendVersion()
	if err := h.Flush(); err != nil || step == "version sent" {
		return err
	}
	if _, err := h.in.line(maxVersionLine); err != nil {
		return err
	}
	if err := errors.Join(h.startFirstKex(), h.Flush()); err != nil || step == "KEXINIT sent" {
		return err
	}
	if step == "NEWKEYS due" {
		return h.untilNewKeysDue()
	}
	if err := h.finishFirstKex(); err != nil || step == "keys in use" {
		return err
	}
	if err := h.passLogin(step == "service accepted"); err != nil || step == "service accepted" || step == "logged in" {
		return err
	}
	return h.Rekey()
}

// untilNewKeysDue sends its half of the exchange, but not NEWKEYS.
func (h hostile) untilNewKeysDue() error {
	p, err := h.in.next()
	if err == nil {
		_, err = h.dispatch(p) // the peer's KEXINIT; a client has answered it with its public value
	}
	if err != nil || !h.server {
		return err
	}
	if p, err = h.in.next(); err != nil {
		return err
	}
	f := open(p, MsgKexECDHInit)
	theirs := f.bytes("public")
	public, secret, err := h.kex.exchange.answer(theirs)
	if err != nil {
		return err
	}
	signer := h.kex.signers[h.kex.agreed.HostKey]
	hash := h.exchangeHash(signer.PublicKey().Marshal(), theirs, public, secret)
	sig := must(sign(signer, h.cfg.Rand, hash, signatureSchemes[h.kex.agreed.HostKey].signature))
	reply := appendString(appendString([]byte{MsgKexECDHReply}, signer.PublicKey().Marshal()), public)
	return h.send(appendString(reply, ssh.Marshal(sig)))
}

func (h hostile) passLogin(onlyService bool) error {
	if h.server {
		l := &serverLogin{c: h.Conn, cfg: testServer(), auth: testServer().Auth}
		if onlyService {
			return l.service()
		}
		return l.run(context.Background())
	}
	l := &clientLogin{c: h.Conn, cfg: testClient()}
	if !onlyService {
		return l.run()
	}
	if err := h.send(appendString([]byte{MsgServiceRequest}, serviceUserauth)); err != nil {
		return err
	}
	_, err := h.read()
	return err
}

// allowed is what may come at a step without being an error at once.
func allowed(step string, victimIsServer bool, n byte) bool {
	strict := step == "KEXINIT sent" || step == "NEWKEYS due" // within the first key exchange
	switch n {
	case MsgDisconnect:
		return true
	case MsgIgnore, MsgDebug, MsgUnimplemented:
		return !strict
	}
	connection := n >= MsgConnectionFirst && n <= MsgConnectionLast
	unknown := n == 0 || n == MsgExtInfo || n >= 8 && n <= 19 || n >= 128
	switch step {
	case "keys in use", "service accepted":
		due := !victimIsServer && (step == "keys in use" && n == MsgServiceAccept || n == MsgUserauthFailure)
		return n == MsgExtInfo || due
	case "logged in":
		return connection || unknown || victimIsServer && n == MsgUserauthRequest
	}
	return false
}

// victim runs an end of ours against nc until it fails, and gives the failure.
func victim(nc net.Conn, server bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var c *Conn
	var err error
	if server {
		c, err = Server(ctx, nc, testServer())
	} else {
		c, err = Client(ctx, nc, testClient())
	}
	for err == nil {
		_, err = c.ReadPacket()
	}
	return err
}

func TestOutOfStateMessagesAreRefused(t *testing.T) {
	stride := 5
	if full {
		stride = 1
	}
	for _, server := range []bool{true, false} {
		for _, step := range steps {
			t.Run(fmt.Sprintf("victim is server %v/%s", server, step), func(t *testing.T) {
				t.Parallel()
				for n := 0; n < 256; n++ {
					sampled := n%stride == 0 || n < 8 || n >= 20 && n <= 22 || n >= 30 && n <= 31 || n >= 50 && n <= 53 || n >= 60 && n <= 61
					if sampled && !allowed(step, server, byte(n)) {
						injectAt(t, server, step, byte(n))
					}
				}
			})
		}
	}
}

// injectAt sends message n at the step, which the victim must answer with its end as a breach of protocol.
func injectAt(t *testing.T, victimIsServer bool, step string, n byte) {
	t.Helper()
	own, other := tcpPair(t)
	defer own.Close()
	got := make(chan error, 1)
	go func() { got <- victim(other, victimIsServer) }()
	h := newHostile(t, own, !victimIsServer)
	defer h.Close()
	if err := h.reach(step); err != nil {
		t.Fatalf("the hostile end didn't get to %q: %v", step, err)
	}
	p := append([]byte{n}, make([]byte, 40)...)
	if n == MsgNewKeys {
		p = p[:1]
		if step == "NEWKEYS due" {
			return // that is what is due
		}
	}
	h.queue(p, 0)
	_ = h.Flush()
	if step == "KEXINIT in session" { // the victim answers with its half first
		go func() { _, _ = io.Copy(io.Discard, own) }()
	}
	err := <-got
	var breach *ProtocolError
	if !errors.As(err, &breach) {
		t.Errorf("message %d at %q: victim said %v", n, step, err)
	}
}

func TestUnknownMessagesAreAnsweredWithUnimplemented(t *testing.T) {
	t.Parallel()
	own, other := tcpPair(t)
	go victim(other, true)
	h := newHostile(t, own, false)
	if err := h.reach("logged in"); err != nil {
		t.Fatal(err)
	}
	number := h.out.Sequence
	h.queue([]byte{MsgExtInfo, 0, 0, 0, 0}, 0)
	h.queue([]byte{200, 1, 2, 3}, 0)
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(2) {
		p, err := h.in.next()
		if err != nil || p[0] != MsgUnimplemented || binary.BigEndian.Uint32(p[1:]) != number+i {
			t.Fatalf("answer %d: %v, %v", i, p, err)
		}
	}
	// A peer that never reads the answers must not fill our memory.
	flood := make(chan error, 1)
	go func() {
		for {
			h.queue([]byte{200}, 0)
			if h.out.buffered() > outputLimit {
				if err := h.Flush(); err != nil {
					flood <- err
					return
				}
			}
		}
	}()
	select {
	case <-flood:
	case <-time.After(20 * time.Second):
		t.Fatal("the flood was never refused")
	}
}

func TestOversizedPacketsAreRefused(t *testing.T) {
	for _, step := range []string{"keys in use", "logged in"} {
		own, other := tcpPair(t)
		got := make(chan error, 1)
		go func() { got <- victim(other, true) }()
		h := newHostile(t, own, false)
		if err := h.reach(step); err != nil {
			t.Fatal(err)
		}
		size := preAuthMaxPayload + 300
		if step == "logged in" {
			size = DefaultMaxPacket + 300
		}
		h.queue(append([]byte{MsgChannelData}, make([]byte, size)...), 0)
		go h.Flush()
		if err := <-got; !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", step, err)
		}
		h.Close()
	}
}

func TestFloodBeforeLoginIsBounded(t *testing.T) {
	own, other := tcpPair(t)
	got := make(chan error, 1)
	go func() { got <- victim(other, true) }()
	h := newHostile(t, own, false)
	if err := h.reach("keys in use"); err != nil {
		t.Fatal(err)
	}
	go func() {
		for h.failure() == nil {
			h.queue(append([]byte{MsgIgnore}, make([]byte, 30000)...), 0)
			_ = h.Flush()
		}
	}()
	if err := <-got; err == nil || !strings.Contains(err.Error(), "before login") {
		t.Errorf("ended with %v", err)
	}
	h.Close()
}

func TestVersionExchangeIsBounded(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		name   string
		server bool // the victim's role
		sent   string
		ok     bool
	}{
		{"plain", true, "SSH-2.0-x\r\n", true},
		{"only LF", true, "SSH-2.0-x y\n", true},
		{"1.99", false, "SSH-1.99-old\r\n", true},
		{"lines before", false, "hello\r\nworld\nSSH-2.0-x\r\n", true},
		{"lines before, from a client", true, "hello\r\nSSH-2.0-x\r\n", false},
		{"endless lines before", false, strings.Repeat("hello\r\n", 100), false},
		{"old", true, "SSH-1.5-x\r\n", false},
		{"too long", true, "SSH-2.0-" + long + "\r\n", false},
		{"without end", true, "SSH-2.0-" + long, false},
		{"control character", true, "SSH-2.0-\x1b[2J\r\n", false},
		{"NUL", true, "SSH-2.0-x\x00\r\n", false},
		{"HTTP", true, "GET / HTTP/1.1\r\n\r\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			own, other := tcpPair(t)
			got := make(chan error, 1)
			go func() { got <- victim(other, c.server) }()
			must(own.Write([]byte(c.sent)))
			_ = own.(*net.TCPConn).CloseWrite()
			var breach *ProtocolError
			if err := <-got; errors.As(err, &breach) == c.ok {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// middle relays one direction of the clear part of a connection and lets edit see each packet: it returns the packets
// to pass on instead. After NEWKEYS bytes pass as they come.
func middle(from, to net.Conn, edit func(number byte, packet []byte) [][]byte) {
	defer to.Close()
	r := &receiver{src: from, buf: make([]byte, smallBuffer), maxPayload: preAuthMaxPayload}
	r.use(plain{})
	line, err := r.line(maxVersionLine)
	if err != nil {
		return
	}
	must(to.Write([]byte(line + "\r\n")))
	var out sender
	out.use(plain{})
	for clear := true; clear; {
		p, err := r.next()
		if err != nil {
			return
		}
		clear = p[0] != MsgNewKeys
		for _, q := range edit(p[0], p) {
			out.seal(q, 0)
		}
		if out.pending != nil {
			if _, err := to.Write(*out.pending); err != nil {
				return
			}
			*out.pending = (*out.pending)[:0]
		}
	}
	_, _ = to.Write(r.buf[r.start:r.end])
	_, _ = io.Copy(to, from)
}

// TestTerrapin is CVE-2023-48795: a man in the middle shifts packet numbers with IGNORE before NEWKEYS, so as to cut
// the first packets after it. Strict key exchange must notice any packet slipped in.
func TestTerrapin(t *testing.T) {
	ignore := appendString([]byte{MsgIgnore}, "")
	for _, before := range []byte{0, MsgKexInit, MsgKexECDHInit, MsgKexECDHReply, MsgNewKeys} {
		for _, towardsServer := range []bool{true, false} {
			if towardsServer && before == MsgKexECDHReply || !towardsServer && before == MsgKexECDHInit {
				continue
			}
			t.Run(fmt.Sprintf("before %d, towards server %v", before, towardsServer), func(t *testing.T) {
				c, mc := tcpPair(t)
				ms, s := tcpPair(t)
				slip := func(active bool) func(byte, []byte) [][]byte {
					return func(n byte, p []byte) [][]byte {
						if active && n == before {
							return [][]byte{ignore, p}
						}
						return [][]byte{p}
					}
				}
				go middle(mc, ms, slip(towardsServer))
				go middle(ms, mc, slip(!towardsServer))
				_, _, cerr, serr := login(t, c, s, testClient(), testServer())
				if before == 0 { // nothing slipped in: the relay itself is harmless
					if cerr != nil || serr != nil {
						t.Fatalf("client: %v; server: %v", cerr, serr)
					}
					return
				}
				hurt := cerr
				if towardsServer {
					hurt = serr
				}
				var breach *ProtocolError
				if !errors.As(hurt, &breach) || !strings.Contains(hurt.Error(), "strict") && !strings.Contains(hurt.Error(), "NEWKEYS") {
					t.Fatalf("client: %v; server: %v", cerr, serr)
				}
			})
		}
	}
}

// Removing the strict marks from both KEXINITs must not go unnoticed either: they are in the exchange hash.
func TestStrictMarksCannotBeStripped(t *testing.T) {
	strip := func(n byte, p []byte) [][]byte {
		if n == MsgKexInit {
			p = []byte(strings.NewReplacer("kex-strict-c-v00@openssh.com", "kex-strict-x-v00@openssh.com",
				"kex-strict-s-v00@openssh.com", "kex-strict-x-v00@openssh.com").Replace(string(p)))
		}
		return [][]byte{p}
	}
	c, mc := tcpPair(t)
	ms, s := tcpPair(t)
	go middle(mc, ms, strip)
	go middle(ms, mc, strip)
	_, _, cerr, _ := login(t, c, s, testClient(), testServer())
	var breach *ProtocolError
	if !errors.As(cerr, &breach) || breach.Reason != ReasonHostKeyNotVerifiable {
		t.Fatalf("client: %v", cerr)
	}
}

// Who sends unknown messages and reads no answer costs one goroutine and a bounded buffer, and is cut off.
func TestUnreadAnswersCostOneGoroutine(t *testing.T) {
	cc, sc := tcpPair(t)
	_ = cc.(*net.TCPConn).SetReadBuffer(4096)
	_ = sc.(*net.TCPConn).SetWriteBuffer(4096)
	c, s, cerr, serr := login(t, cc, sc, testClient(), testServer())
	if err := errors.Join(cerr, serr); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	ended := make(chan error, 1)
	go func() { _, err := s.ReadPacket(); ended <- err }()
	most := 0
	for i := 0; ; i++ {
		c.mu.Lock()
		c.out.seal([]byte{200}, 0)
		c.mu.Unlock()
		if i%64 != 63 {
			continue
		}
		most = max(most, runtime.NumGoroutine()-before)
		if c.Flush() != nil {
			break
		}
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "doesn't read the answers") {
		t.Errorf("ended: %v", err)
	}
	if most > 10 {
		t.Errorf("%d goroutines for one connection", most)
	}
}

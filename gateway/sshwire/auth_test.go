package sshwire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func secret(s string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(s), nil }
}

// tryLogin runs one login over loopback.
func tryLogin(t *testing.T, client *ClientConfig, server *ServerConfig) (c, s *Conn, cerr, serr error) {
	t.Helper()
	cc, sc := tcpPair(t)
	return login(t, cc, sc, client, server)
}

func TestPasswordLogin(t *testing.T) {
	var seen []byte
	server := testServer()
	server.Auth = ServerAuth{Password: func(m Meta, p []byte) error {
		seen = p
		if m.User() != "ann" || string(p) != "right" {
			return errors.New("no")
		}
		return nil
	}}
	client := testClient()
	client.Auth = []ClientAuth{PublicKeys(testKeys().user), Password(secret("wrong")), Password(secret("right"))}
	_, s, cerr, serr := tryLogin(t, client, server)
	if cerr != nil || serr != nil || s.User() != "ann" {
		t.Fatalf("client: %v; server: %v", cerr, serr)
	}
	if string(seen) == "right" {
		t.Error("the password was not wiped")
	}
	client.Auth = client.Auth[:2]
	_, _, cerr, serr = tryLogin(t, client, server)
	var refused *AuthError
	if !errors.As(cerr, &refused) || !slices.Equal(refused.Tried, []string{"password"}) || !slices.Equal(refused.Offered, []string{"password"}) {
		t.Errorf("client: %v", cerr)
	}
	var lost *LoginError
	if !errors.As(serr, &lost) || lost.User != "ann" {
		t.Errorf("server: %v", serr)
	}
	if strings.Contains(fmt.Sprint(cerr, serr), "wrong") {
		t.Error("an error holds the password")
	}
}

func TestKeyboardInteractiveLogin(t *testing.T) {
	server := testServer()
	server.Auth = ServerAuth{KeyboardInteractive: func(m Meta, ask func(string, string, []Prompt) ([]string, error)) error {
		a, err := ask("first", "please", []Prompt{{"Password: ", false}, {"Name: ", true}})
		if err != nil {
			return err
		}
		b, err := ask("", "", nil)
		if err != nil {
			return err
		}
		if slices.Equal(a, []string{"pw", "ann"}) && len(b) == 0 {
			return nil
		}
		return errors.New("wrong answers")
	}}
	var asked []string
	client := testClient()
	client.Auth = []ClientAuth{KeyboardInteractive(func(name, instruction string, prompts []Prompt) ([]string, error) {
		asked = append(asked, fmt.Sprint(name, instruction, prompts))
		return []string{"pw", "ann"}[:len(prompts)], nil
	})}
	if _, _, cerr, serr := tryLogin(t, client, server); cerr != nil || serr != nil {
		t.Fatalf("client: %v; server: %v", cerr, serr)
	}
	if want := []string{"firstplease[{Password:  false} {Name:  true}]", "[]"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q", asked)
	}
}

// A client may start another method instead of answering: RFC 4256 section 3.1 has the server drop the exchange.
func TestKeyboardInteractiveAbandoned(t *testing.T) {
	server := testServer()
	server.Auth.KeyboardInteractive = func(_ Meta, ask func(string, string, []Prompt) ([]string, error)) error {
		for {
			if _, err := ask("", "", []Prompt{{"?", false}}); err != nil {
				return err
			}
		}
	}
	own, other := tcpPair(t)
	got := make(chan *Conn, 1)
	go func() {
		c, _ := Server(context.Background(), other, server)
		got <- c
	}()
	h := newHostile(t, own, false)
	if err := h.reach("service accepted"); err != nil {
		t.Fatal(err)
	}
	l := &clientLogin{c: h.Conn, cfg: testClient()}
	if err := h.send(appendString(appendString(l.request("keyboard-interactive"), ""), "")); err != nil {
		t.Fatal(err)
	}
	if p := must(h.read()); p[0] != MsgUserauthInfoRequest {
		t.Fatalf("message %d", p[0])
	}
	v, err := PublicKeys(testKeys().user).run(l)
	if err == nil && !v.success { // the answer to the abandoned method comes first
		v, err = l.verdict()
	}
	if err != nil || !v.success {
		t.Fatalf("%+v, %v", v, err)
	}
	if c := <-got; c == nil {
		t.Fatal("the server refused")
	} else {
		c.Close()
	}
}

func TestPartialSuccess(t *testing.T) {
	server := testServer()
	second := ServerAuth{Password: func(_ Meta, p []byte) error {
		if string(p) == "pw" {
			return nil
		}
		return errors.New("no")
	}}
	server.Auth.PublicKey = func(_ Meta, k ssh.PublicKey, proven bool) error {
		if !sameKey(k, testKeys().user.PublicKey()) {
			return errUnknownKey
		}
		return &PartialSuccess{Next: second}
	}
	accepted := 0
	server.Auth.Accept = func(context.Context, Meta) error { accepted++; return nil }
	client := testClient()
	client.Auth = []ClientAuth{Password(secret("pw")), PublicKeys(testKeys().user)}
	if _, _, cerr, serr := tryLogin(t, client, server); cerr != nil || serr != nil || accepted != 1 {
		t.Fatalf("client: %v; server: %v; accepted %d", cerr, serr, accepted)
	}
	client.Auth = []ClientAuth{PublicKeys(testKeys().user)}
	_, _, cerr, _ := tryLogin(t, client, server)
	var refused *AuthError
	if !errors.As(cerr, &refused) || !slices.Equal(refused.Offered, []string{"password"}) || accepted != 1 {
		t.Fatalf("one step alone: %v; accepted %d", cerr, accepted)
	}
	// The same against x/crypto/ssh as a client.
	out, err := xcryptoCat(t, listen(t, server), &ssh.ClientConfig{User: "ann", HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Auth: []ssh.AuthMethod{ssh.PublicKeys(testKeys().user), ssh.Password("pw")}}, []byte("x"))
	if err != nil || string(out) != "x" {
		t.Fatalf("x/crypto/ssh: %q, %v", out, err)
	}
}

func TestAcceptHasTheLastWord(t *testing.T) {
	for _, c := range []struct {
		err  error
		want DisconnectError
	}{
		{errors.New("no grant"), DisconnectError{ReasonByApplication, "no grant"}},
		{fmt.Errorf("dial web1: %w", &DisconnectError{ReasonHostNotAllowed, "web1 is not yours"}), DisconnectError{ReasonHostNotAllowed, "web1 is not yours"}},
	} {
		server := testServer()
		server.Banner = "one"
		server.Auth.Accept = func(ctx context.Context, m Meta) error {
			if _, limited := ctx.Deadline(); !limited || m.RemoteAddr() == nil || m.LocalAddr() == nil || len(m.SessionID()) == 0 ||
				string(m.ClientVersion()) != DefaultVersion {
				t.Error("Accept doesn't know what it needs")
			}
			return errors.Join(m.Banner("two"), c.err)
		}
		var banners []string
		client := testClient()
		client.BannerFunc = func(s string) { banners = append(banners, s) }
		_, _, cerr, serr := tryLogin(t, client, server)
		var d *DisconnectError
		if !errors.As(cerr, &d) || *d != c.want {
			t.Errorf("client: %v", cerr)
		}
		if !errors.Is(serr, c.err) {
			t.Errorf("server: %v", serr)
		}
		if !slices.Equal(banners, []string{"one", "two"}) {
			t.Errorf("banners %q", banners)
		}
	}
}

// Dropbear's client takes a DISCONNECT for success, so it gets a refusal in words of its own; nobody else does.
func TestRefusalForDropbear(t *testing.T) {
	for version, want := range map[string]string{"SSH-2.0-dropbear_2022.83": "no room\r\n|*sshwire.AuthError", "SSH-2.0-OpenSSH_9.2p1": "|*sshwire.DisconnectError"} {
		client, server := testClient(), testServer()
		shown := ""
		client.Version, client.BannerFunc = version, func(text string) { shown += text }
		server.Auth.Accept = func(context.Context, Meta) error { return errors.New("no room") }
		_, _, cerr, _ := tryLogin(t, client, server)
		if got := fmt.Sprintf("%s|%T", shown, cerr); got != want {
			t.Errorf("%s: %q (%v), want %q", version, got, cerr, want)
		}
	}
}

func TestTooManyFailures(t *testing.T) {
	server := testServer()
	server.MaxAuthTries = 3
	tries := 0
	server.Auth.Password = func(Meta, []byte) error { tries++; return errors.New("no") }
	client := testClient()
	client.Auth = nil
	for range 10 {
		client.Auth = append(client.Auth, Password(secret("x")))
	}
	_, _, cerr, serr := tryLogin(t, client, server)
	var d *DisconnectError
	if !errors.As(cerr, &d) || d.Reason != ReasonNoMoreAuthMethods || tries != 3 {
		t.Errorf("client after %d tries: %v", tries, cerr)
	}
	if serr == nil || !strings.Contains(serr.Error(), "3 failed") {
		t.Errorf("server: %v", serr)
	}
}

func TestLoginGraceEnds(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"version sent", "KEXINIT sent", "keys in use", "service accepted"} {
		own, other := tcpPair(t)
		h := newHostile(t, own, false)
		ctx, cancel := context.WithTimeout(context.Background(), 150*time.Millisecond)
		defer cancel()
		got := make(chan error, 1)
		go func() { _, err := Server(ctx, other, testServer()); got <- err }()
		if err := h.reach(step); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-got:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", step, err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: the login was not ended", step)
		}
	}
}

func TestHostKeyRefused(t *testing.T) {
	client := testClient()
	client.HostKey = func(net.Addr, ssh.PublicKey) error { return errors.New("the host key of web1 has changed") }
	_, _, cerr, serr := tryLogin(t, client, testServer())
	var breach *ProtocolError
	if !errors.As(cerr, &breach) || breach.Reason != ReasonHostKeyNotVerifiable || !strings.Contains(cerr.Error(), "has changed") {
		t.Errorf("client: %v", cerr)
	}
	if serr == nil {
		t.Error("the server let it in")
	}
}

// request sends one USERAUTH_REQUEST from a hostile client and gives the number of the answer, or the server's end.
func request(t *testing.T, server *ServerConfig, packets func(h hostile, l *clientLogin) [][]byte) (answers []byte, end error) {
	t.Helper()
	own, other := tcpPair(t)
	got := make(chan error, 1)
	go func() {
		c, err := Server(context.Background(), other, server)
		if err == nil {
			c.Close()
		}
		got <- err
	}()
	h := newHostile(t, own, false)
	if err := h.reach("service accepted"); err != nil {
		t.Fatal(err)
	}
	for _, p := range packets(h, &clientLogin{c: h.Conn, cfg: testClient()}) {
		if err := h.send(p); err != nil {
			t.Fatal(err)
		}
		reply, err := h.read()
		if err != nil {
			break
		}
		answers = append(answers, reply[0])
	}
	h.Close()
	return answers, <-got
}

// signedBy makes a publickey request; change alters what is signed or the signature.
func signedBy(l *clientLogin, method string, s ssh.Signer, hostKey []byte, change func(data []byte, sig *ssh.Signature)) []byte {
	algorithm := schemesOf(s)[0]
	p := appendString(appendBool(l.request(method), true), algorithm)
	p = appendString(p, s.PublicKey().Marshal())
	if hostKey != nil {
		p = appendString(p, hostKey)
	}
	data := append(appendString(nil, l.c.kex.sessionID), p...)
	sig := &ssh.Signature{}
	change(data, nil)
	sig = must(sign(s, l.c.cfg.Rand, data, signatureSchemes[algorithm].signature))
	change(nil, sig)
	return appendString(p, ssh.Marshal(sig))
}

func TestPublicKeyRequests(t *testing.T) {
	k := testKeys()
	honest := func([]byte, *ssh.Signature) {}
	cert := &ssh.Certificate{Key: k.userRSA.PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(bytes.NewReader(randomBytes(4096)), k.other); err != nil {
		t.Fatal(err)
	}
	certSigner := must(ssh.NewCertSigner(cert, k.userRSA))
	const ok, fail = MsgUserauthSuccess, MsgUserauthFailure
	for _, c := range []struct {
		name string
		make func(h hostile, l *clientLogin) []byte
		want byte
	}{
		{"right", func(_ hostile, l *clientLogin) []byte { return signedBy(l, "publickey", k.user, nil, honest) }, ok},
		{"rsa", func(_ hostile, l *clientLogin) []byte { return signedBy(l, "publickey", k.userRSA, nil, honest) }, ok},
		{"certificate", func(_ hostile, l *clientLogin) []byte { return signedBy(l, "publickey", certSigner, nil, honest) }, ok},
		{"unknown key", func(_ hostile, l *clientLogin) []byte { return signedBy(l, "publickey", k.other, nil, honest) }, fail},
		{"flipped signature", func(_ hostile, l *clientLogin) []byte {
			return signedBy(l, "publickey", k.user, nil, func(_ []byte, s *ssh.Signature) {
				if s != nil {
					s.Blob[5] ^= 1
				}
			})
		}, fail},
		{"other session", func(_ hostile, l *clientLogin) []byte {
			return signedBy(l, "publickey", k.user, nil, func(d []byte, _ *ssh.Signature) {
				if d != nil {
					d[10] ^= 1
				}
			})
		}, fail},
		{"other signature format", func(_ hostile, l *clientLogin) []byte {
			return signedBy(l, "publickey", k.userRSA, nil, func(_ []byte, s *ssh.Signature) {
				if s != nil {
					s.Format = ssh.KeyAlgoRSASHA256
				}
			})
		}, fail},
		{"sha-1", func(_ hostile, l *clientLogin) []byte {
			p := appendString(appendBool(l.request("publickey"), true), ssh.KeyAlgoRSA)
			p = appendString(p, k.userRSA.PublicKey().Marshal())
			sig := must(sign(k.userRSA, l.c.cfg.Rand, append(appendString(nil, l.c.kex.sessionID), p...), ssh.KeyAlgoRSA))
			return appendString(p, ssh.Marshal(sig))
		}, fail},
		{"key of another type than said", func(_ hostile, l *clientLogin) []byte {
			p := appendString(appendBool(l.request("publickey"), false), ssh.KeyAlgoECDSA256)
			return appendString(p, k.user.PublicKey().Marshal())
		}, fail},
		{"broken key", func(_ hostile, l *clientLogin) []byte {
			p := appendString(appendBool(l.request("publickey"), false), ssh.KeyAlgoED25519)
			return appendString(p, "rubbish")
		}, fail},
		{"probe", func(_ hostile, l *clientLogin) []byte {
			p := appendString(appendBool(l.request("publickey"), false), ssh.KeyAlgoED25519)
			return appendString(p, k.user.PublicKey().Marshal())
		}, MsgUserauthPKOK},
		{"probe of unknown key", func(_ hostile, l *clientLogin) []byte {
			p := appendString(appendBool(l.request("publickey"), false), ssh.KeyAlgoED25519)
			return appendString(p, k.other.PublicKey().Marshal())
		}, fail},
		{"host-bound", func(h hostile, l *clientLogin) []byte {
			return signedBy(l, methodHostbound, k.user, h.kex.hostKey, honest)
		}, ok},
		{"bound to another host", func(_ hostile, l *clientLogin) []byte {
			return signedBy(l, methodHostbound, k.user, k.other.PublicKey().Marshal(), honest)
		}, fail},
		{"none", func(_ hostile, l *clientLogin) []byte { return l.request("none") }, fail},
		{"unknown method", func(_ hostile, l *clientLogin) []byte { return l.request("hostbased") }, fail},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := testServer()
			var unproven bool
			inner := server.Auth.PublicKey
			server.Auth.PublicKey = func(m Meta, key ssh.PublicKey, proven bool) error {
				unproven = unproven || proven && c.want != ok && c.name != "unknown key"
				if given, ok := key.(*ssh.Certificate); ok {
					key = given.Key
				}
				return inner(m, key, proven)
			}
			got, _ := request(t, server, func(h hostile, l *clientLogin) [][]byte { return [][]byte{c.make(h, l)} })
			if len(got) != 1 || got[0] != c.want {
				t.Errorf("answered with %v, want %d", got, c.want)
			}
			if unproven {
				t.Error("a key without a good signature was called proven")
			}
		})
	}
}

func TestMalformedLoginsAreRefused(t *testing.T) {
	as := func(user, service string) []byte {
		p := appendString(appendString([]byte{MsgUserauthRequest}, user), service)
		return appendString(p, "none")
	}
	for _, c := range []struct {
		name   string
		reason uint32
		sent   [][]byte
	}{
		{"empty name", ReasonIllegalUserName, [][]byte{as("", serviceConnection)}},
		{"long name", ReasonIllegalUserName, [][]byte{as(strings.Repeat("a", 256), serviceConnection)}},
		{"not UTF-8", ReasonIllegalUserName, [][]byte{as("caf\xc3", serviceConnection)}},
		{"control character", ReasonIllegalUserName, [][]byte{as("ann\x1b[2J", serviceConnection)}},
		{"C1 control character", ReasonIllegalUserName, [][]byte{as("ann\u009b2J", serviceConnection)}},
		{"other service", ReasonServiceNotAvailable, [][]byte{as("ann", "ssh-userauth")}},
		{"changed name", ReasonProtocolError, [][]byte{as("ann", serviceConnection), as("root", serviceConnection)}},
		{"cut short", ReasonProtocolError, [][]byte{{MsgUserauthRequest, 0, 0, 0, 9, 'a'}}},
		{"bytes after none", ReasonProtocolError, [][]byte{append(as("ann", serviceConnection), 0)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := request(t, testServer(), func(hostile, *clientLogin) [][]byte { return c.sent })
			var breach *ProtocolError
			if !errors.As(err, &breach) || breach.Reason != c.reason {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// A server that wants a new password, and one that lets in whoever asks.
func TestClientAgainstOddServers(t *testing.T) {
	for _, c := range []struct {
		name  string
		reply []byte
		want  error
	}{
		{"password change", appendString(appendString([]byte{MsgUserauthPasswdChange}, "expired"), ""), ErrPasswordChange},
		{"success with a tail", []byte{MsgUserauthSuccess, 1}, ErrMalformed},
		{"success", []byte{MsgUserauthSuccess}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			own, other := tcpPair(t)
			got := make(chan error, 1)
			go func() {
				cfg := testClient()
				cfg.Auth = []ClientAuth{Password(secret("pw"))}
				conn, err := Client(context.Background(), other, cfg)
				if err == nil {
					conn.Close()
				}
				got <- err
			}()
			h := newHostile(t, own, true)
			if err := h.reach("service accepted"); err != nil {
				t.Fatal(err)
			}
			must(h.read()) // none
			if err := h.send(appendBool(appendString([]byte{MsgUserauthFailure}, "password"), false)); err != nil {
				t.Fatal(err)
			}
			must(h.read())
			if err := h.send(c.reply); err != nil {
				t.Fatal(err)
			}
			if err := <-got; !errors.Is(err, c.want) {
				t.Errorf("client: %v", err)
			}
		})
	}
}

func TestOfferFitsTheClient(t *testing.T) {
	for _, c := range []struct {
		ciphers, kex []string
		cipher, with string
		nist         bool // whether the server offered a NIST curve
	}{
		{[]string{"chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com"}, nil, "aes256-gcm@openssh.com", "mlkem768x25519-sha256", false},
		{[]string{"chacha20-poly1305@openssh.com", "aes256-ctr"}, nil, "chacha20-poly1305@openssh.com", "mlkem768x25519-sha256", false},
		{nil, []string{"ecdh-sha2-nistp256", "curve25519-sha256"}, "aes128-gcm@openssh.com", "curve25519-sha256", false},
		{nil, []string{"diffie-hellman-group14-sha256", "ecdh-sha2-nistp256"}, "aes128-gcm@openssh.com", "ecdh-sha2-nistp256", true},
	} {
		client, server := testClient(), testServer()
		client.Ciphers, client.KeyExchanges, server.FitOffer = c.ciphers, c.kex, true
		a, b := pair(t, client, server)
		if got := a.Algorithms(); got.In.Cipher != c.cipher || got.KeyExchange != c.with {
			t.Errorf("a client of %v, %v got %+v", c.ciphers, c.kex, got)
		}
		if slices.Contains(b.kex.offer.KeyExchanges, "ecdh-sha2-nistp256") != c.nist {
			t.Errorf("a client of %v was offered %v", c.kex, b.kex.offer.KeyExchanges)
		}
	}
	// A client that waits for our KEXINIT must get it, late and whole.
	own, other := tcpPair(t)
	server := testServer()
	server.FitOffer = true
	go func() { _, _ = Server(context.Background(), other, server) }()
	_, r := ends(t, keys{}, own)
	must(own.Write([]byte("SSH-2.0-slow\r\n")))
	must(r.line(maxVersionLine))
	_ = own.SetReadDeadline(time.Now().Add(5 * time.Second))
	theirs := must(parseKexInit(must(r.next())))
	if !slices.Contains(theirs.CiphersIn, "chacha20-poly1305@openssh.com") || !slices.Contains(theirs.KeyExchanges, "ecdh-sha2-nistp256") {
		t.Errorf("offered %v, %v", theirs.CiphersIn, theirs.KeyExchanges)
	}
}

func TestWrongGuessIsDropped(t *testing.T) {
	own, other := tcpPair(t)
	got := make(chan error, 1)
	go func() { c, err := Server(context.Background(), other, testServer()); got <- err; _ = c }()
	h := newHostile(t, own, false)
	h.kex.offer.KeyExchanges = []string{"ecdh-sha2-nistp256", "curve25519-sha256"}
	h.clientVersion, h.serverVersion = DefaultVersion, DefaultVersion
	h.sendVersion()
	init := must(h.kex.offer.kexInit(h.cfg.Rand, []string{strictClient}))
	init.FollowsGuess = true
	h.offered, h.busy, h.held = init.append(nil), true, true
	h.timeout = time.AfterFunc(time.Hour, func() {})
	h.queue(h.offered, 0)
	h.queue(appendString([]byte{MsgKexECDHInit}, "a guess for another exchange"), 0)
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
	must(h.in.line(maxVersionLine))
	for h.kex.rounds == 0 {
		if _, err := h.dispatch(must(h.in.next())); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.passLogin(false); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

// sink is a connection that takes everything and gives nothing.
type sink struct{ net.Conn }

func (sink) Write(p []byte) (int, error)      { return len(p), nil }
func (sink) Read([]byte) (int, error)         { return 0, io.EOF }
func (sink) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (sink) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (sink) SetWriteDeadline(time.Time) error { return nil }
func (sink) Close() error                     { return nil }

// FuzzUserauth feeds requests to a server's login, which must never call a key proven or let anyone in.
func FuzzUserauth(f *testing.F) {
	l := &clientLogin{c: &Conn{}, cfg: testClient()}
	f.Add(l.request("none"))
	f.Add(appendString(appendBool(l.request("password"), false), "pw"))
	f.Add(appendString(appendString(l.request("keyboard-interactive"), ""), ""))
	key := appendString(appendBool(l.request("publickey"), true), ssh.KeyAlgoED25519)
	f.Add(appendString(appendString(key, testKeys().user.PublicKey().Marshal()), "signature"))
	cfg := testServer()
	cfg.Auth.PublicKey = func(_ Meta, _ ssh.PublicKey, proven bool) error {
		if proven {
			panic("proven without a signature")
		}
		return nil
	}
	cfg.Auth.Password = func(Meta, []byte) error { return errUnknownKey }
	f.Fuzz(func(t *testing.T, p []byte) {
		c := newConn(sink{}, must(Config{}.withDefaults()), true)
		c.kex.sessionID = []byte("id")
		login := &serverLogin{c: c, cfg: cfg, auth: cfg.Auth}
		if len(p) == 0 {
			return
		}
		method, fields, err := login.request(p)
		if err != nil {
			return
		}
		if r, _ := login.try(method, p, fields); r == accepted || r == partial {
			t.Fatalf("let in by %q", p)
		}
		if _, err := infoResponse(p, 2); err == nil && len(p) < 13 {
			t.Fatal("answers out of nothing")
		}
	})
}

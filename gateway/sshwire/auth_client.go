package sshwire

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/ssh"
)

// A ClientAuth is one way to log in: made by [Password], [KeyboardInteractive] or [PublicKeys].
type ClientAuth interface {
	method() string
	// run asks the server and returns its verdict.
	run(l *clientLogin) (verdict, error)
}

// verdict is SUCCESS or FAILURE: RFC 4252 section 5.1.
type verdict struct {
	success bool
	partial bool
	offered []string
}

// clientLogin is the client's side of one login.
type clientLogin struct {
	c     *Conn
	cfg   *ClientConfig
	tried []string
}

// maxRounds bounds how often a server may ask within keyboard-interactive.
const maxRounds = 32

// run asks for the authentication service, learns what the server takes, and tries the ways given in turn.
func (l *clientLogin) run() error {
	if err := l.c.send(appendString([]byte{MsgServiceRequest}, serviceUserauth)); err != nil {
		return err
	}
	p, err := l.c.read()
	if err != nil {
		return err
	}
	if p[0] != MsgServiceAccept {
		return unexpected(p[0], "where SERVICE_ACCEPT was due") // its service name is not looked at: some servers send none
	}
	v, err := none{}.run(l)
	used := make([]bool, len(l.cfg.Auth))
	for err == nil && !v.success {
		i := l.pick(used, v.offered)
		if i < 0 {
			return &AuthError{User: l.cfg.User, Tried: l.tried, Offered: v.offered}
		}
		used[i] = true
		l.tried = append(l.tried, l.cfg.Auth[i].method())
		v, err = l.cfg.Auth[i].run(l)
		if v.partial {
			clear(used)
			used[i] = true
		}
	}
	if err == nil {
		l.c.opened()
	}
	return err
}

// pick finds the first way that was not used and that the server offers.
func (l *clientLogin) pick(used []bool, offered []string) int {
	for i, a := range l.cfg.Auth {
		if !used[i] && slices.Contains(offered, a.method()) {
			return i
		}
	}
	return -1
}

// request starts a USERAUTH_REQUEST.
func (l *clientLogin) request(method string) []byte {
	p := appendString([]byte{MsgUserauthRequest}, l.cfg.User)
	return appendString(appendString(p, serviceConnection), method)
}

// sendSecret sends a message that holds a secret, padded to hide its length, and wipes it.
func (l *clientLogin) sendSecret(p []byte) error {
	l.c.queue(p, secretBlock)
	clear(p)
	return l.c.Flush()
}

// read returns the next message of the login; banners are shown on the way.
func (l *clientLogin) read() ([]byte, error) {
	for {
		p, err := l.c.read()
		if err != nil || p[0] != MsgUserauthBanner {
			return p, err
		}
		f := open(p, MsgUserauthBanner)
		text := f.string("banner")
		f.string("language tag")
		if err := f.err("USERAUTH_BANNER"); err != nil {
			return nil, &ProtocolError{ReasonProtocolError, err}
		}
		if l.cfg.BannerFunc != nil {
			l.cfg.BannerFunc(text)
		}
	}
}

// verdict reads SUCCESS or FAILURE and refuses anything else.
func (l *clientLogin) verdict() (verdict, error) {
	p, err := l.read()
	if err != nil {
		return verdict{}, err
	}
	return l.judge(p)
}

func (l *clientLogin) judge(p []byte) (verdict, error) {
	switch p[0] {
	case MsgUserauthSuccess:
		if err := open(p, MsgUserauthSuccess).err("USERAUTH_SUCCESS"); err != nil {
			return verdict{}, &ProtocolError{ReasonProtocolError, err}
		}
		return verdict{success: true}, nil
	case MsgUserauthFailure:
		f := open(p, MsgUserauthFailure)
		v := verdict{offered: f.names("methods"), partial: f.bool("partial success")}
		if err := f.err("USERAUTH_FAILURE"); err != nil {
			return verdict{}, &ProtocolError{ReasonProtocolError, err}
		}
		return v, nil
	}
	return verdict{}, unexpected(p[0], "where the outcome of an authentication request was due")
}

// none is RFC 4252 section 5.2: it lists the methods, and logs in where a server asks for nothing more.
type none struct{}

func (none) method() string { return "none" }

func (none) run(l *clientLogin) (verdict, error) {
	if err := l.c.send(l.request("none")); err != nil {
		return verdict{}, err
	}
	return l.verdict()
}

type password struct{ secret func() ([]byte, error) }

// Password logs in by RFC 4252 section 8. secret is called when the server takes passwords; what it returns is not
// kept, nor wiped: it is its owner's.
func Password(secret func() ([]byte, error)) ClientAuth { return password{secret} }

func (password) method() string { return "password" }

func (a password) run(l *clientLogin) (verdict, error) {
	secret, err := a.secret()
	if err != nil {
		return verdict{}, fmt.Errorf("password for %q: %w", l.cfg.User, err)
	}
	p := make([]byte, 0, len(secret)+len(l.cfg.User)+64) // one allocation, so that wiping reaches every copy
	p = appendString(append(p, MsgUserauthRequest), l.cfg.User)
	p = appendString(appendString(p, serviceConnection), "password")
	if err := l.sendSecret(appendString(appendBool(p, false), secret)); err != nil {
		return verdict{}, err
	}
	reply, err := l.read()
	if err != nil {
		return verdict{}, err
	}
	if reply[0] == MsgUserauthPasswdChange {
		return verdict{}, fmt.Errorf("log in as %q: %w", l.cfg.User, ErrPasswordChange)
	}
	return l.judge(reply)
}

type keyboardInteractive struct {
	answer func(name, instruction string, prompts []Prompt) ([]string, error)
}

// KeyboardInteractive logs in by RFC 4256. answer gets what the server asks, as sent, and gives one answer per prompt.
func KeyboardInteractive(answer func(name, instruction string, prompts []Prompt) ([]string, error)) ClientAuth {
	return keyboardInteractive{answer}
}

func (keyboardInteractive) method() string { return "keyboard-interactive" }

func (a keyboardInteractive) run(l *clientLogin) (verdict, error) {
	if err := l.c.send(appendString(appendString(l.request("keyboard-interactive"), ""), "")); err != nil {
		return verdict{}, err
	}
	for range maxRounds {
		p, err := l.read()
		if err != nil {
			return verdict{}, err
		}
		if p[0] != MsgUserauthInfoRequest {
			return l.judge(p)
		}
		if err := a.reply(l, p); err != nil {
			return verdict{}, err
		}
	}
	return verdict{}, violation(ReasonProtocolError, "server asked %d times within keyboard-interactive", maxRounds)
}

// reply answers one INFO_REQUEST.
func (a keyboardInteractive) reply(l *clientLogin, p []byte) error {
	name, instruction, prompts, err := infoRequest(p)
	if err != nil {
		return &ProtocolError{ReasonProtocolError, err}
	}
	answers, err := a.answer(name, instruction, prompts)
	if err == nil && len(answers) != len(prompts) {
		err = fmt.Errorf("%d answers to %d prompts", len(answers), len(prompts))
	}
	if err != nil {
		return fmt.Errorf("keyboard-interactive for %q: %w", l.cfg.User, err)
	}
	size := 5
	for _, s := range answers {
		size += 4 + len(s)
	}
	out := appendUint32(append(make([]byte, 0, size), MsgUserauthInfoResponse), uint32(len(answers)))
	for _, s := range answers {
		out = appendString(out, s)
	}
	return l.sendSecret(out)
}

func infoRequest(p []byte) (name, instruction string, prompts []Prompt, err error) {
	f := open(p, MsgUserauthInfoRequest)
	name, instruction = f.string("name"), f.string("instruction")
	f.string("language tag")
	n := f.uint32("number of prompts")
	if n > maxPrompts {
		f.fail("too many prompts")
		n = 0
	}
	for range n {
		prompts = append(prompts, Prompt{Text: f.string("prompt"), Echo: f.bool("echo")})
	}
	return name, instruction, prompts, f.err("INFO_REQUEST")
}

type publicKeys struct{ signers func() ([]ssh.Signer, error) }

// PublicKeys logs in by RFC 4252 section 7 with each signer in turn. RSA keys sign with SHA-2 as server-sig-algs allows.
func PublicKeys(signers ...ssh.Signer) ClientAuth {
	return publicKeys{func() ([]ssh.Signer, error) { return signers, nil }}
}

// PublicKeysFrom is PublicKeys for signers that are made when they are needed: once the server has proven its host key
// and asks for a public key.
func PublicKeysFrom(make func() ([]ssh.Signer, error)) ClientAuth { return publicKeys{make} }

func (publicKeys) method() string { return "publickey" }

var errNoSigner = errors.New("no private key that the server can verify")

func (a publicKeys) run(l *clientLogin) (v verdict, err error) {
	asked := false
	signers, err := a.signers()
	if err != nil {
		return v, fmt.Errorf("log in as %q by public key: %w", l.cfg.User, err)
	}
	for _, s := range signers {
		algorithm := l.algorithm(s)
		if algorithm == "" {
			continue
		}
		asked = true
		if v, err = l.tryKey(s, algorithm); err != nil || v.success || v.partial {
			return v, err
		}
		if !slices.Contains(v.offered, "publickey") {
			return v, nil
		}
	}
	if !asked {
		return v, fmt.Errorf("log in as %q by public key: %w", l.cfg.User, errNoSigner)
	}
	return v, nil
}

// algorithm picks how to sign: the first that the server announced, SHA-2 where it announced nothing, and SHA-1 only
// for a server that the owner has allowed it for.
func (l *clientLogin) algorithm(s ssh.Signer) string {
	able := schemesOf(s)
	announced := l.c.kex.sigAlgs
	if announced == nil {
		if s.PublicKey().Type() == ssh.KeyAlgoRSA && slices.Contains(l.cfg.HostKeyAlgorithms, ssh.KeyAlgoRSA) {
			return ssh.KeyAlgoRSA
		}
		announced = userSignatures
	}
	for _, n := range able {
		if slices.Contains(announced, n) || slices.Contains(announced, signatureSchemes[n].signature) {
			return n
		}
	}
	return ""
}

// tryKey signs a request and reads the verdict.
func (l *clientLogin) tryKey(s ssh.Signer, algorithm string) (verdict, error) {
	p := appendString(appendBool(l.request("publickey"), true), algorithm)
	p = appendString(p, s.PublicKey().Marshal())
	data := append(appendString(nil, l.c.kex.sessionID), p...)
	sig, err := sign(s, l.c.cfg.Rand, data, signatureSchemes[algorithm].signature)
	if err != nil {
		return verdict{}, fmt.Errorf("sign login of %q with %s: %w", l.cfg.User, ssh.FingerprintSHA256(s.PublicKey()), err)
	}
	if err := l.c.send(appendString(p, ssh.Marshal(sig))); err != nil {
		return verdict{}, err
	}
	return l.verdict()
}

package sshwire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	serviceUserauth   = "ssh-userauth"
	serviceConnection = "ssh-connection"
	methodHostbound   = "publickey-hostbound-v00@openssh.com" // OpenSSH PROTOCOL section 1.13
	maxPrompts        = 32
	maxServices       = 16   // times that a client asks for the service in a row
	maxAsked          = 8192 // INFO_REQUESTs in one login: hours, for a person who waits and is told every few seconds
)

func (a ServerAuth) methods() []string {
	var m []string
	if a.PublicKey != nil {
		m = append(m, "publickey")
	}
	if a.KeyboardInteractive != nil {
		m = append(m, "keyboard-interactive")
	}
	if a.Password != nil {
		m = append(m, "password")
	}
	return m
}

// serverLogin is the server's side of one login: RFC 4252.
type serverLogin struct {
	c        *Conn
	cfg      *ServerConfig
	auth     ServerAuth // what may come next
	user     string
	requests int
	failures int
	asked    int
	queued   []byte // a request that came instead of an answer to a prompt
	fatal    error  // what ended an exchange within a callback
}

// refusal ends a login with a DISCONNECT of ours.
type refusal struct {
	reason uint32
	text   string
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// result is what one authentication request came to.
type result int

const (
	refused  result = iota
	accepted        // the method succeeded; whether that suffices, the callback's PartialSuccess said
	partial
	answered // a probe was answered; nothing is counted
)

// run serves the login until it succeeds or ends.
func (l *serverLogin) run(ctx context.Context) error {
	err := l.authenticate()
	if err == nil {
		err = l.accept(ctx)
	}
	var breach *ProtocolError
	if err != nil && !errors.As(err, &breach) {
		return &LoginError{User: l.user, Err: err}
	}
	return err
}

func (l *serverLogin) authenticate() error {
	if err := l.service(); err != nil {
		return err
	}
	for {
		p, err := l.next()
		if err != nil {
			return err
		}
		method, f, err := l.request(p)
		if err != nil {
			return err
		}
		r, err := l.try(method, p, f)
		if err != nil {
			return err
		}
		if r == accepted {
			return nil
		}
		if err := l.answer(r, method); err != nil {
			return err
		}
	}
}

// service answers the SERVICE_REQUEST for authentication: RFC 4253 section 10.
func (l *serverLogin) service() error {
	p, err := l.c.read()
	if err != nil {
		return err
	}
	if p[0] != MsgServiceRequest {
		return unexpected(p[0], "before it asked for a service")
	}
	return l.serve(p)
}

// serve grants the authentication service. Paramiko asks for it before each of its methods.
func (l *serverLogin) serve(p []byte) error {
	f := open(p, MsgServiceRequest)
	name := f.string("service name")
	if err := f.err("SERVICE_REQUEST"); err != nil {
		return &ProtocolError{ReasonProtocolError, err}
	}
	if name != serviceUserauth {
		return violation(ReasonServiceNotAvailable, "client asked for service %q before login", name)
	}
	return l.c.send(appendString([]byte{MsgServiceAccept}, serviceUserauth))
}

// next gives the next request, which may have come in place of an answer to a prompt.
func (l *serverLogin) next() ([]byte, error) {
	if p := l.queued; p != nil {
		l.queued = nil
		return p, nil
	}
	for range maxServices {
		p, err := l.c.read()
		switch {
		case err != nil || p[0] == MsgUserauthRequest:
			return p, err
		case p[0] != MsgServiceRequest:
			return nil, unexpected(p[0], "where an authentication request was due")
		}
		if err := l.serve(p); err != nil {
			return nil, err
		}
	}
	return nil, violation(ReasonProtocolError, "client asked for the same service %d times", maxServices)
}

// request reads what all authentication requests have in common: RFC 4252 section 5.
func (l *serverLogin) request(p []byte) (method string, f *fields, err error) {
	f = open(p, MsgUserauthRequest)
	user := f.string("user name")
	service := f.string("service name")
	method = f.string("method name")
	if f.why != "" {
		return "", nil, &ProtocolError{ReasonProtocolError, f.err("USERAUTH_REQUEST")}
	}
	if err := checkUserName(user); err != nil {
		return "", nil, &ProtocolError{ReasonIllegalUserName, err}
	}
	if service != serviceConnection {
		return "", nil, violation(ReasonServiceNotAvailable, "client asked to use service %q after login", service)
	}
	if l.user != "" && l.user != user {
		return "", nil, violation(ReasonProtocolError, "client changed the user name within a login")
	}
	l.user = user
	if l.requests++; l.requests == 1 && l.cfg.Banner != "" {
		return method, f, l.meta().Banner(l.cfg.Banner)
	}
	return method, f, nil
}

// try hands a request to its method.
func (l *serverLogin) try(method string, p []byte, f *fields) (result, error) {
	switch {
	case method == "none":
		if err := f.err("none request"); err != nil {
			return refused, &ProtocolError{ReasonProtocolError, err}
		}
		if l.auth.None == nil {
			return refused, nil
		}
		return l.judge(l.auth.None(l.meta()))
	case (method == "publickey" || method == methodHostbound) && l.auth.PublicKey != nil:
		return l.publicKey(p, f, method == methodHostbound)
	case method == "password" && l.auth.Password != nil:
		return l.password(f)
	case method == "keyboard-interactive" && l.auth.KeyboardInteractive != nil:
		return l.keyboard(f)
	}
	return refused, nil
}

// answer sends FAILURE with the methods that can go on, and ends a login of too many failures.
func (l *serverLogin) answer(r result, method string) error {
	if r == answered {
		return nil
	}
	if r == refused && !(method == "none" && l.requests == 1) {
		l.failures++
	}
	tries := l.cfg.MaxAuthTries
	if tries <= 0 {
		tries = DefaultMaxAuthTries
	}
	if l.failures >= tries {
		err := fmt.Errorf("gave up after %d failed attempts", l.failures)
		text := "too many authentication failures"
		if method == "publickey" || method == methodHostbound {
			text += "; if your client has many keys, let it offer the right one only: ssh -i KEY -o IdentitiesOnly=yes"
		}
		return &refusal{ReasonNoMoreAuthMethods, text, err}
	}
	p := appendString([]byte{MsgUserauthFailure}, strings.Join(l.auth.methods(), ","))
	return l.c.send(appendBool(p, r == partial))
}

// judge turns a callback's answer into a result.
func (l *serverLogin) judge(err error) (result, error) {
	if l.fatal != nil {
		return refused, l.fatal
	}
	var p *PartialSuccess
	var d *DisconnectError
	switch {
	case err == nil:
		return accepted, nil
	case errors.As(err, &d):
		return refused, &refusal{d.Reason, d.Text, err}
	case errors.As(err, &p):
		if len(p.Next.methods()) == 0 {
			return refused, errors.New("partial success with no method left")
		}
		l.auth = p.Next
		return partial, nil
	}
	return refused, nil
}

// publicKey is RFC 4252 section 7, and the variant that binds the signature to our host key as well.
func (l *serverLogin) publicKey(p []byte, f *fields, hostbound bool) (result, error) {
	signed := f.bool("has signature")
	algorithm := f.string("public key algorithm")
	blob := f.bytes("public key")
	if hostbound && !bytes.Equal(f.bytes("server host key"), l.c.kex.hostKey) && f.why == "" {
		return refused, nil // meant for another server
	}
	covered := p[:len(p)-len(f.rest)]
	var signature []byte
	if signed {
		signature = f.bytes("signature")
	}
	if err := f.err("publickey request"); err != nil {
		return refused, &ProtocolError{ReasonProtocolError, err}
	}
	if !slices.Contains(userSignatures, signatureSchemes[algorithm].signature) {
		return refused, nil
	}
	if !signed {
		return l.probe(algorithm, blob)
	}
	data := append(appendString(nil, l.c.kex.sessionID), covered...)
	key, err := verify(blob, algorithm, data, signature)
	if err != nil {
		return refused, nil
	}
	return l.judge(l.auth.PublicKey(l.meta(), key, true))
}

// probe answers whether a signature by the key would be looked at.
func (l *serverLogin) probe(algorithm string, blob []byte) (result, error) {
	key, _, err := parseKey(blob, algorithm)
	if err != nil {
		return refused, nil
	}
	var p *PartialSuccess
	if err := l.auth.PublicKey(l.meta(), key, false); err != nil && !errors.As(err, &p) {
		return refused, nil
	}
	ok := appendString(appendString([]byte{MsgUserauthPKOK}, algorithm), blob)
	return answered, l.c.send(ok)
}

// password is RFC 4252 section 8. Changing a password is not offered.
func (l *serverLogin) password(f *fields) (result, error) {
	change := f.bool("change")
	secret := f.bytes("password")
	defer clear(secret)
	if change {
		clear(f.bytes("new password"))
	}
	if err := f.err("password request"); err != nil {
		return refused, &ProtocolError{ReasonProtocolError, err}
	}
	if change {
		return refused, nil
	}
	return l.judge(l.auth.Password(l.meta(), secret))
}

// keyboard is RFC 4256.
func (l *serverLogin) keyboard(f *fields) (result, error) {
	f.string("language tag")
	f.string("submethods")
	if err := f.err("keyboard-interactive request"); err != nil {
		return refused, &ProtocolError{ReasonProtocolError, err}
	}
	return l.judge(l.auth.KeyboardInteractive(l.meta(), l.ask))
}

var errAbandoned = errors.New("the client gave up this authentication method")

// ask sends one INFO_REQUEST and waits for its answers: RFC 4256 sections 3.2 and 3.4.
func (l *serverLogin) ask(name, instruction string, prompts []Prompt) ([]string, error) {
	if l.fatal != nil || l.queued != nil {
		return nil, errAbandoned
	}
	if len(prompts) > maxPrompts {
		return nil, fmt.Errorf("%d prompts at once; at most %d", len(prompts), maxPrompts)
	}
	if l.asked++; l.asked > maxAsked {
		l.fatal = &refusal{ReasonByApplication, "this login took too long", fmt.Errorf("asked %d times within one login", maxAsked)}
		return nil, l.fatal
	}
	if instruction != "" && l.c.isDropbear() {
		instruction += "\n" // other clients end the line by themselves
	}
	p := appendString(appendString([]byte{MsgUserauthInfoRequest}, clip(name)), clip(instruction))
	p = appendUint32(appendString(p, ""), uint32(len(prompts)))
	for _, q := range prompts {
		p = appendBool(appendString(p, clip(q.Text)), q.Echo)
	}
	if err := l.c.send(p); err != nil {
		l.fatal = err
		return nil, err
	}
	reply, err := l.c.read()
	if err == nil && reply[0] == MsgUserauthRequest {
		l.queued = bytes.Clone(reply)
		return nil, errAbandoned
	}
	var answers []string
	if err == nil {
		answers, err = infoResponse(reply, len(prompts))
	}
	clear(reply) // what was typed may be a secret
	l.fatal = err
	return answers, err
}

func infoResponse(p []byte, want int) ([]string, error) {
	if p[0] != MsgUserauthInfoResponse {
		return nil, unexpected(p[0], "where answers to prompts were due")
	}
	f := open(p, MsgUserauthInfoResponse)
	if n := f.uint32("number of answers"); n != uint32(want) && f.why == "" {
		return nil, violation(ReasonProtocolError, "%d answers to %d prompts", n, want)
	}
	answers := make([]string, 0, want)
	for range want {
		answers = append(answers, f.string("answer"))
	}
	if err := f.err("INFO_RESPONSE"); err != nil {
		return nil, &ProtocolError{ReasonProtocolError, err}
	}
	return answers, nil
}

// accept asks the owner for the last word and lets the client in.
func (l *serverLogin) accept(ctx context.Context) error {
	if l.cfg.Auth.Accept != nil {
		if err := l.cfg.Auth.Accept(ctx, l.meta()); err != nil {
			r := &refusal{ReasonByApplication, err.Error(), err}
			var d *DisconnectError
			if errors.As(err, &d) {
				r.reason, r.text = d.Reason, d.Text
			}
			return r
		}
	}
	l.c.user = l.user
	l.c.opened()
	return l.c.send([]byte{MsgUserauthSuccess})
}

// meta is the Meta of a login under way.
type meta struct {
	*Conn
	user string
}

func (l *serverLogin) meta() Meta { return meta{l.c, l.user} }

func (m meta) User() string { return m.user }

// Banner is RFC 4252 section 5.4.
func (m meta) Banner(text string) error {
	if m.authenticated.Load() {
		return errors.New("a banner can't be shown after login")
	}
	return m.send(appendString(appendString([]byte{MsgUserauthBanner}, clip(text)), ""))
}

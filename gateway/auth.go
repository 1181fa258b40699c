package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// identity is who a connection belongs to: a user with the key that they proved to hold.
type identity struct {
	user        events.UserID
	name        string
	role        events.Role
	fingerprint string                 // of the key that they hold
	certificate *aggregate.Certificate // by which the key is theirs; nil for a key on record
	permits     permits
	factor      events.Factor // how they proved a second factor; zero for none
}

// login is one connection on its way in. Its methods run in the goroutine of sshwire.Server.
type login struct {
	server *Server
	client *rekeyGate
	grace  func()                                                    // ends the time that a client has to prove who it is
	stay   func(user events.UserID, most time.Duration, late string) // gives a known user more time to go on

	name        string    // SSH user name as sent; of a jump, that of the outer login
	jump        string    // host that the client jumped to, as sent; empty without a jump
	jumpTo      string    // target that it stands for
	claimed     *identity // whom a proven key belongs to, while more is asked
	identity    *identity // who is let in
	offered     string    // fingerprint of the key that was last offered and not taken
	denied      *noEntry  // why no key let anybody in, nil if none was refused
	explained   bool
	factor      events.FactorID // that the user has to prove, zero for none
	tried       bool            // a code was given
	to          route           // of the account that is asked for
	wished      commands.Wish   // what the login may ask for, the last time that it was looked at
	opened      *opened         // the target's leg, once Accept has made it
	wantConsole bool
}

// noEntry is why a key lets nobody in.
type noEntry struct {
	reason events.DenyReason
	detail string        // for the log
	text   string        // for the person
	user   events.UserID // whose key it is, where that is known
}

// texts for people whose key opens nothing.
var keyTexts = map[events.DenyReason]string{
	events.UnknownKey:     "your key is not known here; ask an administrator to add it",
	events.UserIsDisabled: "your user is disabled; ask an administrator",
	events.Suspended:      "your user or key is suspended; an administrator has to settle it first",
	events.NameConflict:   "your key belongs to more than one user; an administrator has to settle it first",
}

// auth is the sshwire.ServerAuth of the login. ctx is that of the connection.
func (l *login) auth(ctx context.Context) sshwire.ServerAuth {
	return sshwire.ServerAuth{
		PublicKey:           func(m sshwire.Meta, key ssh.PublicKey, proven bool) error { return l.publicKey(ctx, m, key, proven) },
		KeyboardInteractive: l.explain, Accept: l.accept,
	}
}

var errNotLetIn = errors.New("this key does not let anybody in")

// publicKey decides on a key. A probe says nothing of who asks, so it changes nothing here: only the key that was
// proven counts. Whose key opens nothing for a reason of their own is told so after the proof and not before.
func (l *login) publicKey(ctx context.Context, m sshwire.Meta, key ssh.PublicKey, proven bool) error {
	l.name = m.User()
	who, no := l.server.whose(key, m.RemoteAddr())
	switch {
	case no == nil && proven:
		l.claimed = who
		return l.further(ctx, m)
	case no == nil:
		return nil
	case no.reason == events.UnknownKey:
		if l.denied == nil {
			l.denied = no
		}
		l.offered = ssh.FingerprintSHA256(bare(key))
		return errNotLetIn
	case !proven:
		return nil // let them prove it first
	}
	l.denied, l.offered = no, ssh.FingerprintSHA256(bare(key))
	l.tell(m)
	return errNotLetIn
}

// further lets a proven key in, or says what is to be done beside it: from then on nothing else is looked at.
func (l *login) further(ctx context.Context, m sshwire.Meta) error {
	why := ""
	if l.jumpTo == "" && l.askFactor(ctx, m) { // after a jump the outer login has proven it
		why = factorNext
	} else if w, ok := l.wish(m); ok {
		why = w.Text
	} else {
		l.identity = l.claimed
		return nil
	}
	l.stay(l.claimed.user, l.server.cfg.Limits.AnswerTime, answerLate)
	_ = m.Banner("holdfast: " + why + "\r\n") // for clients that can't be asked; who can is asked in any case
	return &sshwire.PartialSuccess{Next: sshwire.ServerAuth{
		KeyboardInteractive: func(m sshwire.Meta, ask func(name, instruction string, prompts []sshwire.Prompt) ([]string, error)) error {
			return l.interact(ctx, m, ask)
		},
	}}
}

// interact asks for what a login needs beside its key: a code, and access where the user has none and may ask for it.
func (l *login) interact(ctx context.Context, m sshwire.Meta, ask asker) error {
	if !l.factor.IsZero() && l.claimed.factor.IsZero() {
		if err := l.proveFactor(ctx, m, ask); err != nil {
			return err
		}
	}
	if w, ok := l.wish(m); ok {
		if err := l.askAccess(ctx, m, ask, w); err != nil {
			return err
		}
	}
	l.identity = l.claimed
	return nil
}

// unfinished records that a login ended whose key was proven and who owed more.
func (l *login) unfinished(ctx context.Context, from net.Addr) {
	d := commands.DenyAccess{User: l.claimed.user, Fingerprint: l.claimed.fingerprint}
	switch {
	case !l.factor.IsZero() && l.claimed.factor.IsZero():
		if l.tried { // what was wrong with the code is recorded
			return
		}
		d.Reason, d.Detail = events.NoFactor, "the login ended without a code"
	default:
		d.Reason, d.Detail = l.wished.Reason, l.wished.Detail
	}
	l.deny(ctx, from, d)
}

// bare is the key itself where it comes with a certificate.
func bare(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key
	}
	return key
}

// whose finds the user whom a key authenticates, or the reason why it doesn't.
func (s *Server) whose(key ssh.PublicKey, from net.Addr) (*identity, *noEntry) {
	if cert, ok := key.(*ssh.Certificate); ok {
		return s.certified(cert, from)
	}
	fingerprint := ssh.FingerprintSHA256(key)
	var who *identity
	no := &noEntry{}
	s.cfg.Dispatcher.View(func(state *aggregate.State) {
		u, err := state.UserByKey(fingerprint)
		if u != nil {
			who = &identity{user: u.ID, name: u.Name, role: u.Role, fingerprint: fingerprint, permits: allPermits}
			no.user = u.ID
		}
		switch {
		case err == nil:
			no = nil
			return
		case errors.Is(err, aggregate.ErrDisabled):
			no.reason = events.UserIsDisabled
		case errors.Is(err, aggregate.ErrSuspended):
			no.reason = events.Suspended
		case errors.As(err, new(*aggregate.ConflictError)):
			no.reason = events.NameConflict
		default:
			no.reason = events.UnknownKey
		}
		no.text = keyTexts[no.reason]
	})
	return who, no
}

// explain serves keyboard-interactive, which a client turns to when its keys are spent. Nobody gets in by it; it is the
// moment to tell a person why.
func (l *login) explain(m sshwire.Meta, _ func(name, instruction string, prompts []sshwire.Prompt) ([]string, error)) error {
	l.name = m.User()
	l.tell(m)
	return errNotLetIn
}

// tell shows the person once why their key opens nothing.
func (l *login) tell(m sshwire.Meta) {
	if l.explained {
		return
	}
	l.explained = true
	text := "this gateway lets people in by their SSH key, and your client offered none"
	if l.denied != nil {
		text = l.denied.text
	}
	_ = m.Banner("holdfast: " + text + "\r\n") // a connection that can't take it is found out by the next read
}

// accept has the last word before the client is told that it is in: it opens the way to the target, so that whatever
// goes wrong there can be told.
func (l *login) accept(ctx context.Context, m sshwire.Meta) error {
	l.grace()
	l.name = m.User()
	if l.identity == nil {
		return errNotLetIn
	}
	to, err := parseRoute(m.User())
	if err != nil {
		l.deny(ctx, m.RemoteAddr(), commands.DenyAccess{Reason: events.UnknownTarget, Detail: "the SSH user name is no route"})
		return text(err.Error())
	}
	if to.console() {
		l.wantConsole = true
		return nil
	}
	if why := l.server.misrouted(l.identity, to); why != "" {
		l.deny(ctx, m.RemoteAddr(), commands.DenyAccess{Reason: events.NotAllowedVerb, Detail: why})
		return text(why + "; write " + plain(to.account) + "+" + plain(to.target))
	}
	l.opened, err = l.server.open(ctx, l, m, to)
	return err
}

// misrouted tells what a spelling says beside account and target that isn't so; empty if all of it is.
func (s *Server) misrouted(who *identity, to route) string {
	if to.user != "" && to.user != who.name {
		return "the user name says that you are " + plain(to.user) + ", and your key that you are " + who.name
	}
	if _, addr, known := s.reachable(who.user, to.target); to.port != 0 && known && !portFits(addr, to.port) {
		return fmt.Sprintf("%s is not reached at port %d", plain(to.target), to.port)
	}
	return ""
}

// text is an error that the person is told and nothing more.
func text(s string) error {
	return &sshwire.DisconnectError{Reason: sshwire.ReasonByApplication, Text: s}
}

// failed records that a connection ended without a login, if it offered a key. Each connection makes one event at most,
// and unknown keys of one address only so many.
func (l *login) failed(ctx context.Context, from net.Addr) {
	if l.claimed != nil && l.identity == nil {
		l.unfinished(ctx, from)
		return
	}
	if l.denied == nil || l.identity != nil {
		return
	}
	d := commands.DenyAccess{Reason: l.denied.reason, User: l.denied.user, Fingerprint: l.offered, Detail: l.denied.detail}
	if d.Reason == events.UnknownKey {
		left, ok := l.server.door.note(from)
		if !ok {
			return
		}
		if left > 0 {
			d.Detail = strings.TrimPrefix(fmt.Sprintf("%s; %d more from this address before it were not recorded", d.Detail, left), "; ")
		}
	}
	l.deny(ctx, from, d)
}

// deny records a refusal at the door.
func (l *login) deny(ctx context.Context, from net.Addr, d commands.DenyAccess) {
	d.Login, d.Source = l.name, from.String()
	if l.identity != nil {
		d.User, d.Fingerprint = l.identity.user, l.identity.fingerprint
	}
	if _, err := l.server.cfg.Dispatcher.Do(context.WithoutCancel(ctx), l.server.actor, d); err != nil {
		l.server.log.Error("a refusal at the door could not be recorded", "reason", string(d.Reason), "source", d.Source, "error", err)
	}
}

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"

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
	fingerprint string
}

// login is one connection on its way in. Its methods run in the goroutine of sshwire.Server.
type login struct {
	server *Server
	client *rekeyGate
	grace  func() // ends the time that a client has to prove who it is

	name        string // SSH user name as sent
	identity    *identity
	offered     string // fingerprint of the key that was last offered and not taken
	denied      events.DenyReason
	deniedUser  events.UserID
	explained   bool
	opened      *opened // the target's leg, once Accept has made it
	wantConsole bool
}

// texts for people whose key opens nothing.
var keyTexts = map[events.DenyReason]string{
	events.UnknownKey:     "your key is not known here; ask an administrator to add it",
	events.UserIsDisabled: "your user is disabled; ask an administrator",
	events.Suspended:      "your user or key is suspended; an administrator has to settle it first",
	events.NameConflict:   "your key belongs to more than one user; an administrator has to settle it first",
}

// auth is the sshwire.ServerAuth of the login.
func (l *login) auth() sshwire.ServerAuth {
	return sshwire.ServerAuth{PublicKey: l.publicKey, KeyboardInteractive: l.explain, Accept: l.accept}
}

var errNotLetIn = errors.New("this key does not let anybody in")

// publicKey decides on a key. A probe says nothing of who asks, so it changes nothing here: only the key that was
// proven counts. Whose key opens nothing for a reason of their own is told so after the proof and not before.
func (l *login) publicKey(m sshwire.Meta, key ssh.PublicKey, proven bool) error {
	l.name = m.User()
	if _, certificate := key.(*ssh.Certificate); certificate {
		return errNotLetIn
	}
	fingerprint := ssh.FingerprintSHA256(key)
	who, reason := l.server.whose(fingerprint)
	if reason == "" {
		if proven {
			l.identity = who
		}
		return nil
	}
	if reason == events.UnknownKey {
		if l.denied == "" {
			l.denied = reason
		}
		l.offered = fingerprint
		return errNotLetIn
	}
	if !proven {
		return nil // let them prove it first
	}
	l.denied, l.offered = reason, fingerprint
	if who != nil {
		l.deniedUser = who.user
	}
	l.tell(m)
	return errNotLetIn
}

// whose finds the user whom a key authenticates, or the reason why it doesn't, with the user where there is one.
func (s *Server) whose(fingerprint string) (who *identity, reason events.DenyReason) {
	s.cfg.Dispatcher.View(func(state *aggregate.State) {
		u, err := state.UserByKey(fingerprint)
		if u != nil {
			who = &identity{user: u.ID, name: u.Name, role: u.Role, fingerprint: fingerprint}
		}
		switch {
		case err == nil:
		case errors.Is(err, aggregate.ErrDisabled):
			reason = events.UserIsDisabled
		case errors.Is(err, aggregate.ErrSuspended):
			reason = events.Suspended
		case errors.As(err, new(*aggregate.ConflictError)):
			reason = events.NameConflict
		default:
			reason = events.UnknownKey
		}
	})
	return who, reason
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
	text := keyTexts[l.denied]
	if text == "" {
		text = "this gateway lets people in by their SSH key, and your client offered none"
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
	l.opened, err = l.server.open(ctx, l, m, to)
	return err
}

// text is an error that the person is told and nothing more.
func text(s string) error {
	return &sshwire.DisconnectError{Reason: sshwire.ReasonByApplication, Text: s}
}

// failed records that a connection ended without a login, if it offered a key. Each connection makes one event at most,
// and unknown keys of one address only so many.
func (l *login) failed(ctx context.Context, from net.Addr) {
	if l.denied == "" || l.identity != nil {
		return
	}
	d := commands.DenyAccess{Reason: l.denied, User: l.deniedUser, Fingerprint: l.offered}
	if l.denied == events.UnknownKey {
		left, ok := l.server.door.note(from)
		if !ok {
			return
		}
		if left > 0 {
			d.Detail = fmt.Sprintf("%d more from this address before it were not recorded", left)
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

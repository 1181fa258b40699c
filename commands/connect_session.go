package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// ConnectSession says that the target accepted the login, given by the site.
// It also holds the presented version of the secret to be verified.
type ConnectSession struct {
	Session     events.SessionID
	Server      string // target's SSH version line
	HostKey     string // fingerprint that the target proved
	Cipher      string
	KeyExchange string
	Secret      events.SecretID // version that it accepted; zero for that of the session's start
}

var _ = register[ConnectSession]("ConnectSession", bySite|headroom)

// Decide refuses a session that is not running.
func (c ConnectSession) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	n, err := findSession(s, c.Session)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	accepted := c.Secret
	if accepted.IsZero() {
		accepted = n.Secret
	}
	d.add(n.ID.UUID, events.SessionConnected{
		Secret: c.Secret,
		Server: bounded(c.Server, maxText), HostKey: bounded(c.HostKey, maxText),
		Cipher: bounded(c.Cipher, maxText), KeyExchange: bounded(c.KeyExchange, maxText),
	})
	if !verified(s, n.Credential, accepted) {
		d.because(n.Started.ID, n.Credential.UUID, events.SecretVerified{Version: accepted, How: events.ByLogin, Session: n.ID})
	}
	return d.done()
}

// verified reports whether a login would say nothing new about the secret.
func verified(s *aggregate.State, credential events.CredentialID, version events.SecretID) bool {
	c, ok := s.Credential(credential)
	if !ok || version.IsZero() {
		return true // nothing to say it of
	}
	v, ok := c.Current()
	return ok && v.ID == version && v.Level == aggregate.Verified && !c.Unsettled()
}

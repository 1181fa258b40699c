package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RejectSecret says that the target did not accept a version that a session
// presented, given by the site.
type RejectSecret struct {
	Session    events.SessionID
	Version    events.SecretID
	Unanswered bool // it did not say so either
	Detail     string
}

var _ = register[RejectSecret]("RejectSecret", bySite|headroom)

// Decide refuses a session that is not running.
func (c RejectSecret) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	n, err := findSession(s, c.Session)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	detail := bounded(c.Detail, maxText)
	if c.Unanswered {
		d.because(n.Started.ID, n.Credential.UUID, events.SecretUnanswered{Version: c.Version, Session: n.ID, Detail: detail})
		return d.done()
	}
	d.because(n.Started.ID, n.Credential.UUID, events.SecretRejected{Version: c.Version, Session: n.ID, Detail: detail})
	return d.done()
}

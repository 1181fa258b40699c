package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RejectSecret says that the target turned down a version that a session
// presented, given by the site.
type RejectSecret struct {
	Session events.SessionID
	Version events.SecretID
	Detail  string
}

var _ = register[RejectSecret]("RejectSecret", bySite|headroom)

// Decide refuses a session that is not running.
func (c RejectSecret) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	n, err := findSession(s, c.Session)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.because(n.Started.ID, n.Credential.UUID, events.SecretRejected{Version: c.Version, Session: n.ID, Detail: bounded(c.Detail, maxText)})
	return d.done()
}

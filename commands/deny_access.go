package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// DenyAccess records a refusal that the gateway made at the door, given by the site.
type DenyAccess struct {
	Reason      events.DenyReason
	Login       string // SSH user name as sent
	Source      string // client's address
	User        events.UserID
	Fingerprint string
	Detail      string // for the log only
}

var _ = register[DenyAccess]("DenyAccess", bySite)

// Decide always makes the event; it is no refusal of the command itself.
func (c DenyAccess) Decide(_ *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	d := newDecision(by, env)
	d.add(d.id(), events.AccessDenied{
		Reason: c.Reason, Login: bounded(c.Login, maxLogin), Source: bounded(c.Source, maxText), User: c.User,
		Fingerprint: bounded(c.Fingerprint, maxText), Detail: bounded(c.Detail, maxText),
	})
	return d.done()
}

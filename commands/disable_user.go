package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// DisableUser shuts a user out for good. What the user has open is ended by
// the gateway, when the event is there.
type DisableUser struct {
	User   string // name or id
	Reason string
}

var _ = register[DisableUser]("DisableUser", byAdmin|headroom)

// Decide refuses to disable the last administrator, and the last user who may
// break the glass: one person alone must not lock the organisation out.
func (c DisableUser) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	u, err := findUser(s, c.User)
	if err != nil {
		return nil, err
	}
	if lastAdmin(s, u.ID) {
		return nil, conflict("add another administrator with a key first", "user %s is the last administrator", u.Name)
	}
	if lastGlass(s, u.ID) {
		return nil, conflict("let another user break the glass first, or take this one from them: two administrators can (break-glass)",
			"user %s is the last who may break the glass", u.Name)
	}
	d := newDecision(by, env)
	d.add(u.ID.UUID, events.UserDisabled{Reason: c.Reason})
	return d.done()
}

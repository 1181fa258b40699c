package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RemoveUserKey takes a key away from a user.
type RemoveUserKey struct {
	User        string // name or id
	Fingerprint string // "SHA256:..."
}

var _ = register[RemoveUserKey]("RemoveUserKey", byAdmin|headroom)

// Decide refuses to take the last key of the last administrator.
func (c RemoveUserKey) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	u, err := findUser(s, c.User)
	if err != nil {
		return nil, err
	}
	if !u.HasKey(c.Fingerprint) {
		return nil, notFound("see `user show "+u.Name+"`", "user %s has no key %s", u.Name, quoted(c.Fingerprint))
	}
	if len(u.Keys()) == 1 && lastAdmin(s, u.ID) {
		return nil, conflict("give another key to an administrator first", "this is the last key of the last administrator")
	}
	d := newDecision(by, env)
	d.add(u.ID.UUID, events.UserKeyRemoved{Fingerprint: c.Fingerprint})
	return d.done()
}

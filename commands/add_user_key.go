package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// AddUserKey gives a user another key.
type AddUserKey struct {
	User string // name or id
	Key  string // authorized_keys form
}

var _ = register[AddUserKey]("AddUserKey", byAdmin|headroom)

// Decide refuses a key that a live user has, this one or another.
func (c AddUserKey) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	u, err := findUser(s, c.User)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(c.Key, minUserRSA)
	if err != nil {
		return nil, err
	}
	if err := keyFree(s, key.fingerprint); err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(u.ID.UUID, events.UserKeyAdded{Key: key.line, Fingerprint: key.fingerprint, Comment: key.comment})
	return d.done()
}

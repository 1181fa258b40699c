package commands

import (
	"errors"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// AddUser makes a user with a first key. The site itself may give it too, for
// the first administrator.
type AddUser struct {
	Name string
	Role events.Role
	Key  string // authorized_keys form
}

var _ = register[AddUser]("AddUser", byAdmin|bySite|headroom)

// Decide refuses a name or a key that a live user has. The new user's id is
// the stream of the first event.
func (c AddUser) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkName("user", c.Name); err != nil {
		return nil, err
	}
	if !knownRole(c.Role) {
		return nil, invalid(roleHint, "%s is not a role", quoted(string(c.Role)))
	}
	key, err := parseKey(c.Key, minUserRSA)
	if err != nil {
		return nil, err
	}
	if _, err := s.UserByName(c.Name); !errors.Is(err, aggregate.ErrUnknown) {
		return nil, conflict("choose another name, or disable that user first", "user %s exists", c.Name)
	}
	if err := keyFree(s, key.fingerprint); err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	user := d.id()
	d.add(user, events.UserAdded{Name: c.Name, Role: c.Role})
	d.add(user, events.UserKeyAdded{Key: key.line, Fingerprint: key.fingerprint, Comment: key.comment})
	return d.done()
}

// keyFree refuses a key that a live user has. A disabled user's key is free:
// people come back.
func keyFree(s *aggregate.State, fingerprint string) error {
	const hint = "a key belongs to one user: make another one with ssh-keygen"
	u, err := s.UserByKey(fingerprint)
	switch {
	case errors.Is(err, aggregate.ErrUnknown), errors.Is(err, aggregate.ErrDisabled):
		return nil
	case u != nil:
		return conflict(hint, "user %s has this key", u.Name)
	}
	return conflict(hint, "several users have this key: %v", err)
}

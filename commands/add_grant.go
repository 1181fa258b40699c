package commands

import (
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// AddGrant allows a user to open sessions as an account.
type AddGrant struct {
	User    string // name or id
	Account string // name or id
	Target  string // name or id; may be empty with an account's id
	Expires time.Time
}

var _ = register[AddGrant]("AddGrant", byAdmin|headroom)

// Decide refuses a grant that gives no more than the user has. A longer one is
// added beside a shorter one.
func (c AddGrant) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	u, err := findUser(s, c.User)
	if err != nil {
		return nil, err
	}
	a, t, err := findAccount(s, c.Account, c.Target)
	if err != nil {
		return nil, err
	}
	if err := checkExpiry(c.Expires, env.Now); err != nil {
		return nil, err
	}
	has, err := s.GrantFor(u.ID, a.ID, env.Now)
	if err == nil && (has.Expires.IsZero() || !c.Expires.IsZero() && !c.Expires.After(has.Expires)) {
		return nil, conflict("to shorten it, remove it and add it again", "user %s has a grant for %s that lasts as long (%s)",
			u.Name, accountOnTarget(a.Name, t.Name), has.ID)
	}
	d := newDecision(by, env)
	d.add(d.id(), events.GrantAdded{User: u.ID, Account: a.ID, Expires: utc(c.Expires)})
	return d.done()
}

// utc keeps the zero time zero.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Round(0)
}

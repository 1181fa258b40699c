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
	Terms   events.Terms
}

var _ = register[AddGrant]("AddGrant", byAdmin|headroom)

// Decide refuses a grant that gives no more than the user has, and one whose
// terms would take something away, since the newest grant counts. A longer or
// wider one is added beside the one before.
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
	terms, err := checkTerms(c.Terms)
	if err != nil {
		return nil, err
	}
	if has, err := s.GrantFor(u.ID, a.ID, env.Now); err == nil {
		if err := c.beside(has, terms, u.Name, accountOnTarget(a.Name, t.Name)); err != nil {
			return nil, err
		}
	}
	d := newDecision(by, env)
	d.add(d.id(), events.GrantAdded{User: u.ID, Account: a.ID, Expires: utc(c.Expires), Terms: terms})
	return d.done()
}

// beside checks what the grant adds to the one that counts until now.
func (c AddGrant) beside(has *aggregate.Grant, terms events.Terms, user, account string) error {
	longer := !has.Expires.IsZero() && (c.Expires.IsZero() || c.Expires.After(has.Expires))
	switch {
	case !longer && covers(has.Terms, terms):
		return conflict("to shorten or narrow it, remove it and add it again",
			"user %s has a grant for %s that lasts as long and allows as much (%s)", user, account, has.ID)
	case !covers(terms, has.Terms):
		return conflict("repeat its terms, or remove it first",
			"user %s has a grant for %s that allows what this one does not (%s), and the newest counts", user, account, has.ID)
	}
	return nil
}

// utc keeps the zero time zero.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Round(0)
}

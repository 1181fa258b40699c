package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RemoveGrant takes the right of a user to an account away: all grants for the
// two of them, named by any one grant's id or by user and account.
type RemoveGrant struct {
	Grant   events.GrantID // or
	User    string         // name or id
	Account string         // name or id
	Target  string         // name or id; may be empty with an account's id
	Reason  string
}

var _ = register[RemoveGrant]("RemoveGrant", byAdmin|headroom)

// Decide refuses when there is no grant. It also takes the rights of disabled
// users and removed accounts, by the grant's id.
func (c RemoveGrant) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	user, account, err := c.right(s)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	for _, g := range s.GrantsFor(user, account) {
		d.add(g.ID.UUID, events.GrantRemoved{User: user, Account: account, Reason: c.Reason})
	}
	return d.done()
}

func (c RemoveGrant) right(s *aggregate.State) (events.UserID, events.AccountID, error) {
	if !c.Grant.IsZero() {
		g, ok := s.Grant(c.Grant)
		if !ok {
			return events.UserID{}, events.AccountID{}, notFound("see `grant ls`", "no grant %s", c.Grant)
		}
		return g.User, g.Account, nil
	}
	u, err := findUser(s, c.User)
	if err != nil {
		return events.UserID{}, events.AccountID{}, err
	}
	a, t, err := findAccount(s, c.Account, c.Target)
	if err != nil {
		return events.UserID{}, events.AccountID{}, err
	}
	if len(s.GrantsFor(u.ID, a.ID)) == 0 {
		return u.ID, a.ID, notFound("see `grant ls`", "user %s has no grant for %s", u.Name, accountOnTarget(a.Name, t.Name))
	}
	return u.ID, a.ID, nil
}

package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RemoveGrant takes the right of a subject to a scope away: all grants for the
// two of them, named by any one grant's id or by what they are for.
type RemoveGrant struct {
	Grant    events.GrantID // or
	User     string         // name or id, or group:NAME
	Account  string         // name or id
	Target   string         // name or id; may be empty with an account's id
	Selector string         // instead of Account and Target
	Reason   string
}

var _ = register[RemoveGrant]("RemoveGrant", byAdmin|headroom)

// Decide refuses when there is no grant. It also takes the rights of disabled
// users, removed groups and removed accounts, by the grant's id.
func (c RemoveGrant) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	who, scope, err := c.right(s)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	for _, g := range s.GrantsOn(who, scope) {
		d.add(g.ID.UUID, events.GrantRemoved{
			User: who.User, Account: scope.Account, Reason: c.Reason, Group: who.Group, Selector: scope.Selector,
		})
	}
	return d.done()
}

func (c RemoveGrant) right(s *aggregate.State) (who aggregate.Subject, scope aggregate.Scope, err error) {
	if !c.Grant.IsZero() {
		g, ok := s.Grant(c.Grant)
		if !ok {
			return who, scope, notFound("see `grant ls`", "no grant %s", c.Grant)
		}
		return g.Subject, g.Scope, nil
	}
	who, whose, err := findSubject(s, c.User)
	if err != nil {
		return who, scope, err
	}
	scope, where, err := findScope(s, c.Account, c.Target, c.Selector)
	if err == nil && len(s.GrantsOn(who, scope)) == 0 {
		err = notFound("see `grant ls`", "%s has no grant for %s", whose, where)
	}
	return who, scope, err
}

package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RemoveAccount retires an account. Its secret stays in the vault's history.
type RemoveAccount struct {
	Account string // name or id
	Target  string // name or id; may be empty with an account's id
	Reason  string
}

var _ = register[RemoveAccount]("RemoveAccount", byAdmin|headroom)

// Decide refuses an account that is not live.
func (c RemoveAccount) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	a, _, err := findAccount(s, c.Account, c.Target)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(a.ID.UUID, events.AccountRemoved{Reason: c.Reason})
	return d.done()
}

package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RemoveAccount retires an account. Its secret stays in the vault's history.
type RemoveAccount struct {
	Account string // name or id
	Target  string // name or id; may be empty with an account's id
	Confirm bool   // that it stays removed, knowing of what contests that (rule R7)
	Reason  string
}

var _ = register[RemoveAccount]("RemoveAccount", byAdmin|headroom)

// Decide refuses an account that is not live, unless its removal is to be confirmed.
func (c RemoveAccount) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	a, t, err := findContested(s, c.Account, c.Target)
	if err != nil {
		return nil, err
	}
	name := accountOnTarget(a.Name, t.Name)
	switch live := !a.Removed && !t.Removed; {
	case live && c.Confirm:
		return nil, conflict("without --confirm it is removed", "%s is not removed", name)
	case !live && !a.Removed:
		return nil, conflict("confirm or take back that: `target rm "+t.ID.String()+" --confirm`, `target restore`", "%s was removed with its target", name)
	case !live && !c.Confirm:
		return nil, conflict("with --confirm it stays removed; `account restore "+a.ID.String()+"` brings it back",
			"%s is removed already, by who did not know what was done to it elsewhere", name)
	}
	d := newDecision(by, env)
	d.add(a.ID.UUID, events.AccountRemoved{Reason: c.Reason})
	return d.done()
}

package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RemoveTarget retires a target; nobody reaches its accounts any more.
type RemoveTarget struct {
	Target  string // name or id
	Confirm bool   // that it stays removed, knowing of what contests that (rule R7)
	Reason  string
}

var _ = register[RemoveTarget]("RemoveTarget", byAdmin|headroom)

// Decide refuses a target that is not live, unless its removal is to be confirmed.
func (c RemoveTarget) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	t, err := findTarget(s, c.Target)
	if archived, unknown := findArchivedTarget(s, c.Target); err != nil && unknown == nil && s.ContestedTarget(archived) {
		t, err = archived, nil
	}
	if err != nil {
		return nil, err
	}
	switch {
	case !t.Removed && c.Confirm:
		return nil, conflict("without --confirm it is removed", "%s is not removed", quoted(t.Name))
	case t.Removed && !c.Confirm:
		return nil, conflict("with --confirm it stays removed; `target restore "+t.ID.String()+"` brings it back",
			"%s is removed already, by who did not know what was done to it elsewhere", quoted(t.Name))
	}
	d := newDecision(by, env)
	d.add(t.ID.UUID, events.TargetRemoved{Reason: c.Reason})
	return d.done()
}

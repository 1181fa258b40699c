package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RemoveTarget retires a target; nobody reaches its accounts any more.
type RemoveTarget struct {
	Target string // name or id
	Reason string
}

var _ = register[RemoveTarget]("RemoveTarget", byAdmin|headroom)

// Decide refuses a target that is not live.
func (c RemoveTarget) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	t, err := findTarget(s, c.Target)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(t.ID.UUID, events.TargetRemoved{Reason: c.Reason})
	return d.done()
}

package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RemoveGroup dissolves a group. What it gave its members ends with it.
type RemoveGroup struct {
	Group  string // name or id
	Reason string
}

var _ = register[RemoveGroup]("RemoveGroup", byAdmin|headroom)

// Decide refuses a group that is not there.
func (c RemoveGroup) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	g, err := findGroup(s, c.Group)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(g.ID.UUID, events.GroupRemoved{Reason: c.Reason})
	return d.done()
}

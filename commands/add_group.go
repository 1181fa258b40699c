package commands

import (
	"errors"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// AddGroup makes a group of users, empty at first.
type AddGroup struct{ Name string }

var _ = register[AddGroup]("AddGroup", byAdmin|headroom)

// Decide refuses a name that a live group has.
func (c AddGroup) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkName("group", c.Name); err != nil {
		return nil, err
	}
	if _, err := s.GroupByName(c.Name); !errors.Is(err, aggregate.ErrUnknown) {
		return nil, conflict("choose another name, or remove that group first", "group %s exists", c.Name)
	}
	d := newDecision(by, env)
	d.add(d.id(), events.GroupAdded{Name: c.Name})
	return d.done()
}

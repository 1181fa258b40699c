package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// AddMember takes a user into a group.
type AddMember struct {
	Group string // name or id
	User  string // name or id
}

var _ = register[AddMember]("AddMember", byAdmin|headroom)

// Decide refuses a user who is in the group.
func (c AddMember) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	g, err := findGroup(s, c.Group)
	if err != nil {
		return nil, err
	}
	u, err := findUser(s, c.User)
	if err != nil {
		return nil, err
	}
	if s.InGroup(u.ID, g.ID) {
		return nil, conflict("", "user %s is in group %s", u.Name, g.Name)
	}
	d := newDecision(by, env)
	d.add(g.ID.UUID, events.GroupMemberAdded{User: u.ID})
	return d.done()
}

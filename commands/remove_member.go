package commands

import (
	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RemoveMember takes a user out of a group. Sessions that run by a right of
// the group end.
type RemoveMember struct {
	Group  string // name or id
	User   string // name or id; a disabled user by id
	Reason string
}

var _ = register[RemoveMember]("RemoveMember", byAdmin|headroom)

// Decide refuses a user who is not in the group.
func (c RemoveMember) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	g, err := findGroup(s, c.Group)
	if err != nil {
		return nil, err
	}
	var id events.UserID
	if id.UUID, err = uuid.Parse(c.User); err != nil {
		u, err := findUser(s, c.User)
		if err != nil {
			return nil, err
		}
		id = u.ID
	}
	if !s.InGroup(id, g.ID) {
		return nil, notFound("see `group show "+g.Name+"`", "user %s is not in group %s", quoted(c.User), g.Name)
	}
	d := newDecision(by, env)
	d.add(g.ID.UUID, events.GroupMemberRemoved{User: id, Reason: c.Reason})
	return d.done()
}

package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// LimitUser bounds how many sessions a user has at once, on all targets.
// Sessions that run already go on.
type LimitUser struct {
	User        string // name or id
	MaxSessions uint32 // 0 for no limit
}

var _ = register[LimitUser]("LimitUser", byAdmin|headroom)

// Decide refuses a user that is not there.
func (c LimitUser) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	u, err := findUser(s, c.User)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(u.ID.UUID, events.UserLimitsSet{MaxSessions: c.MaxSessions})
	return d.done()
}

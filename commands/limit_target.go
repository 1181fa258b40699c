package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// LimitTarget bounds how many sessions run on a target at once.
// Sessions that run already go on.
type LimitTarget struct {
	Target      string // name or id
	MaxSessions uint32 // 0 for no limit
}

var _ = register[LimitTarget]("LimitTarget", byAdmin|headroom)

// Decide refuses a target that is not there.
func (c LimitTarget) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	t, err := findTarget(s, c.Target)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(t.ID.UUID, events.TargetLimitsSet{MaxSessions: c.MaxSessions})
	return d.done()
}

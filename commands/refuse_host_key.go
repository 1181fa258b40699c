package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RefuseHostKey says that a target presented a host key that is not pinned,
// given by the site.
type RefuseHostKey struct {
	Target    events.TargetID
	Session   events.SessionID // zero where there was none
	Presented string           // authorized_keys form
}

var _ = register[RefuseHostKey]("RefuseHostKey", bySite|headroom)

// Decide refuses a target that is not known.
func (c RefuseHostKey) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	t, ok := s.Target(c.Target)
	if !ok {
		return nil, notFound("", "no target %s", c.Target)
	}
	d := newDecision(by, env)
	d.add(t.ID.UUID, events.TargetHostKeyRefused{Presented: bounded(c.Presented, maxKeyText), Session: c.Session})
	return d.done()
}

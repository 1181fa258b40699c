package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// AddTarget makes a target.
type AddTarget struct {
	Name     string
	Addr     string   // host:port
	HostKeys []string // authorized_keys form, at least one
	Scanned  bool     // the keys were taken from the target itself

	ID events.TargetID // that its scan has reserved; zero for a fresh one
}

var _ = register[AddTarget]("AddTarget", byAdmin|headroom)

// Decide refuses a name that a live target has. The new target's id is the
// stream of the event.
func (c AddTarget) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkNewTarget(s, c.Name, c.Addr); err != nil {
		return nil, err
	}
	keys, err := parseHostKeys(c.HostKeys)
	if err != nil {
		return nil, err
	}
	if _, taken := s.Target(c.ID); taken {
		return nil, conflict("scan again", "target %s exists", c.ID)
	}
	d := newDecision(by, env)
	id := c.ID.UUID
	if c.ID.IsZero() {
		id = d.id()
	}
	d.add(id, events.TargetAdded{Name: c.Name, Addr: c.Addr, HostKeys: keys, Scanned: c.Scanned})
	return d.done()
}

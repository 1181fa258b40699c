package commands

import (
	"errors"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// AddTarget makes a target.
type AddTarget struct {
	Name     string
	Addr     string   // host:port
	HostKeys []string // authorized_keys form, at least one
	Scanned  bool     // the keys were taken from the target itself
}

var _ = register[AddTarget]("AddTarget", byAdmin|headroom)

// Decide refuses a name that a live target has. The new target's id is the
// stream of the event.
func (c AddTarget) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkName("target", c.Name); err != nil {
		return nil, err
	}
	if err := checkAddr(c.Addr); err != nil {
		return nil, err
	}
	keys, err := parseHostKeys(c.HostKeys)
	if err != nil {
		return nil, err
	}
	if _, err := s.TargetByName(c.Name); !errors.Is(err, aggregate.ErrUnknown) {
		return nil, conflict("choose another name, or remove that target first", "target %s exists", c.Name)
	}
	d := newDecision(by, env)
	d.add(d.id(), events.TargetAdded{Name: c.Name, Addr: c.Addr, HostKeys: keys, Scanned: c.Scanned})
	return d.done()
}

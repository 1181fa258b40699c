package commands

import (
	"errors"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// ScanTarget says that somebody has an address asked for its host keys: that
// of a target, or of a new one.
type ScanTarget struct {
	Target     string // name or id; empty for a new one
	Name, Addr string // of the new one
}

var _ = register[ScanTarget]("ScanTarget", byAdmin|headroom)

// Decide refuses what could not be pinned or added afterwards, so that nothing
// is dialled in vain. The event's stream is the target, for a new one the id to
// add it under.
func (c ScanTarget) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	d := newDecision(by, env)
	if c.Target != "" {
		t, err := findTarget(s, c.Target)
		if err != nil {
			return nil, err
		}
		if t.Kind != events.SSH {
			return nil, noHostKeys(t.Name, t.Kind)
		}
		d.add(t.ID.UUID, events.TargetScanRequested{Name: t.Name, Addr: t.Addr})
		return d.done()
	}
	if err := checkNewTarget(s, c.Name, c.Addr); err != nil {
		return nil, err
	}
	d.add(d.id(), events.TargetScanRequested{Name: c.Name, Addr: c.Addr})
	return d.done()
}

// checkNewTarget refuses a name that a live target has, and what is no name or
// address.
func checkNewTarget(s *aggregate.State, name, addr string) error {
	if err := checkName("target", name); err != nil {
		return err
	}
	if err := CheckAddr(addr); err != nil {
		return err
	}
	if _, err := s.TargetByName(name); !errors.Is(err, aggregate.ErrUnknown) {
		return conflict("choose another name, or remove that target first", "target %s exists", name)
	}
	return nil
}

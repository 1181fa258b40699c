package commands

import (
	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RemovePolicy takes a policy away. What only it allowed ends.
type RemovePolicy struct {
	Policy string // name or id
	Reason string
}

var _ = register[RemovePolicy]("RemovePolicy", byAdmin|headroom)

// Decide refuses a policy that is not there.
func (c RemovePolicy) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	p, err := findPolicy(s, c.Policy)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(p.ID.UUID, events.PolicyRemoved{Reason: c.Reason})
	return d.done()
}

func findPolicy(s *aggregate.State, ref string) (*aggregate.Policy, error) {
	id, err := uuid.Parse(ref)
	if err != nil {
		p, err := s.PolicyByName(ref)
		return p, lookup("policy", ref, err)
	}
	p, ok := s.Policy(events.PolicyID{UUID: id})
	if !ok {
		return nil, lookup("policy", ref, aggregate.ErrUnknown)
	}
	if p.Removed {
		return nil, conflict("", "policy %s (%s) is removed", p.Name, id)
	}
	return p, nil
}

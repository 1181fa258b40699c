package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// SetRole says what holds for everybody of a role; what is nil stays as it is.
type SetRole struct {
	Role         events.Role
	SecondFactor *bool
	FactorReuse  *uint64 // seconds for which a code does for further logins
	Staleness    *events.Staleness
	Within       *uint64 // seconds, of [events.Strict]
}

var _ = register[SetRole]("SetRole", byAdmin|headroom)

// Decide refuses strictness without a time, and a time for codes that nobody needs.
func (c SetRole) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if !knownRole(c.Role) {
		return nil, invalid(roleHint, "%s is not a role", quoted(string(c.Role)))
	}
	set := s.RoleSettings(c.Role)
	before := set
	if c.SecondFactor != nil {
		set.SecondFactor = *c.SecondFactor
	}
	if c.FactorReuse != nil {
		set.FactorReuse = *c.FactorReuse
	}
	if c.Staleness != nil {
		set.Staleness = *c.Staleness
	}
	if c.Within != nil {
		set.Within = *c.Within
	}
	switch {
	case set.Staleness != events.BestEffort && set.Staleness != events.Strict:
		return nil, invalid("use best_effort or strict", "%s is no mode of staleness", quoted(string(set.Staleness)))
	case set.Staleness == events.Strict && (set.Within == 0 || set.Within > maxSeconds):
		return nil, invalid("say for how long without news sessions may start, for example 5m", "strict needs a time")
	case set.Staleness == events.BestEffort:
		set.Within = 0
	}
	if err := checkReuse(set.FactorReuse); err != nil {
		return nil, err
	}
	if set.FactorReuse > 0 && !set.SecondFactor {
		if c.FactorReuse != nil && *c.FactorReuse > 0 {
			return nil, invalid("require it as well", "a code can be used again only where a second factor is required")
		}
		set.FactorReuse = 0
	}
	if set == before {
		return nil, nil
	}
	d := newDecision(by, env)
	d.add(events.RoleStream(c.Role), set)
	return d.done()
}

const roleHint = "use admin, auditor, approver or operator"

func knownRole(r events.Role) bool {
	return r == events.Admin || r == events.Auditor || r == events.Operator || r == events.Approver
}

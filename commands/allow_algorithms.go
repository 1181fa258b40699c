package commands

import (
	"slices"
	"strings"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// AllowAlgorithms sets the legacy algorithms that one target is allowed; an
// empty list takes them all back.
type AllowAlgorithms struct {
	Target     string   // name or id
	Algorithms []string // SSH names
	Supported  []string // what the gateway's transport can opt in to
}

var _ = register[AllowAlgorithms]("AllowAlgorithms", byAdmin|headroom)

// Decide refuses an algorithm that is not supported.
func (c AllowAlgorithms) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	t, err := findTarget(s, c.Target)
	if err != nil {
		return nil, err
	}
	if t.Kind != events.SSH {
		return nil, invalid("", "%s is a target of kind %s; only ssh targets have SSH algorithms", t.Name, t.Kind)
	}
	for _, name := range c.Algorithms {
		if !slices.Contains(c.Supported, name) {
			return nil, invalid("use some of: "+strings.Join(c.Supported, " "), "%s is not a legacy algorithm of this gateway", quoted(name))
		}
	}
	names := slices.Compact(slices.Sorted(slices.Values(c.Algorithms)))
	d := newDecision(by, env)
	d.add(t.ID.UUID, events.TargetAlgorithmsAllowed{Algorithms: names})
	return d.done()
}

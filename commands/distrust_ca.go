package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// DistrustCA ends the trust in an authority. What was opened by its
// certificates is ended by the gateway, when the event is there. Its revocations
// stand should it be trusted again.
type DistrustCA struct {
	CA     string // name or id
	Reason string
}

var _ = register[DistrustCA]("DistrustCA", byAdmin|headroom)

// Decide refuses an authority that is not trusted.
func (c DistrustCA) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	a, err := findCA(s, c.CA)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(a.ID.UUID, events.CADistrusted{Reason: c.Reason})
	return d.done()
}

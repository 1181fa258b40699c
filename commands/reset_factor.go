package commands

import (
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// ResetFactor takes a user's second factor away, with its recovery codes and
// with one that waits to be confirmed: for whoever lost it.
type ResetFactor struct {
	User   string // name or id
	Reason string
}

var _ = register[ResetFactor]("ResetFactor", byAdmin|headroom)

// Decide wants a reason, and something to take away.
func (c ResetFactor) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if c.Reason == "" {
		return nil, invalid("say why, for the audit: --reason TEXT", "a second factor is reset for a reason only")
	}
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	u, err := findUser(s, c.User)
	if err != nil {
		return nil, err
	}
	if s.FactorsEnrolled(u.ID, time.Time{}) == 0 {
		return nil, conflict("", "user %s never enrolled a second factor", u.Name)
	}
	d := newDecision(by, env)
	d.add(u.ID.UUID, events.UserFactorReset{Reason: c.Reason})
	return d.done()
}

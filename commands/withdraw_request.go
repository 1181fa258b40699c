package commands

import (
	"slices"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// WithdrawRequest takes one's own request back: what is open under it ends.
type WithdrawRequest struct {
	Request events.RequestID
	Reason  string
}

var _ = register[WithdrawRequest]("WithdrawRequest", byCommand|headroom)

// Decide reads as if another user's request were not there.
func (c WithdrawRequest) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	user, no, err := asker(s, by, env)
	if err != nil {
		return no, err
	}
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	own := s.RequestsOf(user)
	i := slices.IndexFunc(own, func(r *aggregate.Request) bool { return r.ID == c.Request })
	if i < 0 {
		return nil, notFound("see `request ls`", "no request %s of yours", c.Request)
	}
	r := own[i]
	if v := s.Standing(r, env.Now); v.State == aggregate.Denied || v.State == aggregate.Withdrawn || v.State == aggregate.Lapsed {
		return nil, conflict("", "request %s is %s: %s", r.ID, v.State, v.Why)
	}
	d := newDecision(by, env)
	d.add(r.ID.UUID, events.RequestWithdrawn{Reason: c.Reason})
	return d.done()
}

package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// DenyRequest is a no, also to a request that was approved before: what is open
// under it ends.
type DenyRequest struct {
	Request events.RequestID
	Reason  string
}

var _ = register[DenyRequest]("DenyRequest", byCommand|headroom)

// Decide takes the word of any approver of the request and of every
// administrator.
func (c DenyRequest) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	user, no, err := asker(s, by, env)
	if err != nil {
		return no, err
	}
	if err := checkReason(c.Reason); err != nil {
		return nil, err
	}
	r, err := findRequest(s, c.Request)
	if err != nil {
		return nil, err
	}
	if !s.MayDecide(r, user, env.Client.Fingerprint) && !may(s, user, events.Admin) {
		return refuseDecision(s, r, by, env, "deny")
	}
	if v := s.Standing(r, env.Now); v.State == aggregate.Denied || v.State == aggregate.Withdrawn || v.State == aggregate.Lapsed {
		return nil, conflict("", "request %s is %s: %s", r.ID, v.State, v.Why)
	}
	d := newDecision(by, env)
	d.add(r.ID.UUID, events.RequestDenied{Reason: c.Reason})
	return d.done()
}

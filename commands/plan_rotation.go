package commands

import (
	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// PlanRotation begins a rotation, given by an administrator or by the site. The
// rotation's id is the stream of its event.
type PlanRotation struct {
	Account    string // name or id
	Target     string // name or id; may be empty with an account's id
	Why        events.RotationWhy
	SettleOnly bool      // only find out which secret is true
	Cause      uuid.UUID // the event that gave reason to, zero for none
}

var _ = register[PlanRotation]("PlanRotation", byAdmin|bySite)

// Decide refuses an account whose credential is being rotated: two at once
// would take each other's change for a stranger's.
func (c PlanRotation) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	a, t, err := findAccount(s, c.Account, c.Target)
	if err != nil {
		return nil, err
	}
	cred, ok := s.Credential(a.Credential)
	if !ok {
		return nil, conflict("enter one with `secret put`", "%s has no credential", accountOnTarget(a.Name, t.Name))
	}
	if cred.Kind == events.UserCertificate {
		return nil, conflict("ca rotate --user changes the key that signs its certificates", "%s has no secret that could rotate", accountOnTarget(a.Name, t.Name))
	}
	if r, open := s.RotationOf(cred.ID); open {
		return nil, conflict("see `rotate status "+a.ID.String()+"`", "rotation %s of %s is under way", r.ID, accountOnTarget(a.Name, t.Name))
	}
	d := newDecision(by, env)
	d.because(c.Cause, d.id(), events.RotationPlanned{Credential: cred.ID, Account: a.ID, Why: c.Why, SettleOnly: c.SettleOnly})
	return d.done()
}

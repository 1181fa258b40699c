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

// Decide refuses an account whose credential is being rotated, as far as this site
// can tell (see [aggregate.State.Rotating]): two at once end in doubt, and in one
// more. One of this site that only waits ends where a person asks for another: what
// it tried stays known, and the new one need not wait for what may have been mended.
func (c PlanRotation) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	a, t, err := findAccount(s, c.Account, c.Target)
	if err != nil {
		return nil, err
	}
	if owner := s.Owner(a); by.Kind == events.BySite && owner.UUID != by.ID {
		return nil, conflict("", "what is scheduled for %s is carried out at site %s", accountOnTarget(a.Name, t.Name), owner)
	}
	if _, barred := s.Barred(a.ID.UUID, t.ID.UUID, a.Credential.UUID); barred {
		return nil, barredBy(accountOnTarget(a.Name, t.Name))
	}
	if err := refuseErasedSecrets(s, a, t); err != nil {
		return nil, err
	}
	cred, ok := s.Credential(a.Credential)
	if !ok {
		return nil, conflict("enter one with `secret put`", "%s has no credential", accountOnTarget(a.Name, t.Name))
	}
	if cred.Kind == events.UserCertificate {
		return nil, conflict("ca rotate --user changes the key that signs its certificates", "%s has no secret that could rotate", accountOnTarget(a.Name, t.Name))
	}
	r, open := s.Rotating(cred.ID, env.Log.Site, env.Silence)
	instead := open && by.Kind == events.ByUser && waits(r, env)
	if open && !instead {
		return nil, &Refusal{Code: Conflict, Rotation: r.ID, Hint: "see `rotate status " + a.ID.String() + "`",
			Message: "rotation " + r.ID.String() + " of " + accountOnTarget(a.Name, t.Name) + " is under way"}
	}
	d := newDecision(by, env)
	d.because(c.Cause, d.id(), events.RotationPlanned{Credential: cred.ID, Account: a.ID, Why: c.Why, SettleOnly: c.SettleOnly})
	if instead {
		d.because(d.drafts[0].ID, r.ID.UUID, events.RotationEnded{Result: events.RotationUnknown, Detail: "somebody asked for another one instead"})
	}
	return d.done()
}

// waits reports whether a rotation of this site has nothing under way at the
// target and goes on at a later time. One that still has an old key to take
// away does not: nobody else would.
func waits(r *aggregate.Rotation, env Env) bool {
	if _, until, _ := r.Deferred(); r.Planned.Origin.Site != env.Log.Site || !until.After(env.Now) {
		return false
	}
	staged, _ := r.Staged()
	all := r.Attempts()
	return len(all) == 0 || all[len(all)-1].Answer != "" && !(all[len(all)-1].Answer == aggregate.AnswerAccepted && all[len(all)-1].Version == staged)
}

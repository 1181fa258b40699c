package commands

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/factor"
	"github.com/holdfast-pam/holdfast/events"
)

const (
	// pendingTime is how long a user has to show the first code.
	pendingTime = time.Hour
	// maxEnrolled bounds what a user enrols in an hour.
	maxEnrolled = 10
)

// EnrollFactor gives the user who asks the secret of a second factor, which was
// sealed before (see [factor.Add]). It counts once it is confirmed.
type EnrollFactor struct {
	Sealed factor.Sealed
	Proven events.Factor // by the login that asks; zero for none
}

var _ = register[EnrollFactor]("EnrollFactor", byCommand|headroom)

func (c EnrollFactor) sites() []uuid.UUID { return c.Sealed.Sites }

// Decide refuses a user whose login did not prove the second factor that they have.
func (c EnrollFactor) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	u, drafts, err := factorHolder(s, by, env, c.Proven)
	if err != nil {
		return drafts, err
	}
	if c.Sealed.Factor.IsZero() || len(c.Sealed.Bytes) == 0 {
		return nil, invalid("", "the second factor has no secret")
	}
	if _, taken := s.Factor(c.Sealed.Factor); taken {
		return nil, conflict("seal the secret anew", "second factor %s exists", c.Sealed.Factor)
	}
	if s.FactorsEnrolled(u.ID, env.Now.Add(-time.Hour)) >= maxEnrolled {
		return nil, conflict("confirm the last one, or wait an hour", "you enrolled %d second factors within an hour", maxEnrolled)
	}
	d := newDecision(by, env)
	d.add(c.Sealed.Factor.UUID, events.FactorEnrolled{User: u.ID, Sealed: c.Sealed.Bytes})
	return d.done()
}

// ConfirmFactor makes the factor count that the user enrolled last, on a first
// code of theirs that was found right.
type ConfirmFactor struct {
	Site     events.SiteID // that decides
	Factor   events.FactorID
	Step     uint64        // of the code
	Recovery [][]byte      // hashes of the recovery codes
	Proven   events.Factor // by the login that asks; zero for none
}

var _ = register[ConfirmFactor]("ConfirmFactor", byCommand|headroom)

// Decide refuses what was not the last one to be enrolled, or not lately.
func (c ConfirmFactor) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	u, drafts, err := factorHolder(s, by, env, c.Proven)
	if err != nil {
		return drafts, err
	}
	f, ok := s.FactorPending(u.ID, c.Site)
	switch {
	case !ok || f.ID != c.Factor || env.Now.Sub(f.Enrolled.Time()) > pendingTime:
		return nil, conflict("user totp enroll begins anew", "there is no second factor that waits for its first code")
	case !factor.Near(c.Step, env.Now):
		return nil, conflict("give the code that is shown now", "the code is not of this time")
	}
	d := newDecision(by, env)
	d.add(f.ID.UUID, events.FactorConfirmed{Step: c.Step, Recovery: c.Recovery})
	return d.done()
}

// factorHolder is the user who deals with a second factor of their own. Who has
// one must have proven it, else a stolen key would put another in its place.
func factorHolder(s *aggregate.State, by events.Actor, env Env, proven events.Factor) (*aggregate.User, []events.Draft, error) {
	id := events.UserID{UUID: by.ID}
	err := s.UserStands(id)
	if by.Kind != events.ByUser || err != nil {
		reason, detail := events.NotAllowedVerb, "only a user has a second factor"
		if by.Kind == events.ByUser {
			reason, detail = standing(err), err.Error()
		}
		drafts, err := refuseActor(by, env, reason, detail)
		return nil, drafts, err
	}
	u, _ := s.User(id)
	if err := s.FactorProven(id, proven); errors.Is(err, aggregate.ErrFactorMissing) {
		no := factorDenial(err)
		drafts, err := denied(by, env, events.AccessDenied{
			Reason: no.reason, User: id, Login: env.Client.Login, Source: env.Client.Source, Fingerprint: env.Client.Fingerprint,
			Detail: env.command + ": " + no.detail,
		}, no.message, no.hint)
		return nil, drafts, err
	}
	return u, nil, nil
}

// factorDenial is the refusal of a login whose second factor is not proven.
func factorDenial(err error) *denial {
	no := &denial{reason: events.NoFactor, detail: err.Error()}
	if errors.Is(err, aggregate.ErrNoFactor) {
		no.message, no.hint = "you need a second factor here and have none", "enrol one at the console: user totp enroll"
	} else {
		no.message, no.hint = "this login did not prove your second factor", "log in again"
	}
	return no
}

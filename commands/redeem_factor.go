package commands

import (
	"fmt"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/factor"
	"github.com/holdfast-pam/holdfast/events"
)

const (
	// missesToLock is how many wrong codes in a row lock a factor, and each so many again.
	missesToLock = 5
	// The first lock and the longest; each is twice as long as the one before. Of three codes in a million that are
	// right at any moment, who guesses for a year on end has less than one chance in fifty.
	firstLock = 5 * time.Minute
	maxLock   = 6 * time.Hour
)

// FactorLogin is a login that proves a second factor, after it proved a key.
type FactorLogin struct {
	Site        events.SiteID // that decides
	User        events.UserID
	Factor      events.FactorID
	Login       string // SSH user name as sent
	Source      string // client's address
	Fingerprint string // of the key that was proven
}

// RedeemFactor spends a code that was found right.
type RedeemFactor struct {
	FactorLogin
	Step uint64 // of the code
}

var _ = register[RedeemFactor]("RedeemFactor", byCommand|headroom)

// Decide refuses a code that is spent, an older one, and any while the factor is locked.
func (c RedeemFactor) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	f, drafts, err := c.find(s, by, env)
	if err != nil {
		return drafts, err
	}
	if until, locked := lockedNow(f, env); locked {
		return c.refuseLocked(by, env, until)
	}
	if !factor.Near(c.Step, env.Now) || s.FactorSpent(f, c.Step, env.Log) {
		return c.refuse(by, env, "code of a step that is spent or past", "that code was used before", "wait for the next one")
	}
	d := newDecision(by, env)
	d.add(f.ID.UUID, events.FactorRedeemed{Step: c.Step, Source: bounded(c.Source, maxText), Fingerprint: c.Fingerprint})
	return d.done()
}

// RecoverFactor spends a recovery code. A lock does not hold it up: it can't be
// guessed, and who lost their phone has nothing else.
type RecoverFactor struct {
	FactorLogin
	Hash []byte // of the code, see [factor.HashRecovery]
}

var _ = register[RecoverFactor]("RecoverFactor", byCommand|headroom)

// Decide takes a code for a wrong one that is none of the factor's, or is spent.
func (c RecoverFactor) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	f, drafts, err := c.find(s, by, env)
	if err != nil {
		return drafts, err
	}
	n, ok := f.Recovery(c.Hash, env.Log)
	if !ok {
		return c.miss(f, by, env, "no recovery code, or a spent one")
	}
	d := newDecision(by, env)
	d.add(f.ID.UUID, events.FactorRecovered{Number: n, Source: bounded(c.Source, maxText), Fingerprint: c.Fingerprint})
	return d.done()
}

// MissFactor records a wrong code.
type MissFactor struct{ FactorLogin }

var _ = register[MissFactor]("MissFactor", byCommand)

// Decide always refuses; each fifth wrong code in a row locks the factor.
func (c MissFactor) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	f, drafts, err := c.find(s, by, env)
	if err != nil {
		return drafts, err
	}
	return c.miss(f, by, env, "wrong code")
}

// ReuseFactor lets a login through on a code that was redeemed before, from the
// same address by the same key, as long as a rule allows that.
type ReuseFactor struct{ FactorLogin }

var _ = register[ReuseFactor]("ReuseFactor", byCommand)

// Decide does nothing, and refuses nothing, where there is no such code.
func (c ReuseFactor) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	f, drafts, err := c.find(s, by, env)
	if err != nil {
		return drafts, err
	}
	at, ok := reusable(s, f, c.FactorLogin, env.Now)
	if !ok {
		return nil, nil
	}
	d := newDecision(by, env)
	d.add(f.ID.UUID, events.FactorReused{At: at, Source: bounded(c.Source, maxText), Fingerprint: c.Fingerprint})
	return d.done()
}

func reusable(s *aggregate.State, f *aggregate.Factor, c FactorLogin, now time.Time) (at time.Time, ok bool) {
	_, reuse := s.FactorRule(c.User)
	at = f.Redeemed(bounded(c.Source, maxText), c.Fingerprint)
	since := now.Sub(at) // a clock that was set back must not make it last
	return at, !at.IsZero() && since > -factor.Step && since < reuse
}

// find asks again for the factor that the user has now, at the one site that spends its codes.
func (c FactorLogin) find(s *aggregate.State, by events.Actor, env Env) (*aggregate.Factor, []events.Draft, error) {
	if by != events.UserActor(c.User) {
		drafts, err := refuseActor(by, env, events.NotAllowedVerb, "only the user proves their second factor")
		return nil, drafts, err
	}
	if err := s.UserStands(c.User); err != nil {
		drafts, err := refuseActor(by, env, standing(err), err.Error())
		return nil, drafts, err
	}
	f, ok := s.FactorOf(c.User)
	if !ok || f.ID != c.Factor {
		drafts, err := c.refuse(by, env, "the factor was reset or replaced meanwhile", "your second factor is another one now", "log in again")
		return nil, drafts, err
	}
	if owner := s.FactorOwner(f); owner != c.Site {
		name := owner.String()
		if site, ok := s.Site(owner); ok {
			name = site.Name
		}
		drafts, err := c.refuse(by, env, "its codes are spent at site "+name,
			"codes of your second factor are taken at site "+plain(name)+" only", "log in there, or have an administrator reset it (user totp reset)")
		return nil, drafts, err
	}
	return f, nil, nil
}

func lockedNow(f *aggregate.Factor, env Env) (until time.Time, locked bool) {
	until = f.Locked()
	return until, env.Now.Before(until)
}

// miss counts a wrong code, unless the factor is locked.
func (c FactorLogin) miss(f *aggregate.Factor, by events.Actor, env Env, detail string) ([]events.Draft, error) {
	if until, locked := lockedNow(f, env); locked {
		return c.refuseLocked(by, env, until)
	}
	e := events.FactorMissed{Source: bounded(c.Source, maxText), Fingerprint: c.Fingerprint, Detail: detail}
	r := &Refusal{Code: Denied, Reason: events.FactorRefused, Message: "that code is not right"}
	if n := f.Missed() + 1; n%missesToLock == 0 {
		lock := min(firstLock<<min(n/missesToLock-1, 10), maxLock)
		e.Locked = env.Now.Add(lock).UTC().Truncate(time.Second)
		r.Message, r.Hint = lockedText(e.Locked), lockedHint
	}
	d := newDecision(by, env)
	d.add(f.ID.UUID, e)
	drafts, err := d.done()
	if err != nil {
		return nil, err
	}
	r.Event = drafts[0].ID
	return drafts, r
}

const lockedHint = "a recovery code is still taken, or ask an administrator"

func lockedText(until time.Time) string {
	return fmt.Sprintf("your second factor is locked until %s after wrong codes", until.Format(time.RFC3339))
}

// refuseLocked says the same of a right code and of a wrong one.
func (c FactorLogin) refuseLocked(by events.Actor, env Env, until time.Time) ([]events.Draft, error) {
	return c.refuse(by, env, "locked until "+until.Format(time.RFC3339), lockedText(until), lockedHint)
}

func (c FactorLogin) refuse(by events.Actor, env Env, detail, message, hint string) ([]events.Draft, error) {
	return denied(by, env, events.AccessDenied{
		Reason: events.FactorRefused, Login: c.Login, Source: c.Source, User: c.User, Fingerprint: c.Fingerprint, Detail: detail,
	}, message, hint)
}

package commands

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RevealSecret says that a person is about to be shown a secret. Administrators
// may be; others where the account's policy lets those with a standing grant. Of an
// account whose removal is contested administrators may be (rule R7).
type RevealSecret struct {
	Account string    // name or id
	Target  string    // name or id; may be empty with an account's id
	Version uuid.UUID // zero for the current one
	Reason  string
}

var _ = register[RevealSecret]("RevealSecret", byCommand|headroom)

// Decide refuses everybody else, and an account that another person has
// checked out.
func (c RevealSecret) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	cred, drafts, err := disclosed(s, by, env, c.Account, c.Target, c.Reason, findContested)
	if err != nil {
		return drafts, err
	}
	if l := heldByOther(cred, by); l != nil {
		return nil, checkedOut(s, l)
	}
	v, err := versionOf(cred, c.Version)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(cred.ID.UUID, events.SecretRevealed{Version: v.ID, Reason: c.Reason})
	return d.done()
}

// maxLease bounds a check-out.
const maxLease = 30 * 24 * time.Hour

// CheckOutSecret gives a person the exclusive use of a secret for a time. Who may is
// as for [RevealSecret]. The right belongs to the account's owner site (rule
// R11).
type CheckOutSecret struct {
	Account string // name or id
	Target  string // name or id; may be empty with an account's id
	Reason  string
	For     time.Duration
}

var _ = register[CheckOutSecret]("CheckOutSecret", byCommand|headroom)

// Decide refuses a second check-out, and one while a rotation is changing the
// secret. One site alone grants them, or two that can't hear each other would
// both (rule R11).
func (c CheckOutSecret) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	cred, drafts, err := disclosed(s, by, env, c.Account, c.Target, c.Reason, findAccount)
	if err != nil {
		return drafts, err
	}
	if c.For < time.Minute || c.For > maxLease {
		return nil, invalid("for example --for 1h", "a check-out lasts from 1m to %s, not %s", maxLease, c.For)
	}
	if l := cred.Leases(); len(l) > 0 {
		return nil, checkedOut(s, l[0])
	}
	if a, ok := s.Account(cred.Account); ok && !env.Log.Site.IsZero() && s.Owner(a) != env.Log.Site {
		name := s.Owner(a).String()
		if t, ok := s.Site(s.Owner(a)); ok {
			name = t.Name
		}
		return nil, conflict("check it out at site "+name+", or take that site's work over if it is gone (mesh takeover)",
			"only site %s gives this secret to one person alone", name)
	}
	for _, r := range s.RotationsOf(cred.ID) {
		if !r.LostTo(env.Log.Site, env.Silence) { // one that waits goes on, check-out or not
			return nil, conflict("try again when it has ended; see `rotate status`", "rotation %s is changing the secret", r.ID)
		}
	}
	v, err := versionOf(cred, uuid.Nil)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(cred.ID.UUID, events.SecretCheckedOut{Version: v.ID, Until: env.Now.Add(c.For).UTC(), Reason: c.Reason})
	return d.done()
}

// CheckInSecret ends a check-out: by who has it, by an administrator, or by the
// site when its time is over. The secret is rotated then.
type CheckInSecret struct {
	Account string // name or id
	Target  string // name or id; may be empty with an account's id
	Reason  string
}

var _ = register[CheckInSecret]("CheckInSecret", byCommand|headroom)

// Decide refuses a secret that is not checked out, and the site before the
// time is over.
func (c CheckInSecret) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	a, t, found := findAccount(s, c.Account, c.Target)
	person := events.UserID{UUID: by.ID}
	if by.Kind != events.BySite {
		if err := s.UserStands(person); by.Kind != events.ByUser || err != nil {
			return refuseActor(by, env, standing(err), fmt.Sprint(err))
		}
		if found != nil && !may(s, person, events.Admin) {
			return refuseDisclosure(by, env, c.Account, c.Target, found.Error())
		}
	}
	if found != nil {
		return nil, found
	}
	cred, ok := s.Credential(a.Credential)
	d := newDecision(by, env)
	if ok {
		for _, l := range cred.Leases() {
			expired := !env.Now.Before(l.Until)
			switch {
			case by.Kind == events.BySite && !expired:
				continue
			case by.Kind == events.ByUser && l.User != person && !may(s, person, events.Admin):
				return refuseDisclosure(by, env, c.Account, c.Target, "it is checked out by another person")
			}
			d.because(l.ID.UUID, cred.ID.UUID, events.SecretCheckedIn{Lease: l.ID, Expired: by.Kind == events.BySite, Reason: c.Reason})
		}
	}
	if len(d.drafts) == 0 {
		if by.Kind == events.ByUser && !may(s, person, events.Admin) {
			return refuseDisclosure(by, env, c.Account, c.Target, "it is not checked out")
		}
		return nil, conflict("see `secret versions`", "%s is not checked out", accountOnTarget(a.Name, t.Name))
	}
	return d.done()
}

// BreakExclusivity ends check-outs that sites gave to several people without
// knowing of each other, as after a takeover from a site that went on by itself.
// The secret is rotated then.
type BreakExclusivity struct{ Credential events.CredentialID }

var _ = register[BreakExclusivity]("BreakExclusivity", bySite|headroom)

// Decide refuses a secret that at most one person has to themselves.
func (c BreakExclusivity) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	cred, ok := s.Credential(c.Credential)
	if !ok || !cred.ExclusivityBroken() {
		return nil, conflict("", "credential %s is checked out once at most", c.Credential)
	}
	e := events.SecretExclusivityBroken{From: cred.Leases()[1].Granted.Time(), Until: env.Now.UTC()}
	for _, l := range cred.Leases() {
		e.Leases = append(e.Leases, l.ID)
	}
	d := newDecision(by, env)
	d.add(cred.ID.UUID, e)
	for _, l := range cred.Leases() {
		d.because(l.ID.UUID, cred.ID.UUID, events.SecretCheckedIn{Lease: l.ID, Reason: "sites gave it to several people without knowing of each other"})
	}
	return d.done()
}

// finder finds an account and its target by their references.
type finder func(s *aggregate.State, account, target string) (*aggregate.Account, *aggregate.Target, error)

// disclosed judges whether a person may be shown an account's secret. To those
// who may not, accounts that exist and that don't read the same.
func disclosed(s *aggregate.State, by events.Actor, env Env, account, target, reason string, find finder) (*aggregate.Credential, []events.Draft, error) {
	person := events.UserID{UUID: by.ID}
	if by.Kind != events.ByUser {
		drafts, err := refuseActor(by, env, events.NotAllowedVerb, "only a person is shown secrets")
		return nil, drafts, err
	}
	if err := s.UserStands(person); err != nil {
		drafts, err := refuseActor(by, env, standing(err), err.Error())
		return nil, drafts, err
	}
	a, t, found := find(s, account, target)
	if !may(s, person, events.Admin) {
		why := "the policy lets administrators only"
		if found != nil {
			why = found.Error()
		} else if s.RotationPolicy(a).Disclose == events.ToGranted {
			_, err := s.GrantFor(person, a.ID, env.Now)
			if why = ""; err != nil {
				why = "no standing grant: " + err.Error()
			}
		}
		if why != "" {
			drafts, err := refuseDisclosure(by, env, account, target, why)
			return nil, drafts, err
		}
	}
	if found != nil {
		return nil, nil, found
	}
	if _, barred := s.Barred(a.ID.UUID, t.ID.UUID, a.Credential.UUID); barred {
		return nil, nil, barredBy(accountOnTarget(a.Name, t.Name))
	}
	if reason == "" {
		return nil, nil, invalid("say why with --reason TEXT", "showing a secret needs a reason")
	}
	if err := checkText("reason", reason); err != nil {
		return nil, nil, err
	}
	if err := refuseErasedSecrets(s, a, t); err != nil {
		return nil, nil, err
	}
	cred, ok := s.Credential(a.Credential)
	if !ok {
		return nil, nil, conflict("enter one with `secret put`", "%s has no credential", accountOnTarget(a.Name, t.Name))
	}
	return cred, nil, nil
}

func refuseDisclosure(by events.Actor, env Env, account, target, why string) ([]events.Draft, error) {
	return denied(by, env, events.AccessDenied{
		Reason: events.NotAllowedVerb, Login: env.Client.Login, Source: env.Client.Source, Fingerprint: env.Client.Fingerprint,
		User: events.UserID{UUID: by.ID}, Detail: env.command + " of " + accountOnTarget(account, target) + ": " + why,
	}, "you may not be shown the secret of "+accountOnTarget(account, target), "ask an administrator of this site")
}

func heldByOther(c *aggregate.Credential, by events.Actor) *aggregate.Lease {
	for _, l := range c.Leases() {
		if l.User.UUID != by.ID {
			return l
		}
	}
	return nil
}

func checkedOut(s *aggregate.State, l *aggregate.Lease) error {
	name := l.User.String()
	if u, ok := s.User(l.User); ok {
		name = u.Name
	}
	return conflict("wait, or have it checked in: `secret checkin`", "it is checked out by %s until %s", name, l.Until.UTC().Format(time.RFC3339))
}

// versionOf finds a version to show, the current one for a zero id.
func versionOf(c *aggregate.Credential, id uuid.UUID) (*aggregate.Version, error) {
	if id == uuid.Nil {
		v, ok := c.Current()
		if !ok {
			return nil, conflict("enter one with `secret put`", "the credential has no version that was applied")
		}
		return v, nil
	}
	v, ok := c.Version(events.SecretID{UUID: id})
	if !ok || v.Sealed == nil {
		return nil, notFound("see `secret versions`", "no version %s of this secret", id)
	}
	return v, nil
}

package commands

import (
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

// maxOverlap is the longest time for which an authority is believed beside its
// successor.
const maxOverlap = 366 * 24 * time.Hour

// RotateCA gives the site another key to vouch for its targets' names.
type RotateCA struct {
	Site    events.SiteID
	Key     string        // public key, authorized_keys form
	Overlap time.Duration // for how long those before are believed
	Reason  string
}

var _ = register[RotateCA]("RotateCA", byAdmin|headroom)

// Decide refuses a site that has no authority yet.
func (c RotateCA) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkRotation(c.Overlap, c.Reason); err != nil {
		return nil, err
	}
	key, err := parseKey(c.Key, minUserRSA)
	if err != nil {
		return nil, err
	}
	if t, ok := s.Site(c.Site); ok && t.CA == "" {
		return nil, conflict("", "site %s has no certificate authority yet", c.Site)
	}
	if s.IsSiteKey(key.line) {
		return nil, conflict("make a new key", "the key is one of the site's already")
	}
	return onSite(s, c.Site, by, env, events.CARotated{
		Key: key.line, Fingerprint: key.fingerprint, Until: env.Now.Add(c.Overlap).UTC(), Reason: c.Reason,
	})
}

// CreateUserCA gives the site a key that signs its user certificates, its first
// one or another.
type CreateUserCA struct {
	Site    events.SiteID
	CA      vault.CA
	Overlap time.Duration // for how long those before are used and believed
	Reason  string
}

var _ = register[CreateUserCA]("CreateUserCA", byAdmin|bySite|headroom)

func (c CreateUserCA) sites() []uuid.UUID { return c.CA.Sites }

// Decide refuses a key that the site has.
func (c CreateUserCA) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkRotation(c.Overlap, c.Reason); err != nil {
		return nil, err
	}
	key, err := parseKey(c.CA.Public, minUserRSA)
	if err != nil {
		return nil, err
	}
	if s.IsSiteKey(key.line) {
		return nil, conflict("make a new key", "the key is one of the site's already")
	}
	e := events.UserCACreated{Authority: c.CA.ID, Key: key.line, Fingerprint: key.fingerprint, Sealed: c.CA.Sealed, Reason: c.Reason}
	if t, ok := s.Site(c.Site); ok && len(t.UserCAs()) > 0 {
		e.Until = env.Now.Add(c.Overlap).UTC()
	}
	return onSite(s, c.Site, by, env, e)
}

func checkRotation(overlap time.Duration, reason string) error {
	if overlap < 0 || overlap > maxOverlap {
		return invalid("give a time such as 7d; 0 ends the trust in those before at once", "an overlap of %s is out of range, at most a year", overlap)
	}
	return checkText("reason", reason)
}

// IssueCertificate says that a session gets a user certificate, given by the site
// itself before it is presented.
type IssueCertificate struct {
	Session events.SessionID
	Issued  events.CertificateIssued
}

var _ = register[IssueCertificate]("IssueCertificate", bySite)

// Decide refuses a session that does not run, and an authority that is not the
// site's or not believed any more.
func (c IssueCertificate) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	n, err := findSession(s, c.Session)
	if err != nil {
		return nil, err
	}
	t, ok := s.Site(events.SiteID{UUID: by.ID})
	if !ok {
		return nil, siteExists(s, by)
	}
	for _, a := range t.UserCAs() {
		if a.ID == c.Issued.Authority && a.Holds(env.Now) {
			d := newDecision(by, env)
			d.because(n.Started.ID, n.ID.UUID, c.Issued)
			return d.done()
		}
	}
	return nil, conflict("start the session again", "authority %s does not sign for this site now", c.Issued.Authority)
}

// signers are the authorities that may sign for a session of the site that
// recorded it, the newest first.
func signers(s *aggregate.State, started events.Record) (all []vault.CA) {
	t, ok := s.Site(started.Header.Origin().Site)
	if !ok {
		return nil
	}
	at := time.UnixMicro(started.Header.Wall)
	for _, a := range t.UserCAs() {
		if a.Holds(at) {
			all = append([]vault.CA{{ID: a.ID, Public: a.Key, Sealed: a.Sealed}}, all...)
		}
	}
	return all
}

// checkPrincipal checks whom certificates name. sshd takes any text; a comma
// separates names where its files list them.
func checkPrincipal(name string) error {
	return checkPattern("principal", name, principalPattern, "a letter, digit or _")
}

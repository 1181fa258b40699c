package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// CreateCA records the site's own certificate authority, given by the site
// itself once it holds the private key.
type CreateCA struct {
	Key string // public key, authorized_keys form
}

var _ = register[CreateCA]("CreateCA", bySite)

// Decide refuses a second one: people have been told to trust the first.
func (c CreateCA) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	t, ok := s.Site(events.SiteID{UUID: by.ID})
	if !ok {
		return nil, conflict("", "site %s does not exist", by.ID)
	}
	if t.CA != "" {
		return nil, conflict("", "site %s has a certificate authority", by.ID)
	}
	key, err := parseKey(c.Key, minUserRSA)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(by.ID, events.CACreated{Key: key.line, Fingerprint: key.fingerprint})
	return d.done()
}

package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// CreateSite is the first command of a site, given by the site itself.
type CreateSite struct {
	Name       string
	SealingKey []byte // public key that data keys are wrapped to
	HostKey    string // the gateway's SSH host key, authorized_keys form
}

var _ = register[CreateSite]("CreateSite", bySite)

// Decide refuses a site that exists.
func (c CreateSite) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkName("site", c.Name); err != nil {
		return nil, err
	}
	if _, ok := s.Site(events.SiteID{UUID: by.ID}); ok {
		return nil, conflict("", "site %s exists", by.ID)
	}
	key, err := parseKey(c.HostKey, minUserRSA)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(by.ID, events.SiteCreated{Name: c.Name, SealingKey: c.SealingKey, HostKey: key.line})
	return d.done()
}

package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// SealSite says that the site let its private key go.
type SealSite struct {
	Site     events.SiteID
	Provider string
	Reason   string
}

var _ = register[SealSite]("SealSite", byAdmin|headroom)

// Decide refuses a site that is not known.
func (c SealSite) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	return onSite(s, c.Site, by, env, events.VaultSealed{Provider: bounded(c.Provider, maxText), Reason: c.Reason})
}

// onSite drafts one event of a site's stream.
func onSite(s *aggregate.State, site events.SiteID, by events.Actor, env Env, e events.Event) ([]events.Draft, error) {
	if _, ok := s.Site(site); !ok {
		return nil, notFound("", "no site %s", site)
	}
	d := newDecision(by, env)
	d.add(site.UUID, e)
	return d.done()
}

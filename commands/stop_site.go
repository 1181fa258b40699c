package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// StopSite says that the site stops in order, given by the site itself.
type StopSite struct {
	Reason string
}

var _ = register[StopSite]("StopSite", bySite|headroom)

// Decide refuses a site that was not created.
func (c StopSite) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := siteExists(s, by); err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(by.ID, events.SiteStopped{Reason: bounded(c.Reason, maxText)})
	return d.done()
}

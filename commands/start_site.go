package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// StartSite says that the site begins to serve, given by the site itself.
type StartSite struct {
	Version string // of the software
	Listen  string // address of the SSH gateway
	Mesh    string // where other sites reach its mesh port; empty where it does not know
	Sealed  bool
}

var _ = register[StartSite]("StartSite", bySite|headroom)

// Decide refuses a site that was not created, and one whose sessions of an
// earlier run have not been ended: their loss must be on record first.
func (c StartSite) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := siteExists(s, by); err != nil {
		return nil, err
	}
	for _, n := range s.LiveSessions() {
		if n.Started.Origin.Site.UUID == by.ID {
			return nil, conflict("end it with the reason "+string(events.EndedByCrash), "session %s of an earlier run is open", n.ID)
		}
	}
	d := newDecision(by, env)
	d.add(by.ID, events.SiteStarted{Version: bounded(c.Version, maxText), Listen: bounded(c.Listen, maxText), Mesh: bounded(c.Mesh, maxText), Sealed: c.Sealed})
	return d.done()
}

func siteExists(s *aggregate.State, by events.Actor) error {
	if _, ok := s.Site(events.SiteID{UUID: by.ID}); !ok {
		return notFound("create the site first", "no site %s", by.ID)
	}
	return nil
}

package commands

import (
	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// BackUpSite says that somebody is about to be given a backup of the site.
type BackUpSite struct {
	Site       events.SiteID
	Backup     uuid.UUID
	Recipients []string // who can open it
}

var _ = register[BackUpSite]("BackUpSite", byAdmin|headroom)

// Decide refuses a backup that nobody can open.
func (c BackUpSite) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if len(c.Recipients) == 0 || len(c.Recipients) > 64 {
		return nil, invalid("name 1 to 64 of them", "a backup has %d recipients", len(c.Recipients))
	}
	var names []string
	for _, r := range c.Recipients {
		names = append(names, bounded(r, maxText))
	}
	d := newDecision(by, env)
	d.add(c.Site.UUID, events.SiteBackedUp{Backup: c.Backup, Recipients: names})
	return d.done()
}

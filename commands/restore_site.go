package commands

import (
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RestoreSite says that the site goes on from a backup, given by the site.
type RestoreSite struct {
	Backup uuid.UUID
	Made   time.Time
}

var _ = register[RestoreSite]("RestoreSite", bySite|headroom)

// Decide always agrees: it is so.
func (c RestoreSite) Decide(_ *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	d := newDecision(by, env)
	d.add(by.ID, events.SiteRestored{Backup: c.Backup, Made: utc(c.Made)})
	return d.done()
}

package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RecordDoubt records that a site set its logs aside and goes on in new ones.
type RecordDoubt struct{ Why string }

var _ = register[RecordDoubt]("RecordDoubt", bySite|headroom)

// Decide never refuses: it has happened.
func (c RecordDoubt) Decide(_ *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	d := newDecision(by, env)
	d.add(by.ID, events.SiteDoubted{Why: bounded(c.Why, maxText)})
	return d.done()
}

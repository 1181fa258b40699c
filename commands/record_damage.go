package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// RecordDamage says that a log of the site was found damaged, given by the
// site itself.
type RecordDamage struct {
	Found store.DamageError
}

var _ = register[RecordDamage]("RecordDamage", bySite|headroom)

// Decide refuses a site that was not created.
func (c RecordDamage) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := siteExists(s, by); err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(by.ID, events.LogDamageFound{
		Log: c.Found.Origin.Kind, Epoch: c.Found.Origin.Epoch, Position: c.Found.Position,
		File: c.Found.File, Offset: c.Found.Offset, What: bounded(c.Found.What, maxText),
	})
	return d.done()
}

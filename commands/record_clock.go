package commands

import (
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RecordClockJump says that the site's clock was set, given by the site itself.
type RecordClockJump struct {
	By time.Duration // negative when it was set back
}

var _ = register[RecordClockJump]("RecordClockJump", bySite|headroom)

// Decide refuses a site that was not created.
func (c RecordClockJump) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := siteExists(s, by); err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(by.ID, events.ClockJumped{By: c.By.Milliseconds()})
	return d.done()
}

package commands

import (
	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// EndSession closes a running session, given by the site that runs it.
type EndSession struct {
	Session  events.SessionID
	Reason   events.EndReason
	Detail   string
	In, Out  events.Cursors
	Complete bool      // every packet that could have been delivered is in the recording
	Because  uuid.UUID // the event that caused it, zero for none
	Forwards events.ForwardTotals
	Files    events.FileTotals
}

var _ = register[EndSession]("EndSession", bySite|headroom)

// Decide refuses a session that is not running, so that a session ends once,
// and one that another site runs.
func (c EndSession) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	n, err := findSession(s, c.Session)
	if err != nil {
		return nil, err
	}
	if n.Started.Origin.Site.UUID != by.ID {
		return nil, conflict("let that site end it", "session %s runs at site %s", n.ID, n.Started.Origin.Site)
	}
	d := newDecision(by, env)
	d.because(c.Because, n.ID.UUID, events.SessionEnded{
		Reason: c.Reason, Detail: bounded(c.Detail, maxText), In: c.In, Out: c.Out, Complete: c.Complete,
		Forwards: c.Forwards, Files: c.Files,
	})
	return d.done()
}

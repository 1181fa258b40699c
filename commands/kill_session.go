package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// KillSession asks for the end of a running session; the gateway that runs it
// ends it when the event is there.
type KillSession struct {
	Session events.SessionID
	Reason  string
}

var _ = register[KillSession]("KillSession", byAdmin|headroom)

// Decide refuses a session that is not running.
func (c KillSession) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	n, err := findSession(s, c.Session)
	if err != nil {
		return nil, err
	}
	if s.Abandoned(n, env.Log.Site) {
		return nil, conflict("what was recorded of it is at hand: session play "+n.ID.String(), "session %s ran at a site that is gone; nobody hears how it ends", n.ID)
	}
	d := newDecision(by, env)
	d.add(n.ID.UUID, events.SessionKillRequested{Reason: c.Reason})
	return d.done()
}

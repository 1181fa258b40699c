package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RefuseInSession says that the relay refused a packet of a running session,
// given by the site.
type RefuseInSession struct {
	Session   events.SessionID
	Direction events.Direction // of the refused packet
	Number    uint64           // its packet number
	What      string           // "channel direct-tcpip", "request tcpip-forward"
	Detail    string           // destination or the like
}

var _ = register[RefuseInSession]("RefuseInSession", bySite)

// Decide refuses a session that is not running.
func (c RefuseInSession) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	n, err := findSession(s, c.Session)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(n.ID.UUID, events.SessionRefused{
		Direction: c.Direction, Number: c.Number, What: bounded(c.What, maxText), Detail: bounded(c.Detail, maxText),
	})
	return d.done()
}

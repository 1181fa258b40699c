package commands

import (
	"fmt"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// NoteChannels says which channels of forwardings a running session opened and
// closed, given by the site.
type NoteChannels struct {
	Session events.SessionID
	Changes []events.Event // SessionChannelOpened and SessionChannelClosed, in the order in which they happened
}

var _ = register[NoteChannels]("NoteChannels", bySite)

// Decide refuses a session that is not running.
func (c NoteChannels) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	n, err := findSession(s, c.Session)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	for _, change := range c.Changes {
		switch e := change.(type) {
		case events.SessionChannelOpened:
			e.Type, e.To, e.Origin = bounded(e.Type, maxText), bounded(e.To, maxText), bounded(e.Origin, maxText)
			d.add(n.ID.UUID, e)
		case events.SessionChannelClosed:
			e.Type, e.To, e.Failure = bounded(e.Type, maxText), bounded(e.To, maxText), bounded(e.Failure, maxText)
			d.add(n.ID.UUID, e)
		default:
			return nil, fmt.Errorf("%T says nothing of a channel", change)
		}
	}
	return d.done()
}

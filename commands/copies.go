package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// SetCopies says at how many sites each recording is kept; 0 for all of them.
type SetCopies struct{ Copies uint32 }

var _ = register[SetCopies]("SetCopies", byAdmin|headroom)

// mostCopies is far more than any mesh has sites.
const mostCopies = 1000

// Decide refuses a number where there is no mesh, and more than there can be.
func (c SetCopies) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if s.Founder().IsZero() {
		return nil, conflict("invite another site first: mesh invite NAME", "this site is alone: there is one copy of each recording")
	}
	if c.Copies > mostCopies {
		return nil, invalid("use a number up to 1000, or all", "%d copies are more than there can be", c.Copies)
	}
	if s.Copies() == c.Copies {
		return nil, nil
	}
	d := newDecision(by, env)
	d.add(s.Founder().UUID, events.RecordingCopiesSet{Copies: c.Copies})
	return d.done()
}

// NoteKeeping says whether the site keeps recordings of others.
type NoteKeeping struct{ Recordings bool }

var _ = register[NoteKeeping]("NoteKeeping", bySite)

// Decide says what is new.
func (c NoteKeeping) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if s.KeepsRecordings(events.SiteID{UUID: by.ID}) == c.Recordings {
		return nil, nil
	}
	d := newDecision(by, env)
	d.add(by.ID, events.SiteKeeping{Recordings: c.Recordings})
	return d.done()
}

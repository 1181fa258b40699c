package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RecordSync records what became of a pair: SyncDegraded, or SyncRestored where To
// is set.
type RecordSync struct {
	Peer     events.SiteID
	From, To []events.ClockEntry
	Restored bool
}

var _ = register[RecordSync]("RecordSync", bySite|headroom)

// Decide never refuses: it has happened.
func (c RecordSync) Decide(_ *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	d := newDecision(by, env)
	if c.Restored {
		d.add(by.ID, events.SyncRestored{Peer: c.Peer, From: c.From, To: c.To})
	} else {
		d.add(by.ID, events.SyncDegraded{Peer: c.Peer, From: c.From})
	}
	return d.done()
}

// RecordFork records the proof that a log was written twice.
type RecordFork struct {
	Log   events.Origin
	Size  uint64
	Proof []byte
}

var _ = register[RecordFork]("RecordFork", bySite|headroom)

// Decide records a proof once.
func (c RecordFork) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if size, known := s.ForkOf(c.Log); known && size <= c.Size {
		return nil, nil
	}
	d := newDecision(by, env)
	d.add(c.Log.Site.UUID, events.ForkProved{Log: c.Log, Size: c.Size, Proof: c.Proof})
	return d.done()
}

// RecordMasked raises the alarm about what members decided beyond what they were
// admitted for, and recorded of sessions that run elsewhere.
type RecordMasked struct{ Foreign []Foreign }

// Foreign is what a member recorded of sessions that it does not run.
type Foreign struct {
	Site  events.SiteID
	Count uint64 // of records
	Last  events.Origin
	At    uint64 // position of the last one
}

const whyForeign = "it recorded a session that another site runs"

var _ = register[RecordMasked]("RecordMasked", bySite|headroom)

// Decide records what is new: the first of a sort, the tenth, the hundredth.
func (c RecordMasked) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	d := newDecision(by, env)
	for _, m := range s.Masked() {
		told := s.MaskedTold(events.SiteID{UUID: by.ID}, m)
		if !m.Beyond || m.Site.UUID == by.ID || m.Count == told || told > 0 && m.Count/10 < told {
			continue
		}
		d.add(by.ID, events.MemberMasked{Site: m.Site, Type: bounded(m.Type, maxText), Why: m.Why, Count: m.Count, Last: m.Last.Origin, At: m.Last.Position})
	}
	for _, f := range c.Foreign {
		e := events.MemberMasked{Site: f.Site, Type: "session.packets", Why: whyForeign, Count: f.Count, Last: f.Last, At: f.At}
		told := s.MaskedTold(events.SiteID{UUID: by.ID}, &aggregate.Masked{Site: e.Site, Type: e.Type, Why: e.Why})
		if f.Site.UUID != by.ID && f.Count > told && (told == 0 || f.Count/10 >= told) {
			d.add(by.ID, e)
		}
	}
	return d.done()
}

// NotePresence says that the site is there, for those who hear it by way of others.
type NotePresence struct{}

var _ = register[NotePresence]("NotePresence", bySite)

// Decide never refuses.
func (c NotePresence) Decide(_ *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	d := newDecision(by, env)
	d.add(by.ID, events.SitePresent{})
	return d.done()
}

// RecordRevision says that what was shown here has changed by what came late.
type RecordRevision struct{ Revised events.ProjectionRevised }

var _ = register[RecordRevision]("RecordRevision", bySite|headroom)

// Decide never refuses: it has happened.
func (c RecordRevision) Decide(_ *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	d := newDecision(by, env)
	d.because(c.Revised.Because, by.ID, c.Revised)
	return d.done()
}

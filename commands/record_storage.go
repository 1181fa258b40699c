package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RecordStorage says that a log of the site stopped or resumed taking records,
// given by the site itself.
type RecordStorage struct {
	Log    events.Kind
	Full   bool
	Reason string
}

var _ = register[RecordStorage]("RecordStorage", bySite|headroom)

// Decide makes no event when the state says so already.
func (c RecordStorage) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	site, ok := s.Site(events.SiteID{UUID: by.ID})
	if !ok {
		return nil, siteExists(s, by)
	}
	if !c.Log.Valid() {
		return nil, invalid("", "%s is not a log", quoted(string(c.Log)))
	}
	if site.Full(c.Log) == c.Full {
		return nil, nil
	}
	d := newDecision(by, env)
	if c.Full {
		d.add(by.ID, events.StorageFull{Log: c.Log, Reason: bounded(c.Reason, maxText)})
	} else {
		d.add(by.ID, events.StorageRecovered{Log: c.Log})
	}
	return d.done()
}

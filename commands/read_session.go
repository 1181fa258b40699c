package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// ReadSession says that somebody is about to read a recording. Administrators
// and auditors read all, everybody what they did themselves.
type ReadSession struct {
	Session events.SessionID
	Owner   events.UserID // whose session it was; the caller takes it from a projection, never from the person
	How     string        // "play", "export raw", ...
}

var _ = register[ReadSession]("ReadSession", byCommand|headroom)

// Decide refuses everybody else, and all where the recording is erased.
func (c ReadSession) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	user := events.UserID{UUID: by.ID}
	if by.Kind != events.ByUser {
		return refuseActor(by, env, events.NotAllowedVerb, "only a user reads recordings")
	}
	if err := s.UserStands(user); err != nil {
		return refuseActor(by, env, standing(err), err.Error())
	}
	if user != c.Owner && !may(s, user, events.Admin, events.Auditor) {
		return refuseActor(by, env, events.NotAllowedVerb, "session "+c.Session.String()+" is another user's")
	}
	if err := RefuseErased(s, c.Session); err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(c.Session.UUID, events.SessionRead{How: bounded(c.How, maxText)})
	return d.done()
}

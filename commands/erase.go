package commands

import (
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// Nobody can take an erasure back, and whoever could do it alone could destroy what
// convicts them. So one administrator asks and another one confirms (rule R19).

// erasable is something that can be erased.
type erasable struct {
	what events.Erasable
	id   uuid.UUID
	name string // "session ID"
	verb string // that asks for it
	err  error  // why it can't be erased now
}

func (e erasable) ask(s *aggregate.State, by events.Actor, env Env, reason string) ([]events.Draft, error) {
	if err := checkReason(reason); err != nil {
		return nil, err
	}
	if e.err != nil {
		return nil, e.err
	}
	if open := e.open(s, env.Now); len(open) > 0 {
		return nil, conflict("another administrator has to confirm it: "+e.verb+" --confirm", "%s asked to erase %s", userName(s, open[0].At.Actor), e.name)
	}
	d := newDecision(by, env)
	d.add(e.id, events.ErasureAsked{What: e.what, Reason: reason, Fingerprint: bounded(env.Client.Fingerprint, maxText)})
	return d.done()
}

// confirm refuses whoever asked, under whatever name. Somebody else's ask may stand
// beside theirs, where both asked without knowing of each other.
func (e erasable) confirm(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if e.err != nil {
		return nil, e.err
	}
	open := e.open(s, env.Now)
	if len(open) == 0 {
		return nil, notFound(e.verb+" --reason TEXT asks for it", "nobody has asked to erase %s in the last %d days", e.name, ProposalLasts/(24*time.Hour))
	}
	user := events.UserID{UUID: by.ID}
	for _, a := range open {
		if s.SamePerson(events.UserID{UUID: a.At.Actor.ID}, user) || a.Fingerprint != "" && a.Fingerprint == env.Client.Fingerprint {
			continue
		}
		d := newDecision(by, env)
		d.because(a.At.ID, e.id, events.ErasureConfirmed{
			Ask: a.At.ID, AskedBy: events.UserID{UUID: a.At.Actor.ID}, What: a.What, Reason: a.Reason,
			Fingerprint: bounded(env.Client.Fingerprint, maxText),
		})
		return d.done()
	}
	return denied(by, env, events.AccessDenied{
		Reason: events.NotAllowedVerb, User: user, Login: env.Client.Login, Source: env.Client.Source,
		Fingerprint: env.Client.Fingerprint, Detail: env.command + ": the user is who asked, under this or another name",
	}, "you can't confirm what you have asked for yourself", "another administrator has to")
}

// withdraw takes the word of any administrator: it destroys nothing.
func (e erasable) withdraw(s *aggregate.State, by events.Actor, env Env, reason string) ([]events.Draft, error) {
	if err := checkText("reason", reason); err != nil {
		return nil, err
	}
	if err := refuseErased(s, e.id, e.name); err != nil {
		return nil, err
	}
	x, asked := s.Erasure(e.id)
	if !asked || len(x.Open()) == 0 {
		return nil, notFound("", "nobody has asked to erase %s", e.name)
	}
	d := newDecision(by, env)
	d.add(e.id, events.ErasureWithdrawn{Reason: reason})
	return d.done()
}

// open lists the asks that may be confirmed.
func (e erasable) open(s *aggregate.State, now time.Time) (open []*aggregate.ErasureAsk) {
	x, ok := s.Erasure(e.id)
	if !ok {
		return nil
	}
	for _, a := range x.Open() {
		if a.What == e.what && now.Sub(a.At.Time()) <= ProposalLasts {
			open = append(open, a)
		}
	}
	return open
}

// NoteErased says that this site holds no data key any more for what was erased.
type NoteErased struct{ ID uuid.UUID }

var _ = register[NoteErased]("NoteErased", bySite|headroom)

// Decide takes the site's word for itself.
func (c NoteErased) Decide(_ *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	d := newDecision(by, env)
	d.add(c.ID, events.ErasureDone{})
	return d.done()
}

// refuseErased says of what is erased by whom, when and why; nil of anything else.
func refuseErased(s *aggregate.State, id uuid.UUID, name string) error {
	e, erased := s.Erased(id)
	if !erased {
		return nil
	}
	return notFound("the logs still say who did what and when", "%s was erased on %s: %s asked for it, %s confirmed it: %s", name,
		e.At.Time().Format(time.RFC3339), userName(s, e.Ask.At.Actor), userName(s, e.At.Actor), e.Ask.Reason)
}

// userName is what people call an actor.
func userName(s *aggregate.State, by events.Actor) string {
	if u, ok := s.User(events.UserID{UUID: by.ID}); ok {
		return u.Name
	}
	return by.ID.String()
}

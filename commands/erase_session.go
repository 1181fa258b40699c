package commands

import (
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// AskErasure asks that the recording of a session is made unreadable at every site
// (rule R19). Another administrator has to confirm it: nobody can take it back, and
// whoever could do it alone could destroy what convicts them.
type AskErasure struct {
	Session events.SessionID // the caller has found it in a projection
	Reason  string
}

// ConfirmErasure makes an ask of another administrator true: the oldest one that
// they may confirm.
type ConfirmErasure struct{ Session events.SessionID }

// WithdrawErasure takes back what was asked and not confirmed.
type WithdrawErasure struct {
	Session events.SessionID
	Reason  string
}

// NoteErased says that this site holds no data key any more for what was erased.
type NoteErased struct{ ID uuid.UUID }

var (
	_ = register[AskErasure]("AskErasure", byAdmin|headroom)
	_ = register[ConfirmErasure]("ConfirmErasure", byAdmin|headroom)
	_ = register[WithdrawErasure]("WithdrawErasure", byAdmin|headroom)
	_ = register[NoteErased]("NoteErased", bySite|headroom)
)

// Decide refuses a session that runs, and what is asked or erased already.
func (c AskErasure) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkReason(c.Reason); err != nil {
		return nil, err
	}
	if err := erasable(s, c.Session); err != nil {
		return nil, err
	}
	for _, a := range openAsks(s, c.Session, env.Now) {
		return nil, conflict("another administrator has to confirm it: session erase "+c.Session.String()+" --confirm",
			"%s asked to erase session %s", userName(s, a.At.Actor), c.Session)
	}
	d := newDecision(by, env)
	d.add(c.Session.UUID, events.ErasureAsked{
		What: events.ErasableRecording, Reason: c.Reason, Fingerprint: bounded(env.Client.Fingerprint, maxText),
	})
	return d.done()
}

// Decide refuses whoever asked, under whatever name. Somebody else's ask may stand
// beside theirs, where both asked without knowing of each other.
func (c ConfirmErasure) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := erasable(s, c.Session); err != nil {
		return nil, err
	}
	open := openAsks(s, c.Session, env.Now)
	if len(open) == 0 {
		return nil, notFound("session erase "+c.Session.String()+" --reason TEXT asks for it",
			"nobody has asked to erase session %s in the last %d days", c.Session, ProposalLasts/(24*time.Hour))
	}
	user := events.UserID{UUID: by.ID}
	for _, a := range open {
		if s.SamePerson(events.UserID{UUID: a.At.Actor.ID}, user) || a.Fingerprint != "" && a.Fingerprint == env.Client.Fingerprint {
			continue
		}
		d := newDecision(by, env)
		d.because(a.At.ID, c.Session.UUID, events.ErasureConfirmed{
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

// Decide takes the word of any administrator: it destroys nothing.
func (c WithdrawErasure) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	if err := RefuseErased(s, c.Session); err != nil {
		return nil, err
	}
	x, asked := s.Erasure(c.Session.UUID)
	if !asked || len(x.Open()) == 0 {
		return nil, notFound("see `session erasures`", "nobody has asked to erase session %s", c.Session)
	}
	d := newDecision(by, env)
	d.add(c.Session.UUID, events.ErasureWithdrawn{Reason: c.Reason})
	return d.done()
}

// Decide takes the site's word for itself.
func (c NoteErased) Decide(_ *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	d := newDecision(by, env)
	d.add(c.ID, events.ErasureDone{})
	return d.done()
}

// erasable refuses what can't be erased, or is already.
func erasable(s *aggregate.State, id events.SessionID) error {
	if err := RefuseErased(s, id); err != nil {
		return err
	}
	if _, runs := s.Session(id); runs {
		return conflict("session kill ends it", "session %s is running", id)
	}
	if s.SealsElse(id.UUID) {
		return conflict("fence the site that says so", "session %s has the id of something else that is sealed: its site betrays", id)
	}
	return nil
}

// openAsks lists the asks that may be confirmed.
func openAsks(s *aggregate.State, id events.SessionID, now time.Time) (open []*aggregate.ErasureAsk) {
	x, ok := s.Erasure(id.UUID)
	if !ok {
		return nil
	}
	for _, a := range x.Open() {
		if now.Sub(a.At.Time()) <= ProposalLasts {
			open = append(open, a)
		}
	}
	return open
}

// RefuseErased says of an erased session by whom, when and why; nil of any other.
func RefuseErased(s *aggregate.State, id events.SessionID) error {
	e, erased := s.Erased(id.UUID)
	if !erased {
		return nil
	}
	return notFound("what is not in the recording is still there: session show "+id.String(),
		"the recording of session %s was erased on %s: %s asked for it, %s confirmed it: %s", id, e.At.Time().Format(time.RFC3339),
		userName(s, e.Ask.At.Actor), userName(s, e.At.Actor), e.Ask.Reason)
}

// userName is what people call an actor.
func userName(s *aggregate.State, by events.Actor) string {
	if u, ok := s.User(events.UserID{UUID: by.ID}); ok {
		return u.Name
	}
	return by.ID.String()
}

package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// AskErasure asks that the recording of a session is made unreadable at every site
// (rule R19). Another administrator has to confirm it.
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

var (
	_ = register[AskErasure]("AskErasure", byAdmin|headroom)
	_ = register[ConfirmErasure]("ConfirmErasure", byAdmin|headroom)
	_ = register[WithdrawErasure]("WithdrawErasure", byAdmin|headroom)
)

// Decide refuses a session that runs, and what is asked or erased already.
func (c AskErasure) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	return erasableRecording(s, c.Session, env.Log.Site).ask(s, by, env, c.Reason)
}

// Decide refuses whoever asked, under whatever name.
func (c ConfirmErasure) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	return erasableRecording(s, c.Session, env.Log.Site).confirm(s, by, env)
}

// Decide refuses what is erased already.
func (c WithdrawErasure) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	return erasableRecording(s, c.Session, env.Log.Site).withdraw(s, by, env, c.Reason)
}

func erasableRecording(s *aggregate.State, id events.SessionID, here events.SiteID) erasable {
	e := erasable{what: events.ErasableRecording, id: id.UUID, name: "session " + id.String(), verb: "session erase " + id.String()}
	if e.err = RefuseErased(s, id); e.err != nil {
		return e
	}
	if n, runs := s.Session(id); runs && !s.Abandoned(n, here) {
		e.err = conflict("session kill ends it", "session %s is running", id)
	} else if s.SealsElse(id.UUID) {
		e.err = conflict("fence the site that says so", "session %s has the id of something else that is sealed: its site betrays", id)
	}
	return e
}

// RefuseErased says of an erased session by whom, when and why; nil of any other.
func RefuseErased(s *aggregate.State, id events.SessionID) error {
	return refuseErased(s, id.UUID, "the recording of session "+id.String())
}

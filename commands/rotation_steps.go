package commands

import (
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

// The steps of a rotation, given by the site that carries it out. Each is
// refused unless the rotation stands where the step belongs, so a step that is
// given again, by a replay or after a crash, changes nothing.

// rotationStep finds the rotation and the credential that a step is about.
func rotationStep(s *aggregate.State, by events.Actor, id events.RotationID) (*aggregate.Rotation, *aggregate.Credential, error) {
	r, ok := s.Rotation(id)
	if !ok {
		return nil, nil, notFound("", "no rotation %s is under way", id)
	}
	if r.Planned.Origin.Site.UUID != by.ID {
		return nil, nil, conflict("let that site do it", "rotation %s is site %s's", id, r.Planned.Origin.Site)
	}
	c, ok := s.Credential(r.Credential)
	if !ok {
		return nil, nil, conflict("", "rotation %s is of no known credential", id)
	}
	return r, c, nil
}

// StageSecret keeps the version that a rotation has made (rule R1).
type StageSecret struct {
	Rotation events.RotationID
	Secret   vault.Sealed
}

var _ = register[StageSecret]("StageSecret", bySite)

func (c StageSecret) sites() []uuid.UUID { return c.Secret.Sites }

// Decide refuses a second version of one rotation.
func (c StageSecret) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	r, cred, err := rotationStep(s, by, c.Rotation)
	if err != nil {
		return nil, err
	}
	if v, staged := r.Staged(); staged {
		return nil, conflict("", "rotation %s has staged %s", r.ID, v)
	}
	if c.Secret.Credential != cred.ID || c.Secret.Kind != cred.Kind || len(c.Secret.Bytes) == 0 {
		return nil, invalid("seal it for credential "+cred.ID.String(), "the sealed secret is of another credential or kind")
	}
	if err := sealable(s, cred, c.Secret); err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.addAs(c.Secret.Version.UUID, cred.ID.UUID, r.Latest().ID, events.SecretStaged{
		Sealed: c.Secret.Bytes, Public: c.Secret.Public, Key: c.Secret.Key, Rotation: r.ID,
	})
	return d.done()
}

// SendSecret says that the target is about to be asked to take the staged
// version.
type SendSecret struct {
	Rotation events.RotationID
	Verb     events.ChangeVerb
	Presents events.SecretID  // version that the login for it presents
	Via      events.AccountID // whose version that is, if another account's
	Alone    bool             // no other site that may open the staged version is known to hold it
}

var _ = register[SendSecret]("SendSecret", bySite)

// Decide refuses a version that is not staged, a verb that was used, and what
// the lock-out budgets do not allow.
func (c SendSecret) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	r, cred, err := rotationStep(s, by, c.Rotation)
	if err != nil {
		return nil, err
	}
	version, staged := r.Staged()
	if !staged {
		return nil, conflict("stage one first", "rotation %s has no version to send", r.ID)
	}
	for _, a := range r.Attempts() {
		if a.Answer == "" || a.Sent == c.Verb {
			return nil, conflict("", "rotation %s has sent its version with verb %s, or waits for an answer", r.ID, c.Verb)
		}
	}
	presenting := r.Account
	if !c.Via.IsZero() {
		presenting = c.Via
	}
	e := events.SecretSent{Version: version, Rotation: r.ID, Verb: c.Verb, Presents: c.Presents, Via: c.Via, Alone: c.Alone}
	if e.Proven = c.Via.IsZero() && r.Proves(c.Presents, env.Now); !e.Proven {
		if err := withinBudget(s, by, env, presenting); err != nil {
			return nil, err
		}
	}
	if v, ok := cred.Current(); ok {
		e.Replaces = v.ID
	}
	d := newDecision(by, env)
	d.because(r.Latest().ID, cred.ID.UUID, e)
	return d.done()
}

// TrySecret says that a version is about to be tested by a login.
type TrySecret struct {
	Rotation events.RotationID
	Version  events.SecretID
}

var _ = register[TrySecret]("TrySecret", bySite)

// Decide refuses a test while another one is unanswered, and what the lock-out
// budget does not allow.
func (c TrySecret) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	r, cred, err := rotationStep(s, by, c.Rotation)
	if err != nil {
		return nil, err
	}
	if _, ok := cred.Version(c.Version); !ok {
		return nil, notFound("", "credential %s has no version %s", cred.ID, c.Version)
	}
	for _, a := range r.Attempts() {
		if a.Answer == "" {
			return nil, conflict("", "rotation %s waits for an answer", r.ID)
		}
	}
	if err := withinBudget(s, by, env, r.Account); err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.because(r.Latest().ID, cred.ID.UUID, events.SecretTried{Version: c.Version, Rotation: r.ID})
	return d.done()
}

// withinBudget refuses a presentation that could lock the account.
func withinBudget(s *aggregate.State, by events.Actor, env Env, id events.AccountID) error {
	if a, ok := s.Account(id); ok {
		c, ok := s.Credential(a.Credential)
		if !ok {
			return nil
		}
		if left, until := s.LoginsLeft(a, c, events.SiteID{UUID: by.ID}, env.Now); left < 1 {
			return conflict("wait until "+until.UTC().Format(time.RFC3339), "one more wrong login of account %s could lock it", a.ID)
		}
	}
	return nil
}

// AnswerAttempt says what came of an attempt.
type AnswerAttempt struct {
	Rotation     events.RotationID
	Try          events.TryID
	Answer       aggregate.Answer
	NotPresented bool // no secret reached the target
	Rejected     bool // of a change: the login for it was turned down
	Detail       string
}

var _ = register[AnswerAttempt]("AnswerAttempt", bySite|headroom)

// Decide refuses an attempt that was answered.
func (c AnswerAttempt) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	r, cred, err := rotationStep(s, by, c.Rotation)
	if err != nil {
		return nil, err
	}
	var attempt *aggregate.Attempt
	for _, a := range r.Attempts() {
		if a.ID == c.Try && a.Answer == "" {
			attempt = a
		}
	}
	if attempt == nil {
		return nil, conflict("", "rotation %s does not wait for the answer to %s", r.ID, c.Try)
	}
	e, err := c.event(attempt)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.because(c.Try.UUID, cred.ID.UUID, e)
	return d.done()
}

func (c AnswerAttempt) event(a *aggregate.Attempt) (events.Event, error) {
	detail := bounded(c.Detail, maxText)
	if a.Sent != "" {
		switch c.Answer {
		case aggregate.AnswerApplied:
			return events.SecretApplied{Version: a.Version, How: events.ByTarget, Rotation: c.Rotation, Try: c.Try}, nil
		case aggregate.AnswerRefused:
			return events.SecretRefused{Version: a.Version, Rotation: c.Rotation, Try: c.Try, NotPresented: c.NotPresented, Rejected: c.Rejected, Detail: detail}, nil
		case aggregate.AnswerUnknown:
			return events.SecretUnknown{Version: a.Version, Rotation: c.Rotation, Try: c.Try, Detail: detail}, nil
		}
		return nil, invalid("", "%q is no answer to a change", c.Answer)
	}
	switch c.Answer {
	case aggregate.AnswerAccepted:
		return events.SecretVerified{Version: a.Version, How: events.ByLogin, Rotation: c.Rotation, Try: c.Try}, nil
	case aggregate.AnswerRejected, aggregate.AnswerLocked:
		return events.SecretRejected{Version: a.Version, Rotation: c.Rotation, Try: c.Try, Locked: c.Answer == aggregate.AnswerLocked, Detail: detail}, nil
	case aggregate.AnswerNone:
		return events.SecretUnanswered{Version: a.Version, Rotation: c.Rotation, Try: c.Try, NotPresented: c.NotPresented, Detail: detail}, nil
	}
	return nil, invalid("", "%q is no answer to a login", c.Answer)
}

// RetireSecret says that the target was made to refuse an old version.
type RetireSecret struct {
	Rotation events.RotationID
	Version  events.SecretID
}

var _ = register[RetireSecret]("RetireSecret", bySite|headroom)

// Decide refuses an unknown version.
func (c RetireSecret) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	r, cred, err := rotationStep(s, by, c.Rotation)
	if err != nil {
		return nil, err
	}
	if _, ok := cred.Version(c.Version); !ok || r.Retired() {
		return nil, conflict("", "rotation %s has nothing to retire", r.ID)
	}
	d := newDecision(by, env)
	d.because(r.Latest().ID, cred.ID.UUID, events.SecretRetired{Version: c.Version, Rotation: r.ID})
	return d.done()
}

// DeferRotation says that a rotation's next step waits.
type DeferRotation struct {
	Rotation events.RotationID
	Until    time.Time
	Detail   string
}

var _ = register[DeferRotation]("DeferRotation", bySite)

// Decide refuses a rotation that is not under way.
func (c DeferRotation) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	r, _, err := rotationStep(s, by, c.Rotation)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.because(r.Latest().ID, r.ID.UUID, events.RotationDeferred{Until: c.Until.UTC(), Detail: bounded(c.Detail, maxText)})
	return d.done()
}

// EndRotation says what became of a rotation.
type EndRotation struct {
	Rotation events.RotationID
	Result   events.RotationResult
	Version  events.SecretID // that the target takes; zero if that is unknown
	Detail   string
	Because  uuid.UUID // the event that decided it, zero for the rotation's newest
}

var _ = register[EndRotation]("EndRotation", bySite|headroom)

// Decide raises the alarm with a rotation that found no secret which the
// target takes.
func (c EndRotation) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	r, cred, err := rotationStep(s, by, c.Rotation)
	if err != nil {
		return nil, err
	}
	cause := c.Because
	if cause == uuid.Nil {
		cause = r.Latest().ID
	}
	detail := bounded(c.Detail, maxText)
	d := newDecision(by, env)
	if c.Result == events.RotationUnknown {
		d.because(cause, cred.ID.UUID, events.SecretUnknown{Rotation: r.ID, Alarm: true, Detail: detail})
	}
	d.because(cause, r.ID.UUID, events.RotationEnded{Result: c.Result, Version: c.Version, Detail: detail})
	return d.done()
}

package commands

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// Code is the class of a refusal.
type Code string

const (
	// NotFound says that what the command names is not there.
	NotFound Code = "not_found"
	// Denied says that the actor may not do it.
	Denied Code = "denied"
	// Conflict says that the state does not allow it.
	Conflict Code = "conflict"
	// Invalid says that the command itself makes no sense.
	Invalid Code = "invalid"
	// Unavailable says that it can't be done now, whoever asks.
	Unavailable Code = "unavailable"
)

// Refusal is the error of a command that was not carried out. Its texts are
// for the person who gave the command; what only the log may know is in Event.
type Refusal struct {
	Code    Code
	Message string
	Hint    string            // what to do next, empty if nothing helps
	Reason  events.DenyReason // of Denied
	Event   uuid.UUID         // the event that records the refusal, zero for none
	Cause   error             // of Unavailable

	Rotation events.RotationID // of Conflict: that is under way, zero for none
}

func (r *Refusal) Error() string {
	if r.Hint == "" {
		return r.Message
	}
	return r.Message + "; " + r.Hint
}

// Unwrap gives the cause.
func (r *Refusal) Unwrap() error { return r.Cause }

func invalid(hint, format string, args ...any) error {
	return &Refusal{Code: Invalid, Message: fmt.Sprintf(format, args...), Hint: hint}
}

func conflict(hint, format string, args ...any) error {
	return &Refusal{Code: Conflict, Message: fmt.Sprintf(format, args...), Hint: hint}
}

func notFound(hint, format string, args ...any) error {
	return &Refusal{Code: NotFound, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// denied is a refusal that is an event. detail is the full reason, for the log only.
func denied(by events.Actor, env Env, e events.AccessDenied, message, hint string) ([]events.Draft, error) {
	d := newDecision(by, env)
	e.Login, e.Source = bounded(e.Login, maxLogin), bounded(e.Source, maxText)
	e.Fingerprint, e.Detail = bounded(e.Fingerprint, maxText), bounded(e.Detail, maxText)
	d.add(d.id(), e)
	drafts, err := d.done()
	if err != nil {
		return nil, err
	}
	return drafts, &Refusal{Code: Denied, Reason: e.Reason, Message: message, Hint: hint, Event: drafts[0].ID}
}

// lookup turns the error of a lookup by name into a refusal for an administrator.
func lookup(what, name string, err error) error {
	var several *aggregate.ConflictError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &several):
		return conflict("name the one you mean by its id, and remove or disable all but one",
			"%s %s stands for %d: %v", several.What, quoted(several.Name), len(several.IDs), several.IDs)
	case errors.Is(err, aggregate.ErrUnknown):
		return notFound("see `"+what+" ls`", "no %s %s", what, quoted(name))
	}
	return conflict("", "%s %s: %v", what, quoted(name), err)
}

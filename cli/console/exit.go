package console

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/projections"
	"github.com/holdfast-pam/holdfast/replay"
)

// Exit is the exit code of a verb, part of the contract with scripts.
type Exit int

// The exit codes.
const (
	Done        Exit = 0  // it was done
	Failed      Exit = 1  // it failed in a way that no other code names
	Usage       Exit = 2  // the line is not one that can be run
	NotFound    Exit = 3  // something that it names does not exist
	Login       Exit = 4  // the gateway did not accept who you are
	Denied      Exit = 5  // it is not allowed
	Conflict    Exit = 6  // it does not fit the present state
	Damaged     Exit = 7  // an integrity check failed
	Partly      Exit = 8  // it was done in part
	Unavailable Exit = 9  // the site or something that it needs can't be used now
	Waiting     Exit = 10 // it waits for somebody's approval
)

// String is the code's name in the JSON form of an error.
func (e Exit) String() string {
	names := [...]string{"done", "failed", "usage", "not_found", "login_needed", "denied",
		"conflict", "integrity", "partly", "unavailable", "waiting"}
	if e < 0 || int(e) >= len(names) {
		return "failed"
	}
	return names[e]
}

// Fault is an error as a person or script at the console sees it.
type Fault struct {
	Exit    Exit
	Message string    // what failed, on what
	Hint    string    // what to do next; may be empty
	Event   uuid.UUID // the event that holds the refusal; zero if there is none
	cause   error
}

func (f *Fault) Error() string { return f.Message }

// Unwrap gives the error that the fault was made from, if any.
func (f *Fault) Unwrap() error { return f.cause }

func usageError(format string, args ...any) *Fault {
	return &Fault{Exit: Usage, Message: fmt.Sprintf(format, args...)}
}

func notFound(err *projections.NotFoundError) *Fault {
	noun, hint := err.Noun, "see `"+err.Noun+" ls`"
	if noun == "audit" {
		noun, hint = "event", "give the id of an event or its position in the log; see `audit tail`"
	}
	return &Fault{Exit: NotFound, Message: fmt.Sprintf("no %s %q", noun, err.Ref), Hint: hint, cause: err}
}

// exitOf gives the exit code of each class of refusal.
var exitOf = map[commands.Code]Exit{
	commands.NotFound: NotFound, commands.Denied: Denied, commands.Conflict: Conflict,
	commands.Invalid: Usage, commands.Unavailable: Unavailable,
}

// AsFault turns any error into the fault that it is shown as. It is the one
// place where errors of other packages are given exit codes.
func AsFault(err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	var r *commands.Refusal
	if errors.As(err, &r) {
		return &Fault{Exit: exitOf[r.Code], Message: r.Message, Hint: r.Hint, Event: r.Event, cause: err}
	}
	var missing *projections.NotFoundError
	if errors.As(err, &missing) {
		return notFound(missing)
	}
	f = &Fault{Exit: Failed, Message: err.Error(), cause: err}
	switch {
	case errors.Is(err, projections.ErrConflict), errors.Is(err, projections.ErrRebuilding):
		f.Exit = Conflict
	case errors.Is(err, replay.ErrNoChannel):
		f.Exit, f.Hint = NotFound, "session export ID --format json lists the channels"
	case errors.Is(err, replay.ErrRecordOrder):
		f.Exit = Damaged
	case errors.As(err, new(*replay.IncompleteError)):
		f.Exit, f.Hint = Partly, "everything that the recording holds was written"
	case errors.Is(err, vault.ErrBadSecret):
		f.Exit = Usage
	case errors.Is(err, seal.ErrSealed):
		f.Exit = Unavailable
	case errors.Is(err, store.ErrDamaged), errors.Is(err, events.ErrBadRecord):
		f.Exit, f.Hint = Damaged, "nothing was changed; compare with a replica or a backup before you write to this log"
	case errors.As(err, new(*projections.FailedError)):
		f.Exit, f.Hint = Unavailable, "projection rebuild builds the views again from the log"
	case errors.Is(err, events.ErrPayloadAbsent):
		f.Exit = NotFound
	case errors.Is(err, store.ErrFull):
		f.Exit, f.Hint = Unavailable, "free space on the volume of the data directory"
	case errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrFenced), errors.Is(err, store.ErrSealed),
		errors.Is(err, context.DeadlineExceeded):
		f.Exit, f.Hint = Unavailable, "try again; see status"
	}
	return f
}

// lowerFirst is the text of a library's error in the house's form.
func lowerFirst(err error) string {
	s := err.Error()
	return strings.ToLower(s[:1]) + s[1:]
}

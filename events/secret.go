package events

import (
	"time"

	"github.com/google/uuid"
)

// Events of a credential's stream that a rotation makes, and those that say
// who was shown a secret.

// ChangeVerb is how a target is asked for a change of secret.
type ChangeVerb string

const (
	// ChangeAsItself proves the old secret together with the change (rule R2).
	ChangeAsItself ChangeVerb = "as_itself"
	// ChangePrivileged resets the secret through another account.
	ChangePrivileged ChangeVerb = "privileged"
)

// SecretSent says that a target is about to be asked to take a version. It is
// durable before the first byte goes out; while no event answers it, whether
// the target holds the version is unknown.
type SecretSent struct {
	Version  SecretID   `json:"version"`
	Rotation RotationID `json:"rotation"`
	Verb     ChangeVerb `json:"verb"`
	Presents SecretID   `json:"presents"`          // version that the login for it presents
	Via      AccountID  `json:"via,omitzero"`      // whose version that is, if another account's
	Replaces SecretID   `json:"replaces,omitzero"` // version that was held to be true; zero if none was
	Alone    bool       `json:"alone,omitempty"`   // no other site that may open it was known to hold it
	Proven   bool       `json:"proven,omitempty"`  // the target accepted what it presents a moment before, so its login can't be a wrong one
}

var _ = define[SecretSent]("secret.sent", 1)

// SecretRefused says that the target did not take a version that it was sent:
// it holds what it held before.
type SecretRefused struct {
	Version      SecretID   `json:"version"`
	Rotation     RotationID `json:"rotation"`
	Try          TryID      `json:"try"`
	NotPresented bool       `json:"not_presented,omitempty"` // no secret reached it: nothing counts against a lock-out
	Rejected     bool       `json:"rejected,omitempty"`      // the login for it was turned down: it was never asked
	Detail       string     `json:"detail,omitempty"`
}

var _ = define[SecretRefused]("secret.refused", 1)

// SecretUnknown says that a version that was sent may or may not have taken
// effect, or may yet; or, with Alarm, that no known version was accepted, so
// that a person has to look.
type SecretUnknown struct {
	Version  SecretID   `json:"version,omitzero"`
	Rotation RotationID `json:"rotation,omitzero"`
	Try      TryID      `json:"try,omitzero"`
	Alarm    bool       `json:"alarm,omitempty"`
	Detail   string     `json:"detail,omitempty"`
}

var _ = define[SecretUnknown]("secret.unknown", 1)

// SecretRecovered says that a target may hold a version, of which only a part of a log
// says so that does not count: it was written twice, or its site was fenced (rule R14).
// It is by a site that holds that part, and brings the version to those that do not. It
// is found out by testing.
type SecretRecovered struct {
	Version  SecretID  `json:"version"`
	Sealed   []byte    `json:"sealed"`
	Public   string    `json:"public,omitempty"`
	Key      uuid.UUID `json:"key,omitzero"` // as in secret.staged
	Log      Origin    `json:"log"`          // that says so
	Position uint64    `json:"position"`
}

var _ = define[SecretRecovered]("secret.recovered", 1)

// SecretTried says that a rotation is about to log in with a version to see
// whether the target takes it. Until an event answers it, it counts against the
// lock-out budget.
type SecretTried struct {
	Version  SecretID   `json:"version"`
	Rotation RotationID `json:"rotation"`
}

var _ = define[SecretTried]("secret.tried", 1)

// SecretRejected says that the target turned a version down, or that it takes
// no login of the account now.
type SecretRejected struct {
	Version  SecretID   `json:"version"`
	Rotation RotationID `json:"rotation,omitzero"`
	Session  SessionID  `json:"session,omitzero"` // that presented it
	Try      TryID      `json:"try,omitzero"`     // zero for a session's
	Locked   bool       `json:"locked,omitempty"` // the account is locked: it says nothing about the version
	Detail   string     `json:"detail,omitempty"`
}

var _ = define[SecretRejected]("secret.rejected", 1)

// SecretUnanswered says that a login with a version showed nothing.
type SecretUnanswered struct {
	Version      SecretID   `json:"version"`
	Rotation     RotationID `json:"rotation,omitzero"`
	Session      SessionID  `json:"session,omitzero"`        // that presented it
	Try          TryID      `json:"try,omitzero"`            // zero for a session's
	NotPresented bool       `json:"not_presented,omitempty"` // nothing counts against a lock-out
	Detail       string     `json:"detail,omitempty"`
}

var _ = define[SecretUnanswered]("secret.unanswered", 1)

// SecretRetired says that the target was made to refuse an old version that it
// took beside the new one.
type SecretRetired struct {
	Version  SecretID   `json:"version"`
	Rotation RotationID `json:"rotation"`
}

var _ = define[SecretRetired]("secret.retired", 1)

// SecretRevealed says that a version is about to be shown to the event's actor,
// who knows it from then on. It is durable before the first byte is shown.
type SecretRevealed struct {
	Version SecretID `json:"version"`
	Reason  string   `json:"reason"`
}

var _ = define[SecretRevealed]("secret.revealed", 1)

// SecretCheckedOut grants the event's actor the exclusive use of the secret for
// a time, and says that the version is about to be shown to them.
type SecretCheckedOut struct {
	Version SecretID  `json:"version"`
	Until   time.Time `json:"until"`
	Reason  string    `json:"reason"`
}

var _ = define[SecretCheckedOut]("secret.checked_out", 1)

// SecretExclusivityBroken says that several people had the secret to themselves
// at once, by sites that did not know of each other.
type SecretExclusivityBroken struct {
	Leases []LeaseID `json:"leases"`
	From   time.Time `json:"from"` // when the second one began, by its site's clock
	Until  time.Time `json:"until"`
}

var _ = define[SecretExclusivityBroken]("secret.exclusivity_broken", 1)

// SecretCheckedIn ends a check-out.
type SecretCheckedIn struct {
	Lease   LeaseID `json:"lease"`
	Expired bool    `json:"expired,omitempty"` // its time was over
	Reason  string  `json:"reason,omitempty"`
}

var _ = define[SecretCheckedIn]("secret.checked_in", 1)

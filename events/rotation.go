package events

import (
	"time"

	"github.com/google/uuid"
)

// RotationID names one rotation, which is a stream of its own.
type RotationID struct{ uuid.UUID }

// IsZero reports whether the id names nothing.
func (id RotationID) IsZero() bool { return id.UUID == uuid.Nil }

// LeaseID names a check-out: the id of the event that granted it.
type LeaseID struct{ uuid.UUID }

// IsZero reports whether the id names nothing.
func (id LeaseID) IsZero() bool { return id.UUID == uuid.Nil }

// TryID names one presentation of a secret at a target that may count against
// a lock-out: the id of the secret.sent or secret.tried before it.
type TryID struct{ uuid.UUID }

// IsZero reports whether the id names nothing.
func (id TryID) IsZero() bool { return id.UUID == uuid.Nil }

// RotationWhy says what a rotation was planned for.
type RotationWhy string

const (
	// WhyAsked: an administrator asked for it.
	WhyAsked RotationWhy = "asked"
	// WhySchedule: the policy's interval has passed.
	WhySchedule RotationWhy = "schedule"
	// WhyAge: the secret has reached the policy's maximum age.
	WhyAge RotationWhy = "age"
	// WhyReveal: somebody was shown the secret.
	WhyReveal RotationWhy = "reveal"
	// WhyCheckin: an exclusive check-out has ended.
	WhyCheckin RotationWhy = "checkin"
	// WhyUse: a session used the secret.
	WhyUse RotationWhy = "use"
	// WhyExposed: a site that could open the secret was fenced, or left.
	WhyExposed RotationWhy = "exposed"
	// WhyDoubt: it is not known which secret the target takes.
	WhyDoubt RotationWhy = "doubt"
)

// RotationPlanned begins a rotation of one credential.
type RotationPlanned struct {
	Credential CredentialID `json:"credential"`
	Account    AccountID    `json:"account"`
	Why        RotationWhy  `json:"why"`
	SettleOnly bool         `json:"settle_only,omitempty"` // only find out which secret is true
}

var _ = define[RotationPlanned]("rotation.planned", 1)

// RotationDeferred says that the next step waits, and until when at the least.
type RotationDeferred struct {
	Until  time.Time `json:"until"`
	Detail string    `json:"detail"`
}

var _ = define[RotationDeferred]("rotation.deferred", 1)

// RotationResult says what became of a rotation.
type RotationResult string

const (
	// RotationVerified: the target takes the secret that it was to take.
	RotationVerified RotationResult = "verified"
	// RotationFailed: the target takes the secret that it took before.
	RotationFailed RotationResult = "failed"
	// RotationUnknown: none of the known secrets was accepted.
	RotationUnknown RotationResult = "unknown"
	// RotationYielded: another site took over what this one carried out.
	RotationYielded RotationResult = "yielded"
)

// RotationEnded ends a rotation.
type RotationEnded struct {
	Result  RotationResult `json:"result"`
	Version SecretID       `json:"version,omitzero"` // that the target takes; zero if that is unknown
	Detail  string         `json:"detail,omitempty"`
}

var _ = define[RotationEnded]("rotation.ended", 1)

// Disclosure says who may be shown a secret.
type Disclosure string

const (
	// ToAdmins: administrators only.
	ToAdmins Disclosure = "admin"
	// ToGranted: also who has a standing grant for the account.
	ToGranted Disclosure = "granted"
)

// Isolation says which rotations go on at a site of a mesh while no other site that
// may open the new secret holds it: was this site's disk lost then, so was the secret
// (rule R1).
type Isolation string

const (
	// IsolatedNever: none, whoever asks.
	IsolatedNever Isolation = "never"
	// IsolatedAsked: those that an administrator asks for.
	IsolatedAsked Isolation = "asked"
	// IsolatedAlways: all.
	IsolatedAlways Isolation = "always"
)

// RotationPolicy says how the secrets of an account are made, changed and
// tested. A zero field says nothing: what the target's policy says holds for
// its accounts, and the defaults for both. Times are in seconds.
type RotationPolicy struct {
	Length    uint32   `json:"length,omitempty"`    // characters of a made password
	Classes   []string `json:"classes,omitempty"`   // at least one character of each: lower, upper, digit, symbol
	Forbidden string   `json:"forbidden,omitempty"` // characters that no made password has

	Every       uint64 `json:"every,omitempty"`        // rotate when the secret is that old
	MaxAge      uint64 `json:"max_age,omitempty"`      // older than that is overdue
	AfterReveal uint64 `json:"after_reveal,omitempty"` // rotate that long after somebody was shown it
	AfterUse    uint64 `json:"after_use,omitempty"`    // rotate that long after the last session with it
	Jitter      uint64 `json:"jitter,omitempty"`       // scheduled rotations are spread over that time

	LockoutThreshold uint32 `json:"lockout_threshold,omitempty"` // wrong logins at which the target locks the account
	LockoutWindow    uint64 `json:"lockout_window,omitempty"`    // in which the target counts them
	Cumulative       bool   `json:"cumulative,omitempty"`        // a good login does not make the target forget the wrong ones
	Concurrency      uint32 `json:"concurrency,omitempty"`       // rotations at once on one target

	Disclose Disclosure `json:"disclose,omitempty"` // who may reveal and check out
	Isolated Isolation  `json:"isolated,omitempty"` // what goes on without a second copy of the new secret
}

// RotationPolicySet replaces the policy of a target or of an account, whose id
// is the stream.
type RotationPolicySet struct {
	Policy RotationPolicy `json:"policy"`
}

var _ = define[RotationPolicySet]("rotation.policy_set", 1)

package events

// Role is what a user may do at the console. Reaching targets is a matter of
// grants alone.
type Role string

const (
	// Admin may use every verb.
	Admin Role = "admin"
	// Auditor may read everything and change nothing.
	Auditor Role = "auditor"
	// Operator may see what is their own.
	Operator Role = "operator"
	// Approver is an operator whom policies may name to decide on requests.
	Approver Role = "approver"
)

// UserAdded makes a user: a person or automation with an identity.
type UserAdded struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
}

var _ = define[UserAdded]("user.added", 1)

// UserKeyAdded gives a user a public key. A key belongs to one user.
type UserKeyAdded struct {
	Key         string `json:"key"`         // authorized_keys form without options and comment
	Fingerprint string `json:"fingerprint"` // "SHA256:..."
	Comment     string `json:"comment,omitempty"`
}

var _ = define[UserKeyAdded]("user.key_added", 1)

// UserKeyRemoved takes a key away.
type UserKeyRemoved struct {
	Fingerprint string `json:"fingerprint"`
}

var _ = define[UserKeyRemoved]("user.key_removed", 1)

// UserDisabled shuts a user out and ends what they have open.
type UserDisabled struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[UserDisabled]("user.disabled", 1)

// UserLimitsSet bounds what a user may use. It replaces the limits before.
type UserLimitsSet struct {
	MaxSessions uint32 `json:"max_sessions"` // at once, on all targets; 0 for no limit
}

var _ = define[UserLimitsSet]("user.limits_set", 1)

package events

// DenyReason is the class of a denied access.
type DenyReason string

// The reasons, as stored.
const (
	UnknownKey      DenyReason = "unknown key"
	UserIsDisabled  DenyReason = "user disabled"
	UnknownTarget   DenyReason = "unknown target"
	UnknownAccount  DenyReason = "unknown account"
	NoGrant         DenyReason = "no grant"
	GrantExpired    DenyReason = "grant expired"
	NotAllowedVerb  DenyReason = "verb not allowed"
	NoSpace         DenyReason = "no space to record"
	SiteSealed      DenyReason = "site sealed"
	TooMany         DenyReason = "too many connections"
	NameConflict    DenyReason = "name or key in conflict" // several live holders, see rule R6
	Suspended       DenyReason = "suspended"               // made while its maker was disabled elsewhere, rule R9
	NoSecret        DenyReason = "no usable secret"
	TooManySessions DenyReason = "too many sessions"    // of the user, the grant or the target
	HostKeyUnclear  DenyReason = "host key in conflict" // sites pinned different ones
	BadCertificate  DenyReason = "certificate refused"  // revoked, out of its time, for somebody or something else
	NoSessions      DenyReason = "takes no sessions"    // the target is not an SSH one
	RequestWaits    DenyReason = "request undecided"
	OutsideTime     DenyReason = "outside the grant's time" // before it begins, or in none of its windows
	NoFactor        DenyReason = "second factor missing"    // needed, and not proven by this login
	FactorRefused   DenyReason = "second factor refused"    // wrong, spent, locked, or not to be checked now
	Stale           DenyReason = "no news"                  // of the user's home site, and the role is strict (rule R10)
	NewerDecision   DenyReason = "newer decision"           // on something of the session, by a version that this one can't read (rule R20)
	BadInvitation   DenyReason = "invitation refused"       // not open, or not for who showed it
)

// AccessDenied records a refusal at the door or at the console. It has a
// stream of its own. What the client said is stored bounded and as it came:
// it is for the eyes of auditors and escaped wherever it is shown.
type AccessDenied struct {
	Reason      DenyReason `json:"reason"`
	Login       string     `json:"login"`         // SSH user name as sent, at most 255 bytes, valid UTF-8
	Source      string     `json:"source"`        // client's address
	User        UserID     `json:"user,omitzero"` // where a key was proven
	Fingerprint string     `json:"fingerprint,omitempty"`
	Detail      string     `json:"detail,omitempty"` // the full reason, for the log only
}

var _ = define[AccessDenied]("access.denied", 1)

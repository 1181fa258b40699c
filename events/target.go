package events

// TargetKind is the protocol that a target speaks.
type TargetKind string

// The kinds, as stored. A target that was stored without a kind is an [SSH] one.
const (
	SSH      TargetKind = "ssh"
	Postgres TargetKind = "postgres"
	MySQL    TargetKind = "mysql" // MariaDB too
	LDAP     TargetKind = "ldap"
	Exec     TargetKind = "exec" // a program of the site's own speaks to it
)

// Param is one parameter of a target or an account: what its kind needs to
// know besides the address.
type Param struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// TargetAdded makes a target: an administrative interface that the gateway
// reaches, with the host keys that it must prove if it is an SSH one.
type TargetAdded struct {
	Name     string     `json:"name"`
	Addr     string     `json:"addr"`              // host:port
	HostKeys []string   `json:"host_keys"`         // authorized_keys form
	Scanned  bool       `json:"scanned,omitempty"` // keys were taken from the target itself, not given
	Kind     TargetKind `json:"kind,omitempty"`    // empty for ssh
	Params   []Param    `json:"params,omitempty"`  // sorted by name
}

var _ = define[TargetAdded]("target.added", 1)

// TargetScanRequested records that the site is about to ask an address for its
// host keys, durable before anything is dialled. What came of it is in the
// target.added or target.host_key_pinned of the same target; where there is
// none, nothing did. For a new target the name is the one asked for.
type TargetScanRequested struct {
	Name string `json:"name"`
	Addr string `json:"addr"` // host:port
}

var _ = define[TargetScanRequested]("target.scan_requested", 1)

// TargetHostKeyPinned replaces the host keys of a target.
type TargetHostKeyPinned struct {
	HostKeys []string `json:"host_keys"`
	Scanned  bool     `json:"scanned,omitempty"`
}

var _ = define[TargetHostKeyPinned]("target.host_key_pinned", 1)

// TargetHostKeyRefused records that a target presented a host key other than
// the pinned ones, and that nothing was sent to it.
type TargetHostKeyRefused struct {
	Presented string    `json:"presented"` // authorized_keys form
	Session   SessionID `json:"session,omitzero"`
}

var _ = define[TargetHostKeyRefused]("target.host_key_refused", 1)

// TargetAlgorithmsAllowed opts one target in to legacy algorithms, by their
// SSH names. It replaces the list before.
type TargetAlgorithmsAllowed struct {
	Algorithms []string `json:"algorithms"`
}

var _ = define[TargetAlgorithmsAllowed]("target.algorithms_allowed", 1)

// TargetLimitsSet bounds the use of a target. It replaces the limits before.
type TargetLimitsSet struct {
	MaxSessions uint32 `json:"max_sessions"` // at once, of all users; 0 for no limit
}

var _ = define[TargetLimitsSet]("target.limits_set", 1)

// TargetParamsSet replaces all parameters of a target.
type TargetParamsSet struct {
	Params []Param `json:"params,omitempty"` // sorted by name
}

var _ = define[TargetParamsSet]("target.params_set", 1)

// TargetRemoved retires a target. Its history stays.
type TargetRemoved struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[TargetRemoved]("target.removed", 1)

// TargetRestored takes back the removals of a target that its site knew of, and with
// them those of accounts that were not removed by themselves. Grants and requests of
// before do not come back.
type TargetRestored struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[TargetRestored]("target.restored", 1)

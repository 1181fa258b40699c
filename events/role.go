package events

import "github.com/google/uuid"

// Staleness says what a site does for people whose home site it has not heard
// of for a while (rule R10).
type Staleness string

const (
	// BestEffort goes on with what is known.
	BestEffort Staleness = "best_effort"
	// Strict starts no session after the given time without news, and ends them after twice as long.
	Strict Staleness = "strict"
)

// RoleSet says what holds for everybody of a role, in place of what was said
// before. Of settings that did not know of each other, the strictest counts in
// each field (rule R6).
type RoleSet struct {
	Role         Role      `json:"role"`
	SecondFactor bool      `json:"second_factor,omitempty"` // needed for the console and for sessions
	Staleness    Staleness `json:"staleness,omitempty"`     // empty is BestEffort
	FactorReuse  uint64    `json:"factor_reuse,omitempty"`  // of SecondFactor: seconds for which a code does for further logins
	Within       uint64    `json:"within,omitempty"`        // of Strict: seconds without news after which no session starts
}

var _ = define[RoleSet]("role.set", 1)

// RoleStream is the aggregate of a role's settings, the same at every site.
func RoleStream(r Role) uuid.UUID { return uuid.NewSHA1(roleSpace, []byte(r)) }

// roleSpace is the name space of roles (RFC 9562 section 5.5), drawn once.
var roleSpace = uuid.MustParse("6f0e3a52-5c0f-4a0e-9d6b-0d8a1c0e7b1f")

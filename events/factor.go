package events

import (
	"time"

	"github.com/google/uuid"
)

// FactorID names a second factor: what a user has beside their key. It is also
// the name of the data key that seals its secret.
type FactorID struct{ uuid.UUID }

// IsZero reports whether the id names nothing.
func (id FactorID) IsZero() bool { return id.UUID == uuid.Nil }

// FactorKind is how somebody proves a second factor.
type FactorKind string

const (
	// TOTP is a code of RFC 6238: SHA-1, six digits, a step of 30 seconds.
	TOTP FactorKind = "totp"
	// Recovery is one of the codes that were given out beside it.
	Recovery FactorKind = "recovery"
)

// FactorEnrolled gives a user a secret for their second factor. It counts only
// from factor.confirmed on. The site that writes this owns the factor: what
// other sites say of it counts for nothing, so each code is spent in one log
// (rule R12).
type FactorEnrolled struct {
	User   UserID `json:"user"`
	Sealed []byte `json:"sealed"` // the secret, under the factor's data key
}

var _ = define[FactorEnrolled]("factor.enrolled", 1)

// FactorConfirmed says that the user has shown a first code, which is spent.
// The factor takes the place of those that the user had before.
type FactorConfirmed struct {
	Step     uint64   `json:"step"`               // of the first code: Unix time over 30 seconds
	Recovery [][]byte `json:"recovery,omitempty"` // hashes of the recovery codes, in order
}

var _ = define[FactorConfirmed]("factor.confirmed", 1)

// FactorRedeemed spends a code and all older ones. It is durable before the
// login that it lets through goes on.
type FactorRedeemed struct {
	Step        uint64 `json:"step"`
	Source      string `json:"source"`      // client's address
	Fingerprint string `json:"fingerprint"` // of the key that was proven before
}

var _ = define[FactorRedeemed]("factor.redeemed", 1)

// FactorRecovered spends a recovery code, in place of a code.
type FactorRecovered struct {
	Number      uint32 `json:"number"` // of the code, from 0
	Source      string `json:"source"`
	Fingerprint string `json:"fingerprint"`
}

var _ = define[FactorRecovered]("factor.recovered", 1)

// FactorReused records a login without a code: one from the same address by
// the same key was redeemed not long before, and a rule allows that.
type FactorReused struct {
	At          time.Time `json:"at"` // when the code was redeemed, UTC
	Source      string    `json:"source"`
	Fingerprint string    `json:"fingerprint"`
}

var _ = define[FactorReused]("factor.reused", 1)

// FactorMissed records a wrong code from somebody who had proven the key.
type FactorMissed struct {
	Source      string    `json:"source"`
	Fingerprint string    `json:"fingerprint"`
	Detail      string    `json:"detail,omitempty"`
	Locked      time.Time `json:"locked,omitzero"` // until when no code is taken, UTC; zero for no lock
}

var _ = define[FactorMissed]("factor.missed", 1)

// UserFactorReset takes a user's second factor away with its recovery codes,
// for whoever lost it. It wins over one that was confirmed without it being known.
type UserFactorReset struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[UserFactorReset]("user.factor_reset", 1)

// FactorNeed says who needs a second factor.
type FactorNeed string

const (
	// FactorNeeded means the user can do nothing without.
	FactorNeeded FactorNeed = "required"
	// FactorByRole means what the user's role says.
	FactorByRole FactorNeed = "role"
	// FactorExempt means the user needs none, whatever their role says: for automation.
	FactorExempt FactorNeed = "off"
)

// UserFactorRuleSet says whether a user needs a second factor, in place of
// what was said before. Of rules that did not know of each other the strictest
// counts.
type UserFactorRuleSet struct {
	Need  FactorNeed `json:"need"`
	Reuse uint64     `json:"reuse,omitempty"` // of FactorNeeded: seconds for which a code does for further logins
}

var _ = define[UserFactorRuleSet]("user.factor_rule_set", 1)

// Factor says how a login proved a second factor.
type Factor struct {
	ID     FactorID   `json:"id"`
	Kind   FactorKind `json:"kind"`
	At     time.Time  `json:"at"`               // when the code was redeemed, UTC
	Reused bool       `json:"reused,omitempty"` // by an earlier login, see FactorReused
}

// IsZero reports whether there was none; it is what omitzero asks.
func (f Factor) IsZero() bool { return f == Factor{} }

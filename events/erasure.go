package events

import "github.com/google/uuid"

// Erasing is destroying a data key at every site (rule R19): what it sealed can't be
// opened again, while the logs and their evidence stay whole. Its stream is what is
// erased. It takes two people, since nobody can take it back.

// Erasable is what can be erased.
type Erasable string

const (
	// ErasableRecording is the recording of a session; the stream is the session.
	ErasableRecording Erasable = "recording"
	// ErasableSecrets are all versions of a removed account's secret; the stream is the credential.
	ErasableSecrets Erasable = "secrets"
)

// ErasureAsked asks for an erasure. By itself it changes nothing.
type ErasureAsked struct {
	What        Erasable `json:"what"`
	Reason      string   `json:"reason"`
	Fingerprint string   `json:"fingerprint"` // of the key that the asker proved
}

var _ = define[ErasureAsked]("erasure.asked", 1)

// ErasureConfirmed is a second administrator's word: what was asked is erased from
// here on, at every site as soon as it knows.
type ErasureConfirmed struct {
	Ask         uuid.UUID `json:"ask"` // event that asked
	AskedBy     UserID    `json:"asked_by"`
	What        Erasable  `json:"what"`
	Reason      string    `json:"reason"` // of the ask
	Fingerprint string    `json:"fingerprint"`
}

var _ = define[ErasureConfirmed]("erasure.confirmed", 1)

// ErasureWithdrawn takes back what was asked and is known to its site, and not
// confirmed before that is known.
type ErasureWithdrawn struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[ErasureWithdrawn]("erasure.withdrawn", 1)

// ErasureDone says that its own site holds no data key any more for what was erased.
type ErasureDone struct{}

var _ = define[ErasureDone]("erasure.done", 1)

package events

import (
	"fmt"

	"github.com/google/uuid"
)

// The identifiers of aggregates. Each is the UUID of the aggregate's stream,
// stored as 16 bytes and shown in the canonical text form. They are distinct
// types so that one cannot be passed for another.
type (
	SiteID       struct{ uuid.UUID }
	UserID       struct{ uuid.UUID }
	TargetID     struct{ uuid.UUID }
	AccountID    struct{ uuid.UUID }
	CredentialID struct{ uuid.UUID }
	GrantID      struct{ uuid.UUID }
	SessionID    struct{ uuid.UUID }
	CAID         struct{ uuid.UUID }
	InvitationID struct{ uuid.UUID }
)

// SecretID names one version of a credential's secret: the id of the event
// that staged it (rule R1).
type SecretID struct{ uuid.UUID }

// NewID returns a fresh UUIDv7 (RFC 9562 section 5.7). It fails only when the
// machine's source of randomness does.
func NewID() (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.UUID{}, fmt.Errorf("make an id: %w", err)
	}
	return id, nil
}

// IsZero reports whether the id names nothing; it is what omitzero asks.
func (id SiteID) IsZero() bool { return id.UUID == uuid.Nil }

// IsZero reports whether the id names nothing.
func (id UserID) IsZero() bool { return id.UUID == uuid.Nil }

// IsZero reports whether the id names nothing.
func (id TargetID) IsZero() bool { return id.UUID == uuid.Nil }

// IsZero reports whether the id names nothing.
func (id AccountID) IsZero() bool { return id.UUID == uuid.Nil }

// IsZero reports whether the id names nothing.
func (id CredentialID) IsZero() bool { return id.UUID == uuid.Nil }

// IsZero reports whether the id names nothing.
func (id GrantID) IsZero() bool { return id.UUID == uuid.Nil }

// IsZero reports whether the id names nothing.
func (id SessionID) IsZero() bool { return id.UUID == uuid.Nil }

// IsZero reports whether the id names nothing.
func (id SecretID) IsZero() bool { return id.UUID == uuid.Nil }

// IsZero reports whether the id names nothing.
func (id CAID) IsZero() bool { return id.UUID == uuid.Nil }

// IsZero reports whether the id names nothing.
func (id InvitationID) IsZero() bool { return id.UUID == uuid.Nil }

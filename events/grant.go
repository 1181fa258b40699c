package events

import "time"

// GrantAdded allows a user to open sessions as an account.
type GrantAdded struct {
	User    UserID    `json:"user"`
	Account AccountID `json:"account"`
	Expires time.Time `json:"expires,omitzero"` // UTC; zero means no end
}

var _ = define[GrantAdded]("grant.added", 1)

// GrantRemoved takes a grant away for good; a new grant is a new aggregate.
type GrantRemoved struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[GrantRemoved]("grant.removed", 1)

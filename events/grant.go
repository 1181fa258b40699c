package events

import "time"

// GrantAdded allows a user to open sessions as an account.
type GrantAdded struct {
	User    UserID    `json:"user"`
	Account AccountID `json:"account"`
	Expires time.Time `json:"expires,omitzero"` // UTC; zero means no end
}

var _ = define[GrantAdded]("grant.added", 1)

// GrantRemoved takes a grant away for good; a new grant is a new aggregate. It
// names the right that it ends, since every other grant of the same user and
// account whose site did not know of it falls with it (rule R8).
type GrantRemoved struct {
	User    UserID    `json:"user,omitzero"`
	Account AccountID `json:"account,omitzero"`
	Reason  string    `json:"reason,omitempty"`
}

var _ = define[GrantRemoved]("grant.removed", 1)

package projections

import (
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// Erasure is what became of the wish to erase a recording, or the secrets of a removed
// account (rule R19). It comes from the
// state that decides, and not from a projection: what it says may change with what is
// heard late.
type Erasure struct {
	Session     events.SessionID `json:"session,omitzero"`
	Account     string           `json:"account,omitempty"` // of which the secrets are erased
	AccountID   events.AccountID `json:"account_id,omitzero"`
	State       string           `json:"state"` // "asked", "withdrawn", "void" or "erased"
	Reason      string           `json:"reason"`
	AskedBy     string           `json:"asked_by"`
	Asked       time.Time        `json:"asked"`
	ConfirmedBy string           `json:"confirmed_by,omitempty"`
	Confirmed   time.Time        `json:"confirmed,omitzero"`
	Done        []ErasedSite     `json:"done"`    // sites that hold no key any more
	Waiting     []string         `json:"waiting"` // sites that have not said so
	Gone        []string         `json:"gone"`    // likewise, and they are fenced or have left
}

// ErasedSite is a site that has erased something.
type ErasedSite struct {
	Site string    `json:"site"`
	Time time.Time `json:"time"`
}

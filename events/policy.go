package events

import "github.com/google/uuid"

// PolicyID names a policy.
type PolicyID struct{ uuid.UUID }

// IsZero reports whether the id names nothing.
func (id PolicyID) IsZero() bool { return id.UUID == uuid.Nil }

// Party is one or many people: exactly one field is set.
type Party struct {
	User   UserID  `json:"user,omitzero"`
	Group  GroupID `json:"group,omitzero"`
	Role   Role    `json:"role,omitempty"`
	Anyone bool    `json:"anyone,omitempty"`
}

// PolicyAdded says who may ask for access within a scope, and who decides. It
// is never changed: a policy that says something else is a new one.
type PolicyAdded struct {
	Name       string    `json:"name"`
	Account    AccountID `json:"account,omitzero"` // the scope: one account, or
	Selector   Selector  `json:"selector,omitempty"`
	Requesters []Party   `json:"requesters,omitempty"` // none: nobody may ask
	Approvers  []Party   `json:"approvers,omitempty"`
	Approvals  uint32    `json:"approvals"`        // by so many different people, never the requester; 0 for none
	MaxTime    uint64    `json:"max_time"`         // seconds that may be asked for
	MaxUses    uint32    `json:"max_uses"`         // logins that may be asked for
	Ticket     bool      `json:"ticket,omitempty"` // must be named
	Decide     uint64    `json:"decide"`           // seconds after which a request without a decision lapses
	Keep       bool      `json:"keep,omitempty"`   // what is open when the time is over goes on
	Terms      Terms     `json:"terms,omitzero"`   // of the sessions
}

var _ = define[PolicyAdded]("policy.added", 1)

// PolicyRemoved takes a policy away for good. What was asked for under it
// counts no more, unless another policy allows it.
type PolicyRemoved struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[PolicyRemoved]("policy.removed", 1)

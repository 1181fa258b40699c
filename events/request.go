package events

import (
	"time"

	"github.com/google/uuid"
)

// RequestID names a request for access, one that was asked for or one that was
// taken by breaking the glass.
type RequestID struct{ uuid.UUID }

// IsZero reports whether the id names nothing.
func (id RequestID) IsZero() bool { return id.UUID == uuid.Nil }

// RequestMade asks for access to an account for a time.
type RequestMade struct {
	User        UserID    `json:"user"`
	Account     AccountID `json:"account"`
	Reason      string    `json:"reason"`
	Ticket      string    `json:"ticket,omitempty"`
	From        time.Time `json:"from,omitzero"` // UTC; zero means from the last approval on
	For         uint64    `json:"for"`           // seconds
	Uses        uint32    `json:"uses"`          // logins
	Decide      time.Time `json:"decide"`        // UTC; approvals given later count for nothing
	Fingerprint string    `json:"fingerprint"`   // of the key that the requester proved: whoever has it does not approve

	Policies []PolicyID `json:"policies,omitempty"` // that bound it when it was made; none is the default
}

var _ = define[RequestMade]("request.made", 1)

// RequestApproved is one person's yes. It names the one log that may redeem
// it, so that its uses are counted in a single sequence (rule R12).
type RequestApproved struct {
	Uses        uint32 `json:"uses"`  // logins at most
	Site        SiteID `json:"site"`  // whose ctl log
	Epoch       uint32 `json:"epoch"` // of that epoch may redeem it
	Fingerprint string `json:"fingerprint"`
	Note        string `json:"note,omitempty"`
}

var _ = define[RequestApproved]("request.approved", 1)

// ApprovalRedeemed spends one use of a request's approvals for a session. It
// is in one commit with the session's start, and counts only in the log that
// the approvals name.
type ApprovalRedeemed struct {
	Session   SessionID   `json:"session"`
	Approvals []uuid.UUID `json:"approvals,omitempty"` // events; none where the policy needs none
}

var _ = define[ApprovalRedeemed]("approval.redeemed", 1)

// RequestDenied is a no. It wins over every approval, also over those given
// before, and ends what is open under the request.
type RequestDenied struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[RequestDenied]("request.denied", 1)

// RequestWithdrawn is the requester's own no.
type RequestWithdrawn struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[RequestWithdrawn]("request.withdrawn", 1)

// AccessBreakGlass is the alarm that somebody took access without asking. It
// makes a request that needs no approval, and a review by somebody else.
type AccessBreakGlass struct {
	User        UserID    `json:"user"`
	Account     AccountID `json:"account"`
	Reason      string    `json:"reason"`
	Ticket      string    `json:"ticket,omitempty"`
	For         uint64    `json:"for"`    // seconds
	Review      time.Time `json:"review"` // UTC; when the review is due
	Fingerprint string    `json:"fingerprint"`
}

var _ = define[AccessBreakGlass]("access.break_glass", 1)

// Verdict is what a review came to.
type Verdict string

// The verdicts.
const (
	Fine  Verdict = "ok"
	Issue Verdict = "issue"
)

// RequestReviewed closes the review of an access by break-glass.
type RequestReviewed struct {
	Verdict     Verdict `json:"verdict"`
	Note        string  `json:"note"`
	Fingerprint string  `json:"fingerprint"`
}

var _ = define[RequestReviewed]("request.reviewed", 1)

// GlassChange is who may break the glass, where and for how long.
type GlassChange struct {
	User     UserID   `json:"user"`
	Allow    bool     `json:"allow"` // false: not any more
	Selector Selector `json:"selector,omitempty"`
	MaxTime  uint64   `json:"max_time,omitempty"` // seconds that one access lasts
	Review   uint64   `json:"review,omitempty"`   // seconds until its review is due
}

// GlassChangeProposed asks for a change of those who may break the glass. By
// itself it changes nothing.
type GlassChangeProposed struct {
	Change      GlassChange `json:"change"`
	Reason      string      `json:"reason"`
	Fingerprint string      `json:"fingerprint"`
}

var _ = define[GlassChangeProposed]("glass.change_proposed", 1)

// GlassChangeConfirmed makes a proposed change true: a second administrator's
// word, on the proposal's stream.
type GlassChangeConfirmed struct {
	Change      GlassChange `json:"change"`
	Fingerprint string      `json:"fingerprint"`
}

var _ = define[GlassChangeConfirmed]("glass.change_confirmed", 1)

package aggregate

import (
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// Request is access that was asked for, or taken by breaking the glass.
type Request struct {
	ID          events.RequestID
	User        events.UserID
	Account     events.AccountID
	Reason      string
	Ticket      string
	From        time.Time // zero: from the last approval on
	For         time.Duration
	Uses        uint32    // logins; of break-glass as many as there is time for
	Decide      time.Time // when it lapses without a decision
	Fingerprint string    // of the key that the requester proved
	BreakGlass  bool
	Review      time.Time // of break-glass: when the review is due
	Made        *Mark

	own      events.Origin     // that made it, where that may not decide on access: it stands for itself under its id
	policies []events.PolicyID // that bound it when it was made

	approvals []*Approval // in no particular order
	denied    heads[string]
	withdrawn heads[string]
	redeemed  map[events.ClockEntry]events.SessionID // by event, of every log that counted its uses
	reviews   []*Review
}

// Approval is one yes to a request.
type Approval struct {
	By          events.UserID
	Uses        uint32
	Fingerprint string
	Note        string
	At          *Mark

	redeemer events.Origin
}

// Redeemer is the log that may spend the approval.
func (a *Approval) Redeemer() events.Origin { return a.redeemer }

// Review is one verdict on an access by break-glass.
type Review struct {
	By      events.UserID
	Verdict events.Verdict
	Note    string
	At      *Mark

	fingerprint string
}

// Denied gives the newest denial: by whom, and the reason.
func (r *Request) Denied() (at *Mark, reason string, ok bool) { return newestOf(r.denied) }

// Withdrawn gives the newest withdrawal.
func (r *Request) Withdrawn() (at *Mark, reason string, ok bool) { return newestOf(r.withdrawn) }

func newestOf(h heads[string]) (*Mark, string, bool) {
	if len(h) == 0 {
		return nil, "", false
	}
	n := h.newest()
	return n.at, n.value, true
}

// Approvals lists every yes in the order given, whether it counts or not.
func (r *Request) Approvals() []*Approval {
	return slices.SortedFunc(slices.Values(r.approvals), func(a, b *Approval) int { return a.At.Compare(b.At) })
}

// Redeemed counts the logins that were let through by the request.
func (r *Request) Redeemed() int { return len(r.redeemed) }

var _ = fold(func(s *State, at *Mark, e events.RequestMade) bool {
	return s.mayMake(at, e) && s.putRequest(&Request{
		ID: events.RequestID{UUID: at.Stream}, User: e.User, Account: e.Account, Reason: e.Reason, Ticket: e.Ticket, From: e.From,
		For: time.Duration(e.For) * time.Second, Uses: e.Uses, Decide: e.Decide, Fingerprint: e.Fingerprint, Made: at,
		policies: e.Policies,
	})
})

var _ = fold(func(s *State, at *Mark, e events.AccessBreakGlass) bool {
	r := &Request{
		ID: events.RequestID{UUID: at.Stream}, User: e.User, Account: e.Account, Reason: e.Reason, Ticket: e.Ticket,
		For: time.Duration(e.For) * time.Second, Fingerprint: e.Fingerprint, BreakGlass: true, Review: e.Review, Made: at,
	}
	if s.alone("access.break_glass", at) {
		r.own = at.Origin
	}
	return s.mayMake(at, e) && s.putRequest(r)
})

// alone reports whether an event makes a request that stands for itself.
func (s *State) alone(eventType string, at *Mark) bool {
	return eventType == "access.break_glass" && !s.decides(at, events.AreaAccess)
}

func (r *Request) alone() bool { return r.own != events.Origin{} }

// asked lists what an event's site knew under the id of a request: one, unless a site
// betrays.
func (s *State) asked(at *Mark) (all []*Request) {
	for _, r := range s.requests[events.RequestID{UUID: at.Stream}] {
		if r.Made.Origin == at.Origin || at.Knows(r.Made) {
			all = append(all, r)
		}
	}
	return all
}

// putRequest makes a request.
func (s *State) putRequest(r *Request) bool {
	all := s.requests[r.ID]
	if slices.ContainsFunc(all, func(o *Request) bool { return o.own == r.own }) {
		return false
	}
	r.redeemed = map[events.ClockEntry]events.SessionID{}
	all = append(slices.Clone(all), r)
	slices.SortFunc(all, func(a, b *Request) int {
		switch {
		case b.alone() && !a.alone(): // which is the first
			return -1
		case a.alone() && !b.alone():
			return 1
		}
		return a.Made.Compare(b.Made)
	})
	s.requests[r.ID] = all
	if s.requestsOf[r.User] == nil {
		s.requestsOf[r.User] = map[events.AccountID][]*Request{}
	}
	s.requestsOf[r.User][r.Account] = append(s.requestsOf[r.User][r.Account], r)
	return true
}

var _ = fold(func(s *State, at *Mark, e events.RequestApproved) bool {
	all := s.asked(at)
	if at.Actor.Kind != events.ByUser {
		return false
	}
	for _, r := range all {
		r.approvals = append(r.approvals, &Approval{
			By: events.UserID{UUID: at.Actor.ID}, Uses: e.Uses, Fingerprint: e.Fingerprint, Note: e.Note, At: at,
			redeemer: events.Origin{Site: e.Site, Epoch: e.Epoch, Kind: events.Ctl},
		})
	}
	return len(all) > 0
})

var _ = foldAway(func(s *State, at *Mark, e events.ApprovalRedeemed) bool {
	spent := false
	for _, r := range s.asked(at) {
		if s.mayRedeem(r, at) { // only the log that the approvals name can spend them (rule R12)
			r.redeemed[at.place()], spent = e.Session, true
		}
	}
	return spent
})

var _ = foldAway(func(s *State, at *Mark, e events.RequestDenied) bool {
	all := s.asked(at)
	for _, r := range all {
		r.denied.put(at, e.Reason)
	}
	return len(all) > 0
})

var _ = foldAway(func(s *State, at *Mark, e events.RequestWithdrawn) bool {
	all := s.asked(at)
	for _, r := range all {
		r.withdrawn.put(at, e.Reason)
	}
	return len(all) > 0
})

var _ = fold(func(s *State, at *Mark, e events.RequestReviewed) bool {
	reviewed := false
	for _, r := range s.asked(at) {
		if r.BreakGlass && at.Actor.Kind == events.ByUser {
			r.reviews = append(r.reviews, &Review{
				By: events.UserID{UUID: at.Actor.ID}, Verdict: e.Verdict, Note: e.Note, At: at, fingerprint: e.Fingerprint,
			})
			reviewed = true
		}
	}
	return reviewed
})

// Request finds a request by id.
func (s *State) Request(id events.RequestID) (*Request, bool) {
	if all := s.requests[id]; len(all) > 0 {
		return all[0], true
	}
	return nil, false
}

// RequestOf finds the request that a session was started under: that of its own site,
// of several under one id.
func (s *State) RequestOf(n *Session) (found *Request, ok bool) {
	for _, r := range s.requests[n.Request] {
		switch {
		case !n.Started.Knows(r.Made):
		case r.own.Site == n.Started.Origin.Site:
			return r, true
		case found == nil:
			found = r
		}
	}
	return found, found != nil
}

// Requests lists all requests in the order they were made.
func (s *State) Requests() []*Request {
	return flat(s.requests, func(r *Request) *Mark { return r.Made })
}

// RequestsFor lists a user's requests for an account in the order they were made.
func (s *State) RequestsFor(user events.UserID, account events.AccountID) []*Request {
	return slices.SortedFunc(slices.Values(s.requestsOf[user][account]), func(a, b *Request) int { return a.Made.Compare(b.Made) })
}

// RequestsOf lists a user's requests in the order they were made.
func (s *State) RequestsOf(user events.UserID) []*Request {
	var all []*Request
	for _, of := range s.requestsOf[user] {
		all = append(all, of...)
	}
	slices.SortFunc(all, func(a, b *Request) int { return a.Made.Compare(b.Made) })
	return all
}

// ReviewOf gives the review that closes an access by break-glass: the first one
// by another person whose word counts. nil while there is none.
func (s *State) ReviewOf(r *Request) *Review {
	var first *Review
	for _, v := range r.reviews {
		if s.isOther(r, v.By, v.fingerprint) && !s.suspended(v.At) && (first == nil || v.At.Compare(first.At) < 0) {
			first = v
		}
	}
	return first
}

// MayReview reports whether a user who proved a key may close the review of an
// access by break-glass: an administrator, auditor or approver who is not the
// one who broke the glass.
func (s *State) MayReview(r *Request, by events.UserID, fingerprint string) bool {
	return s.IsParty(by, []events.Party{{Role: events.Admin}, {Role: events.Auditor}, {Role: events.Approver}}) && s.isOther(r, by, fingerprint)
}

// isOther reports whether a user who proved a key is not the requester, under
// this or another name.
func (s *State) isOther(r *Request, by events.UserID, fingerprint string) bool {
	return (r.Fingerprint == "" || fingerprint != r.Fingerprint) && !s.SamePerson(r.User, by) && len(s.keyHolders[fingerprint][r.User]) == 0
}

// Overdue reports whether the review of an access by break-glass should have
// been closed by now.
func (s *State) Overdue(r *Request, now time.Time) bool {
	return r.BreakGlass && !now.Before(r.Review) && s.ReviewOf(r) == nil
}

// Policies are those that bound the request when it was made.
func (r *Request) Policies() []events.PolicyID { return r.policies }

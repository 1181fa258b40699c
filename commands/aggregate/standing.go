package aggregate

import (
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// RequestState is what a request is worth now.
type RequestState string

// The states of a request.
const (
	Pending   RequestState = "pending"   // not everybody needed has approved
	Approved  RequestState = "approved"  // it lets its user in, from From until Until
	Denied    RequestState = "denied"    // by an approver or an administrator
	Withdrawn RequestState = "withdrawn" // by its user
	Lapsed    RequestState = "lapsed"    // not decided in time
	Over      RequestState = "over"      // its time has passed
	Used      RequestState = "used"      // as often as was approved
	Void      RequestState = "void"      // its user, account or policy is gone
	Suspended RequestState = "suspended" // made by a user who had been disabled at another site (rule R9)
)

// Standing is what a request is worth now, and why.
type Standing struct {
	State    RequestState
	Why      string       // one sentence
	Policies []*Policy    // that bind it; none of break-glass
	Counted  []*Approval  // approvals that count, in the order given
	Missing  int          // people who still have to approve, at least
	From     time.Time    // of Approved and what comes after it: when it begins
	Until    time.Time    // and ends
	Uses     int          // logins that are left; of break-glass -1, no bound
	Keep     bool         // what is open when its time is over goes on
	Terms    events.Terms // of its sessions

	ahead bool // it begins later
}

// Lets reports whether the request lets its user in now.
func (v *Standing) Lets() bool {
	return v.State == Approved && !v.ahead
}

// Standing tells what a request is worth at a moment. An approval counts if it
// was given in time, by somebody who may approve and stands, now as well as
// then, and who is neither the requester nor a person who counts already.
func (s *State) Standing(r *Request, now time.Time) Standing {
	v := Standing{Uses: -1}
	if s.suspended(r.Made) {
		return v.is(Suspended, "it was made by a user who had been disabled at another site")
	}
	if at, _, ok := r.Denied(); ok {
		return v.is(Denied, "it was denied at "+at.Time().Format(time.RFC3339))
	}
	if _, _, ok := r.Withdrawn(); ok {
		return v.is(Withdrawn, "its user has withdrawn it")
	}
	if why := s.voids(r); why != "" {
		return v.is(Void, why)
	}
	if r.BreakGlass {
		return s.glassStanding(r, v, now)
	}
	v.Policies = s.bindingOf(r)
	if len(v.Policies) == 0 {
		return v.is(Void, "no policy lets its user ask for the account (any more)")
	}
	v.From = s.tally(r, &v)
	if v.Missing > 0 && !now.Before(r.Decide) {
		return v.is(Lapsed, "it was not decided in time")
	}
	if v.Missing > 0 {
		return v.is(Pending, "it waits for approval")
	}
	return s.approved(r, v, now)
}

func (v Standing) is(state RequestState, why string) Standing {
	v.State, v.Why = state, why
	return v
}

// voids says why nothing can come of a request any more; empty if it can.
func (s *State) voids(r *Request) string {
	if s.UserStands(r.User) != nil {
		return "its user is disabled or suspended"
	}
	a := s.accounts[r.Account]
	if a == nil || a.Removed {
		return "the account was removed"
	}
	if t := s.targets[a.Target]; t == nil || t.Removed {
		return "the target was removed"
	}
	if s.over(r.Account, r.Made) {
		return "the account was removed since, and restored"
	}
	return ""
}

// tally finds the approvals that count and how many people are missing, over
// all policies that bind, and gives the moment of the last approval needed.
func (s *State) tally(r *Request, v *Standing) (complete time.Time) {
	complete = r.Made.Time()
	given := r.Approvals()
	for _, p := range v.Policies {
		have := uint32(0)
		var counted []*Approval
		for _, a := range given {
			if have == p.Approvals {
				break
			}
			if s.approves(r, p, a, counted) {
				counted = append(counted, a)
				have++
				if at := a.At.Time(); at.After(complete) {
					complete = at
				}
			}
		}
		v.Missing = max(v.Missing, int(p.Approvals-have))
		for _, a := range counted {
			if !slices.Contains(v.Counted, a) {
				v.Counted = append(v.Counted, a)
			}
		}
	}
	slices.SortFunc(v.Counted, func(a, b *Approval) int { return a.At.Compare(b.At) })
	return complete
}

// approves reports whether an approval counts under a policy beside others.
func (s *State) approves(r *Request, p *Policy, a *Approval, beside []*Approval) bool {
	if a.redeemer != s.Redeemer(r) || a.At.Time().After(r.Decide) || s.suspended(a.At) {
		return false
	}
	if !s.MayApprove(r, p, a.By, a.Fingerprint) {
		return false
	}
	return !slices.ContainsFunc(beside, func(b *Approval) bool {
		return a.Fingerprint != "" && a.Fingerprint == b.Fingerprint || s.SamePerson(a.By, b.By)
	})
}

// MayApprove reports whether a user who proved a key is one whose approval a
// policy asks for: an approver who is not the requester under another name.
func (s *State) MayApprove(r *Request, p *Policy, by events.UserID, fingerprint string) bool {
	return s.IsParty(by, p.Approvers) && s.isOther(r, by, fingerprint)
}

// MayDecide reports whether a user is an approver under one of the policies
// that bind a request.
func (s *State) MayDecide(r *Request, by events.UserID, fingerprint string) bool {
	return !r.BreakGlass && slices.ContainsFunc(s.bindingOf(r), func(p *Policy) bool {
		return s.MayApprove(r, p, by, fingerprint)
	})
}

// approved fills in what an approved request is worth: the least that its
// policies, its approvals and the request itself say.
func (s *State) approved(r *Request, v Standing, now time.Time) Standing {
	if r.From.After(v.From) {
		v.From = r.From
	}
	lasts, uses, keep := r.For, r.Uses, true
	for i, p := range v.Policies {
		lasts, uses = min(lasts, time.Duration(p.MaxTime)*time.Second), min(uses, p.MaxUses)
		keep = keep && p.Keep
		if v.Terms = meet(v.Terms, p.Terms); i == 0 {
			v.Terms = p.Terms
		}
	}
	for _, a := range v.Counted {
		uses = min(uses, a.Uses)
	}
	v.Until, v.Uses, v.Keep = v.From.Add(lasts), int(uses)-r.Redeemed(), keep
	switch {
	case !now.Before(v.Until):
		return v.is(Over, "its time ended at "+v.Until.Format(time.RFC3339))
	case v.Uses <= 0:
		return v.is(Used, "it was used as often as was approved")
	case now.Before(r.From): // an approval counts at once, whatever the clock of its site says
		v.ahead = true
		return v.is(Approved, "it begins at "+v.From.Format(time.RFC3339))
	}
	return v.is(Approved, "it is approved until "+v.Until.Format(time.RFC3339))
}

// glassStanding is what an access by break-glass is worth.
func (s *State) glassStanding(r *Request, v Standing, now time.Time) Standing {
	glass, ok := s.GlassFor(r.User, r.Account)
	if !ok {
		return v.is(Void, "its user may not break the glass for the account (any more)")
	}
	v.From = r.Made.Time()
	v.Until = v.From.Add(min(r.For, time.Duration(glass.MaxTime)*time.Second))
	if !now.Before(v.Until) {
		return v.is(Over, "its time ended at "+v.Until.Format(time.RFC3339))
	}
	return v.is(Approved, "the glass was broken, until "+v.Until.Format(time.RFC3339))
}

// RequestFor finds the request that lets a user reach an account now, to be
// counted in the given log: one that was approved before one by break-glass,
// and the one that ends first. nil if there is none.
func (s *State) RequestFor(user events.UserID, account events.AccountID, log events.Origin, now time.Time) (*Request, Standing) {
	var best *Request
	var standing Standing
	for _, r := range s.RequestsFor(user, account) {
		v := s.Standing(r, now)
		if !v.Lets() || !r.BreakGlass && s.Redeemer(r) != log {
			continue
		}
		if best == nil || best.BreakGlass && !r.BreakGlass || best.BreakGlass == r.BreakGlass && v.Until.Before(standing.Until) {
			best, standing = r, v
		}
	}
	return best, standing
}

// requestLets tells why a request does not let a session go on that was started
// under it; empty if it does. Uses are spent at the start,
// and approvers may leave afterwards; but an approval that is suspended (rule
// R9) never was one.
func (s *State) requestLets(r *Request, n *Session, now time.Time) string {
	if r == nil {
		return "its request is not known"
	}
	switch v := s.Standing(r, now); v.State {
	case Denied:
		return "the request was denied"
	case Withdrawn:
		return "the request was withdrawn"
	case Void, Suspended:
		return "the request counts no more: " + v.Why
	}
	if until := s.requestEnd(r, n); !until.IsZero() && !now.Before(until) {
		return "the time of the request is over"
	}
	for _, a := range r.approvals {
		if n.approvedBy(a) && s.suspended(a.At) {
			return "an approval is suspended: its approver had been disabled at another site"
		}
	}
	return ""
}

// approvedBy reports whether a session was started by an approval: it names it, and
// its site knew it, or it would be another one under the same id.
func (n *Session) approvedBy(a *Approval) bool {
	return slices.Contains(n.Approvals, a.At.ID) && n.Started.Knows(a.At)
}

// requestEnd is when a session ends by the approvals that it was started by,
// whoever of the approvers is left; zero if it goes on when the time is over.
func (s *State) requestEnd(r *Request, n *Session) time.Time {
	from, lasts, keep := r.Made.Time(), r.For, !r.BreakGlass
	for _, a := range r.approvals {
		if at := a.At.Time(); n.approvedBy(a) && at.After(from) {
			from = at
		}
	}
	if r.From.After(from) {
		from = r.From
	}
	if !r.BreakGlass {
		for _, p := range s.bindingOf(r) {
			lasts, keep = min(lasts, time.Duration(p.MaxTime)*time.Second), keep && p.Keep
		}
	}
	if keep {
		return time.Time{}
	}
	return from.Add(lasts)
}

// AccountsOf lists the accounts that a user has anything to do with, each once:
// those under a grant, expired and suspended ones too, and those of requests
// that something still can come of.
func (s *State) AccountsOf(user events.UserID, now time.Time) []*Account {
	seen := map[events.AccountID]bool{}
	var all []*Account
	add := func(a *Account) {
		if a != nil && !seen[a.ID] {
			seen[a.ID] = true
			all = append(all, a)
		}
	}
	for _, g := range s.GrantsOf(user) {
		for _, a := range s.AccountsUnder(g) {
			add(a)
		}
	}
	for _, r := range s.RequestsOf(user) {
		if v := s.Standing(r, now); v.State == Pending || v.State == Approved {
			add(s.accounts[r.Account])
		}
	}
	return all
}

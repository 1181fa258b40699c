package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// ReviewRequest closes the review of an access by break-glass.
type ReviewRequest struct {
	Request events.RequestID
	Verdict events.Verdict
	Note    string
}

var _ = register[ReviewRequest]("ReviewRequest", byCommand|headroom)

// Decide takes the word of administrators, auditors and approvers, never that
// of whoever broke the glass, under whatever name.
func (c ReviewRequest) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	user, no, err := asker(s, by, env)
	if err != nil {
		return no, err
	}
	if c.Verdict != events.Fine && c.Verdict != events.Issue {
		return nil, invalid("use ok or issue", "%s is no verdict", quoted(string(c.Verdict)))
	}
	if c.Note == "" {
		return nil, invalid("say what was found with --note", "a note is missing")
	}
	if err := checkText("note", c.Note); err != nil {
		return nil, err
	}
	r, err := findRequest(s, c.Request)
	if err != nil {
		return nil, err
	}
	if !s.MayReview(r, user, env.Client.Fingerprint) {
		return refuseDecision(s, r, by, env, "review")
	}
	switch {
	case !r.BreakGlass:
		return nil, conflict("", "request %s was decided by approvers; only access by break-glass is reviewed", r.ID)
	case s.ReviewOf(r) != nil:
		return nil, conflict("", "the review of request %s is closed", r.ID)
	}
	d := newDecision(by, env)
	d.add(r.ID.UUID, events.RequestReviewed{Verdict: c.Verdict, Note: c.Note, Fingerprint: bounded(env.Client.Fingerprint, maxText)})
	return d.done()
}

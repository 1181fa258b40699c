package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// ApproveRequest is one person's yes to a request of another.
type ApproveRequest struct {
	Request events.RequestID
	Uses    uint32 // logins at most; 0 for as many as were asked for
	Note    string
}

var _ = register[ApproveRequest]("ApproveRequest", byCommand)

// Decide refuses whoever no policy asks, the requester under whatever name,
// somebody who has approved already, and a request that is not pending. An
// approval names the log that redeems it (rule R12), in which the request was
// made or that took the duty over; so it is void once that log's epoch has
// ended, or another site has taken over.
func (c ApproveRequest) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	user, no, err := asker(s, by, env)
	if err != nil {
		return no, err
	}
	if err := checkText("note", c.Note); err != nil {
		return nil, err
	}
	r, err := findRequest(s, c.Request)
	if err != nil {
		return nil, err
	}
	if !s.MayDecide(r, user, env.Client.Fingerprint) {
		return refuseDecision(s, r, by, env, "approve")
	}
	v, log := s.Standing(r, env.Now), s.Redeemer(r)
	switch {
	case v.State != aggregate.Pending:
		return nil, conflict("", "request %s is %s: %s", r.ID, v.State, v.Why)
	case log.Site == env.Log.Site && log != env.Log:
		return nil, conflict("its user has to ask again", "request %s was made before this site began a new log, so it counts no more", r.ID)
	case c.Uses > r.Uses:
		return nil, invalid("leave --uses out for as many as were asked for", "request %s asks for %d uses", r.ID, r.Uses)
	}
	for _, a := range r.Approvals() {
		if a.Redeemer() != log {
			continue // void: what it allowed may have been used at a site that is gone
		}
		if s.SamePerson(a.By, user) || a.Fingerprint != "" && a.Fingerprint == env.Client.Fingerprint {
			return nil, conflict("another approver has to decide", "you have approved request %s", r.ID)
		}
	}
	uses := c.Uses
	if uses == 0 {
		uses = r.Uses
	}
	d := newDecision(by, env)
	d.add(r.ID.UUID, events.RequestApproved{
		Uses: uses, Site: log.Site, Epoch: log.Epoch, Fingerprint: bounded(env.Client.Fingerprint, maxText), Note: c.Note,
	})
	return d.done()
}

// refuseDecision denies a decision on a request. That somebody tried to approve
// their own is worth knowing.
func refuseDecision(s *aggregate.State, r *aggregate.Request, by events.Actor, env Env, what string) ([]events.Draft, error) {
	user := events.UserID{UUID: by.ID}
	detail, message := "no policy asks this user", "you are no approver of this request"
	if user == r.User || s.SamePerson(user, r.User) || r.Fingerprint != "" && r.Fingerprint == env.Client.Fingerprint {
		detail, message = "the user is the requester, under this or another name", "you can't "+what+" what you have asked for yourself"
	}
	return denied(by, env, events.AccessDenied{
		Reason: events.NotAllowedVerb, User: user, Login: env.Client.Login, Source: env.Client.Source, Fingerprint: env.Client.Fingerprint,
		Detail: env.command + ": request " + r.ID.String() + ": " + detail,
	}, message, "another person has to decide")
}

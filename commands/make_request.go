package commands

import (
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// MakeRequest asks for access to an account for the user who gives the command.
type MakeRequest struct {
	Account string // name or id
	Target  string // name or id; may be empty with an account's id
	Reason  string
	Ticket  string
	For     time.Duration
	Uses    uint32    // logins; 0 is one
	From    time.Time // zero: from the last approval on
}

var _ = register[MakeRequest]("MakeRequest", byCommand)

const (
	maxPending = 32                  // undecided requests of one user
	maxAhead   = 90 * 24 * time.Hour // how far ahead a request may begin
)

// Decide refuses what no policy that binds allows, and what nobody could
// approve. To who may not ask, a name that is not known reads the same.
func (c MakeRequest) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	user, no, err := asker(s, by, env)
	if err != nil {
		return no, err
	}
	if err := c.check(env.Now); err != nil {
		return nil, err
	}
	a, policies := c.find(s, user)
	if len(policies) == 0 {
		return denied(by, env, events.AccessDenied{
			Reason: events.NoGrant, User: user, Source: env.Client.Source, Login: env.Client.Login, Fingerprint: env.Client.Fingerprint,
			Detail: env.command + ": " + accountOnTarget(c.Account, c.Target) + ": not known, or no policy lets the user ask for it",
		}, "you may not ask for access to "+accountOnTarget(c.Account, c.Target), "check the name, or ask an administrator")
	}
	e := events.RequestMade{
		User: user, Account: a.ID, Reason: c.Reason, Ticket: c.Ticket, From: utc(c.From), For: uint64(c.For / time.Second),
		Uses: max(c.Uses, 1), Fingerprint: bounded(env.Client.Fingerprint, maxText),
	}
	if err := c.fits(s, policies, &e, env.Now); err != nil {
		return nil, err
	}
	pending := 0
	for _, r := range s.RequestsOf(user) {
		if s.Standing(r, env.Now).State == aggregate.Pending {
			pending++
		}
	}
	if pending >= maxPending {
		return nil, conflict("withdraw some of them: request ls", "you have %d requests that wait for a decision", pending)
	}
	d := newDecision(by, env)
	d.add(d.id(), e)
	return d.done()
}

func (c MakeRequest) check(now time.Time) error {
	if err := checkReason(c.Reason); err != nil {
		return err
	}
	if err := checkText("ticket", c.Ticket); err != nil {
		return err
	}
	switch {
	case c.For < time.Second || c.For%time.Second != 0 || c.For > maxSeconds*time.Second:
		return invalid("say for how long, for example --for 1h", "%s is no time that access can be asked for", c.For)
	case !c.From.IsZero() && (c.From.After(now.Add(maxAhead)) || !c.From.Add(c.For).After(now)):
		return invalid("it may begin up to 90 days from now", "the time asked for is over or too far ahead")
	}
	return nil
}

// find gives the account and the policies under which the user may ask for it;
// none if it is not known.
func (c MakeRequest) find(s *aggregate.State, user events.UserID) (*aggregate.Account, []*aggregate.Policy) {
	a, _, err := findAccount(s, c.Account, c.Target)
	if err != nil {
		return nil, nil
	}
	return a, s.Binding(user, a.ID)
}

// fits checks a request against every policy that binds it, and sets until when
// it has to be decided.
func (c MakeRequest) fits(s *aggregate.State, policies []*aggregate.Policy, e *events.RequestMade, now time.Time) error {
	for _, p := range policies {
		if p != aggregate.DefaultPolicy {
			e.Policies = append(e.Policies, p.ID)
		}
		switch {
		case e.For > p.MaxTime:
			return invalid("ask for less", "policy %s allows access for %s at most", p.Name, time.Duration(p.MaxTime)*time.Second)
		case e.Uses > p.MaxUses:
			return invalid("ask for fewer", "policy %s allows %d uses at most", p.Name, p.MaxUses)
		case p.Ticket && e.Ticket == "":
			return invalid("name it with --ticket", "policy %s wants a ticket", p.Name)
		case !canBeApproved(s, p, e):
			return conflict("an administrator has to name more approvers", "policy %s wants the approval of %d, and there are not so many people besides you who may approve", p.Name, p.Approvals)
		}
		if decide := now.Add(time.Duration(p.Decide) * time.Second); e.Decide.IsZero() || decide.Before(e.Decide) {
			e.Decide = utc(decide)
		}
	}
	return nil
}

// canBeApproved reports whether enough different people other than the
// requester could approve. It asks what the decision itself asks.
func canBeApproved(s *aggregate.State, p *aggregate.Policy, e *events.RequestMade) bool {
	asked := &aggregate.Request{User: e.User, Account: e.Account, Fingerprint: e.Fingerprint}
	var people []events.UserID
	for _, u := range s.Users() {
		if len(people) >= int(p.Approvals) {
			break
		}
		if !s.MayApprove(asked, p, u.ID, "") {
			continue
		}
		twice := false
		for _, other := range people {
			twice = twice || s.SamePerson(u.ID, other)
		}
		if !twice {
			people = append(people, u.ID)
		}
	}
	return len(people) >= int(p.Approvals)
}

// asker is the user who gives a command for themselves.
func asker(s *aggregate.State, by events.Actor, env Env) (events.UserID, []events.Draft, error) {
	id := events.UserID{UUID: by.ID}
	if by.Kind != events.ByUser {
		drafts, err := refuseActor(by, env, events.NotAllowedVerb, "nobody has been authenticated")
		return id, drafts, err
	}
	if err := s.UserStands(id); err != nil {
		drafts, err := refuseActor(by, env, standing(err), err.Error())
		return id, drafts, err
	}
	return id, nil, nil
}

// checkReason checks a reason that must be given.
func checkReason(reason string) error {
	if reason == "" {
		return invalid("say why with --reason", "a reason is missing")
	}
	return checkText("reason", reason)
}

// findRequest finds a request by its id.
func findRequest(s *aggregate.State, id events.RequestID) (*aggregate.Request, error) {
	r, ok := s.Request(id)
	if !ok {
		return nil, notFound("see `request ls`", "no request %s", id)
	}
	return r, nil
}

package commands

import (
	"fmt"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// Explanation says what decides whether a user reaches an account at a moment.
type Explanation struct {
	Allowed  bool      `json:"allowed"`
	Rule     string    `json:"rule"` // what lets through, or what is missing first
	Findings []Finding `json:"findings"`
}

// Finding is what one rule says.
type Finding struct {
	Rule   string `json:"rule"`
	Allows bool   `json:"allows"`
	Why    string `json:"why"`
}

// Explain asks for a session what [StartSession] asks, by the same functions,
// and what each rule on the way says. The key is left out: whoever asks has not
// proved one.
func Explain(s *aggregate.State, userRef, account, target string, log events.Origin, now time.Time) (Explanation, error) {
	u, err := findUser(s, userRef)
	if err != nil {
		return Explanation{}, err
	}
	a, t, err := findAccount(s, account, target)
	if err != nil {
		return Explanation{}, err
	}
	x := Explanation{Findings: []Finding{}}
	c := StartSession{User: u.ID, Account: a.Name, Target: t.Name}
	if err := s.UserStands(u.ID); err != nil {
		x.add("user "+u.Name, false, err.Error())
		x.Rule = x.Findings[0].Rule + ": " + err.Error()
		return x, nil
	}
	x.add("user "+u.Name, true, "is enabled; role "+string(u.Role))
	if s.FactorProven(u.ID, events.Factor{}) != nil {
		x.add("second factor", true, "has to be proven at the login, for role "+string(u.Role))
	}
	x.grants(s, u.ID, a.ID, now)
	for _, r := range s.RequestsFor(u.ID, a.ID) {
		v := s.Standing(r, now)
		x.add(pass{request: r}.name(), v.Lets() && (r.BreakGlass || s.Redeemer(r) == log), v.Why)
	}
	x.policies(s, u.ID, a.ID)
	if g, ok := s.GlassFor(u.ID, a.ID); ok {
		x.add("break-glass "+string(g.Selector), false, fmt.Sprintf("the user may break the glass, for %s at a time", time.Duration(g.MaxTime)*time.Second))
	}
	p, no := c.findReady(s, u, Env{Now: now, Log: log})
	if no != nil {
		x.Rule = string(no.reason) + ": " + no.detail
		return x, nil
	}
	x.Allowed, x.Rule = true, p.pass.name()
	return x, nil
}

func (x *Explanation) add(rule string, allows bool, why string) {
	x.Findings = append(x.Findings, Finding{rule, allows, why})
}

// grants says what each grant does that is about the account, also those of
// groups that the user is not in.
func (x *Explanation) grants(s *aggregate.State, user events.UserID, account events.AccountID, now time.Time) {
	mine := s.GrantsFor(user, account)
	for _, g := range mine {
		err := s.GrantLets(g.ID, user, account, now)
		why := "stands"
		if err != nil {
			why = err.Error()
		}
		x.add(describe(s, g), err == nil, why)
	}
	for _, g := range s.Grants() {
		err := s.GrantLets(g.ID, user, account, now)
		if !g.Group.IsZero() && err == aggregate.ErrNoMember && s.AccountUnder(g, account) {
			x.add(describe(s, g), false, err.Error())
		}
	}
	if len(mine) == 0 {
		x.add("grants", false, "none is to the user, or to a group that they are in, for the account")
	}
}

// policies says under which policies the user may ask, and what they want.
func (x *Explanation) policies(s *aggregate.State, user events.UserID, account events.AccountID) {
	for _, p := range s.Covering(account) {
		why := "covers the account, and does not let the user ask"
		if s.IsParty(user, p.Requesters) {
			why = fmt.Sprintf("the user may ask, for %s at most; %d must approve", time.Duration(p.MaxTime)*time.Second, p.Approvals)
		}
		x.add("policy "+p.Name, false, why)
	}
}

// describe names a grant with whom and what it is about.
func describe(s *aggregate.State, g *aggregate.Grant) string {
	to, where := "user "+g.User.String(), string(g.Selector)
	if u, ok := s.User(g.User); ok {
		to = "user " + u.Name
	}
	if group, ok := s.Group(g.Group); ok {
		to = "group " + group.Name
	}
	if a, ok := s.Account(g.Account); ok {
		where = a.Name
		if t, ok := s.Target(a.Target); ok {
			where = accountOnTarget(a.Name, t.Name)
		}
	}
	return fmt.Sprintf("grant %s to %s for %s", g.ID, to, where)
}

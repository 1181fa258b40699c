package commands

import (
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// BreakGlass takes access at once, for who may. It is an alarm, and somebody
// else has to review it.
type BreakGlass struct {
	Account string // name or id
	Target  string // name or id; may be empty with an account's id
	Reason  string
	Ticket  string
	For     time.Duration // 0 for as long as the user may
}

var _ = register[BreakGlass]("BreakGlass", byCommand|headroom)

// Decide refuses who may not break the glass for the account, and says to them
// nothing about what there is. It may use the head-room of a full log.
func (c BreakGlass) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	user, no, err := asker(s, by, env)
	if err != nil {
		return no, err
	}
	if err := checkReason(c.Reason); err != nil {
		return nil, err
	}
	if err := checkText("ticket", c.Ticket); err != nil {
		return nil, err
	}
	var glass events.GlassChange
	a, _, err := findAccount(s, c.Account, c.Target)
	ok := err == nil
	if ok {
		glass, ok = s.GlassFor(user, a.ID)
	}
	if !ok {
		return denied(by, env, events.AccessDenied{
			Reason: events.NoGrant, User: user, Login: env.Client.Login, Source: env.Client.Source, Fingerprint: env.Client.Fingerprint,
			Detail: env.command + ": " + accountOnTarget(c.Account, c.Target) + ": not known, or the user may not break the glass for it",
		}, "you may not break the glass for "+accountOnTarget(c.Account, c.Target), "check the name, or ask for access: request new")
	}
	most := time.Duration(glass.MaxTime) * time.Second
	lasts := c.For
	switch {
	case lasts == 0:
		lasts = most
	case lasts < time.Second || lasts%time.Second != 0 || lasts > most:
		return nil, invalid("ask for less, and again when it is over", "you may break the glass for %s at a time", most)
	}
	d := newDecision(by, env)
	d.add(d.id(), events.AccessBreakGlass{
		User: user, Account: a.ID, Reason: c.Reason, Ticket: c.Ticket, For: uint64(lasts / time.Second),
		Review: utc(env.Now.Add(time.Duration(glass.Review) * time.Second)), Fingerprint: bounded(env.Client.Fingerprint, maxText),
	})
	return d.done()
}

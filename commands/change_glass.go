package commands

import (
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// ProposeGlass proposes who may break the glass, or may not any more. Another
// administrator has to confirm it: whoever can change that alone could take
// access alone, or lock the organisation out.
type ProposeGlass struct {
	User     string // name or id
	Allow    bool
	Selector string
	MaxTime  time.Duration
	Review   time.Duration // until the review of an access is due
	Reason   string
}

// ConfirmGlass makes a change true that another administrator proposed.
type ConfirmGlass struct{ Proposal events.RequestID }

var (
	_ = register[ProposeGlass]("ProposeGlass", byAdmin|headroom)
	_ = register[ConfirmGlass]("ConfirmGlass", byAdmin|headroom)
)

// ProposalLasts is how long a proposal waits for its confirmation.
const ProposalLasts = 7 * 24 * time.Hour

// Decide refuses what would change nothing.
func (c ProposeGlass) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkReason(c.Reason); err != nil {
		return nil, err
	}
	u, err := findUser(s, c.User)
	if err != nil {
		return nil, err
	}
	change := events.GlassChange{User: u.ID, Allow: c.Allow}
	has, ok := s.GlassOf(u.ID)
	if !c.Allow && !ok {
		return nil, conflict("see break-glass ls", "user %s may not break the glass", u.Name)
	}
	if c.Allow {
		if change.Selector, err = readSelector(c.Selector); err != nil {
			return nil, err
		}
		for _, d := range []time.Duration{c.MaxTime, c.Review} {
			if d < time.Second || d%time.Second != 0 || d > maxSeconds*time.Second {
				return nil, invalid("write it like 1h or 24h", "%s is no length of time for this", d)
			}
		}
		change.MaxTime, change.Review = uint64(c.MaxTime/time.Second), uint64(c.Review/time.Second)
		if ok && has == change {
			return nil, conflict("see break-glass ls", "user %s may do so already", u.Name)
		}
	}
	d := newDecision(by, env)
	d.add(d.id(), events.GlassChangeProposed{Change: change, Reason: c.Reason, Fingerprint: bounded(env.Client.Fingerprint, maxText)})
	return d.done()
}

// Decide refuses the proposer, under whatever name.
func (c ConfirmGlass) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	p, ok := s.Proposal(c.Proposal)
	if !ok {
		return nil, notFound("see `break-glass ls`", "no proposal %s", c.Proposal)
	}
	switch {
	case p.Confirmed:
		return nil, conflict("", "proposal %s is confirmed", c.Proposal)
	case env.Now.Sub(p.At.Time()) > ProposalLasts:
		return nil, conflict("propose it again", "proposal %s is older than %s", c.Proposal, ProposalLasts)
	}
	proposer := events.UserID{UUID: p.At.Actor.ID}
	if s.SamePerson(proposer, events.UserID{UUID: by.ID}) || p.Fingerprint != "" && p.Fingerprint == env.Client.Fingerprint {
		return denied(by, env, events.AccessDenied{
			Reason: events.NotAllowedVerb, User: events.UserID{UUID: by.ID}, Login: env.Client.Login, Source: env.Client.Source,
			Fingerprint: env.Client.Fingerprint, Detail: env.command + ": the user is the proposer, under this or another name",
		}, "you can't confirm what you have proposed yourself", "another administrator has to")
	}
	d := newDecision(by, env)
	d.add(c.Proposal.UUID, events.GlassChangeConfirmed{Change: p.Change, Fingerprint: bounded(env.Client.Fingerprint, maxText)})
	return d.done()
}

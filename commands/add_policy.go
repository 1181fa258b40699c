package commands

import (
	"errors"
	"strings"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// AddPolicy says who may ask for access within a scope, and who decides.
type AddPolicy struct {
	Name       string
	Account    string   // name or id
	Target     string   // name or id; may be empty with an account's id
	Selector   string   // instead of Account and Target
	Requesters []string // USER, group:NAME, role:NAME or *; none: nobody may ask
	Approvers  []string // the same
	Approvals  uint32
	MaxTime    time.Duration
	MaxUses    uint32
	Ticket     bool
	DecideIn   time.Duration
	Keep       bool
	Terms      events.Terms
}

var _ = register[AddPolicy]("AddPolicy", byAdmin|headroom)

const (
	maxParties   = 64
	maxApprovals = 16
	maxUses      = 10_000
)

// Decide refuses approvals that nobody is named to give, and approvers whom
// nothing is asked.
func (c AddPolicy) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkName("policy", c.Name); err != nil {
		return nil, err
	}
	if c.Name == aggregate.DefaultPolicy.Name {
		return nil, invalid("choose another name", "%s is what holds where there is no policy", c.Name)
	}
	if _, err := s.PolicyByName(c.Name); !errors.Is(err, aggregate.ErrUnknown) {
		return nil, conflict("choose another name; add the new one and then remove the old one, so that there is no gap", "policy %s exists", c.Name)
	}
	scope, _, err := findScope(s, c.Account, c.Target, c.Selector)
	if err != nil {
		return nil, err
	}
	e := events.PolicyAdded{
		Name: c.Name, Account: scope.Account, Selector: scope.Selector, Approvals: c.Approvals,
		MaxTime: uint64(c.MaxTime / time.Second), MaxUses: c.MaxUses, Ticket: c.Ticket, Decide: uint64(c.DecideIn / time.Second), Keep: c.Keep,
	}
	if e.Requesters, err = readParties(s, c.Requesters); err != nil {
		return nil, err
	}
	if e.Approvers, err = readParties(s, c.Approvers); err != nil {
		return nil, err
	}
	if e.Terms, err = checkTerms(c.Terms); err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.add(d.id(), e)
	return d.done()
}

func (c AddPolicy) check() error {
	for _, d := range []time.Duration{c.MaxTime, c.DecideIn} {
		if d < time.Second || d%time.Second != 0 || d > maxSeconds*time.Second {
			return invalid("write it like 1h or 24h", "%s is no length of time for this", d)
		}
	}
	switch {
	case c.MaxUses < 1 || c.MaxUses > maxUses:
		return invalid("use 1 to 10000", "%d is no number of uses", c.MaxUses)
	case c.Approvals > maxApprovals:
		return invalid("use 0 to 16", "%d approvals are too many", c.Approvals)
	case c.Approvals > 0 && len(c.Approvers) == 0:
		return invalid("name them with --approvers", "nobody is named to approve")
	case c.Approvals == 0 && len(c.Approvers) > 0:
		return invalid("say how many have to approve", "approvers are named, and none has to approve")
	}
	return nil
}

// readParties reads whom a policy names.
func readParties(s *aggregate.State, refs []string) (parties []events.Party, err error) {
	if len(refs) > maxParties {
		return nil, invalid("use groups", "there are %d of them, the limit is %d", len(refs), maxParties)
	}
	for _, ref := range refs {
		if ref == "*" {
			parties = append(parties, events.Party{Anyone: true})
			continue
		}
		if role, ok := strings.CutPrefix(ref, "role:"); ok {
			if !knownRole(events.Role(role)) {
				return nil, invalid(roleHint, "%s is not a role", quoted(role))
			}
			parties = append(parties, events.Party{Role: events.Role(role)})
			continue
		}
		who, _, err := findSubject(s, ref)
		if err != nil {
			return nil, err
		}
		parties = append(parties, events.Party{User: who.User, Group: who.Group})
	}
	return parties, nil
}

package commands

import (
	"errors"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// Wish is a session that would not be let through for want of a grant, and
// what its user may do about it.
type Wish struct {
	Account events.AccountID
	Reason  events.DenyReason // why it would not be let through
	Detail  string            // for the log
	Text    string            // for the person

	Ask     bool             // the user may ask for access
	Ticket  bool             // and has to name a ticket
	Most    time.Duration    // for at most so long
	Glass   time.Duration    // for how long the user may break the glass, 0 if they may not
	Pending events.RequestID // what the user has asked for already and nobody has decided; zero for nothing
}

// WishOf looks at a session as [StartSession] would. It gives one only to who
// may ask for access to just this account, or break the glass for it: to
// everybody else, names that are not known read the same.
func WishOf(s *aggregate.State, user events.UserID, account, target string, proven events.Factor, log events.Origin, now time.Time) (Wish, bool) {
	u, ok := s.User(user)
	if !ok || s.UserStands(user) != nil || s.FactorProven(user, proven) != nil {
		return Wish{}, false
	}
	a, _, err := s.AccountByName(account, target)
	if err != nil {
		return Wish{}, false
	}
	c := StartSession{User: user, Account: account, Target: target}
	_, no := c.findReady(s, u, Env{Now: now, Log: log})
	if no == nil {
		return Wish{}, false
	}
	w := Wish{Account: a.ID, Reason: no.reason, Detail: no.detail, Text: (&Refusal{Message: no.message, Hint: no.hint}).Error()}
	if g, ok := s.GlassFor(user, a.ID); ok {
		w.Glass = time.Duration(g.MaxTime) * time.Second
	}
	switch no.reason {
	case events.NoGrant, events.GrantExpired, events.OutsideTime:
		w.policies(s.Binding(user, a.ID))
	case events.RequestWaits:
		w.pending(s, user, now)
	default:
		return Wish{}, false
	}
	return w, w.Ask || w.Glass > 0 || !w.Pending.IsZero()
}

// policies takes over what all that bind have in common.
func (w *Wish) policies(binding []*aggregate.Policy) {
	for n, p := range binding {
		if most := time.Duration(p.MaxTime) * time.Second; n == 0 || most < w.Most {
			w.Most = most
		}
		w.Ticket = w.Ticket || p.Ticket
	}
	w.Ask = len(binding) > 0
}

// pending finds the request that was made last and waits.
func (w *Wish) pending(s *aggregate.State, user events.UserID, now time.Time) {
	for _, r := range s.RequestsFor(user, w.Account) {
		if s.Standing(r, now).State == aggregate.Pending {
			w.Pending = r.ID
		}
	}
}

// IsInvalid reports whether a command was refused for how it was put, so that it
// may be put better.
func IsInvalid(err error) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Code == Invalid
}

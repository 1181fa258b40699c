package rotation

import (
	"strings"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/lockout"
	"github.com/holdfast-pam/holdfast/events"
)

// Standing says in one word how the secret of an account stands.
type Standing string

// The standings, the worst first.
const (
	Alarmed  Standing = "alarm"    // no known version was accepted; a person has to look
	Unknown  Standing = "unknown"  // it is being found out which version the target takes
	Failing  Standing = "failing"  // the last rotations failed; the secret is the one before
	Overdue  Standing = "overdue"  // older than the policy lets it become
	Rotating Standing = "rotating" // a rotation is under way
	DueNow   Standing = "due"      // a rotation is about to begin
	Fine     Standing = "ok"
)

// Status is how the secret of one account stands.
type Status struct {
	Account   string             `json:"account"` // ACCOUNT+TARGET
	AccountID events.AccountID   `json:"account_id"`
	State     Standing           `json:"state"`
	Version   events.SecretID    `json:"version,omitzero"`  // that is held to be true
	Staged    time.Time          `json:"staged,omitzero"`   // its age counts from here
	Verified  time.Time          `json:"verified,omitzero"` // last time that the target was seen to take it
	Rotation  events.RotationID  `json:"rotation,omitzero"` // under way
	Why       events.RotationWhy `json:"why,omitempty"`     // of the next or the one under way

	SettleOnly bool `json:"settle_only,omitempty"` // the one under way only finds out which secret is true

	Next     time.Time             `json:"next,omitzero"` // next attempt or rotation
	Detail   string                `json:"detail,omitempty"`
	Last     events.RotationResult `json:"last,omitempty"` // result of the last rotation
	Failures int                   `json:"failures"`       // rotations without success since the last that succeeded
	Budget   int                   `json:"budget"`         // wrong logins that this site may still make now
}

// StatusOf tells how the secret of an account stands at this site. It is to be called in
// a View.
func (m *Manager) StatusOf(s *aggregate.State, a *aggregate.Account) Status {
	site, now := m.cfg.Site, m.cfg.Now()
	st := Status{Account: a.Name + "+" + a.Target.String(), AccountID: a.ID, State: Fine}
	if t, ok := s.Target(a.Target); ok {
		st.Account = a.Name + "+" + t.Name
	}
	c, ok := s.Credential(a.Credential)
	if !ok {
		return st
	}
	st.Budget, _ = lockout.Left(s, c.ID, site, now)
	st.Failures = c.Failures()
	if v, ok := c.Current(); ok {
		st.Version, st.Staged = v.ID, v.Staged.Time()
		st.Verified, _ = c.LastVerified()
	}
	if e, ok := c.LastEnded(); ok {
		st.Last, st.Detail = e.Result, e.Detail
	}
	o, due := Due(s, a, site)
	if due {
		st.Why, st.Next = o.Why, o.At
		if !o.At.After(now) && !o.SettleOnly && s.Owner(a) == site && m.Isolated(s, a, o.Why) {
			st.Detail = "it waits until a site is in reach that may open the new secret; rotate run does not wait"
		}
	}
	r, under := m.cfg.Dispatcher.Rotating(s, c.ID)
	if others := s.RotationsOf(c.ID); !under && len(others) > 0 {
		st.Detail = strings.TrimPrefix(st.Detail+"; "+stillAt(s, others[0]), "; ")
	}
	p := s.RotationPolicy(a)
	switch {
	case under:
		st.underWay(s, r, c, site, now)
	case c.Alarmed():
		st.State = Alarmed
	case c.Unsettled():
		st.State = Unknown
	case st.Failures > 0:
		st.State = Failing
	case p.MaxAge > 0 && !st.Staged.IsZero() && now.Sub(st.Staged) > time.Duration(p.MaxAge)*time.Second:
		st.State = Overdue
	case due && !o.At.After(now):
		st.State = DueNow
	}
	return st
}

// stillAt tells of a rotation of another site that nothing here waits for.
func stillAt(s *aggregate.State, r *aggregate.Rotation) string {
	name := r.Planned.Origin.Site.String()
	if t, ok := s.Site(r.Planned.Origin.Site); ok {
		name = t.Name
	}
	if _, until, why := r.Deferred(); r.Waits() {
		return "rotation " + r.ID.String() + " of site " + name + " waits until " + until.UTC().Format(time.RFC3339) + ": " + why
	}
	return "site " + name + " began rotation " + r.ID.String() + ", and nothing is heard of it"
}

func (st *Status) underWay(s *aggregate.State, r *aggregate.Rotation, c *aggregate.Credential, site events.SiteID, now time.Time) {
	st.State, st.Rotation, st.Why, st.Next, st.Detail = Rotating, r.ID, r.Why, time.Time{}, ""
	st.SettleOnly = r.SettleOnly
	if c.Unsettled() {
		st.State = Unknown
	}
	if step := Plan(s, r, site, now); step.Kind == Wait {
		st.Next, st.Detail = step.Until, step.Detail
	}
}

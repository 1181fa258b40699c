package rotation

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

const (
	firstRetry = 5 * time.Minute
	lastRetry  = 24 * time.Hour
)

// Obligation is why and when the secret of an account has to be rotated.
type Obligation struct {
	Why        events.RotationWhy
	At         time.Time
	SettleOnly bool
	Cause      uuid.UUID // the event that gave reason to, zero for none
}

// Due tells when the secret of an account is to be rotated next and why; false
// if nothing asks for it, as a site sees it. It does not look at what is under way.
func Due(s *aggregate.State, a *aggregate.Account, site events.SiteID) (o Obligation, ok bool) {
	c, known := s.Credential(a.Credential)
	if !known || c.Alarmed() {
		return o, false // a person has to look first
	}
	if c.Unsettled() {
		o = Obligation{Why: events.WhyDoubt, SettleOnly: !c.Contested()}
		return delayed(c, s.Owner(a), o), true
	}
	v, known := c.Current()
	if !known || v.Staged == nil {
		return o, false
	}
	earliest := func(why events.RotationWhy, m *aggregate.Mark, after uint64, spread uint64) {
		at := m.Time().Add(time.Duration(after) * time.Second).Add(jitter(v.ID, spread))
		if !ok || at.Before(o.At) {
			o, ok = Obligation{Why: why, At: at, Cause: m.ID}, true
		}
	}
	p := s.RotationPolicy(a)
	if len(c.Leases()) > 0 { // who has it to themselves keeps it
		return o, false
	}
	if m, yes := c.Freed(v.ID); yes { // whatever else asks for it too
		return delayed(c, s.Owner(a), Obligation{Why: events.WhyCheckin, At: m.Time(), Cause: m.ID}), true
	}
	if m := s.Exposed(c, v.Key); m != nil {
		earliest(events.WhyExposed, m, 0, 0)
	}
	if known := c.KnownTo(v.ID); p.AfterReveal > 0 && len(known) > 0 {
		earliest(events.WhyReveal, known[0].At, p.AfterReveal, 0)
	}
	if m, yes := c.Used(v.ID); yes && p.AfterUse > 0 && s.CountSessions(site, func(n *aggregate.Session) bool { return n.Secret == v.ID }) == 0 {
		earliest(events.WhyUse, m, p.AfterUse, 0)
	}
	if p.Every > 0 {
		earliest(events.WhySchedule, v.Staged, p.Every, p.Jitter)
	}
	if p.MaxAge > 0 {
		earliest(events.WhyAge, v.Staged, p.MaxAge, 0)
	}
	if !ok {
		return o, false
	}
	return delayed(c, s.Owner(a), o), true
}

// delayed puts off what failed before, longer each time: there, for what another site
// could not do, as behind a cut, says nothing of what this one can.
func delayed(c *aggregate.Credential, owner events.SiteID, o Obligation) Obligation {
	n, last := c.FailedAt(owner)
	if n > 0 {
		pause := lastRetry
		if n < 10 {
			pause = min(firstRetry<<(n-1), lastRetry)
		}
		if at := last.Add(pause); at.After(o.At) {
			o.At = at
		}
	}
	return o
}

// jitter spreads what would fall on one moment, always the same for a version.
func jitter(id events.SecretID, spread uint64) time.Duration {
	if spread == 0 {
		return 0
	}
	n := binary.BigEndian.Uint64(id.UUID[8:]) // the random half of a UUIDv7
	return time.Duration(n%spread) * time.Second
}

type openRotation struct {
	id         events.RotationID
	credential events.CredentialID
	account    events.AccountID
}

// scan ends check-outs whose time is over and plans what is due, at the site
// that owns the account (rule R13). It gives the rotations of this site that are
// under way, and when to look again, zero for not before something happens.
func (m *Manager) scan(ctx context.Context) (open []openRotation, next time.Time) {
	now := m.cfg.Now()
	var give []commands.Command
	m.cfg.Dispatcher.View(func(s *aggregate.State) {
		soonest := func(at time.Time) {
			if next.IsZero() || at.Before(next) {
				next = at
			}
		}
		for _, a := range s.Accounts() {
			if a.Removed || targetRemoved(s, a) || s.Owner(a) != m.cfg.Site {
				continue
			}
			c, ok := s.Credential(a.Credential)
			if !ok {
				continue
			}
			if c.ExclusivityBroken() {
				give = append(give, commands.BreakExclusivity{Credential: c.ID})
				soonest(now.Add(retry)) // for the rotation that follows
				continue
			}
			for _, l := range c.Leases() {
				if l.Until.After(now) {
					soonest(l.Until)
				} else {
					give = append(give, commands.CheckInSecret{Account: a.ID.String(), Reason: "its time is over"})
				}
			}
			if r, under := m.cfg.Dispatcher.Rotating(s, c.ID); under {
				if r.Planned.Origin.Site != m.cfg.Site {
					soonest(now.Add(retry)) // that site may be lost
				}
				continue
			}
			switch o, due := Due(s, a, m.cfg.Site); {
			case !due:
			case o.At.After(now):
				soonest(o.At)
			case !o.SettleOnly && m.Isolated(s, a, o.Why):
				soonest(now.Add(copyRetry))
			default:
				give = append(give, commands.PlanRotation{Account: a.ID.String(), Why: o.Why, SettleOnly: o.SettleOnly, Cause: o.Cause})
			}
		}
	})
	leased := m.left() >= leastLease
	for _, c := range give {
		if _, plans := c.(commands.PlanRotation); plans && !leased {
			next = now.Add(leaseRetry)
			continue
		}
		if err := m.do(ctx, c); err != nil && !refused(err) && ctx.Err() == nil {
			m.cfg.Log.Warn("what is due could not be planned", "error", err)
			next = now.Add(retry)
		}
	}
	m.cfg.Dispatcher.View(func(s *aggregate.State) {
		for _, r := range s.Rotations() {
			if r.Planned.Origin.Site == m.cfg.Site {
				open = append(open, openRotation{r.ID, r.Credential, r.Account})
			}
		}
	})
	return open, next
}

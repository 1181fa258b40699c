package rotation

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

// Copies are what other sites hold (rule R1): a secret that one disk alone holds is
// lost with it, and if the target takes it already, so is the account.
type Copies interface {
	// Reachable reports whether any other site that may open secrets can be asked.
	Reachable() bool
	// Held waits until one of them holds, durable, a staged version and the data key
	// that it is sealed under. False when none says so in time.
	Held(ctx context.Context, version vault.Sealed, staged events.ClockEntry) bool
}

// noCopies is where there is no other site.
type noCopies struct{}

func (noCopies) Reachable() bool                                            { return false }
func (noCopies) Held(context.Context, vault.Sealed, events.ClockEntry) bool { return false }

// copyRetry is how long what waits for another site waits before it looks again.
const copyRetry = time.Second

var errAlone = errors.New("no other site that may open the new secret can be told of it, and `isolated` of the rotation policy " +
	"does not let it be changed without")

// goesAlone reports whether a rotation goes on though only this site holds the new
// secret: where no other one could, or the policy lets it.
func goesAlone(s *aggregate.State, site events.SiteID, p events.RotationPolicy, why events.RotationWhy) bool {
	return !others(s, site) || p.Isolated == events.IsolatedAlways || p.Isolated == events.IsolatedAsked && why == events.WhyAsked
}

// others reports whether any other site may open secrets, and is thought to be there:
// one whose work was taken over is gone, as far as anybody knows.
func others(s *aggregate.State, site events.SiteID) bool {
	for _, m := range s.MeshSites() {
		d, moved := s.RotationHolder(m.Site, events.TargetID{})
		if m.Site != site && s.Custodian(m.Site) && (!moved || d.Holder == m.Site) {
			return true
		}
	}
	return false
}

// Reachable reports whether any other site that may open secrets can be asked to hold
// a new one.
func (m *Manager) Reachable() bool { return m.cfg.Copies.Reachable() }

// Isolated reports whether what is due for an account waits until another site is in
// reach.
func (m *Manager) Isolated(s *aggregate.State, a *aggregate.Account, why events.RotationWhy) bool {
	return !goesAlone(s, m.cfg.Site, s.RotationPolicy(a), why) && !m.cfg.Copies.Reachable()
}

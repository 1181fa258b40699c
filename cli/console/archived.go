package console

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/projections"
)

// The views take a restore at its word. Whether it counts depends on who made it, who may
// have been disabled elsewhere (rule R9), so what is shown of accounts and targets is
// put right by the state that decisions are made on.

func (c *call) accounts(p *projections.Projections, ctx context.Context, f projections.Filter) ([]projections.Account, error) {
	all, err := p.Accounts(ctx, f)
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		for i := range all {
			accountCounts(s, &all[i])
		}
	})
	return slices.DeleteFunc(all, func(a projections.Account) bool { return f.Live && a.State != "active" }), err
}

func (c *call) account(p *projections.Projections, ctx context.Context, ref string) (projections.Account, error) {
	a, err := p.Account(ctx, ref)
	c.cfg.Site.Commands().View(func(s *aggregate.State) { accountCounts(s, &a) })
	return a, err
}

func (c *call) targets(p *projections.Projections, ctx context.Context, f projections.Filter) ([]projections.Target, error) {
	all, err := p.Targets(ctx, f)
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		for i := range all {
			targetCounts(s, &all[i])
		}
	})
	return slices.DeleteFunc(all, func(t projections.Target) bool { return f.Live && t.State != "active" }), err
}

func (c *call) target(p *projections.Projections, ctx context.Context, ref string) (projections.Target, error) {
	t, err := p.Target(ctx, ref)
	c.cfg.Site.Commands().View(func(s *aggregate.State) { targetCounts(s, &t) })
	return t, err
}

func accountCounts(s *aggregate.State, shown *projections.Account) {
	a, known := s.Account(shown.ID)
	if !known {
		return
	}
	t, onTarget := s.Target(a.Target)
	switch {
	case a.Removed:
		shown.State, shown.Conflict = "removed", false
		shown.Removed = removedAt(shown.Removed, s.RemovalOf(a))
	case onTarget && t.Removed:
		shown.State = "target removed"
	}
	if shown.Conflict {
		_, err := s.AccountOn(a.Target, a.Name)
		shown.Conflict = err != nil
	}
	shown.Contested = s.Contested(a)
}

func targetCounts(s *aggregate.State, shown *projections.Target) {
	t, known := s.Target(shown.ID)
	if !known {
		return
	}
	if t.Removed {
		shown.State, shown.Conflict = "removed", false
		shown.Removed = removedAt(shown.Removed, s.RemovalOfTarget(t))
	}
	if shown.Conflict {
		_, err := s.TargetByName(t.Name)
		shown.Conflict = err != nil
	}
	shown.Contested = s.ContestedTarget(t)
}

func removedAt(shown time.Time, m *aggregate.Mark) time.Time {
	if shown.IsZero() && m != nil {
		return m.Time()
	}
	return shown
}

// archived marks the state of an account or a target whose removal is contested, or whose
// name another one has, too.
func archived(state string, conflict, contested bool) string {
	if contested {
		return state + ", contested"
	}
	return conflicting(state, conflict)
}

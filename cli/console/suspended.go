package console

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
)

// What somebody made who had been disabled at another site is suspended (rule R9). The
// views do not know of that, and who decides about it has to see it.
const suspended = "suspended"

func (c *call) grants(p *projections.Projections, ctx context.Context, f projections.Filter) ([]projections.Grant, error) {
	all, err := p.Grants(ctx, f)
	d := c.cfg.Site.Commands()
	d.View(func(s *aggregate.State) {
		for i := range all {
			grantCounts(s, &all[i], d.Now())
		}
	})
	return slices.DeleteFunc(all, func(g projections.Grant) bool { return f.Live && g.State == suspended }), err
}

func (c *call) grant(p *projections.Projections, ctx context.Context, id events.GrantID) (projections.Grant, error) {
	g, err := p.Grant(ctx, id)
	d := c.cfg.Site.Commands()
	d.View(func(s *aggregate.State) { grantCounts(s, &g, d.Now()) })
	return g, err
}

func (c *call) users(p *projections.Projections, ctx context.Context, f projections.Filter) ([]projections.User, error) {
	all, err := p.Users(ctx, f)
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		for i := range all {
			userCounts(s, &all[i])
		}
	})
	return slices.DeleteFunc(all, func(u projections.User) bool { return f.Live && u.State == suspended }), err
}

// grantCounts has a grant that nothing else ends shown as suspended.
func grantCounts(s *aggregate.State, g *projections.Grant, now time.Time) {
	if errors.Is(s.GrantStands(g.ID, now), aggregate.ErrSuspended) && slices.Contains([]string{"active", "not begun", "outside its time"}, g.State) {
		g.State = suspended
	}
}

func userCounts(s *aggregate.State, u *projections.User) {
	if errors.Is(s.UserStands(u.ID), aggregate.ErrSuspended) {
		u.State = suspended
	}
}

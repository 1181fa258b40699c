package console

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
)

// What an operator sees of targets and accounts is what live grants and approved
// requests of theirs lead to. To anything else the answer is that it is not there.

// ownAccountIDs lists the accounts that the caller may use now, or with always
// also at other times than now, by what decisions are made on.
func (c *call) ownAccountIDs(always bool) map[events.AccountID]bool {
	ids := map[events.AccountID]bool{}
	d := c.cfg.Site.Commands()
	now := d.Now()
	d.View(func(s *aggregate.State) {
		for _, a := range s.AccountsOf(c.by.ID, now) {
			_, err := s.GrantFor(c.by.ID, a.ID, now)
			if err == nil || always && (errors.Is(err, aggregate.ErrNotBegun) || errors.Is(err, aggregate.ErrClosed)) {
				ids[a.ID] = true
			} else if r, _ := s.RequestFor(c.by.ID, a.ID, d.Log(), now); r != nil {
				ids[a.ID] = true
			}
		}
	})
	return ids
}

func (c *call) ownAccounts(p *projections.Projections, ctx context.Context, f projections.Filter) ([]projections.Account, error) {
	if c.seesAll() {
		return c.accounts(p, ctx, f)
	}
	return c.accountsAmong(c.ownAccountIDs(false), p, ctx, f)
}

// grantedAccounts lists the accounts that are the caller's own whatever their
// role, also those that they may not use at this moment of the week.
func (c *call) grantedAccounts(p *projections.Projections, ctx context.Context, f projections.Filter) ([]projections.Account, error) {
	return c.accountsAmong(c.ownAccountIDs(true), p, ctx, f)
}

func (c *call) accountsAmong(ids map[events.AccountID]bool, p *projections.Projections, ctx context.Context, f projections.Filter) ([]projections.Account, error) {
	limit := f.Limit
	f.Limit = projections.MaxLimit
	all, err := c.accounts(p, ctx, f)
	all = slices.DeleteFunc(all, func(a projections.Account) bool { return !ids[a.ID] })
	return all[:min(limit, len(all))], err
}

func (c *call) ownAccount(p *projections.Projections, ctx context.Context, ref string) (projections.Account, error) {
	a, err := c.account(p, ctx, ref)
	if err != nil || c.seesAll() {
		return a, err
	}
	if !c.ownAccountIDs(false)[a.ID] {
		return projections.Account{}, &projections.NotFoundError{Noun: "account", Ref: ref}
	}
	return a, nil
}

func (c *call) ownTargets(p *projections.Projections, ctx context.Context, f projections.Filter) ([]projections.Target, error) {
	if c.seesAll() {
		return c.targets(p, ctx, f)
	}
	ids, err := c.ownTargetIDs(p, ctx)
	if err != nil {
		return nil, err
	}
	limit := f.Limit
	f.Limit = projections.MaxLimit
	all, err := c.targets(p, ctx, f)
	all = slices.DeleteFunc(all, func(t projections.Target) bool { return !ids[t.ID] })
	return all[:min(limit, len(all))], err
}

func (c *call) ownTarget(p *projections.Projections, ctx context.Context, ref string) (projections.Target, error) {
	t, err := c.target(p, ctx, ref)
	if err != nil || c.seesAll() {
		return t, err
	}
	ids, err := c.ownTargetIDs(p, ctx)
	if err == nil && !ids[t.ID] {
		err = &projections.NotFoundError{Noun: "target", Ref: ref}
	}
	if err != nil {
		return projections.Target{}, err
	}
	return t, nil
}

// ownTargetIDs lists the targets that the caller may reach now.
func (c *call) ownTargetIDs(p *projections.Projections, ctx context.Context) (map[events.TargetID]bool, error) {
	ids := map[events.TargetID]bool{}
	accounts, err := c.ownAccounts(p, ctx, projections.Filter{Live: true, Limit: projections.MaxLimit})
	for _, a := range accounts {
		ids[a.TargetID] = true
	}
	return ids, err
}

func (c *call) ownGrants(p *projections.Projections, ctx context.Context, f projections.Filter) ([]projections.Grant, error) {
	if !c.seesAll() {
		f.User = c.by.ID.String()
	}
	return c.grants(p, ctx, f)
}

func (c *call) ownGrant(p *projections.Projections, ctx context.Context, ref string) (projections.Grant, error) {
	id, err := uuid.Parse(ref)
	if err != nil {
		return projections.Grant{}, &projections.NotFoundError{Noun: "grant", Ref: ref}
	}
	g, err := c.grant(p, ctx, events.GrantID{UUID: id})
	if err == nil && !c.seesAll() && g.UserID != c.by.ID && !c.inGroup(g.GroupID) {
		return projections.Grant{}, &projections.NotFoundError{Noun: "grant", Ref: ref}
	}
	return g, err
}

// inGroup reports whether the caller is in a group.
func (c *call) inGroup(id events.GroupID) (in bool) {
	c.cfg.Site.Commands().View(func(s *aggregate.State) { in = s.InGroup(c.by.ID, id) })
	return in
}

package console

import (
	"errors"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
)

// What runs is known to the state that decisions are made on, whatever becomes
// of the views: so a session can be seen and ended on a full disk as well.

// running lists the sessions that run now, the newest first.
func (c *call) running() (all []projections.Session) {
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		for _, n := range slices.Backward(s.LiveSessions()) {
			all = append(all, runningSession(s, n))
		}
	})
	return all
}

// withUnheard fills in which sessions ran at sites that are gone.
func (c *call) withUnheard(all []projections.Session) {
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		for i := range all {
			n, runs := s.Session(all[i].ID)
			all[i].Unheard = runs && all[i].Ended == nil && s.Abandoned(n, c.cfg.Site.ID())
		}
	})
}

// runningSession is what the state knows of a session. A name that it does not
// know is left to the id.
func runningSession(s *aggregate.State, n *aggregate.Session) projections.Session {
	out := projections.Session{
		ID: n.ID, User: n.User.String(), Account: n.Account.String(), Target: n.Target.String(), Started: n.Started.Time(), Source: n.Source,
		SiteID: n.Started.Origin.Site, UserID: n.User, AccountID: n.Account, TargetID: n.Target, Credential: n.Credential, Secret: n.Secret, Grant: n.Grant,
		Request: n.Request, Approvals: n.Approvals,
	}
	if r, ok := s.RequestOf(n); ok {
		out.Why, out.Ticket, out.BreakGlass = r.Reason, r.Ticket, r.BreakGlass
	}
	if u, ok := s.User(n.User); ok {
		out.User = u.Name
	}
	if a, ok := s.Account(n.Account); ok {
		out.Account = a.Name
	}
	if t, ok := s.Target(n.Target); ok {
		out.Target = t.Name
	}
	return out
}

// unseen lists the running sessions that a filter lets through and that the
// views lack.
func (c *call) unseen(p *projections.Projections, f projections.Filter) []projections.Session {
	return slices.DeleteFunc(c.running(), func(s projections.Session) bool {
		_, err := p.Session(c.ctx, s.ID)
		return !errors.Is(err, projections.ErrNotFound) ||
			!f.Site.IsZero() && f.Site != s.SiteID ||
			f.User != "" && f.User != s.User && f.User != s.UserID.String() ||
			f.Target != "" && f.Target != s.Target && f.Target != s.TargetID.String() ||
			!f.Since.IsZero() && s.Started.Before(f.Since) || !f.Until.IsZero() && !s.Started.Before(f.Until)
	})
}

// runningID finds the running session that an argument names: by its id, by the
// beginning of it, or "last" for the one that started last. Only for one that
// does not run the views are asked, to tell whether it has ended.
func (c *call) runningID(ref string) (events.SessionID, error) {
	all := c.running()
	if ref == "last" {
		if len(all) == 0 {
			return events.SessionID{}, &Fault{Exit: NotFound, Message: "no session is running"}
		}
		return all[0].ID, nil
	}
	prefix := strings.ToLower(ref)
	if id, err := uuid.Parse(ref); err == nil {
		prefix = id.String()
	} else if err := checkPrefix(prefix); err != nil {
		return events.SessionID{}, err
	}
	found := slices.DeleteFunc(all, func(s projections.Session) bool { return !strings.HasPrefix(s.ID.String(), prefix) })
	switch len(found) {
	case 0:
		s, err := c.session("session kill", ref)
		if err != nil {
			return events.SessionID{}, err
		}
		return events.SessionID{}, hasEnded(s)
	case 1:
		return found[0].ID, nil
	}
	return events.SessionID{}, ambiguous(prefix, found)
}

package aggregate

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"
)

// LeftOpen is something in use that a site can open which is no custodian any more.
type LeftOpen struct {
	What  string    // "secret", "user authority", "second factor"
	Name  string    // of the account, the site, the user
	ID    uuid.UUID // likewise
	Since *Mark     // the event by which that site went
}

// LeftOpen lists them by what they are and name.
func (s *State) LeftOpen(now time.Time) (all []LeftOpen) {
	add := func(what, name string, id uuid.UUID, since *Mark) {
		if since != nil {
			all = append(all, LeftOpen{what, name, id, since})
		}
	}
	for _, a := range s.accounts {
		c := s.credentials[a.Credential]
		if t := s.targets[a.Target]; c == nil || a.Removed || t == nil || t.Removed {
			continue
		}
		if v, ok := c.Current(); ok {
			add("secret", s.accountName(a), a.ID.UUID, s.Exposed(c, v.Key))
		}
	}
	for id, t := range s.sites {
		for _, ca := range t.UserCAs() {
			if ca.Holds(now) && !s.Left(id) && !s.Fenced(id) {
				add("user authority", t.Name, id.UUID, s.exposedSince(ca.Created))
			}
		}
	}
	for id, u := range s.users {
		if f, ok := s.FactorOf(id); ok && !u.Disabled() {
			add("second factor", u.Name, id.UUID, s.exposedSince(f.Enrolled))
		}
	}
	slices.SortFunc(all, func(x, y LeftOpen) int {
		return cmp.Or(cmp.Compare(x.What, y.What), cmp.Compare(x.Name, y.Name), slices.Compare(x.ID[:], y.ID[:]))
	})
	return all
}

// exposedSince is the event since which a site can open what was sealed at a mark that
// must not, nil for none.
func (s *State) exposedSince(sealed *Mark) (since *Mark) {
	for _, p := range s.parted {
		if !p.custodian && p.site != sealed.Origin.Site {
			continue
		}
		for _, m := range p.by {
			if !sealed.Knows(m) && (since == nil || m.Compare(since) < 0) {
				since = m
			}
		}
	}
	return since
}

package aggregate

import (
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// maxStaleness bounds a role's setting, in seconds.
const maxStaleness = 10 * 365 * 86400

// HomeOf is the site whose word a user's standing waits for (rule R10): the one
// that added them, or who has taken its duties over.
func (s *State) HomeOf(u *User) events.SiteID {
	home := u.Added.Origin.Site
	if d, moved := s.Holder(home, events.TargetID{}); moved {
		return d.Holder
	}
	return home
}

// Strict is how long without news of their home site a user may start sessions;
// false where the last known state is good enough.
func (s *State) Strict(u *User) (within time.Duration, strict bool) {
	set := s.RoleSettings(u.Role)
	return staleness(set), set.Staleness == events.Strict
}

// StrictWithin is the shortest time of all strict roles; false where none is.
func (s *State) StrictWithin() (within time.Duration, strict bool) {
	for role := range s.roles {
		if set := s.RoleSettings(role); set.Staleness == events.Strict {
			if w := staleness(set); !strict || w < within {
				within, strict = w, true
			}
		}
	}
	return within, strict
}

func staleness(set events.RoleSet) time.Duration {
	return time.Duration(min(set.Within, maxStaleness)) * time.Second //nolint:gosec // bounded
}

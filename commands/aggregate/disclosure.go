package aggregate

import (
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// Exposure says that a person was shown a version of a secret, and so knows it
// until the target takes another one.
type Exposure struct {
	User events.UserID
	At   *Mark
}

// Lease is a check-out.
type Lease struct {
	ID      events.LeaseID
	User    events.UserID
	Version events.SecretID
	Until   time.Time
	Granted *Mark

	over bool // it is kept, since it may end at several sites
}

func (l *Lease) granted() *Mark { return l.Granted }

// KnownTo lists who was shown a version, the first first.
func (c *Credential) KnownTo(id events.SecretID) []Exposure {
	return slices.SortedFunc(slices.Values(c.shown[id]), func(a, b Exposure) int { return a.At.Compare(b.At) })
}

// Leases lists the check-outs that have not ended, the first first: more than
// one only where sites granted them without knowing of each other (rule R11).
func (c *Credential) Leases() []*Lease {
	return slices.DeleteFunc(flat(c.leases, (*Lease).granted), func(l *Lease) bool { return l.over })
}

// Freed is when a check-out of the version ended last.
func (c *Credential) Freed(id events.SecretID) (*Mark, bool) {
	m, ok := c.freed[id]
	return m, ok
}

// Used is when a session with the version ended last.
func (c *Credential) Used(id events.SecretID) (*Mark, bool) {
	m := c.used[id]
	for n := range c.endedElsewhere {
		for _, e := range n.ends {
			if n.Connected && n.Secret == id {
				m = later(m, e.at)
			}
		}
	}
	return m, m != nil
}

var _ = fold(func(s *State, at *Mark, e events.SecretRevealed) bool {
	c, _ := s.version(at, e.Version, Staged)
	return c != nil && c.expose(at, e.Version)
})

func (c *Credential) expose(at *Mark, id events.SecretID) bool {
	c.shown[id] = append(c.shown[id], Exposure{User: events.UserID{UUID: at.Actor.ID}, At: at})
	return true
}

// ExclusivityBroken reports whether several people have the secret to themselves
// (rule R11): sites gave it to them without knowing of each other.
func (c *Credential) ExclusivityBroken() bool { return len(c.Leases()) > 1 }

var _ = fold(func(s *State, at *Mark, e events.SecretCheckedOut) bool {
	c, _ := s.version(at, e.Version, Staged)
	if c == nil {
		return false
	}
	id := events.LeaseID{UUID: at.ID}
	c.leases[id] = append(c.leases[id], &Lease{ID: id, User: events.UserID{UUID: at.Actor.ID}, Version: e.Version, Until: e.Until, Granted: at})
	return c.expose(at, e.Version)
})

var _ = fold(func(s *State, at *Mark, e events.SecretCheckedIn) bool {
	c := s.credentials[events.CredentialID{UUID: at.Stream}]
	if c == nil {
		return false
	}
	known := false
	for _, l := range c.leases[e.Lease] {
		if at.Knows(l.Granted) {
			l.over, known = true, true
			c.freed[l.Version] = later(c.freed[l.Version], at)
		}
	}
	return known
})

// use takes note of the end of a session that a secret was used by.
func (s *State) use(at *Mark, n *Session) {
	if c := s.credentials[n.Credential]; c != nil && n.Connected {
		c.used[n.Secret] = later(c.used[n.Secret], at)
	}
}

package aggregate

import (
	"bytes"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// All sites together stay below the threshold at which a target locks an account
// (rule R3), also where they can't hear each other. So each has a share of the tries
// that can't be overdrawn by what others do not know. What can't be divided by their
// number is in two parts. The first is the owner's, who has to rotate. A site that
// takes over can't know whether the owner that it takes over from still spends that;
// so the second is kept for one certain site, for when it has taken over. Either part
// passes on with the duty once the site that has it is known to know of that.

// LoginsLeft is how many presentations of an account's secret the log leaves to a
// site now, and when there may be one more. A key that is turned down counts against
// no lock-out.
func (s *State) LoginsLeft(a *Account, c *Credential, site events.SiteID, now time.Time) (left int, until time.Time) {
	if c.Kind == events.PrivateKey {
		return math.MaxInt32, now
	}
	p := s.RotationPolicy(a)
	window := time.Duration(p.LockoutWindow) * time.Second
	tries := c.Spent(now.Add(-window), p.Cumulative)
	all := max(0, int(p.LockoutThreshold)-1)
	if s.Left(site) && s.Owner(a) != site { // what is the others' it touches no more
		all = 0
	}
	own, room, first := tries[site], all, now
	for by, t := range tries {
		room -= t.N
		if t.Oldest.Before(first) {
			first = t.Oldest
		}
		if s.goneFor(by, site) {
			all -= t.N
		}
	}
	sites := s.touching(a, site)
	share, parts := max(0, all)/sites, s.parts(a, site, max(0, all)%sites)
	for by, t := range tries { // what is above a share was of a part
		if by != site && !s.goneFor(by, site) {
			parts -= max(0, t.N-share)
		}
	}
	left = min(share+max(0, parts)-own.N, room)
	if own.N > 0 {
		first = own.Oldest
	}
	return left, first.Add(window + time.Microsecond) // the log keeps microseconds
}

// parts is what a site has of the rest that can't be divided.
func (s *State) parts(a *Account, site events.SiteID, rest int) (n int) {
	if rest > 0 && s.partAt(a, a.Added.Origin.Site, site) == site {
		n += rest - rest/2
	}
	if rest > 1 && s.Owner(a) == site && s.partAt(a, s.successor(a), site) == site {
		n += rest / 2
	}
	return n
}

// touching counts the sites that may present the secret of an account.
func (s *State) touching(a *Account, self events.SiteID) int {
	n := 1
	for site := range s.present() {
		if site != self && !s.goneFor(site, self) && s.presents(a, site) {
			n++
		}
	}
	return n
}

// present are the sites of the mesh, or of which is known where there is none.
func (s *State) present() map[events.SiteID]bool {
	all := map[events.SiteID]bool{}
	for id := range s.mesh.members {
		all[id] = true
	}
	if len(all) == 0 {
		for id := range s.sites {
			all[id] = true
		}
	}
	return all
}

// goneFor reports whether another one is held to present nothing of the mesh's any
// more.
func (s *State) goneFor(site, self events.SiteID) bool {
	return site != self && (s.Left(site) || s.Left(self) || s.Fenced(site))
}

// presents reports whether a site was ever able to open the secret of an account.
func (s *State) presents(a *Account, site events.SiteID) bool {
	all := s.mesh.admissions[site]
	if len(all) == 0 || site == a.Added.Origin.Site || slices.ContainsFunc(all, func(m *admission) bool { return m.custodian }) {
		return true
	}
	c := s.credentials[a.Credential]
	return c != nil && slices.ContainsFunc(slices.Collect(maps.Values(c.versions)), func(v *Version) bool {
		return v.Staged != nil && v.Staged.Origin.Site == site
	})
}

// successor is the site for which the second part is kept: of those that may present
// the secret the one that was admitted first, but for who added the account.
func (s *State) successor(a *Account) (first events.SiteID) {
	admitted := func(site events.SiteID) *Mark {
		var m *Mark
		for _, at := range s.mesh.admissions[site] {
			if m == nil || at.at.Compare(m) < 0 {
				m = at.at
			}
		}
		return m
	}
	earlier := func(x, y events.SiteID) bool {
		if m, n := admitted(x), admitted(y); m != nil && n != nil {
			return m.Compare(n) < 0
		}
		return bytes.Compare(x.UUID[:], y.UUID[:]) < 0
	}
	for site := range s.present() {
		if site != a.Added.Origin.Site && s.presents(a, site) && (first.IsZero() || earlier(site, first)) {
			first = site
		}
	}
	return first
}

// partAt tells who has a part that began at a site, as another one sees it.
func (s *State) partAt(a *Account, began, self events.SiteID) (at events.SiteID) {
	at = began
	for _, d := range s.movesOf(a) {
		if s.goneFor(at, self) || s.knownAt(at, d.At, self) {
			at = d.Holder
		}
	}
	if s.goneFor(at, self) {
		return s.Owner(a)
	}
	return at
}

// movesOf lists all moves of the duty to rotate an account, that which counts last.
// That somebody was disabled who made one of them is not known everywhere at once, so
// it does not matter here.
func (s *State) movesOf(a *Account) (all []*Duty) {
	for _, d := range s.duties.moves[a.Added.Origin.Site] {
		if d.covers(a.Target) && !a.Added.Knows(d.At) {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, (*Duty).compare)
	return all
}

// knownAt reports whether a site is known, to another one, to know of an event.
func (s *State) knownAt(site events.SiteID, m *Mark, self events.SiteID) bool {
	if site == self {
		return true
	}
	for o, l := range s.logs {
		if o.Site == site && (o == m.Origin && l.position >= m.Position || l.coder.Clock().At(m.Origin) >= m.Position) {
			return true
		}
	}
	return false
}

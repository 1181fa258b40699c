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
//
// A site without a share would let nobody in where there are more sites than tries,
// though the secret is right. So whoever has no reason to doubt it may present it, once
// until the target has taken it. That is a wrong login only where the secret was changed
// and this site has not heard of it: then it knows better, and has its share. One such
// login of each site that is cut off is what remains of the risk.

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
	for _, t := range tries {
		room -= t.N
		if t.Oldest.Before(first) {
			first = t.Oldest
		}
	}
	since := now.Add(-window)
	sites := s.touching(a, site, since)
	share, parts := all/sites, s.parts(a, site, all%sites, since)
	for by, t := range tries { // what is above a share, and not the one try of who doubts nothing, was of a part
		if by != site {
			parts -= max(0, t.N-max(share, 1))
		}
	}
	left = min(share+max(0, parts)-own.N, room)
	if left < 1 && own.N == 0 && room > 0 && c.believed() {
		left = 1 // nothing speaks against the secret: see above
	}
	if own.N > 0 {
		first = own.Oldest
	}
	return left, first.Add(window + time.Microsecond) // the log keeps microseconds
}

// believed reports whether nothing speaks against what the target is held to take:
// sites agree on it, and it is newer than all doubts and than every change of which
// nobody knows what became of it.
func (c *Credential) believed() bool {
	if len(c.truth) == 0 || c.Contested() {
		return false
	}
	newer := func(m *Mark) bool {
		return !slices.ContainsFunc(c.truth, func(h head[events.SecretID]) bool { return !h.at.Knows(m) })
	}
	for _, m := range c.doubts {
		if !newer(m) {
			return false
		}
	}
	for _, t := range c.tries {
		if t.open && !c.outlasted(t.at) && !newer(t.at) {
			return false
		}
	}
	return true
}

// parts is what a site has of the rest that can't be divided.
func (s *State) parts(a *Account, site events.SiteID, rest int, since time.Time) (n int) {
	if rest > 0 && s.partAt(a, a.Added.Origin.Site, site, since) == site {
		n += rest - rest/2
	}
	if rest > 1 && s.Owner(a) == site && s.partAt(a, s.successor(a), site, since) == site {
		n += rest / 2
	}
	return n
}

// touching counts the sites that may present the secret of an account.
func (s *State) touching(a *Account, self events.SiteID, since time.Time) int {
	n := 1
	for site := range s.present() {
		if site != self && !s.goneFor(site, self, since) && s.presents(a, site) {
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

// goneFor reports whether another one has presented nothing of the mesh's since a
// time, and is held to present nothing any more. Before that is as long ago as logins
// count, its share is not divided anew: the others do not know what each other spend.
func (s *State) goneFor(site, self events.SiteID, since time.Time) bool {
	if site == self {
		return false
	}
	var parted *Mark
	for _, id := range []events.SiteID{site, self} {
		if s.Left(id) {
			parted = later(parted, s.cuts.left[id])
		}
	}
	for _, f := range s.FencesOf(site) {
		parted = later(parted, f.At)
	}
	return parted != nil && !parted.Time().After(since)
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
func (s *State) partAt(a *Account, began, self events.SiteID, since time.Time) (at events.SiteID) {
	at = began
	for _, d := range s.movesOf(a) {
		if s.goneFor(at, self, since) || s.knownAt(at, d.At, self) {
			at = d.Holder
		}
	}
	if s.goneFor(at, self, since) {
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

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
	since := now.Add(-window)
	tries := c.Spent(since, p.Cumulative)
	s.addUnheard(tries, a, site, since, now)
	room, first := max(0, int(p.LockoutThreshold)-1), now
	if s.Left(site) && s.Owner(a) != site { // what is the others' it touches no more
		room = 0
	}
	left = s.shareLeft(a, site, room, tries, since, now)
	room -= s.unheardSpent(a, site, room, since, now)
	for _, t := range tries { // what others are known to have spent is not spent again
		room -= t.N
		if t.Oldest.Before(first) {
			first = t.Oldest
		}
	}
	if left = min(left, room); left < 1 && tries[site].N == 0 && room > 0 && c.believed() {
		left = 1 // nothing speaks against the secret: see above
	}
	if own := tries[site]; own.N > 0 {
		first = own.Oldest
	}
	return left, first.Add(window + time.Microsecond) // the log keeps microseconds
}

// shareLeft is what a site has left of its share in all tries. Until everybody is known
// to have known for the length of a window that a site has gone, some may reckon with it
// or have spent by that, and some not: the least share that anybody may reckon with
// counts.
func (s *State) shareLeft(a *Account, site events.SiteID, all int, tries map[events.SiteID]Spending, since, now time.Time) int {
	sites, going := s.touching(a, site, since, now)
	moves, least := s.movesOf(a), math.MaxInt
	for n := sites; n <= sites+going; n++ {
		share, parts := all/n, s.parts(a, site, moves, all%n)
		for by, t := range tries { // what is above a share was of a part, or the one try of who doubts nothing
			free := share
			if by != a.Added.Origin.Site && !slices.ContainsFunc(moves, func(h handed) bool { return h.to == by }) {
				free = max(share, 1) // it never had a part
			}
			if by != site {
				parts -= max(0, t.N-free)
			}
		}
		least = min(least, share+max(0, parts)-tries[site].N)
	}
	return least
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
func (s *State) parts(a *Account, site events.SiteID, moves []handed, rest int) (n int) {
	if rest == 0 {
		return 0
	}
	heirs := s.presenters(a)
	if s.partAt(a.Added.Origin.Site, heirs, moves, site) == site {
		n += rest - rest/2
	}
	i := slices.IndexFunc(heirs, func(id events.SiteID) bool { return id != a.Added.Origin.Site })
	if i >= 0 && s.Owner(a) == site && s.partAt(heirs[i], heirs, append(s.namingsOf(a), moves...), site) == site {
		n += rest / 2
	}
	return n
}

// touching counts the sites that may present the secret of an account, and those that
// have gone, of which not all were known to know it at a time, or that have logged in
// since.
func (s *State) touching(a *Account, self events.SiteID, at, now time.Time) (sites, going int) {
	live, gone := []events.SiteID{self}, []events.SiteID{}
	for _, site := range s.presenters(a) {
		switch {
		case site == self:
		case s.goneFor(site, self):
			gone = append(gone, site)
		default:
			live = append(live, site)
		}
	}
	for _, g := range gone {
		if s.unheardOf(g, a.Credential, at, now).N > 0 || slices.ContainsFunc(live, func(l events.SiteID) bool { return !s.knewGone(g, l, at) }) {
			going++
		}
	}
	if s.Left(self) {
		going = 0 // it is alone, and reckons with nobody
	}
	return len(live), going
}

// knewGone reports whether a site is known to have known at a time that another one had
// gone.
func (s *State) knewGone(gone, site events.SiteID, at time.Time) bool {
	knew := func(m *Mark) bool {
		wall, known := s.goings[m.place()][site]
		return known && !time.UnixMicro(wall).After(at)
	}
	if s.Left(gone) {
		return slices.ContainsFunc(s.leavings(gone), knew)
	}
	return slices.ContainsFunc(s.FencesOf(gone), func(f *Fence) bool { return knew(f.At) })
}

// noteGoings takes note of when a site has first written what knows of an event by which
// another one went.
func (s *State) noteGoings(h *events.Header, clock events.Clock) {
	m := &Mark{Origin: h.Origin(), Position: h.Position, Clock: clock}
	for _, p := range s.parted {
		for _, by := range p.by {
			if m.Origin == by.Origin && m.Position < by.Position || m.Origin != by.Origin && !m.Knows(by) {
				continue
			}
			if wall, known := s.goings[by.place()][h.Site]; known && wall <= h.Wall {
				continue
			}
			if s.goings == nil {
				s.goings = map[events.ClockEntry]map[events.SiteID]int64{}
			}
			if s.goings[by.place()] == nil {
				s.goings[by.place()] = map[events.SiteID]int64{}
			}
			s.goings[by.place()][h.Site] = h.Wall
		}
	}
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

// presenters lists the sites that may present the secret of an account, in the order
// in which they were admitted: with those that are gone, so that it only grows.
func (s *State) presenters(a *Account) (all []events.SiteID) {
	admitted := map[events.SiteID]*Mark{}
	for site := range s.present() {
		if !s.presents(a, site) {
			continue
		}
		all = append(all, site)
		for _, m := range s.mesh.admissions[site] {
			if first := admitted[site]; first == nil || m.at.Compare(first) < 0 {
				admitted[site] = m.at
			}
		}
	}
	slices.SortFunc(all, func(x, y events.SiteID) int {
		if m, n := admitted[x], admitted[y]; m != nil && n != nil {
			return m.Compare(n)
		}
		return bytes.Compare(x.UUID[:], y.UUID[:])
	})
	return all
}

// handed is an event by which a part goes to a site.
type handed struct {
	to events.SiteID
	at *Mark
}

// partAt tells who has a part that began at a site and was handed on, as another one
// sees it: whoever has it hands it on by knowing of that, so it is nowhere else as far
// as itself can see. Of a site that is gone, and has not handed it on, the first of the
// heirs has it. The order of all this is the same everywhere.
func (s *State) partAt(began events.SiteID, heirs []events.SiteID, on []handed, self events.SiteID) events.SiteID {
	at, from := began, 0
	for {
		for i := from; i < len(on); i++ {
			if s.knownAt(at, on[i].at, self) {
				at, from = on[i].to, i+1
			}
		}
		switch {
		case !s.goneFor(at, self):
			return at
		case len(heirs) == 0:
			return events.SiteID{}
		}
		at, heirs = heirs[0], heirs[1:]
	}
}

// movesOf lists all moves of the duty to rotate an account, that which counts last.
// That somebody was disabled who made one of them is not known everywhere at once, so
// it does not matter here.
func (s *State) movesOf(a *Account) (all []handed) {
	var moves []*Duty
	for _, d := range s.duties.moves[a.Added.Origin.Site] {
		if d.covers(a.Target) && !a.Added.Knows(d.At) {
			moves = append(moves, d)
		}
	}
	slices.SortFunc(moves, (*Duty).compare)
	for _, d := range moves {
		all = append(all, handed{d.Holder, d.At})
	}
	return all
}

// namingsOf lists whom the site that added an account named its successors, of those
// that may present the secret.
func (s *State) namingsOf(a *Account) (all []handed) {
	for _, n := range s.successions.named[a.Added.Origin.Site] {
		if !n.Successor.IsZero() && s.presents(a, n.Successor) {
			all = append(all, handed{n.Successor, n.At})
		}
	}
	slices.SortFunc(all, func(x, y handed) int { return x.at.Compare(y.at) })
	return all
}

// knownAt reports whether a site is known, to another one, to know of an event.
func (s *State) knownAt(site events.SiteID, m *Mark, self events.SiteID) bool {
	if site == self {
		return true
	}
	for o, l := range s.logs {
		if o.Site == site && (o == m.Origin && l.counted >= m.Position || l.knew.At(m.Origin) >= m.Position) {
			return true
		}
	}
	return false
}

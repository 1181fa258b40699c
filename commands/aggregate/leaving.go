package aggregate

import (
	"maps"
	"slices"

	"github.com/holdfast-pam/holdfast/events"
)

// The logs of a site that has left the mesh end, for ever (rule R18): the one in which
// it says so at that place, and all of them where a steward closes them. A site comes
// back as another one. What stands beyond the end is like what follows a fork: kept,
// without effect, and nobody waits for it.

// closing is one steward's word on where the logs of a site that has left end.
type closing struct {
	logs events.Clock
	at   *Mark
}

// SetSelf tells the state whose it is: a site that has left, or is fenced, goes on by
// itself. It is told before anything is applied.
func (s *State) SetSelf(site events.SiteID) { s.self = site }

var _ = fold(func(s *State, at *Mark, e events.SiteLeft) bool {
	if s.cuts.left == nil {
		s.cuts.left = map[events.SiteID][]*lastWord{}
	}
	site := events.SiteID{UUID: at.Stream}
	s.cuts.left[site] = append(s.cuts.left[site], &lastWord{events.NewClock(e.Logs...), at})
	return true
})

// lastWord is a site's word that it leaves.
type lastWord struct {
	recordings events.Clock // where its logs of recordings end
	at         *Mark
}

var _ = fold(func(s *State, at *Mark, e events.SiteClosed) bool {
	if s.cuts.closed == nil {
		s.cuts.closed = map[events.SiteID][]*closing{}
	}
	site := events.SiteID{UUID: at.Stream}
	s.cuts.closed[site] = append(s.cuts.closed[site], &closing{events.NewClock(e.Logs...), at})
	return true
})

// Left reports whether a site has left the mesh. Where its log was written twice from
// before it said so, whoever closed it says it still.
func (s *State) Left(site events.SiteID) bool {
	return len(s.cuts.left[site]) > 0 || s.Closed(site)
}

// Closed reports whether a steward has closed the logs of a site.
func (s *State) Closed(site events.SiteID) bool {
	return slices.ContainsFunc(s.cuts.closed[site], func(c *closing) bool { return s.closes(c, site) })
}

// closes reports whether a closing counts: of a site that has said that it leaves, or of
// which a log was written twice from before where it had done so as the steward saw it.
// Nobody closes a site that stays.
func (s *State) closes(c *closing, site events.SiteID) bool {
	return len(s.cuts.left[site]) > 0 || slices.ContainsFunc(c.logs.Entries(), func(e events.ClockEntry) bool {
		size, forked := s.ForkOf(e.Origin)
		return forked && e.Origin.Site == site && size < e.Position
	})
}

// leavings are the events by which a site left.
func (s *State) leavings(site events.SiteID) (all []*Mark) {
	for _, w := range s.cuts.left[site] {
		all = append(all, w.at)
	}
	if len(all) == 0 {
		for _, c := range s.cuts.closed[site] {
			if s.closes(c, site) {
				all = append(all, c.at)
			}
		}
	}
	return all
}

// EndOf is where a log of a site that has left ends; false where it does not. Of
// closings by stewards that had applied different parts of a log the greatest size
// counts, so that none takes away what it had not heard of; a log that one of them does
// not name counts for nothing, so that none is tricked into letting a new one in.
func (s *State) EndOf(o events.Origin) (size uint64, ends bool) {
	if o.Site == s.self {
		return 0, false
	}
	if size, ends = s.holds.Ends[o]; ends {
		return size, true
	}
	return s.endFor(o)
}

// endFor is where a log ends for the other sites.
func (s *State) endFor(o events.Origin) (size uint64, ends bool) {
	for _, c := range s.cuts.closed[o.Site] {
		if !s.closes(c, o.Site) {
			continue
		}
		at := c.logs.At(o)
		if at == 0 {
			return 0, true
		}
		size, ends = max(size, at), true
	}
	for _, w := range s.cuts.left[o.Site] {
		if w.at.Origin == o && (!ends || w.at.Position < size) {
			size, ends = w.at.Position, true
		}
	}
	return size, ends
}

// Ends lists where the logs of a site that has left end, as far as that is known here;
// all tells whether its other logs of decisions count for nothing.
func (s *State) Ends(site events.SiteID) (ends []events.ClockEntry, all bool) {
	named := map[events.Origin]uint64{}
	for _, w := range s.cuts.left[site] {
		named[w.at.Origin] = 0
		for _, e := range w.recordings.Entries() {
			if e.Origin.Site == site && e.Origin.Kind == events.Rec {
				named[e.Origin] = max(named[e.Origin], e.Position)
			}
		}
	}
	for _, c := range s.cuts.closed[site] {
		if !s.closes(c, site) {
			continue
		}
		for _, e := range c.logs.Entries() {
			if e.Origin.Site == site {
				named[e.Origin] = max(named[e.Origin], e.Position)
			}
		}
	}
	for _, o := range slices.SortedFunc(maps.Keys(named), events.Origin.Compare) {
		size := named[o]
		if o.Kind == events.Ctl {
			size, _ = s.endFor(o)
		}
		ends = append(ends, events.ClockEntry{Origin: o, Position: size})
	}
	return ends, s.Closed(site)
}

// endsNow are the ends that a state has to be built with: of logs in which something
// else took effect, since what ends them came later, or was less at first.
func (s *State) endsNow() map[events.Origin]uint64 {
	var all map[events.Origin]uint64
	for o, l := range s.logs {
		if o.Site == s.self {
			continue
		}
		size, ends := s.endFor(o)
		if _, built := s.holds.Ends[o]; !ends || !built && l.counted == min(l.position, size, s.heldWith(o, l.position)) {
			continue
		}
		if all == nil {
			all = map[events.Origin]uint64{}
		}
		all[o] = size
	}
	return all
}

func (s *State) leavingLines(add func(format string, args ...any)) {
	for site, all := range s.cuts.left {
		for _, w := range all {
			add("left %s %s recordings %s", site, show(w.at), w.recordings)
		}
	}
	for site, all := range s.cuts.closed {
		for _, c := range all {
			add("closed %s at %s told %s", site, c.logs, show(c.at))
		}
	}
}

package aggregate

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Scheduled work is done under a lease where a site has named a successor (rule
// R13): the site stops after Yield without the successor's answer, the successor
// takes over after Take without a word of the site. Take is the longer one by so
// much that of two clocks which run differently the slow one has stopped first.

const (
	// ClockDrift is by what part of the time two monotonic clocks may part.
	ClockDrift = 0.01
	// LeaseMargin is what a successor waits besides.
	LeaseMargin = time.Second
	// LeastYield is the shortest lease.
	LeastYield = time.Second
	// MostTake bounds both times.
	MostTake = 24 * time.Hour
)

// LeastTake is the shortest safe time after which a successor takes over from a
// site that stops after yield.
func LeastTake(yield time.Duration) time.Duration {
	return yield + time.Duration(2*ClockDrift*float64(yield)) + LeaseMargin
}

// Succession is that a site named another one its successor.
type Succession struct {
	Of          events.SiteID
	Successor   events.SiteID // zero: it named nobody any more
	Yield, Take time.Duration
	Reason      string
	At          *Mark
}

// successions are all namings, by the site that wrote them, and which of them
// those named go by no more: by naming that took the place of earlier ones.
type successions struct {
	named map[events.SiteID][]*Succession
	ended map[uuid.UUID]map[events.SiteID]bool
}

var _ = fold(func(s *State, at *Mark, e events.SuccessorNamed) bool {
	of := events.SiteID{UUID: at.Stream}
	if at.Origin.Site != of {
		return false // nobody speaks for another site
	}
	n := &Succession{Of: of, Successor: e.Successor, Yield: millis(e.Yield), Take: millis(e.Take), Reason: e.Reason, At: at}
	n.Yield = max(n.Yield, LeastYield)
	n.Take = max(n.Take, LeastTake(n.Yield))
	if s.successions.named == nil {
		s.successions.named = map[events.SiteID][]*Succession{}
	}
	s.successions.named[of] = append(s.successions.named[of], n)
	return true
})

// millis reads a time that an event holds.
func millis(n uint64) time.Duration {
	return time.Duration(min(n, uint64(MostTake/time.Millisecond))) * time.Millisecond //nolint:gosec // bounded
}

var _ = fold(func(s *State, at *Mark, e events.SuccessionEnded) bool {
	if s.successions.ended == nil {
		s.successions.ended = map[uuid.UUID]map[events.SiteID]bool{}
	}
	if s.successions.ended[e.By] == nil {
		s.successions.ended[e.By] = map[events.SiteID]bool{}
	}
	s.successions.ended[e.By][at.Origin.Site] = true
	return true
})

// Successor is whom a site named last; false for nobody.
func (s *State) Successor(of events.SiteID) (n Succession, named bool) {
	last := s.lastNaming(of)
	if last == nil || last.Successor.IsZero() {
		return n, false
	}
	return *last, true
}

func (s *State) lastNaming(of events.SiteID) (last *Succession) {
	for _, n := range s.successions.named[of] {
		if last == nil || n.At.Compare(last.At) > 0 {
			last = n
		}
	}
	return last
}

// Heirs lists who may take a site's scheduled work over as far as that site can
// know: whom it named last, and whom it named before until they say that they have
// heard of it. Of namings of one site the shorter Yield and the longer Take count.
func (s *State) Heirs(of events.SiteID) []Succession {
	heirs := map[events.SiteID]Succession{}
	for _, n := range s.successions.named[of] {
		if n.Successor.IsZero() || s.Left(n.Successor) || s.Fenced(n.Successor) || s.hasEnded(n) {
			continue
		}
		h, more := heirs[n.Successor]
		if !more {
			heirs[n.Successor] = *n
			continue
		}
		h.Yield, h.Take = min(h.Yield, n.Yield), max(h.Take, n.Take)
		if n.At.Compare(h.At) > 0 {
			h.At = n.At
		}
		heirs[n.Successor] = h
	}
	var all []Succession
	for _, h := range heirs {
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b Succession) int { return a.At.Compare(b.At) })
	return all
}

// TakesAfter is how long nothing may be heard of a site before its successor takes
// over.
func (s *State) TakesAfter(successor, of events.SiteID) time.Duration {
	for _, h := range s.Heirs(of) {
		if h.Successor == successor {
			return h.Take
		}
	}
	return MostTake
}

// hasEnded reports whether whom a naming named has said that a later one counts.
func (s *State) hasEnded(n *Succession) bool {
	for _, later := range s.successions.named[n.Of] {
		if later.At.Compare(n.At) > 0 && s.successions.ended[later.At.ID][n.Successor] {
			return true
		}
	}
	return false
}

// SuccessorOf lists the sites of which a site is the successor.
func (s *State) SuccessorOf(site events.SiteID) []Succession {
	var all []Succession
	for of := range s.successions.named {
		if n, named := s.Successor(of); named && n.Successor == site {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(a, b Succession) int { return a.At.Compare(b.At) })
	return all
}

// Replaced lists the namings that took the place of ones by which a site was a
// successor, and of which it has not said so.
func (s *State) Replaced(site events.SiteID) []Succession {
	var all []Succession
	for _, namings := range s.successions.named {
		last, was := s.lastNaming(namings[0].Of), false
		for _, n := range namings {
			was = was || n != last && n.Successor == site && !s.hasEnded(n)
		}
		if was {
			all = append(all, *last)
		}
	}
	slices.SortFunc(all, func(a, b Succession) int { return a.At.Compare(b.At) })
	return all
}

// FencedSince reports whether a successor was fenced by what its naming did not know
// of, also where that was taken back: meanwhile nobody waited for its answers.
func (s *State) FencedSince(n Succession) bool {
	return slices.ContainsFunc(s.cuts.fences[n.Successor], func(f *Fence) bool { return !n.At.Knows(f.At) })
}

// Takable reports whether a successor may take a site's scheduled work over: it is
// that site's to do, and something is there that was not taken before.
func (s *State) Takable(successor, of events.SiteID) bool {
	d := s.lastOf(of, func(d *Duty) bool { return d.covers(events.TargetID{}) && !s.suspended(d.At) })
	switch {
	case d == nil || d.Holder == of:
		return true
	case d.Holder == successor:
		return s.wroteSince(of, d.At)
	}
	return false // somebody else does it, who may be well
}

// Written is how many records of a site's ctl logs were applied.
func (s *State) Written(site events.SiteID) (n uint64) {
	for o, l := range s.logs {
		if o.Site == site {
			n += l.position
		}
	}
	return n
}

// Heard is up to where a site had applied a log when it wrote the newest record of
// it that was applied here.
func (s *State) Heard(by events.SiteID, of events.Origin) (position uint64) {
	for o, l := range s.logs {
		if o.Site == by {
			clock := l.coder.Clock()
			position = max(position, clock.At(of))
		}
	}
	return position
}

func (s *State) successionLines(add func(format string, args ...any)) {
	for _, namings := range s.successions.named {
		for _, n := range namings {
			add("succession of %s by %s yield %s take %s %q at %s", n.Of, n.Successor, n.Yield, n.Take, n.Reason, show(n.At))
		}
	}
	for by, sites := range s.successions.ended {
		for site := range sites {
			add("succession ended at %s by %s", site, by)
		}
	}
}

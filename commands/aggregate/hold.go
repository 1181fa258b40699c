package aggregate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-pam/holdfast/events"
)

// A log is held where it was written twice (a fork), and a site's logs where it is
// fenced. What says so counts wherever it stands, in a part of a log that is held
// as well, so that all sites come to the same: a fork needs nobody's word, since
// its proof is checked; a fence does not count when its own site was cut before it
// and knew.

// Holds say up to where logs have effect.
type Holds struct {
	Logs  map[events.Origin]uint64
	Sites map[events.SiteID]bool   // all logs of which count for nothing, but for those named above
	Twins map[made]bool            // what was made twice, of which none counts
	Ends  map[events.Origin]uint64 // where logs of sites that have left end, if what came first said something else
	Pasts map[events.Origin]uint64 // up to where decisions are from before their site joined, where it is told differently
}

// Equal reports whether both hold the same.
func (h Holds) Equal(o Holds) bool {
	return h.SameLogs(o) && maps.Equal(h.Twins, o.Twins) && maps.Equal(h.Pasts, o.Pasts)
}

// SameLogs reports whether both hold the same logs.
func (h Holds) SameLogs(o Holds) bool {
	return maps.Equal(h.Logs, o.Logs) && maps.Equal(h.Sites, o.Sites) && maps.Equal(h.Ends, o.Ends)
}

// String lists them, in an order that depends on nothing else.
func (h Holds) String() string {
	var lines []string
	for o, size := range h.Logs {
		lines = append(lines, fmt.Sprintf("%s %d\n", o, size))
	}
	for site := range h.Sites {
		lines = append(lines, fmt.Sprintf("%s\n", site))
	}
	for o, size := range h.Ends {
		lines = append(lines, fmt.Sprintf("%s ends %d\n", o, size))
	}
	for m := range h.Twins {
		lines = append(lines, fmt.Sprintf("%s %s\n", m.kind, m.id))
	}
	for o, size := range h.Pasts {
		lines = append(lines, fmt.Sprintf("past of %s %d\n", o, size))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// claims are the types of events that count in a held part of a log, too.
var claims = map[string]bool{"fork.proved": true, "fork.settled": true, "site.fenced": true, "site.reinstated": true, "log.opened": true}

// IsClaim reports whether events of a type count in a held part of a log, too.
func IsClaim(eventType string) bool { return claims[eventType] }

// Fence is one cut of a site's logs.
type Fence struct {
	Site   events.SiteID
	Logs   events.Clock // up to where they count
	Reason string
	At     *Mark
}

// Fork is a proof that a log was written twice.
type Fork struct {
	events.ForkProved
	At *Mark

	proven bool
}

// cuts is what is said of forks and fences.
type cuts struct {
	check      func(f events.ForkProved, key string, identity []byte) error // nil believes everything
	keys       map[events.Origin]string                                     // of the heads of logs
	forks      map[events.Origin][]*Fork
	settled    map[events.Origin][]*Mark
	fences     map[events.SiteID][]*Fence
	reinstated map[events.SiteID][]*Mark
	left       map[events.SiteID][]*lastWord
	closed     map[events.SiteID][]*closing
}

// CheckForks has proofs of forks count only where check finds nothing wrong with
// them. It is told before anything is applied.
func (s *State) CheckForks(check func(f events.ForkProved, key string, identity []byte) error) {
	s.cuts.check = check
}

var _ = fold(func(s *State, at *Mark, e events.LogOpened) bool {
	if s.cuts.keys == nil {
		s.cuts.keys = map[events.Origin]string{}
	}
	if at.Position == 1 {
		s.cuts.keys[at.Origin] = e.Key
		s.proveForks(at.Origin)
	}
	return true
})

var _ = fold(func(s *State, at *Mark, e events.ForkProved) bool {
	if s.cuts.forks == nil {
		s.cuts.forks = map[events.Origin][]*Fork{}
	}
	s.cuts.forks[e.Log] = append(s.cuts.forks[e.Log], &Fork{ForkProved: e, At: at})
	s.proveForks(e.Log)
	return true
})

var _ = fold(func(s *State, at *Mark, e events.ForkSettled) bool {
	if s.cuts.settled == nil {
		s.cuts.settled = map[events.Origin][]*Mark{}
	}
	s.cuts.settled[e.Log] = append(s.cuts.settled[e.Log], at)
	return true
})

var _ = fold(func(s *State, at *Mark, e events.SiteFenced) bool {
	site := events.SiteID{UUID: at.Stream}
	if s.cuts.fences == nil {
		s.cuts.fences = map[events.SiteID][]*Fence{}
	}
	s.cuts.fences[site] = append(s.cuts.fences[site], &Fence{Site: site, Logs: events.NewClock(e.Logs...), Reason: e.Reason, At: at})
	return true
})

var _ = fold(func(s *State, at *Mark, _ events.SiteReinstated) bool {
	site := events.SiteID{UUID: at.Stream}
	if s.cuts.reinstated == nil {
		s.cuts.reinstated = map[events.SiteID][]*Mark{}
	}
	s.cuts.reinstated[site] = append(s.cuts.reinstated[site], at)
	return true
})

// ForkOf is up to where a log counts that was written twice.
func (s *State) ForkOf(o events.Origin) (size uint64, forked bool) {
	for _, f := range s.cuts.forks[o] {
		if f.proven && (!forked || f.Size < size) {
			size, forked = f.Size, true
		}
	}
	return size, forked
}

// inBranch reports whether an event stands where a log was written twice: who holds the
// other branch never hears of it.
func (s *State) inBranch(m *Mark) bool {
	size, forked := s.ForkOf(m.Origin)
	return forked && m.Position > size
}

// fork is the proof that leaves least of a log; of several such the first one of which
// everybody hears.
func (s *State) fork(o events.Origin) (least *Fork) {
	size, forked := s.ForkOf(o)
	if !forked {
		return nil
	}
	for _, f := range s.cuts.forks[o] {
		if !f.proven || f.Size != size {
			continue
		}
		if least == nil || s.inBranch(least.At) && !s.inBranch(f.At) || s.inBranch(least.At) == s.inBranch(f.At) && f.At.Compare(least.At) < 0 {
			least = f
		}
	}
	return least
}

// proveForks checks the proofs about a log. It takes the key of the log, which the
// log itself names in its first record, and the admission of its site: both may come
// later than a proof.
func (s *State) proveForks(o events.Origin) {
	m, admitted := s.MeshSite(o.Site)
	for _, f := range s.cuts.forks[o] {
		f.proven = f.proven || s.cuts.check == nil || admitted && s.cuts.check(f.ForkProved, s.cuts.keys[o], m.Identity) == nil
	}
}

// Forks lists for each log that was written twice the proof that counts, by log.
func (s *State) Forks() []*Fork {
	var all []*Fork
	for _, o := range slices.SortedFunc(maps.Keys(s.cuts.forks), events.Origin.Compare) {
		if f := s.fork(o); f != nil {
			all = append(all, f)
		}
	}
	return all
}

// Settled reports whether somebody has looked at a fork, knowing how little it
// leaves.
func (s *State) Settled(f *Fork) bool {
	return slices.ContainsFunc(s.cuts.settled[f.Log], func(m *Mark) bool { return m.Knows(f.At) && !s.inBranch(m) })
}

// FencesOf lists the cuts of a site's logs that count.
func (s *State) FencesOf(site events.SiteID) []*Fence {
	var all []*Fence
	for _, f := range s.cuts.fences[site] {
		if s.cutsNow(f, 0) {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b *Fence) int { return a.At.Compare(b.At) })
	return all
}

// Fenced reports whether a site is fenced.
func (s *State) Fenced(site events.SiteID) bool { return len(s.FencesOf(site)) > 0 }

// maxWords bounds a chain of fences and their lifting that sites have made against
// each other; what is beyond does not count.
const maxWords = 16

// cutsNow reports whether a fence counts: its site was free to say so, and no such
// site has taken it back.
func (s *State) cutsNow(f *Fence, depth int) bool {
	return depth < maxWords && s.free(f.At, depth+1) && !slices.ContainsFunc(s.cuts.reinstated[f.Site], func(m *Mark) bool {
		return m.Knows(f.At) && s.free(m, depth+1)
	})
}

// free reports whether an event is not in a part of its log that its site knew to
// be cut, or that follows a fork or the end of its log.
func (s *State) free(m *Mark, depth int) bool {
	if size, ends := s.EndOf(m.Origin); ends && m.Position > size {
		return false
	}
	if s.inBranch(m) {
		return false
	}
	return !slices.ContainsFunc(s.cuts.fences[m.Origin.Site], func(g *Fence) bool {
		return m.Knows(g.At) && m.Position > g.Logs.At(m.Origin) && s.cutsNow(g, depth+1)
	})
}

// Holds tells up to where logs are to have effect at a site, as far as is known
// there. Where that is not what the state was made with (see [State.SetHolds]), it
// must be built anew. A site that others have fenced, or that has left, goes on by
// itself.
func (s *State) Holds() Holds {
	h := Holds{Logs: map[events.Origin]uint64{}, Sites: map[events.SiteID]bool{}, Twins: s.twinsNow(), Ends: s.endsNow(), Pasts: s.pastsNow()}
	cut := func(o events.Origin, size uint64) {
		if at, held := h.Logs[o]; !held || size < at {
			h.Logs[o] = size
		}
	}
	for _, f := range s.Forks() {
		if f.Log.Kind == events.Ctl {
			cut(f.Log, f.Size)
		}
	}
	for site := range s.cuts.fences {
		if site == s.self {
			continue
		}
		for _, f := range s.FencesOf(site) {
			h.Sites[site] = true
			for _, e := range f.Logs.Entries() {
				cut(e.Origin, e.Position)
			}
			for o := range h.Logs { // of another fence
				if o.Site == site {
					cut(o, f.Logs.At(o))
				}
			}
		}
	}
	return h
}

// SetHolds has logs have effect only so far. It is told before anything is applied.
func (s *State) SetHolds(h Holds) { s.holds = h }

// HeldWith is what the state was made with.
func (s *State) HeldWith() Holds { return s.holds }

// holdOf is what forks and fences that the state was built with leave of a log.
func (s *State) holdOf(o events.Origin) (size uint64, held bool) {
	if size, held = s.holds.Logs[o]; held {
		return size, true
	}
	return 0, s.holds.Sites[o.Site]
}

// heldWith is up to where a log counts for them.
func (s *State) heldWith(o events.Origin, position uint64) uint64 {
	if size, held := s.holdOf(o); held {
		return min(size, position)
	}
	return position
}

// HoldOf is up to where a log has effect; false where it is not held.
func (s *State) HoldOf(o events.Origin) (size uint64, held bool) {
	size, held = s.holdOf(o)
	if end, ends := s.EndOf(o); ends && (!held || end < size) {
		return end, true
	}
	return size, held
}

func (s *State) cutLines(add func(format string, args ...any)) {
	for o, all := range s.cuts.forks {
		for _, f := range all {
			if !s.inBranch(f.At) {
				add("fork %s at %d told %s settled %t", o, f.Size, show(f.At), s.Settled(f))
			}
		}
	}
	for site, all := range s.cuts.fences {
		for _, f := range all {
			if !s.inBranch(f.At) {
				add("fence of %s at %s %q by %s counts %t", site, f.Logs, f.Reason, show(f.At), s.cutsNow(f, 0))
			}
		}
	}
	for site, all := range s.cuts.reinstated {
		if all = slices.DeleteFunc(slices.Clone(all), s.inBranch); len(all) > 0 {
			add("reinstated %s %s", site, showMarks(all))
		}
	}
	s.leavingLines(add)
	for o, key := range s.cuts.keys {
		if size, ends := s.EndOf(o); ends && size == 0 {
			continue
		}
		add("key of %s %s", o, key)
	}
}

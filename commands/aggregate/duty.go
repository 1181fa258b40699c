package aggregate

import (
	"cmp"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Duty is a move of what a site began to the site that carries it out from then
// on (rule R13). It is about what was begun before the site knew of it.
type Duty struct {
	Site    events.SiteID // that began it
	Term    uint64
	Holder  events.SiteID
	Log     events.Origin // in which the holder decides
	Targets []events.TargetID
	Given   bool // by who held it; otherwise taken from there
	Reason  string
	At      *Mark

	Scheduled bool      // only rotations are moved
	Lease     uuid.UUID // the naming of a successor by which it was taken; zero where a person did
}

// covers reports whether the move is about a target; the zero id stands for what
// is about none.
func (d *Duty) covers(target events.TargetID) bool {
	return len(d.Targets) == 0 || slices.Contains(d.Targets, target)
}

// compare orders moves of one site's duties: that which counts sorts last.
func (d *Duty) compare(other *Duty) int {
	return cmp.Or(cmp.Compare(d.Term, other.Term), other.At.Origin.Compare(d.At.Origin), cmp.Compare(d.At.Position, other.At.Position))
}

// duties are all moves, by the site that began what they are about.
type duties struct {
	moves   map[events.SiteID][]*Duty
	yielded map[uuid.UUID]map[events.SiteID]bool // by the event that moved them
}

// add takes a move in. Its term is at most one more than those that its site knew of:
// nobody comes out last for good by a number of which there is no greater one.
func (d *duties) add(m *Duty) bool {
	next := uint64(1)
	for _, known := range d.moves[m.Site] {
		if m.At.Knows(known.At) {
			next = max(next, known.Term+1)
		}
	}
	m.Term = min(m.Term, next)
	if d.moves == nil {
		d.moves = map[events.SiteID][]*Duty{}
	}
	d.moves[m.Site] = append(d.moves[m.Site], m)
	return true
}

var _ = fold(func(s *State, at *Mark, e events.DutiesTaken) bool {
	return s.duties.add(&Duty{
		Site: events.SiteID{UUID: at.Stream}, Term: e.Term, Holder: at.Origin.Site, Log: at.Origin, Targets: e.Targets, Reason: e.Reason, At: at,
		Scheduled: e.Scheduled, Lease: e.Lease,
	})
})

var _ = fold(func(s *State, at *Mark, e events.DutiesGiven) bool {
	return s.duties.add(&Duty{
		Site: events.SiteID{UUID: at.Stream}, Term: e.Term, Holder: e.To, Log: events.Origin{Site: e.To, Epoch: e.Epoch, Kind: events.Ctl},
		Targets: e.Targets, Given: true, Reason: e.Reason, At: at, Scheduled: e.Scheduled,
	})
})

var _ = fold(func(s *State, at *Mark, e events.DutiesYielded) bool {
	if s.duties.yielded == nil {
		s.duties.yielded = map[uuid.UUID]map[events.SiteID]bool{}
	}
	if s.duties.yielded[e.By] == nil {
		s.duties.yielded[e.By] = map[events.SiteID]bool{}
	}
	s.duties.yielded[e.By][at.Origin.Site] = true
	return true
})

// lastMove is the move that counts for what was begun at a mark and is about a
// target; nil where its site carries it out itself. A move by somebody who had
// been disabled counts for nothing (rule R9). Moves of what is scheduled count for
// rotations only.
func (s *State) lastMove(begun *Mark, target events.TargetID, rotations bool) *Duty {
	return s.lastOf(begun.Origin.Site, func(d *Duty) bool {
		return d.covers(target) && (rotations || !d.Scheduled) && !begun.Knows(d.At) && !s.suspended(d.At)
	})
}

// moveKnown is lastMove as the site of an event knew it. Whether somebody was
// disabled elsewhere it could not know, so that does not matter here: what an
// event means must not depend on what comes later.
func (s *State) moveKnown(begun *Mark, target events.TargetID, by *Mark) *Duty {
	return s.lastOf(begun.Origin.Site, func(d *Duty) bool {
		return d.covers(target) && !d.Scheduled && !begun.Knows(d.At) && by.Knows(d.At)
	})
}

func (s *State) lastOf(site events.SiteID, counts func(*Duty) bool) (last *Duty) {
	for _, d := range s.duties.moves[site] {
		if counts(d) && (last == nil || d.compare(last) > 0) {
			last = d
		}
	}
	return last
}

// Holder is the move by which a site's duties are another's now: all of them, for
// the zero target. False where it carries them out itself and always did. Moves of
// what is scheduled do not count; see RotationHolder.
func (s *State) Holder(site events.SiteID, target events.TargetID) (Duty, bool) {
	return s.holder(site, target, false)
}

// RotationHolder is Holder for the rotations among the duties.
func (s *State) RotationHolder(site events.SiteID, target events.TargetID) (Duty, bool) {
	return s.holder(site, target, true)
}

func (s *State) holder(site events.SiteID, target events.TargetID, rotations bool) (Duty, bool) {
	d := s.lastOf(site, func(d *Duty) bool { return d.covers(target) && (rotations || !d.Scheduled) && !s.suspended(d.At) })
	if d == nil {
		return Duty{}, false
	}
	return *d, true
}

// Moves lists all moves of duties, in the order in which they were made.
func (s *State) Moves() []*Duty {
	var all []*Duty
	for _, of := range s.duties.moves {
		all = append(all, of...)
	}
	slices.SortFunc(all, func(a, b *Duty) int { return a.At.Compare(b.At) })
	return all
}

// Yielded lists the sites that have said that they know of a move.
func (s *State) Yielded(move uuid.UUID) []events.SiteID {
	return slices.SortedFunc(maps.Keys(s.duties.yielded[move]), func(a, b events.SiteID) int { return slices.Compare(a.UUID[:], b.UUID[:]) })
}

// HeldBy lists the duties that a site carries out and others began, each as the
// move that counts.
func (s *State) HeldBy(site events.SiteID) []Duty {
	var all []Duty
	for of, moves := range s.duties.moves {
		if of == site {
			continue
		}
		whole, ok := s.Holder(of, events.TargetID{})
		if ok && whole.Holder == site {
			all = append(all, whole)
		}
		seen := map[events.ClockEntry]bool{whole.place(): true}
		if d, ok := s.RotationHolder(of, events.TargetID{}); ok && d.Holder == site && !seen[d.place()] {
			seen[d.place()] = true
			all = append(all, d)
		}
		for _, m := range moves {
			for _, target := range m.Targets {
				for _, rotations := range []bool{false, true} {
					if d, ok := s.holder(of, target, rotations); ok && d.Holder == site && !seen[d.place()] {
						seen[d.place()] = true
						all = append(all, d)
					}
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b Duty) int { return a.At.Compare(b.At) })
	return all
}

func (d *Duty) place() events.ClockEntry {
	if d.At == nil {
		return events.ClockEntry{}
	}
	return d.At.place()
}

// Lost lists the moves by which a site lost duties to another without having
// given them, and of which it has not said that it knows.
func (s *State) Lost(site events.SiteID) []Duty {
	var all []Duty
	for of, moves := range s.duties.moves {
		for _, m := range moves {
			had := of == site || slices.ContainsFunc(moves, func(d *Duty) bool { return d.Holder == site })
			d, counts := s.holder(of, first(m.Targets), m.Scheduled)
			if !had || !counts || d.At != m.At || m.Holder == site || m.At.Origin.Site == site || s.duties.yielded[m.At.ID][site] {
				continue
			}
			all = append(all, *m)
		}
	}
	slices.SortFunc(all, func(a, b Duty) int { return a.At.Compare(b.At) })
	return all
}

func first(targets []events.TargetID) (t events.TargetID) {
	if len(targets) > 0 {
		t = targets[0]
	}
	return t
}

// Lacks reports whether a site does not carry out, or not all of, what another
// one began, and who does: also when the other one has written since it was taken
// over.
func (s *State) Lacks(taker, of events.SiteID, targets []events.TargetID) (holder events.SiteID, lacks bool) {
	if len(targets) == 0 {
		targets = []events.TargetID{{}}
	}
	for _, target := range targets {
		d, moved := s.Holder(of, target)
		if !moved {
			return of, true
		}
		if d.Holder != taker || s.wroteSince(of, d.At) {
			return d.Holder, true
		}
	}
	return holder, false
}

// wroteSince reports whether a site has written what a mark does not know of.
func (s *State) wroteSince(site events.SiteID, m *Mark) bool {
	for o, l := range s.logs {
		if o.Site == site && l.position > m.Clock.At(o) {
			return true
		}
	}
	return false
}

// NextTerm is the term of the next move of a site's duties.
func (s *State) NextTerm(site events.SiteID) uint64 {
	term := uint64(0)
	for _, d := range s.duties.moves[site] {
		term = max(term, d.Term)
	}
	return term + 1
}

// Owner is the site that carries out what is scheduled for an account: the one
// that added it, until that is moved.
func (s *State) Owner(a *Account) events.SiteID {
	if d := s.lastMove(a.Added, a.Target, true); d != nil {
		return d.Holder
	}
	return a.Added.Origin.Site
}

// FactorOwner is the site that spends a factor's codes.
func (s *State) FactorOwner(f *Factor) events.SiteID {
	if d := s.lastMove(f.Enrolled, events.TargetID{}, false); d != nil {
		return d.Holder
	}
	return f.Enrolled.Origin.Site
}

// FactorSpent reports whether the code of a step is spent, for the log that would
// spend it. What the site that is gone took last is not known where its duties were taken
// over, nor what a site took that goes on in a new log, so no code of that time is
// taken there.
func (s *State) FactorSpent(f *Factor, step uint64, in events.Origin) bool {
	d := s.lastMove(f.Enrolled, events.TargetID{}, false)
	if f.Spent(step) || d != nil && !d.Given && step <= uint64(max(d.At.Wall, 0))/stepMicros+1 {
		return true
	}
	at := f.Enrolled.Origin
	l := s.logs[in]
	return in.Site == at.Site && in != at && l != nil && step <= uint64(max(l.began, 0))/stepMicros+1
}

// stepMicros is a step of RFC 6238.
const stepMicros = 30_000_000

// Redeemer is the log that counts the uses of a request: that in which it was
// made, until that duty is moved.
func (s *State) Redeemer(r *Request) events.Origin {
	if d := s.lastMove(r.Made, s.targetOf(r.Account), false); d != nil {
		return d.Log
	}
	return r.Made.Origin
}

// mayRedeem reports whether an event is by the log that counts the uses of a
// request, as its site knew it.
func (s *State) mayRedeem(r *Request, at *Mark) bool {
	target := s.targetOf(r.Account)
	if a := s.accounts[r.Account]; a != nil && !at.Knows(a.Added) {
		target = events.TargetID{} // what came since must not decide
	}
	if d := s.moveKnown(r.Made, target, at); d != nil {
		return at.Origin == d.Log
	}
	return at.Origin == r.Made.Origin
}

func (s *State) targetOf(id events.AccountID) (t events.TargetID) {
	if a := s.accounts[id]; a != nil {
		t = a.Target
	}
	return t
}

// Orphaned reports whether a rotation lost the site that carries it out: its
// duties were taken over since. It is not gone on with.
func (s *State) Orphaned(r *Rotation) bool {
	d := s.lastMove(r.Planned, s.targetOf(r.Account), true)
	return d != nil && !d.Given && d.Holder != r.Planned.Origin.Site
}

// UnderWayAt lists the rotations that a site is to go on with.
func (s *State) UnderWayAt(site events.SiteID) (all []*Rotation) {
	for _, r := range s.Rotations() {
		if r.Planned.Origin.Site == site && !s.Orphaned(r) {
			all = append(all, r)
		}
	}
	return all
}

func (s *State) dutyLines(add func(format string, args ...any)) {
	for site, moves := range s.duties.moves {
		for _, d := range moves {
			add("duty of %s term %d holder %s log %s targets %v given %t scheduled %t lease %s %q at %s", site, d.Term, d.Holder, d.Log, d.Targets, d.Given, d.Scheduled, d.Lease, d.Reason, show(d.At))
		}
	}
	for move := range s.duties.yielded {
		add("duty moved by %s yielded by %v", move, s.Yielded(move))
	}
}

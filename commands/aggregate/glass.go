package aggregate

import (
	"maps"
	"slices"

	"github.com/holdfast-pam/holdfast/events"
)

// GlassProposal is a change of those who may break the glass that one
// administrator asks for.
type GlassProposal struct {
	Change      events.GlassChange
	Reason      string
	Fingerprint string
	At          *Mark
	Confirmed   bool // by whoever; whether it counts is another matter
}

// glassWord is a confirmed change, with the proposal that it confirms.
type glassWord struct {
	change      events.GlassChange
	proposed    *GlassProposal
	at          *Mark
	fingerprint string
}

var _ = fold(func(s *State, at *Mark, e events.GlassChangeProposed) bool {
	if s.proposals[at.Stream] != nil {
		return false
	}
	s.proposals[at.Stream] = &GlassProposal{Change: e.Change, Reason: e.Reason, Fingerprint: e.Fingerprint, At: at}
	return true
})

// A confirmation counts without its payload, too: the proposal says what it is about.
var _ = foldAway(func(s *State, at *Mark, e events.GlassChangeConfirmed) bool {
	p := s.proposals[at.Stream]
	if p == nil {
		return false
	}
	p.Confirmed = true
	s.glass[p.Change.User] = append(s.glass[p.Change.User], glassWord{p.Change, p, at, e.Fingerprint})
	return true
})

// GlassOf gives where and for how long a user may break the glass. It takes two
// different administrators to change: a confirmation by whoever proposed it
// counts for nothing. Of changes that did not know of each other, the one that
// takes away counts, or else the one that allows for less time; where they name
// different scopes, none.
func (s *State) GlassOf(user events.UserID) (g events.GlassChange, ok bool) {
	if s.UserStands(user) != nil {
		return g, false
	}
	words := slices.DeleteFunc(slices.Clone(s.glass[user]), func(w glassWord) bool { return !s.twoPersons(w) })
	for _, w := range words {
		if slices.ContainsFunc(words, func(later glassWord) bool { return later.at.Knows(w.at) }) {
			continue
		}
		switch c := w.change; {
		case !c.Allow, ok && c.Selector != g.Selector:
			return events.GlassChange{}, false
		case !ok:
			g, ok = c, true
		default:
			g.MaxTime, g.Review = min(g.MaxTime, c.MaxTime), min(g.Review, c.Review)
		}
	}
	return g, ok
}

// GlassFor is GlassOf for one account.
func (s *State) GlassFor(user events.UserID, account events.AccountID) (g events.GlassChange, ok bool) {
	if g, ok = s.GlassOf(user); ok {
		sel, err := events.ParseSelector(string(g.Selector))
		ok = err == nil && s.Takes(sel, account)
	}
	return g, ok
}

// twoPersons reports whether a change was proposed and confirmed by two people
// whose word counts.
func (s *State) twoPersons(w glassWord) bool {
	by, other := w.proposed.At.Actor, w.at.Actor
	if by.Kind != events.ByUser || other.Kind != events.ByUser || s.suspended(w.proposed.At) || s.suspended(w.at) {
		return false
	}
	return !s.SamePerson(events.UserID{UUID: by.ID}, events.UserID{UUID: other.ID}) &&
		(w.fingerprint == "" || w.fingerprint != w.proposed.Fingerprint)
}

// Proposal finds a proposed change by its id.
func (s *State) Proposal(id events.RequestID) (*GlassProposal, bool) {
	p, ok := s.proposals[id.UUID]
	return p, ok
}

// Proposals lists the proposed changes in the order they were made.
func (s *State) Proposals() []*GlassProposal {
	return slices.SortedFunc(maps.Values(s.proposals), func(a, b *GlassProposal) int { return a.At.Compare(b.At) })
}

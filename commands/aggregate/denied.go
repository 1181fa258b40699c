package aggregate

import (
	"slices"

	"github.com/holdfast-pam/holdfast/events"
)

// TermsOf gives the terms of a grant that counts. What a grant of the same
// right denies whose site did not know of this one, nor this one's of it, is
// denied as well: neither administrator meant to lift what the other set, so
// the stricter holds.
func (s *State) TermsOf(g *Grant) events.Terms {
	terms := g.Terms
	for _, other := range s.GrantsOn(g.Subject, g.Scope) {
		if other != g && !other.Added.Knows(g.Added) && !g.Added.Knows(other.Added) {
			terms.Deny = append(slices.Clone(terms.Deny), other.Terms.Deny...)
		}
	}
	if len(terms.Deny) > 0 {
		slices.Sort(terms.Deny)
		terms.Deny = slices.Compact(terms.Deny)
	}
	return terms
}

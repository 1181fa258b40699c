package aggregate

import "github.com/holdfast-pam/holdfast/events"

var _ = fold(func(s *State, at *Mark, e events.RoleSet) bool {
	if at.Stream != events.RoleStream(e.Role) {
		return false
	}
	h := s.roles[e.Role]
	if h == nil {
		h = &heads[events.RoleSet]{}
		s.roles[e.Role] = h
	}
	h.put(at, e)
	return true
})

// RoleSettings is what holds for everybody of a role. Of settings that did not
// know of each other, each field has its strictest value: a second factor
// rather than none and for one login rather than more, strict rather than not, and soon rather than late.
func (s *State) RoleSettings(role events.Role) events.RoleSet {
	set := events.RoleSet{Role: role, Staleness: events.BestEffort}
	if h := s.roles[role]; h != nil {
		for n, v := range *h {
			set.SecondFactor = set.SecondFactor || v.value.SecondFactor
			if n == 0 || v.value.FactorReuse < set.FactorReuse {
				set.FactorReuse = v.value.FactorReuse
			}
			if v.value.Staleness == events.Strict {
				if set.Staleness != events.Strict || v.value.Within < set.Within {
					set.Within = v.value.Within
				}
				set.Staleness = events.Strict
			}
		}
	}
	return set
}

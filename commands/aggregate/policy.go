package aggregate

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Policy says who may ask for access within a scope, and who decides.
type Policy struct {
	events.PolicyAdded
	ID      events.PolicyID
	Added   *Mark // nil for [DefaultPolicy]
	Removed bool  // final

	selection events.Selection
}

// DefaultPolicy stands where no policy covers an account: anybody may ask, an
// administrator decides, who could as well have added a grant.
var DefaultPolicy = &Policy{PolicyAdded: events.PolicyAdded{
	Name: "default", Requesters: []events.Party{{Anyone: true}}, Approvers: []events.Party{{Role: events.Admin}}, Approvals: 1,
	MaxTime: uint64((8 * time.Hour).Seconds()), MaxUses: 100, Decide: uint64((24 * time.Hour).Seconds()),
}}

var _ = fold(func(s *State, at *Mark, e events.PolicyAdded) bool {
	id := events.PolicyID{UUID: at.Stream}
	if s.policies[id] != nil {
		return false
	}
	p := &Policy{PolicyAdded: e, ID: id, Added: at}
	if e.Selector != "" { // one that can't be read takes nothing in
		p.selection, _ = events.ParseSelector(string(e.Selector))
	}
	s.policies[id] = p
	s.policiesByName.add(e.Name, id)
	return true
})

var _ = foldAway(func(s *State, at *Mark, _ events.PolicyRemoved) bool {
	p := s.policies[events.PolicyID{UUID: at.Stream}]
	if p == nil {
		return false
	}
	p.Removed = true
	s.policiesByName.remove(p.Name, p.ID)
	return true
})

// Policy finds a policy by id, removed or not.
func (s *State) Policy(id events.PolicyID) (*Policy, bool) {
	p, ok := s.policies[id]
	return p, ok
}

// PolicyByName finds the live policy of that name: ErrUnknown or [*ConflictError].
func (s *State) PolicyByName(name string) (*Policy, error) {
	ids := s.policiesByName[name]
	switch len(ids) {
	case 0:
		return nil, ErrUnknown
	case 1:
		return s.policies[ids[0]], nil
	}
	return nil, conflict("policy", name, uuids(ids, func(id events.PolicyID) uuid.UUID { return id.UUID })...)
}

// Policies lists all policies by name, the removed ones too.
func (s *State) Policies() []*Policy {
	return slices.SortedFunc(maps.Values(s.policies), func(a, b *Policy) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Added.Compare(b.Added))
	})
}

// Covering lists the policies that cover an account, in the order they were
// made; where there is none, the default policy does.
func (s *State) Covering(account events.AccountID) []*Policy {
	var all []*Policy
	for _, p := range s.policies {
		one := p.Selector == "" && p.Account == account
		if !p.Removed && !s.suspended(p.Added) && (one || p.Selector != "" && s.Takes(p.selection, account)) {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return []*Policy{DefaultPolicy}
	}
	slices.SortFunc(all, func(a, b *Policy) int { return a.Added.Compare(b.Added) })
	return all
}

// Binding lists the policies under which a user may ask for an account: those
// that cover it and name the user. All of them have to be met, so that being
// named twice never means to be looked at less closely. None means that the
// user may not ask.
func (s *State) Binding(user events.UserID, account events.AccountID) []*Policy {
	return slices.DeleteFunc(s.Covering(account), func(p *Policy) bool { return !s.IsParty(user, p.Requesters) })
}

// bindingOf lists the policies that bind a request: all that bind now, also
// those made since. What was asked for under a policy does not come down to the
// default when the policy goes.
func (s *State) bindingOf(r *Request) []*Policy {
	all := s.Binding(r.User, r.Account)
	if len(r.policies) > 0 && len(all) == 1 && all[0] == DefaultPolicy {
		return nil
	}
	return all
}

// IsParty reports whether a user who stands is one of the parties.
func (s *State) IsParty(user events.UserID, parties []events.Party) bool {
	u := s.users[user]
	if u == nil || s.UserStands(user) != nil {
		return false
	}
	return slices.ContainsFunc(parties, func(p events.Party) bool {
		switch {
		case p.Anyone:
			return true
		case p.Role != "":
			return u.Role == p.Role
		case !p.Group.IsZero():
			return s.InGroup(user, p.Group)
		}
		return p.User == user
	})
}

// SamePerson reports whether two users must be taken for one person: a key
// leads from one to the other, though it may have been taken away since.
func (s *State) SamePerson(a, b events.UserID) bool { return s.person(a, nil)[b] }

// person lists all users that a chain of shared keys connects with one: of keys that
// they were given by events that do not follow another one (nil for all).
func (s *State) person(user events.UserID, before *Mark) map[events.UserID]bool {
	held := func(fingerprint string, user events.UserID) bool {
		return slices.ContainsFunc(s.keyHolders[fingerprint][user], func(m *Mark) bool { return before == nil || !m.Knows(before) })
	}
	seen := map[events.UserID]bool{user: true}
	for next := []events.UserID{user}; len(next) > 0; {
		u := s.users[next[0]]
		next = next[1:]
		if u == nil {
			continue
		}
		for fingerprint := range u.keys {
			if !held(fingerprint, u.ID) {
				continue
			}
			for other := range s.keyHolders[fingerprint] {
				if !seen[other] && held(fingerprint, other) {
					seen[other] = true
					next = append(next, other)
				}
			}
		}
	}
	return seen
}

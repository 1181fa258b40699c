package aggregate

import (
	"cmp"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Group is a set of users, which grants and policies may name.
type Group struct {
	ID      events.GroupID
	Name    string
	Added   *Mark
	Removed bool // final

	members map[events.UserID]*heads[bool] // whether that head takes the member out
}

var _ = fold(func(s *State, at *Mark, e events.GroupAdded) bool {
	id := events.GroupID{UUID: at.Stream}
	if s.groups[id] != nil {
		return false
	}
	s.groups[id] = &Group{ID: id, Name: e.Name, Added: at, members: map[events.UserID]*heads[bool]{}}
	s.groupsByName.add(e.Name, id)
	return true
})

var _ = fold(func(s *State, at *Mark, e events.GroupMemberAdded) bool { return s.putMember(at, e.User, false) })

var _ = foldAway(func(s *State, at *Mark, e events.GroupMemberRemoved) bool {
	if e.User.IsZero() { // payload absent: it says not who, so nobody whom its site knew stays
		return s.emptyGroup(at)
	}
	return s.putMember(at, e.User, true)
})

func (s *State) putMember(at *Mark, user events.UserID, out bool) bool {
	g := s.groups[events.GroupID{UUID: at.Stream}]
	if g == nil {
		return false
	}
	h := g.members[user]
	if h == nil {
		h = &heads[bool]{}
		g.members[user] = h
		if s.groupsOf[user] == nil {
			s.groupsOf[user] = map[events.GroupID]bool{}
		}
		s.groupsOf[user][g.ID] = true
	}
	h.put(at, out)
	return true
}

// emptyGroup counts a removal of nobody in particular as one of the group:
// who it took out is not known, so nobody may stay by it.
func (s *State) emptyGroup(at *Mark) bool {
	return s.removeGroup(events.GroupID{UUID: at.Stream})
}

var _ = foldAway(func(s *State, at *Mark, _ events.GroupRemoved) bool {
	return s.removeGroup(events.GroupID{UUID: at.Stream})
})

func (s *State) removeGroup(id events.GroupID) bool {
	g := s.groups[id]
	if g == nil {
		return false
	}
	g.Removed = true
	s.groupsByName.remove(g.Name, id)
	return true
}

// Group finds a group by id, removed or not.
func (s *State) Group(id events.GroupID) (*Group, bool) {
	g, ok := s.groups[id]
	return g, ok
}

// GroupByName finds the live group of that name: ErrUnknown or [*ConflictError].
func (s *State) GroupByName(name string) (*Group, error) {
	ids := s.groupsByName[name]
	switch len(ids) {
	case 0:
		return nil, ErrUnknown
	case 1:
		return s.groups[ids[0]], nil
	}
	return nil, conflict("group", name, uuids(ids, func(id events.GroupID) uuid.UUID { return id.UUID })...)
}

// Groups lists all groups by name, the removed ones too.
func (s *State) Groups() []*Group {
	return slices.SortedFunc(maps.Values(s.groups), func(a, b *Group) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Added.Compare(b.Added))
	})
}

// InGroup reports whether a user counts as a member: taken in at least once by
// somebody whose word counts, and taken out by nobody who did not know of it.
func (s *State) InGroup(user events.UserID, group events.GroupID) bool {
	g := s.groups[group]
	if g == nil || g.Removed || s.suspended(g.Added) {
		return false
	}
	h := g.members[user]
	if h == nil || slices.ContainsFunc(*h, func(m head[bool]) bool { return m.value }) {
		return false
	}
	return slices.ContainsFunc(*h, func(m head[bool]) bool { return !s.suspended(m.at) })
}

// Members lists who counts as a member, by id.
func (s *State) Members(group events.GroupID) []events.UserID {
	g := s.groups[group]
	if g == nil {
		return nil
	}
	var in []events.UserID
	for id := range g.members {
		if s.InGroup(id, group) {
			in = append(in, id)
		}
	}
	slices.SortFunc(in, func(a, b events.UserID) int { return slices.Compare(a.UUID[:], b.UUID[:]) })
	return in
}

// GroupsOf lists the groups that a user is in, in the order they were made.
func (s *State) GroupsOf(user events.UserID) []*Group {
	var in []*Group
	for id := range s.groupsOf[user] {
		if s.InGroup(user, id) {
			in = append(in, s.groups[id])
		}
	}
	slices.SortFunc(in, func(a, b *Group) int { return a.Added.Compare(b.Added) })
	return in
}

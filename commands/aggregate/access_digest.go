package aggregate

import "fmt"

// accessLines writes out groups, labels and roles.
func (s *State) accessLines() (all []string) {
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)+"\n") }
	for id, g := range s.groups {
		add("group %s %q made %s removed %t", id, g.Name, show(g.Added), g.Removed)
		for user, h := range g.members {
			add("member %s of %s %s", user, id, showHeads(*h))
		}
	}
	for id, t := range s.targets {
		for key, h := range t.labels {
			add("label %s of %s %s", key, id, showHeads(*h))
		}
		if t.unlabelled {
			add("unlabelled %s", id)
		}
	}
	for role, h := range s.roles {
		add("role %s %s", role, showHeads(*h))
	}
	return append(all, indexLines("group name", s.groupsByName)...)
}

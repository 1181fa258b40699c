package aggregate

import (
	"maps"
	"slices"
)

// Makers lists the types of events that make something under a new id.
func Makers() []string {
	return append(slices.Sorted(maps.Keys(makers)), "session.started", "grant.added", "rotation.planned")
}

// AreaOf is areaOf, for tests.
var AreaOf = areaOf

// Lines are what a digest is made of.
func (s *State) Lines() []string { return s.lines() }

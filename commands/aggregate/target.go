package aggregate

import (
	"cmp"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Target is an administrative interface that the gateway reaches.
type Target struct {
	ID    events.TargetID
	Name  string
	Addr  string // host:port
	Kind  events.TargetKind
	Added *Mark

	archive
	hostKeys   heads[hostKeys]
	algorithms heads[[]string]
	limits     heads[uint32]
	params     heads[[]events.Param]
	labels     labels
	unlabelled bool // for good: a label was taken away, and which one is not known here
}

type hostKeys struct {
	keys    []string // authorized_keys form
	scanned bool
}

// HostKeys lists the keys that the target may prove, authorized_keys form.
// Where sites pinned different ones without knowing of each other, only those
// that all of them pinned count; that may leave none.
func (t *Target) HostKeys() []string {
	return common(t.hostKeys, func(v hostKeys) []string { return v.keys })
}

// Scanned reports whether the host keys were taken from the target itself.
func (t *Target) Scanned() bool {
	return slices.ContainsFunc(t.hostKeys, func(h head[hostKeys]) bool { return h.value.scanned })
}

// Contested reports whether sites pinned host keys without knowing of each other.
func (t *Target) Contested() bool { return len(t.hostKeys) > 1 }

// Algorithms lists the legacy algorithms that the target is allowed, those
// that all concurrent decisions allow.
func (t *Target) Algorithms() []string {
	if len(t.algorithms) == 0 {
		return nil
	}
	return common(t.algorithms, func(v []string) []string { return v })
}

// MaxSessions is how many sessions may run on the target at once, 0 for no
// limit; of concurrent decisions the strictest.
func (t *Target) MaxSessions() uint32 { return strictest(t.limits) }

// Params are the target's parameters, sorted by name. False where sites set
// different ones without knowing of each other: they say where a secret goes,
// so nothing is sent until a person has set them again.
func (t *Target) Params() ([]events.Param, bool) { return settled(t.params, slices.Equal) }

// settled is the value that all heads agree on, the newest and false where they
// don't.
func settled[T any](h heads[T], equal func(a, b T) bool) (value T, agreed bool) {
	if len(h) == 0 {
		return value, true
	}
	value = h.newest().value
	return value, !slices.ContainsFunc(h, func(other head[T]) bool { return !equal(other.value, value) })
}

// strictest is the lowest limit of all heads; 0 is none.
func strictest(h heads[uint32]) (limit uint32) {
	for _, v := range h {
		if limit == 0 || v.value != 0 && v.value < limit {
			limit = v.value
		}
	}
	return limit
}

// common lists what all heads hold, in the order of the newest.
func common[T any](h heads[T], list func(T) []string) []string {
	out := slices.Clone(list(h.newest().value))
	for _, other := range h {
		out = slices.DeleteFunc(out, func(v string) bool { return !slices.Contains(list(other.value), v) })
	}
	return out
}

var _ = fold(func(s *State, at *Mark, e events.TargetAdded) bool {
	id := events.TargetID{UUID: at.Stream}
	if s.targets[id] != nil {
		return false
	}
	t := &Target{ID: id, Name: e.Name, Addr: e.Addr, Kind: cmp.Or(e.Kind, events.SSH), Added: at}
	t.hostKeys.put(at, hostKeys{e.HostKeys, e.Scanned})
	t.params.put(at, e.Params)
	s.targets[id] = t
	s.targetsByName.add(e.Name, id)
	return true
})

var _ = fold(func(s *State, at *Mark, e events.TargetHostKeyPinned) bool {
	t := s.targets[events.TargetID{UUID: at.Stream}]
	if t != nil {
		t.hostKeys.put(at, hostKeys{e.HostKeys, e.Scanned})
	}
	return t != nil
})

var _ = fold(func(s *State, at *Mark, e events.TargetAlgorithmsAllowed) bool {
	t := s.targets[events.TargetID{UUID: at.Stream}]
	if t != nil {
		t.algorithms.put(at, e.Algorithms)
	}
	return t != nil
})

var _ = fold(func(s *State, at *Mark, e events.TargetLimitsSet) bool {
	t := s.targets[events.TargetID{UUID: at.Stream}]
	if t != nil {
		t.limits.put(at, e.MaxSessions)
	}
	return t != nil
})

var _ = fold(func(s *State, at *Mark, e events.TargetParamsSet) bool {
	t := s.targets[events.TargetID{UUID: at.Stream}]
	if t != nil {
		t.params.put(at, e.Params)
	}
	return t != nil
})

// Target finds a target by id, removed or not.
func (s *State) Target(id events.TargetID) (*Target, bool) {
	t, ok := s.targets[id]
	return t, ok
}

// TargetByName finds the live target of that name: ErrUnknown or [*ConflictError].
func (s *State) TargetByName(name string) (*Target, error) {
	ids := s.targetsByName[name]
	switch len(ids) {
	case 0:
		return nil, ErrUnknown
	case 1:
		return s.targets[ids[0]], nil
	}
	return nil, conflict("target", name, uuids(ids, func(id events.TargetID) uuid.UUID { return id.UUID })...)
}

// Targets lists all targets by name, the removed ones too.
func (s *State) Targets() []*Target {
	return slices.SortedFunc(maps.Values(s.targets), func(a, b *Target) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Added.Compare(b.Added))
	})
}

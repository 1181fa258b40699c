package aggregate

import (
	"maps"
	"slices"

	"github.com/holdfast-pam/holdfast/events"
)

// labelState is one head of a label: its value, or that it was taken away.
type labelState struct {
	value string
	off   bool
}

// labels are a target's, by key.
type labels map[string]*heads[labelState]

var _ = fold(func(s *State, at *Mark, e events.TargetLabelSet) bool {
	return s.putLabel(at, e.Key, labelState{value: e.Value})
})

var _ = foldAway(func(s *State, at *Mark, e events.TargetLabelRemoved) bool {
	if t := s.targets[events.TargetID{UUID: at.Stream}]; e.Key == "" && t != nil { // payload absent: it says not which
		t.unlabelled = true
		return true
	}
	return s.putLabel(at, e.Key, labelState{off: true})
})

func (s *State) putLabel(at *Mark, key string, value labelState) bool {
	t := s.targets[events.TargetID{UUID: at.Stream}]
	if t == nil {
		return false
	}
	if t.labels == nil {
		t.labels = labels{}
	}
	h := t.labels[key]
	if h == nil {
		h = &heads[labelState]{}
		t.labels[key] = h
	}
	h.put(at, value)
	return true
}

// Label gives the value of a target's label. Where sites set different values
// without knowing of each other, or one took it away, it has none: a label
// gives rights, so the strictest reading counts.
func (s *State) Label(t *Target, key string) (string, bool) {
	h := t.labels[key]
	if h == nil || t.unlabelled {
		return "", false
	}
	value, stands := "", false
	for i, l := range *h {
		if l.value.off || i > 0 && l.value.value != value {
			return "", false
		}
		value = l.value.value
		stands = stands || !s.suspended(l.at)
	}
	return value, stands
}

// Labels lists a target's labels by key.
func (s *State) Labels(t *Target) []events.Label {
	var all []events.Label
	for _, key := range slices.Sorted(maps.Keys(t.labels)) {
		if v, ok := s.Label(t, key); ok {
			all = append(all, events.Label{Key: key, Value: v})
		}
	}
	return all
}

// Takes reports whether a selection takes an account in, as it and its target
// are now.
func (s *State) Takes(sel events.Selection, id events.AccountID) bool {
	a := s.accounts[id]
	if a == nil || a.Removed {
		return false
	}
	t := s.targets[a.Target]
	if t == nil || t.Removed {
		return false
	}
	return sel.Takes(a.Name, func(key string) (string, bool) { return s.Label(t, key) })
}

package aggregate

import (
	"cmp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// DefaultRotationPolicy holds where no policy says otherwise. Three wrong logins
// in a quarter of an hour is where pam_faillock locks unless it is told better.
func DefaultRotationPolicy() events.RotationPolicy {
	return events.RotationPolicy{
		Length: 30, Classes: []string{"lower", "upper", "digit", "symbol"},
		LockoutThreshold: 3, LockoutWindow: 15 * 60, Concurrency: 1, Disclose: events.ToAdmins,
		Isolated: events.IsolatedAsked,
	}
}

// RotationPolicy is what holds for an account: its own policy, then that of its
// target, then the defaults, field by field.
func (s *State) RotationPolicy(a *Account) events.RotationPolicy {
	p := s.OwnRotationPolicy(a.ID.UUID)
	p = inherit(p, s.OwnRotationPolicy(a.Target.UUID))
	return inherit(p, DefaultRotationPolicy())
}

// OwnRotationPolicy is the policy set for a target or an account itself. Of
// concurrent ones each field has its stricter value (rule R6).
func (s *State) OwnRotationPolicy(id uuid.UUID) (p events.RotationPolicy) {
	for i, h := range slices.SortedFunc(slices.Values(s.rotationPolicies[id]), func(a, b head[events.RotationPolicy]) int { return a.at.Compare(b.at) }) {
		if i == 0 {
			p = h.value
		}
		p = stricter(p, h.value)
	}
	return p
}

func inherit(p, from events.RotationPolicy) events.RotationPolicy {
	p.Length = cmp.Or(p.Length, from.Length)
	if len(p.Classes) == 0 {
		p.Classes = from.Classes
	}
	p.Forbidden = cmp.Or(p.Forbidden, from.Forbidden)
	p.Every = cmp.Or(p.Every, from.Every)
	p.MaxAge = cmp.Or(p.MaxAge, from.MaxAge)
	p.AfterReveal = cmp.Or(p.AfterReveal, from.AfterReveal)
	p.AfterUse = cmp.Or(p.AfterUse, from.AfterUse)
	p.Jitter = cmp.Or(p.Jitter, from.Jitter)
	p.LockoutThreshold = cmp.Or(p.LockoutThreshold, from.LockoutThreshold)
	p.LockoutWindow = cmp.Or(p.LockoutWindow, from.LockoutWindow)
	p.Cumulative = p.Cumulative || from.Cumulative
	p.Concurrency = cmp.Or(p.Concurrency, from.Concurrency)
	p.Disclose = cmp.Or(p.Disclose, from.Disclose)
	p.Isolated = cmp.Or(p.Isolated, from.Isolated)
	return p
}

func stricter(a, b events.RotationPolicy) events.RotationPolicy {
	p := events.RotationPolicy{
		Length:      max(a.Length, b.Length),
		Classes:     slices.Compact(slices.Sorted(slices.Values(slices.Concat(a.Classes, b.Classes)))),
		Forbidden:   union(a.Forbidden, b.Forbidden),
		Every:       least(a.Every, b.Every),
		MaxAge:      least(a.MaxAge, b.MaxAge),
		AfterReveal: least(a.AfterReveal, b.AfterReveal),
		AfterUse:    least(a.AfterUse, b.AfterUse),
		Jitter:      least(a.Jitter, b.Jitter),

		LockoutThreshold: least(a.LockoutThreshold, b.LockoutThreshold),
		LockoutWindow:    max(a.LockoutWindow, b.LockoutWindow),
		Cumulative:       a.Cumulative || b.Cumulative,
		Concurrency:      least(a.Concurrency, b.Concurrency),
		Disclose:         stricterOf([]events.Disclosure{events.ToAdmins, "", events.ToGranted}, a.Disclose, b.Disclose),
		Isolated:         stricterOf([]events.Isolation{events.IsolatedNever, events.IsolatedAsked, "", events.IsolatedAlways}, a.Isolated, b.Isolated),
	}
	return p
}

// stricterOf is the first in order of two values; what is not set is inherited, and
// that may be no more than the default.
func stricterOf[T comparable](order []T, a, b T) T {
	return order[max(0, min(slices.Index(order, a), slices.Index(order, b)))]
}

// least is the lower of two limits, 0 being none.
func least[T uint32 | uint64](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func union(a, b string) string {
	for _, r := range b {
		if !strings.ContainsRune(a, r) {
			a += string(r)
		}
	}
	return a
}

var _ = fold(func(s *State, at *Mark, e events.RotationPolicySet) bool {
	h := s.rotationPolicies[at.Stream]
	h.put(at, e.Policy)
	s.rotationPolicies[at.Stream] = h
	return true
})

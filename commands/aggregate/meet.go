package aggregate

import (
	"slices"

	"github.com/holdfast-pam/holdfast/events"
)

// meet gives what two terms both allow, as far as they say it in the same
// words: the lesser of every limit, of every list what is in both, and no
// transfer that one of them denies.
func meet(a, b events.Terms) events.Terms {
	m := events.Terms{
		Allow: both(a.Allow, b.Allow), To: both(a.To, b.To), Listen: both(a.Listen, b.Listen),
		MaxTime: lesser(a.MaxTime, b.MaxTime), Idle: lesser(a.Idle, b.Idle), MaxSessions: lesser(a.MaxSessions, b.MaxSessions),
	}
	m.Deny = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(a.Deny), b.Deny...))))
	switch {
	case len(a.Services) == 0:
		m.Services = b.Services
	case len(b.Services) == 0:
		m.Services = a.Services
	default:
		if m.Services = both(a.Services, b.Services); len(m.Services) == 0 {
			m.Services = []events.Service{"none"} // an empty list would allow all
		}
	}
	return m
}

func both[T comparable](a, b []T) []T {
	return slices.DeleteFunc(slices.Clone(a), func(v T) bool { return !slices.Contains(b, v) })
}

// lesser is the lower of two limits, of which 0 is none.
func lesser[T uint32 | uint64](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

package aggregate

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// Authority is a key by which a site vouches: for the names of its targets, or
// for its own logins at them.
type Authority struct {
	ID          events.CAID // of a user authority
	Key         string      // authorized_keys form
	Fingerprint string
	Sealed      []byte    // private half of a user authority
	Created     *Mark     // nil for the first host authority
	Until       time.Time // from when a later one stands in its place; zero for no end

	ends time.Time // of those before it, as its event said
}

// HostCAs lists the authorities that vouch for the names of the site's targets,
// the oldest first.
func (t *Site) HostCAs() []Authority {
	if t.CA == "" {
		return nil
	}
	return inOrder(append([]Authority{{Key: t.CA}}, t.hostCAs...))
}

// UserCAs lists the authorities that sign the site's user certificates, the
// oldest first.
func (t *Site) UserCAs() []Authority { return inOrder(slices.Clone(t.userCAs)) }

// inOrder sorts authorities by their making and gives each the earliest end that
// a later one set.
func inOrder(all []Authority) []Authority {
	slices.SortStableFunc(all, func(a, b Authority) int {
		switch {
		case a.Created == nil:
			return -1
		case b.Created == nil:
			return 1
		}
		return a.Created.Compare(b.Created)
	})
	var end time.Time
	for i, a := range slices.Backward(all) {
		all[i].Until = end
		if end.IsZero() || !a.ends.IsZero() && a.ends.Before(end) {
			end = a.ends
		}
	}
	return all
}

// Holds reports whether an authority is still to be believed.
func (a *Authority) Holds(now time.Time) bool { return a.Until.IsZero() || now.Before(a.Until) }

var _ = fold(func(s *State, at *Mark, e events.CARotated) bool {
	t := s.ownSite(at)
	if t != nil {
		t.hostCAs = append(t.hostCAs, Authority{Key: e.Key, Fingerprint: e.Fingerprint, Created: at, ends: e.Until})
	}
	return t != nil
})

var _ = fold(func(s *State, at *Mark, e events.UserCACreated) bool {
	t := s.ownSite(at)
	if t != nil {
		t.userCAs = append(t.userCAs, Authority{ID: e.Authority, Key: e.Key, Fingerprint: e.Fingerprint, Sealed: e.Sealed, Created: at, ends: e.Until})
	}
	return t != nil
})

// authorityLines are the part of a site's authorities in the digest.
func (t *Site) authorityLines() (lines []string) {
	for _, list := range [][]Authority{t.hostCAs, t.userCAs} {
		for _, a := range list {
			lines = append(lines, fmt.Sprintf("authority of %s %s %s %x made %s ends %s\n", t.ID, a.ID, a.Key, a.Sealed, show(a.Created), a.ends))
		}
	}
	return lines
}

package aggregate

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// Grant allows a user to open sessions as an account. Removed grants are not
// kept: their history is in the log.
type Grant struct {
	ID      events.GrantID
	User    events.UserID
	Account events.AccountID
	Expires time.Time // UTC; zero means no end
	Terms   events.Terms
	Added   *Mark
}

// Expired reports whether the grant has ended by now.
func (g *Grant) Expired(now time.Time) bool { return !g.Expires.IsZero() && !now.Before(g.Expires) }

// right is what stands between one user and one account: the grants, and what
// was removed of the right so far. A grant stands only if its site knew of
// every removal (rule R8).
type right struct {
	grants  []*Grant
	removed []*Mark // heads: those that no later removal knew of
}

func (r *right) allows(g *Grant) bool {
	return !slices.ContainsFunc(r.removed, func(m *Mark) bool { return !g.Added.Knows(m) })
}

var _ = fold(func(s *State, at *Mark, e events.GrantAdded) bool {
	g := &Grant{
		ID: events.GrantID{UUID: at.Stream}, User: e.User, Account: e.Account, Expires: e.Expires, Terms: e.Terms, Added: at,
	}
	if s.grants[g.ID] != nil {
		return false
	}
	if r := s.right(e.User, e.Account); r.allows(g) {
		r.grants = append(r.grants, g)
		s.grants[g.ID] = g
	}
	return true
})

var _ = foldAway(func(s *State, at *Mark, e events.GrantRemoved) bool {
	user, account := e.User, e.Account
	if user.IsZero() || account.IsZero() { // payload absent: the grant itself says it, while it stands
		g := s.grants[events.GrantID{UUID: at.Stream}]
		if g == nil {
			return false
		}
		user, account = g.User, g.Account
	}
	r := s.right(user, account)
	r.removed = slices.DeleteFunc(r.removed, at.Knows)
	r.removed = append(r.removed, at)
	r.grants = slices.DeleteFunc(r.grants, func(g *Grant) bool {
		gone := !r.allows(g)
		if gone {
			delete(s.grants, g.ID)
		}
		return gone
	})
	return true
})

func (s *State) right(user events.UserID, account events.AccountID) *right {
	of := s.rights[user]
	if of == nil {
		of = map[events.AccountID]*right{}
		s.rights[user] = of
	}
	r := of[account]
	if r == nil {
		r = &right{}
		of[account] = r
	}
	return r
}

// Grant finds a grant that was not removed, by id.
func (s *State) Grant(id events.GrantID) (*Grant, bool) {
	g, ok := s.grants[id]
	return g, ok
}

// GrantsOf lists the grants of a user that were not removed, in the order they
// were made; expired and suspended ones too.
func (s *State) GrantsOf(user events.UserID) []*Grant {
	var all []*Grant
	for _, r := range s.rights[user] {
		all = append(all, r.grants...)
	}
	slices.SortFunc(all, func(a, b *Grant) int { return a.Added.Compare(b.Added) })
	return all
}

// Grants lists all grants that were not removed, in the order they were made.
func (s *State) Grants() []*Grant {
	return slices.SortedFunc(maps.Values(s.grants), func(a, b *Grant) int { return a.Added.Compare(b.Added) })
}

// GrantsFor lists the grants for one user and account that were not removed.
func (s *State) GrantsFor(user events.UserID, account events.AccountID) []*Grant {
	if r := s.rights[user][account]; r != nil {
		return slices.Clone(r.grants)
	}
	return nil
}

// GrantFor finds the grant that lets a user reach an account now, the newest
// one of several: its terms count, and nothing of the others'. Only a nil error
// lets anybody through: ErrUnknown, ErrExpired and ErrSuspended, the last two
// with the grant concerned, the one that lasts longest.
func (s *State) GrantFor(user events.UserID, account events.AccountID, now time.Time) (*Grant, error) {
	var best *Grant
	err := error(ErrUnknown)
	for _, g := range s.GrantsFor(user, account) {
		why := s.grantStands(g, now)
		switch {
		case best == nil, why == nil && err != nil:
		case why != nil && (err == nil || lasts(g, best) < 0):
			continue
		case why == nil && g.Added.Compare(best.Added) < 0:
			continue
		}
		best, err = g, why
	}
	return best, err
}

// GrantStands tells whether a grant lets its user through now: nil, ErrUnknown
// (removed), ErrExpired or ErrSuspended.
func (s *State) GrantStands(id events.GrantID, now time.Time) error {
	g := s.grants[id]
	if g == nil {
		return ErrUnknown
	}
	return s.grantStands(g, now)
}

func (s *State) grantStands(g *Grant, now time.Time) error {
	switch {
	case s.suspended(g.Added):
		return ErrSuspended
	case g.Expired(now):
		return ErrExpired
	}
	return nil
}

// lasts compares how long two grants last; ties go to the newer one.
func lasts(a, b *Grant) int {
	switch {
	case a.Expires.IsZero() && !b.Expires.IsZero():
		return 1
	case b.Expires.IsZero() && !a.Expires.IsZero():
		return -1
	}
	return cmp.Or(a.Expires.Compare(b.Expires), a.Added.Compare(b.Added))
}

package aggregate

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// Subject is whom a grant or a policy names: a user or a group.
type Subject struct {
	User  events.UserID
	Group events.GroupID
}

// Scope is what a grant leads to: an account, or all that a selector takes in.
type Scope struct {
	Account  events.AccountID
	Selector events.Selector
}

// Grant allows a subject to open sessions within a scope. Removed grants are
// not kept: their history is in the log.
type Grant struct {
	ID events.GrantID
	Subject
	Scope
	From    time.Time // UTC; zero means at once
	Expires time.Time // UTC; zero means no end
	Windows []events.Window
	Terms   events.Terms
	Added   *Mark

	selection events.Selection
}

func (g *Grant) made() *Mark { return g.Added }

// Expired reports whether the grant has ended by now.
func (g *Grant) Expired(now time.Time) bool { return !g.Expires.IsZero() && !now.Before(g.Expires) }

// right is what stands between one subject and one scope: the grants, and what
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
		ID: events.GrantID{UUID: at.Stream}, Subject: Subject{e.User, e.Group}, Scope: Scope{e.Account, e.Selector},
		From: e.From, Expires: e.Expires, Windows: e.Windows, Terms: e.Terms, Added: at,
	}
	if e.Selector != "" { // one that can't be read takes nothing in
		g.selection, _ = events.ParseSelector(string(e.Selector))
	}
	if r := s.right(g.Subject, g.Scope); r.allows(g) {
		r.grants = append(r.grants, g)
		s.grants[g.ID] = append(s.grants[g.ID], g)
	}
	return true
})

var _ = foldAway(func(s *State, at *Mark, e events.GrantRemoved) bool {
	subject, scope := Subject{e.User, e.Group}, Scope{e.Account, e.Selector}
	if subject == (Subject{}) || scope == (Scope{}) { // payload absent: the grant itself says it, while it stands
		g, ok := earliest(s.grants[events.GrantID{UUID: at.Stream}], (*Grant).made, func(*Grant) bool { return true })
		if !ok {
			return false
		}
		subject, scope = g.Subject, g.Scope
	}
	r := s.right(subject, scope)
	r.removed = slices.DeleteFunc(r.removed, at.Knows)
	r.removed = append(r.removed, at)
	r.grants = slices.DeleteFunc(r.grants, func(g *Grant) bool {
		gone := !r.allows(g)
		if gone {
			drop(s.grants, g.ID, func(o *Grant) bool { return o == g })
		}
		return gone
	})
	return true
})

func (s *State) right(subject Subject, scope Scope) *right {
	of := s.rights[subject]
	if of == nil {
		of = map[Scope]*right{}
		s.rights[subject] = of
	}
	r := of[scope]
	if r == nil {
		r = &right{}
		of[scope] = r
	}
	return r
}

// Grant finds a grant that was not removed, by id.
func (s *State) Grant(id events.GrantID) (*Grant, bool) {
	return earliest(s.grants[id], (*Grant).made, func(g *Grant) bool { return !s.gone(g) })
}

// kept lists the grants of a right, without those that went with their account or its
// target: they do not come back with it.
func (s *State) kept(r *right) []*Grant {
	return slices.DeleteFunc(slices.Clone(r.grants), s.gone)
}

func (s *State) gone(g *Grant) bool { return g.Selector == "" && s.over(g.Account, g.Added) }

// Grants lists all grants that were not removed, in the order they were made.
func (s *State) Grants() []*Grant {
	return slices.DeleteFunc(flat(s.grants, (*Grant).made), s.gone)
}

// GrantsOn lists the grants of exactly this subject and scope that were not
// removed.
func (s *State) GrantsOn(subject Subject, scope Scope) []*Grant {
	if r := s.rights[subject][scope]; r != nil {
		return s.kept(r)
	}
	return nil
}

// GrantsOf lists the grants of a user, their own and those of groups they are
// in, that were not removed, in the order they were made; expired and
// suspended ones too.
func (s *State) GrantsOf(user events.UserID) []*Grant {
	var all []*Grant
	for _, subject := range s.subjects(user) {
		for _, r := range s.rights[subject] {
			all = append(all, s.kept(r)...)
		}
	}
	slices.SortFunc(all, func(a, b *Grant) int { return a.Added.Compare(b.Added) })
	return all
}

// subjects lists all that stand for a user: the user, and each of their groups.
func (s *State) subjects(user events.UserID) []Subject {
	all := []Subject{{User: user}}
	for _, g := range s.GroupsOf(user) {
		all = append(all, Subject{Group: g.ID})
	}
	return all
}

// GrantsFor lists the grants by which a user could reach an account, those
// that count first: the user's own before those of a group, those for the
// account before those of a selector, and the newest first. Expired and
// suspended ones are among them.
func (s *State) GrantsFor(user events.UserID, account events.AccountID) []*Grant {
	var all []*Grant
	for _, subject := range s.subjects(user) {
		for scope, r := range s.rights[subject] {
			if scope.Account == account && scope.Selector == "" {
				all = append(all, s.kept(r)...)
			} else if scope.Selector != "" && len(r.grants) > 0 && s.Takes(r.grants[0].selection, account) {
				all = append(all, r.grants...)
			}
		}
	}
	slices.SortFunc(all, func(a, b *Grant) int {
		return cmp.Or(cmp.Compare(a.breadth(), b.breadth()), b.Added.Compare(a.Added))
	})
	return all
}

// AccountsUnder lists the accounts that a grant is about now, in the order they
// were made: the one that it names, or those that its selector takes in.
func (s *State) AccountsUnder(g *Grant) []*Account {
	if g.Selector == "" {
		if a := s.accounts[g.Account]; a != nil {
			return []*Account{a}
		}
		return nil
	}
	var all []*Account
	for id, a := range s.accounts {
		if s.Takes(g.selection, id) {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b *Account) int { return a.Added.Compare(b.Added) })
	return all
}

// AccountUnder reports whether a grant is about an account now.
func (s *State) AccountUnder(g *Grant, account events.AccountID) bool {
	if g.Selector != "" {
		return s.Takes(g.selection, account)
	}
	return g.Account == account
}

// breadth is 0 for a grant to one user for one account, and more the less it is about those.
func (g *Grant) breadth() (n int) {
	if !g.Group.IsZero() {
		n = 2
	}
	if g.Selector != "" {
		n++
	}
	return n
}

// GrantFor finds the grant that lets a user reach an account now, of several
// the first that [State.GrantsFor] lists: its terms count, and nothing of the
// others'. Only a nil error lets anybody through: ErrUnknown, or ErrExpired,
// ErrNotBegun, ErrClosed and ErrSuspended with the grant concerned, the one
// that lasts longest.
func (s *State) GrantFor(user events.UserID, account events.AccountID, now time.Time) (*Grant, error) {
	var best *Grant
	err := error(ErrUnknown)
	for _, g := range s.GrantsFor(user, account) {
		why := s.grantStands(g, now)
		if why == nil {
			return g, nil
		}
		if best == nil || lasts(g, best) > 0 {
			best, err = g, why
		}
	}
	return best, err
}

// GrantLets tells whether a grant lets this user reach this account now: nil,
// ErrUnknown (removed), ErrExpired, ErrNotBegun, ErrClosed, ErrSuspended,
// ErrNoMember or ErrNotSelected.
func (s *State) GrantLets(id events.GrantID, user events.UserID, account events.AccountID, now time.Time) error {
	err := error(ErrUnknown)
	for _, g := range s.grants[id] {
		if err = s.lets(g, user, account, now); err == nil {
			return nil
		}
	}
	return err
}

func (s *State) lets(g *Grant, user events.UserID, account events.AccountID, now time.Time) error {
	switch {
	case !g.Group.IsZero() && !s.InGroup(user, g.Group), g.Group.IsZero() && g.User != user:
		return ErrNoMember
	case g.Selector != "" && !s.Takes(g.selection, account), g.Selector == "" && g.Account != account:
		return ErrNotSelected
	}
	return s.grantStands(g, now)
}

// GrantStands tells whether a grant itself stands now: nil, ErrUnknown
// (removed), ErrExpired, ErrNotBegun, ErrClosed or ErrSuspended.
func (s *State) GrantStands(id events.GrantID, now time.Time) error {
	g, ok := s.Grant(id)
	if !ok {
		return ErrUnknown
	}
	return s.grantStands(g, now)
}

func (s *State) grantStands(g *Grant, now time.Time) error {
	switch {
	case s.gone(g):
		return ErrUnknown
	case s.suspended(g.Added):
		return ErrSuspended
	case g.Expired(now):
		return ErrExpired
	case now.Before(g.From):
		return ErrNotBegun
	}
	if _, open := events.OpenNow(g.Windows, now); !open {
		return ErrClosed
	}
	return nil
}

// GrantExpired is what [State.SessionLets] says of a grant that has run out.
const GrantExpired = "the grant expired"

// grantEnded says in words why a grant does not let a session go on; empty if it does.
func grantEnded(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrExpired):
		return GrantExpired
	case errors.Is(err, ErrClosed), errors.Is(err, ErrNotBegun):
		return "the time of the grant is over"
	case errors.Is(err, ErrNoMember):
		return "the user is not in the grant's group any more"
	case errors.Is(err, ErrNotSelected):
		return "the grant's selector does not take the account in any more"
	case errors.Is(err, ErrSuspended):
		return "the grant is suspended"
	}
	return "the grant was removed"
}

// Until is the next moment at which time alone may end a grant that stands
// now; zero for none.
func (g *Grant) Until(now time.Time) time.Time {
	until, _ := events.OpenNow(g.Windows, now)
	if until.IsZero() || !g.Expires.IsZero() && g.Expires.Before(until) {
		return g.Expires
	}
	return until
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

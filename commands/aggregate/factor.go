package aggregate

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// MaxFactorReuse is how long a redeemed code can do for further logins at
// most, whatever a rule says.
const MaxFactorReuse = 24 * time.Hour

var (
	// ErrNoFactor says that the user needs a second factor and has none.
	ErrNoFactor = errors.New("the user needs a second factor and has none")
	// ErrFactorMissing says that the user has a second factor and did not prove it.
	ErrFactorMissing = errors.New("the login did not prove the user's second factor")
)

// Factor is a second factor of a user. What other sites than its owner write
// about it is passed over: its codes are spent in one log (rule R12).
type Factor struct {
	ID       events.FactorID
	User     events.UserID
	Sealed   []byte
	Enrolled *Mark // its Origin is of the owner

	confirmed *Mark
	step      uint64 // the last one that was spent
	recovery  [][]byte
	spent     map[uint32]bool // numbers of recovery codes
	missed    []miss          // wrong codes since the last right one
	passes    map[pass]int64  // when a code was last redeemed from there, microseconds since 1970 UTC
	newest    int64           // of passes
}

// miss is a wrong code.
type miss struct {
	at     *Mark
	locked time.Time // until when no code was taken after it, zero for no lock
}

// pass is from where somebody logged in.
type pass struct{ host, fingerprint string }

// Confirmed reports whether the user has shown a first code.
func (f *Factor) Confirmed() bool { return f.confirmed != nil }

// Spent reports whether the code of a step is spent: it, or a later one, was redeemed.
func (f *Factor) Spent(step uint64) bool { return f.confirmed != nil && step <= f.step }

// Missed counts the wrong codes since the last right one.
func (f *Factor) Missed() int { return len(f.missed) }

// Locked is until when no code is taken, the zero time for no lock.
func (f *Factor) Locked() (until time.Time) {
	for _, m := range f.missed {
		if m.locked.After(until) {
			until = m.locked
		}
	}
	return until
}

// Recovery finds the recovery code with a hash, if it is not spent, for the log
// that would spend it. In another one than that in which it was handed out all
// are void: a site that was restored, or took over, may not know which were spent.
func (f *Factor) Recovery(hash []byte, in events.Origin) (number uint32, ok bool) {
	n := slices.IndexFunc(f.recovery, func(h []byte) bool { return slices.Equal(h, hash) })
	if n < 0 || f.spent[uint32(n)] || !f.handedOut(in) { //nolint:gosec // a handful
		return 0, false
	}
	return uint32(n), true //nolint:gosec // a handful
}

// RecoveryLeft counts the recovery codes that a log may still spend.
func (f *Factor) RecoveryLeft(in events.Origin) (left int) {
	for n := range f.recovery {
		if !f.spent[uint32(n)] && f.handedOut(in) { //nolint:gosec // a handful
			left++
		}
	}
	return left
}

func (f *Factor) handedOut(in events.Origin) bool {
	return f.confirmed != nil && f.confirmed.Origin == in
}

// Redeemed is when a code was last redeemed from a client's address by a key,
// the zero time if none was within [MaxFactorReuse] of the newest.
func (f *Factor) Redeemed(source, fingerprint string) time.Time {
	at, ok := f.passes[pass{sourceHost(source), fingerprint}]
	if !ok {
		return time.Time{}
	}
	return time.UnixMicro(at).UTC()
}

// sourceHost is the address of a client without its port.
func sourceHost(source string) string {
	if a, err := netip.ParseAddrPort(source); err == nil {
		return a.Addr().Unmap().String()
	}
	return source
}

var _ = fold(func(s *State, at *Mark, e events.FactorEnrolled) bool {
	id := events.FactorID{UUID: at.Stream}
	if s.factors[id] != nil || !s.mayMake(at, e) {
		return false
	}
	s.factors[id] = &Factor{
		ID: id, User: e.User, Sealed: e.Sealed, Enrolled: at,
		spent: map[uint32]bool{}, passes: map[pass]int64{},
	}
	s.factorsOf[e.User] = append(s.factorsOf[e.User], id)
	return true
})

// ownFactor finds the factor of an event that its owner wrote, as that site knew
// who it is.
func (s *State) ownFactor(at *Mark) *Factor {
	f := s.factors[events.FactorID{UUID: at.Stream}]
	if f == nil {
		return nil
	}
	owner := f.Enrolled.Origin.Site
	if d := s.moveKnown(f.Enrolled, events.TargetID{}, at); d != nil {
		owner = d.Holder
	}
	if owner != at.Origin.Site {
		return nil
	}
	return f
}

var _ = fold(func(s *State, at *Mark, e events.FactorConfirmed) bool {
	f := s.ownFactor(at)
	if f == nil {
		return false
	}
	if f.confirmed == nil || at.Compare(f.confirmed) < 0 {
		f.confirmed, f.recovery = at, e.Recovery
	}
	f.step = max(f.step, e.Step)
	return true
})

var _ = fold(func(s *State, at *Mark, e events.FactorRedeemed) bool {
	f := s.ownFactor(at)
	if f == nil {
		return false
	}
	f.step = max(f.step, e.Step)
	f.passed(at, e.Source, e.Fingerprint)
	return true
})

var _ = fold(func(s *State, at *Mark, e events.FactorRecovered) bool {
	f := s.ownFactor(at)
	if f == nil {
		return false
	}
	f.spent[e.Number] = true
	f.passed(at, e.Source, e.Fingerprint)
	return true
})

var _ = fold(func(s *State, at *Mark, e events.FactorMissed) bool {
	f := s.ownFactor(at)
	if f == nil {
		return false
	}
	f.missed = append(f.missed, miss{at, e.Locked})
	return true
})

// passed takes down a login: the wrong codes before it are forgotten, and it
// may do for further ones.
func (f *Factor) passed(at *Mark, source, fingerprint string) {
	f.missed = slices.DeleteFunc(f.missed, func(m miss) bool { return at.Knows(m.at) })
	where := pass{sourceHost(source), fingerprint}
	f.passes[where] = max(f.passes[where], at.Wall)
	f.newest = max(f.newest, at.Wall)
	oldest := f.newest - MaxFactorReuse.Microseconds()
	maps.DeleteFunc(f.passes, func(_ pass, wall int64) bool { return wall < oldest })
}

var _ = foldAway(func(s *State, at *Mark, _ events.UserFactorReset) bool {
	u := s.users[events.UserID{UUID: at.Stream}]
	if u != nil {
		u.factorResets = append(u.factorResets, at)
	}
	return u != nil
})

var _ = fold(func(s *State, at *Mark, e events.UserFactorRuleSet) bool {
	u := s.users[events.UserID{UUID: at.Stream}]
	if u != nil {
		u.factorRule.put(at, e)
	}
	return u != nil
})

// FactorRule says whether a user needs a second factor, and for how long a
// code does for further logins. Of rules that did not know of each other it is
// the strictest.
func (s *State) FactorRule(id events.UserID) (needed bool, reuse time.Duration) {
	u := s.users[id]
	if u == nil {
		return true, 0
	}
	rank := map[events.FactorNeed]int{events.FactorExempt: 1, events.FactorByRole: 2}
	strictest, seconds := events.UserFactorRuleSet{Need: events.FactorByRole}, uint64(0)
	for n, h := range u.factorRule {
		if r := h.value; n == 0 || strictness(rank, r.Need) > strictness(rank, strictest.Need) {
			strictest = r
		}
		if n == 0 || h.value.Reuse < seconds {
			seconds = h.value.Reuse
		}
	}
	switch strictest.Need {
	case events.FactorExempt:
		return false, 0
	case events.FactorByRole:
		set := s.RoleSettings(u.Role)
		return set.SecondFactor, duration(set.FactorReuse)
	}
	return true, duration(seconds)
}

// strictness puts what a newer version may have written above all else.
func strictness(rank map[events.FactorNeed]int, need events.FactorNeed) int {
	if n, ok := rank[need]; ok {
		return n
	}
	return len(rank) + 1
}

func duration(seconds uint64) time.Duration {
	return time.Duration(min(seconds, uint64(MaxFactorReuse/time.Second))) * time.Second //nolint:gosec // bounded
}

// Factor finds a factor by id, in whatever state.
func (s *State) Factor(id events.FactorID) (*Factor, bool) {
	f, ok := s.factors[id]
	return f, ok
}

// FactorOf is the user's second factor: the one that was confirmed last, if no
// reset has taken it away.
func (s *State) FactorOf(id events.UserID) (*Factor, bool) {
	var last *Factor
	for _, f := range s.factorsOf[id] {
		if f := s.factors[f]; s.factorStands(f) && (last == nil || f.confirmed.Compare(last.confirmed) > 0) {
			last = f
		}
	}
	return last, last != nil
}

// factorStands reports whether a factor counts: it was confirmed after every
// reset, and nothing that was confirmed knew of it.
func (s *State) factorStands(f *Factor) bool {
	if f.confirmed == nil {
		return false
	}
	for _, reset := range s.users[f.User].factorResets {
		if !f.confirmed.Knows(reset) {
			return false
		}
	}
	return !slices.ContainsFunc(s.factorsOf[f.User], func(id events.FactorID) bool {
		other := s.factors[id].confirmed
		return other != nil && other.Knows(f.confirmed)
	})
}

// FactorPending is the factor that the user enrolled last at a site and has not
// confirmed, if no reset came since.
func (s *State) FactorPending(id events.UserID, site events.SiteID) (*Factor, bool) {
	var last *Factor
	for _, f := range s.factorsOf[id] {
		if f := s.factors[f]; s.FactorOwner(f) == site && (last == nil || f.Enrolled.Compare(last.Enrolled) > 0) {
			last = f
		}
	}
	if last == nil || last.confirmed != nil ||
		slices.ContainsFunc(s.users[id].factorResets, func(reset *Mark) bool { return !last.Enrolled.Knows(reset) }) {
		return nil, false
	}
	return last, true
}

// FactorsEnrolled counts what the user has enrolled since a time.
func (s *State) FactorsEnrolled(id events.UserID, since time.Time) (n int) {
	for _, f := range s.factorsOf[id] {
		if s.factors[f].Enrolled.Time().After(since) {
			n++
		}
	}
	return n
}

// FactorProven tells whether a login may do anything, by the second factor that
// it proved (zero for none): nil, [ErrFactorMissing], or [ErrNoFactor] for a user
// who may enrol one and nothing else. A user who has one always has to prove it;
// one that was reset or replaced since proves nothing.
func (s *State) FactorProven(id events.UserID, proven events.Factor) error {
	f, has := s.FactorOf(id)
	needed, _ := s.FactorRule(id)
	switch {
	case has && !s.factorExempt(id):
		if proven.ID == f.ID && !proven.IsZero() {
			return nil
		}
		if other, ok := s.factors[proven.ID]; ok && other.User == id && s.factorStands(other) {
			return nil // of two that did not know of each other either does
		}
		return ErrFactorMissing
	case needed:
		return ErrNoFactor
	}
	return nil
}

// FactorAsked reports whether a login of the user has to prove a second factor.
func (s *State) FactorAsked(id events.UserID) bool {
	return errors.Is(s.FactorProven(id, events.Factor{}), ErrFactorMissing)
}

// factorExempt reports whether a rule says that the user needs no factor even
// where they have one.
func (s *State) factorExempt(id events.UserID) bool {
	u := s.users[id]
	return u != nil && len(u.factorRule) > 0 && !slices.ContainsFunc(u.factorRule, func(h head[events.UserFactorRuleSet]) bool {
		return h.value.Need != events.FactorExempt
	})
}

// factorLines are the factors' part of the digest.
func (s *State) factorLines() []string {
	var lines []string
	for id, f := range s.factors {
		var missed, passed []string
		for _, m := range f.missed {
			missed = append(missed, fmt.Sprintf("%s=%s", show(m.at), m.locked))
		}
		for p, at := range f.passes {
			passed = append(passed, fmt.Sprintf("%+v=%d", p, at))
		}
		slices.Sort(missed)
		slices.Sort(passed)
		lines = append(lines, fmt.Sprintf("factor %s of %s %x enrolled %s confirmed %s step %d recovery %x spent %v missed %v passes %v\n",
			id, f.User, f.Sealed, show(f.Enrolled), show(f.confirmed), f.step, f.recovery, slices.SortedFunc(maps.Keys(f.spent), cmp.Compare), missed, passed))
	}
	for id, u := range s.users {
		lines = append(lines, fmt.Sprintf("factors of %s resets %s rule %s\n", id, showMarks(u.factorResets), showHeads(u.factorRule)))
	}
	return lines
}

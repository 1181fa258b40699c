package aggregate

import (
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Ids are made at random, so nobody makes one twice by chance. A member that
// betrays can: it makes an aggregate under the id of one that exists, and says that
// it did not know of it. Which of the two came first nobody can tell, so the order
// of arrival must not: neither counts, until the site that did it is fenced. It is
// no more than a member can do that may decide on such aggregates; who may not
// makes no twin of another's.
//
// A request for access may be made by a site that does not decide on access: by
// breaking the glass. Such a one stands for itself, by the log that made it.
//
// Sessions, grants and rotations are forgotten once they have ended. Of those each
// stands for itself, by the log that made it; see there. So does what is named by the
// id of the event that said it: logins and changes at a target, check-outs, approvals
// and their uses. Each is kept by its place, and an answer is to what its own site had
// said.

// made is an aggregate by its kind and id.
type made struct {
	kind string
	id   uuid.UUID
}

// makers are the types of events that make an aggregate under a new id.
var makers = map[string]bool{
	"user.added": true, "target.added": true, "account.added": true, "credential.added": true, "group.added": true,
	"policy.added": true, "ca.trusted": true, "request.made": true, "access.break_glass": true, "factor.enrolled": true,
	"glass.change_proposed": true, "site.invited": true, "secret.staged": true,
}

// madeBy is what a record of such a type makes: a version of a secret is named by the
// event that stages it.
func madeBy(h *events.Header) made {
	if h.Type == "secret.staged" {
		return made{"version", h.ID}
	}
	m, _ := aggregateOf(h)
	return m
}

// maker finds the event that made what a record of such a type makes; nil where
// nothing has the id yet.
func (s *State) maker(h *events.Header) *Mark {
	if h.Type != "secret.staged" {
		return s.made(h)
	}
	if c := s.credentials[events.CredentialID{UUID: h.Stream}]; c != nil {
		if v := c.versions[events.SecretID{UUID: h.ID}]; v != nil {
			return v.made
		}
	}
	return nil
}

// place is where a record stands.
func (m *Mark) place() events.ClockEntry {
	return events.ClockEntry{Origin: m.Origin, Position: m.Position}
}

// aggregateOf is what a record is about, of the kinds that have twins; false for
// others.
func aggregateOf(h *events.Header) (made, bool) {
	if area, own := areaOf(h.Type); own || area == "" {
		return made{}, false
	}
	noun, _, _ := strings.Cut(h.Type, ".")
	switch noun {
	case "secret":
		noun = "credential"
	case "approval":
		noun = "request"
	case "access":
		if h.Type != "access.break_glass" {
			return made{}, false
		}
		noun = "request"
	case "site":
		if h.Type != "site.invited" && h.Type != "site.invitation_withdrawn" {
			return made{}, false
		}
	case "user", "target", "account", "credential", "group", "policy", "ca", "request", "factor", "glass":
	default:
		return made{}, false
	}
	return made{noun, h.Stream}, true
}

const maskedTwin = "another log made something under the same id, and neither is known to be first"

// twinOf reports whether a record is about what was made twice, of which the holds
// say that it does not count.
func (s *State) twinOf(h *events.Header) bool {
	if len(s.holds.Twins) == 0 {
		return false
	}
	m, ok := aggregateOf(h)
	return ok && s.holds.Twins[m] || makers[h.Type] && s.holds.Twins[madeBy(h)]
}

// noteTwin keeps the place of a making of what was, or now is, made twice. It
// reports whether another one is there already.
func (s *State) noteTwin(h *events.Header, at *Mark, e events.Event) bool {
	if !makers[h.Type] || !s.mayMake(at, e) || s.alone(h.Type, at) {
		return false
	}
	m, first := madeBy(h), s.maker(h)
	if !s.holds.Twins[m] && (first == nil || at.Knows(first)) {
		return first != nil
	}
	if s.twins == nil {
		s.twins = map[made][]*Mark{}
	}
	for _, mark := range []*Mark{first, at} {
		if mark != nil && !slices.ContainsFunc(s.twins[m], func(o *Mark) bool { return o.place() == mark.place() }) {
			s.twins[m] = append(s.twins[m], mark)
		}
	}
	return first != nil
}

// mayMake reports whether an event makes something, where nothing has the id yet.
func (s *State) mayMake(at *Mark, e events.Event) bool {
	switch e := e.(type) {
	case events.FactorEnrolled:
		u := s.users[e.User]
		return u != nil && at.Knows(u.Added)
	case events.SecretStaged:
		c := s.credentials[events.CredentialID{UUID: at.Stream}]
		return c != nil && at.Knows(c.Added)
	case events.RequestMade: // nobody asks for another
		return at.Actor == events.UserActor(e.User)
	case events.AccessBreakGlass:
		return at.Actor == events.UserActor(e.User)
	}
	return true
}

// twinsNow lists what was made twice: no making is one that all others knew of.
func (s *State) twinsNow() map[made]bool {
	var all map[made]bool
	for m, marks := range s.twins {
		if foremost(marks) != nil {
			continue
		}
		if all == nil {
			all = map[made]bool{}
		}
		all[m] = true
	}
	return all
}

// foremost is the mark that all others know of; nil for none.
func foremost(marks []*Mark) *Mark {
	for _, m := range marks {
		if !slices.ContainsFunc(marks, func(o *Mark) bool { return o != m && !o.Knows(m) }) {
			return m
		}
	}
	return nil
}

// Stray reports whether a record is about an aggregate that its site did not claim
// to know: it is kept without effect.
func (s *State) Stray(h *events.Header, clock events.Clock) bool {
	return s.unknownTo(&Mark{ID: h.ID, Origin: h.Origin(), Position: h.Position, Clock: clock}, h)
}

func (s *State) twinConflicts() (all []Conflict) {
	for m := range s.twinsNow() {
		c := Conflict{What: "id of " + m.kind, Name: m.id.String(), Ruling: "none of them counts", Settle: "mesh fence the site that made it again; then the other one counts"}
		for _, at := range s.twins[m] {
			c.Heads = append(c.Heads, ConflictHead{ID: at.ID, Of: m.id, Value: "made by site " + at.Origin.Site.String(), At: at})
		}
		slices.SortFunc(c.Heads, func(a, b ConflictHead) int { return a.At.Compare(b.At) })
		all = append(all, c)
	}
	for id, of := range s.requests {
		if len(of) < 2 {
			continue
		}
		c := Conflict{What: "id of request", Name: id.String(), Ruling: "each stands for itself, for sessions of its own site", Settle: "mesh fence the site that made it again"}
		for _, r := range of {
			c.Heads = append(c.Heads, ConflictHead{ID: r.Made.ID, Of: id.UUID, Value: "made by site " + r.Made.Origin.Site.String(), At: r.Made})
		}
		slices.SortFunc(c.Heads, func(a, b ConflictHead) int { return a.At.Compare(b.At) })
		all = append(all, c)
	}
	return all
}

func (s *State) twinLines(add func(format string, args ...any)) {
	for m := range s.twinsNow() {
		add("made twice: %s %s by %s", m.kind, m.id, showMarks(s.twins[m]))
	}
}

// earliest is the one of several under one id that sorts first, of those that are
// wanted.
func earliest[T any](all []*T, at func(*T) *Mark, wanted func(*T) bool) (*T, bool) {
	all = slices.DeleteFunc(slices.Clone(all), func(v *T) bool { return !wanted(v) })
	if len(all) == 0 {
		return nil, false
	}
	return slices.MinFunc(all, func(a, b *T) int { return at(a).Compare(at(b)) }), true
}

// drop takes those under one id out that gone reports true of.
func drop[K comparable, T any](m map[K][]*T, id K, gone func(*T) bool) {
	if left := slices.DeleteFunc(slices.Clone(m[id]), gone); len(left) > 0 {
		m[id] = left
	} else {
		delete(m, id)
	}
}

// flat lists all values, sorted.
func flat[K comparable, T any](m map[K][]*T, at func(*T) *Mark) []*T {
	var all []*T
	for _, of := range m {
		all = append(all, of...)
	}
	slices.SortFunc(all, func(a, b *T) int { return at(a).Compare(at(b)) })
	return all
}

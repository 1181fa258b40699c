package aggregate

import (
	"maps"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// Rotation is a rotation under way. Of one that has ended its credential keeps
// the result (see [Credential.LastEnded]).
type Rotation struct {
	ID         events.RotationID
	Credential events.CredentialID
	Account    events.AccountID
	Why        events.RotationWhy
	SettleOnly bool
	Planned    *Mark // its Origin is the site that carries it out

	latest   *Mark // newest event
	staged   heads[events.SecretID]
	attempts map[events.ClockEntry]*Attempt // by where they were announced
	retired  bool
	deferred []*Mark
	until    time.Time // of the newest deferral
	why      string    // likewise
	ends     []otherEnd
}

// Answer is what came of an attempt.
type Answer string

// The answers. Those to a change are applied, refused and unknown, those to a
// login the others.
const (
	AnswerApplied  Answer = "applied"
	AnswerRefused  Answer = "refused"
	AnswerUnknown  Answer = "unknown"
	AnswerAccepted Answer = "accepted"
	AnswerRejected Answer = "rejected"
	AnswerLocked   Answer = "locked"
	AnswerNone     Answer = "no answer"
)

// Attempt is one presentation at the target: a change, or a login to test a
// version.
type Attempt struct {
	ID       events.TryID
	Version  events.SecretID
	Sent     events.ChangeVerb // empty for a test
	Replaces events.SecretID   // of a change: what was held to be true before
	At       *Mark
	Answer   Answer // empty while there is none
	Answered *Mark
	Detail   string

	NotPresented bool // no secret reached the target
}

// Staged is the version that the rotation made; false before it did.
func (r *Rotation) Staged() (events.SecretID, bool) {
	if len(r.staged) == 0 {
		return events.SecretID{}, false
	}
	return r.staged.newest().value, true
}

// Attempts lists what was presented to the target, in that order.
func (r *Rotation) Attempts() []*Attempt {
	return slices.SortedFunc(maps.Values(r.attempts), func(a, b *Attempt) int { return a.At.Compare(b.At) })
}

// proofTime is how long it stands that the target accepted a version: nobody
// changes it behind the site's back within a rotation's own moments.
const proofTime = time.Minute

// Proves reports whether the last thing that the rotation presented was the
// version, and the target accepted it a moment ago.
func (r *Rotation) Proves(v events.SecretID, now time.Time) bool {
	all := r.Attempts()
	if len(all) == 0 {
		return false
	}
	last := all[len(all)-1]
	return last.Answer == AnswerAccepted && last.Version == v && now.Sub(last.Answered.Time()) < proofTime
}

// Latest is the rotation's newest event.
func (r *Rotation) Latest() *Mark { return r.latest }

// Retired reports whether the target was made to refuse the old secret.
func (r *Rotation) Retired() bool { return r.retired }

// Deferred tells how often the rotation was put off, until when at last, and why.
func (r *Rotation) Deferred() (times int, until time.Time, why string) {
	return len(r.deferred), r.until, r.why
}

// DeferredAfter is [Rotation.Deferred] of those times alone that came after a
// mark.
func (r *Rotation) DeferredAfter(m *Mark) (times int, until time.Time, why string) {
	for _, at := range r.deferred {
		if at.Compare(m) > 0 {
			times++
		}
	}
	if times == 0 {
		return 0, time.Time{}, ""
	}
	return times, r.until, r.why // of the newest one
}

func (r *Rotation) began() *Mark   { return r.Planned }
func (r *Rotation) underWay() bool { return len(r.ends) == 0 }

// Ended is what became of a rotation.
type Ended struct {
	Rotation events.RotationID
	Result   events.RotationResult
	Detail   string
	At       *Mark
}

// LastEnded is the last rotation of the credential that has ended.
func (c *Credential) LastEnded() (Ended, bool) {
	if len(c.last) == 0 {
		return Ended{}, false
	}
	h := c.last.newest()
	h.value.At = h.at
	return h.value, true
}

// EndedRotation finds what became of a rotation, unless a later one of its
// credential has ended.
func (s *State) EndedRotation(id events.RotationID) (Ended, bool) {
	for _, r := range s.rotations[id] {
		if !r.underWay() {
			return r.ends[len(r.ends)-1].Ended, true
		}
	}
	for _, c := range s.credentials {
		if e, ok := c.LastEnded(); ok && e.Rotation == id {
			return e, true
		}
	}
	return Ended{}, false
}

// Failures counts the rotations that ended without success since the last that
// succeeded.
func (c *Credential) Failures() int { return len(c.failed) }

// FailedAt is how many of the failures were at a site, and when the last one was.
func (c *Credential) FailedAt(site events.SiteID) (n int, last time.Time) {
	for _, m := range c.failed {
		if m.Origin.Site != site {
			continue
		}
		if n++; m.Time().After(last) {
			last = m.Time()
		}
	}
	return n, last
}

// Rotation finds a rotation under way.
func (s *State) Rotation(id events.RotationID) (*Rotation, bool) {
	return earliest(s.rotations[id], (*Rotation).began, (*Rotation).underWay)
}

// Rotations lists the rotations under way in the order they were planned.
func (s *State) Rotations() []*Rotation {
	return slices.DeleteFunc(flat(s.rotations, (*Rotation).began), func(r *Rotation) bool { return !r.underWay() })
}

// RotationsOf lists the rotations under way of a credential, the newest first. One that
// is orphaned is not under way any more.
func (s *State) RotationsOf(id events.CredentialID) (all []*Rotation) {
	for _, other := range s.rotationsOf[id] {
		for _, r := range s.rotations[other] {
			if r.Credential == id && r.underWay() && !s.Orphaned(r) {
				all = append(all, r)
			}
		}
	}
	slices.SortFunc(all, func(a, b *Rotation) int { return b.Planned.Compare(a.Planned) })
	return all
}

// lostAfter is how long nothing is heard of a site until what it began is waited for no
// longer.
const lostAfter = 2 * time.Minute

// LostTo reports whether a rotation is another site's, of which nothing has been heard
// for too long here (see [State.Rotating]); silence nil for where every site is heard.
// What that site wrote last says nothing: its clock may be wrong, and a rotation that
// waits for its turn at the target writes nothing.
func (r *Rotation) LostTo(site events.SiteID, silence func(events.SiteID) time.Duration) bool {
	by := r.Planned.Origin.Site
	return by != site && silence != nil && silence(by) >= lostAfter
}

// Waits reports whether the last that a rotation said is that it waits.
func (r *Rotation) Waits() bool { return slices.Contains(r.deferred, r.latest) }

// Rotating finds the rotation under way of a credential that another one, at a site,
// has to wait for; of concurrent ones the newest. It does not for one of another site
// that waits or is lost: that site may be cut off, unable to reach the target, or out of
// logins, and two that do not know of each other are settled anyway (rule R3).
func (s *State) Rotating(id events.CredentialID, site events.SiteID, silence func(events.SiteID) time.Duration) (*Rotation, bool) {
	for _, r := range s.RotationsOf(id) {
		if r.Planned.Origin.Site == site || !r.Waits() && !r.LostTo(site, silence) {
			return r, true
		}
	}
	return nil, false
}

// inRotation lets f change a rotation under way that an event's site carries out: no
// other one has a say in it.
func (s *State) inRotation(id events.RotationID, at *Mark, f func(*Rotation)) bool {
	any := false
	for _, r := range s.rotations[id] {
		if r.Planned.Origin.Site == at.Origin.Site && at.Knows(r.Planned) {
			r.latest = later(r.latest, at)
			f(r)
			any = true
		}
	}
	return any
}

func (s *State) answer(rotation events.RotationID, at *Mark, id events.TryID, answer Answer, detail string, notPresented bool) {
	s.inRotation(rotation, at, func(r *Rotation) {
		for _, a := range r.attempts {
			if a.ID == id && at.Knows(a.At) && (a.Answered == nil || a.Answered.Compare(at) < 0) {
				a.Answer, a.Answered, a.Detail, a.NotPresented = answer, at, detail, notPresented
			}
		}
	})
}

var _ = fold(func(s *State, at *Mark, e events.RotationPlanned) bool {
	id := events.RotationID{UUID: at.Stream}
	if slices.ContainsFunc(s.rotations[id], func(r *Rotation) bool { return at.Knows(r.Planned) && r.Planned.Origin.Site == at.Origin.Site }) {
		return false
	}
	s.rotations[id] = append(s.rotations[id], &Rotation{
		ID: id, Credential: e.Credential, Account: e.Account, Why: e.Why, SettleOnly: e.SettleOnly, Planned: at,
		latest: at, attempts: map[events.ClockEntry]*Attempt{},
	})
	s.rotationsOf.add(e.Credential, id)
	return true
})

var _ = fold(func(s *State, at *Mark, e events.RotationDeferred) bool {
	return s.inRotation(events.RotationID{UUID: at.Stream}, at, func(r *Rotation) {
		if newest(r.deferred, at) {
			r.until, r.why = e.Until, e.Detail
		}
		r.deferred = append(r.deferred, at)
	})
})

// newest reports whether m sorts after all marks.
func newest(marks []*Mark, m *Mark) bool {
	return !slices.ContainsFunc(marks, func(o *Mark) bool { return o.Compare(m) > 0 })
}

var _ = foldAway(func(s *State, at *Mark, e events.RotationEnded) bool {
	id := events.RotationID{UUID: at.Stream}
	known := false
	drop(s.rotations, id, func(r *Rotation) (gone bool) {
		if r.Planned.Origin.Site != at.Origin.Site || !at.Knows(r.Planned) {
			return false // only who carries it out can say what became of it: one voice, so that no order of arrival decides
		}
		known = true
		if at.Origin != r.Planned.Origin {
			r.ends = append(r.ends, otherEnd{at: at, Ended: Ended{Rotation: id, Result: e.Result, Detail: e.Detail, At: at}})
			return false
		}
		if !slices.ContainsFunc(s.rotations[id], func(o *Rotation) bool { return o != r && o.Credential == r.Credential }) {
			s.rotationsOf.remove(r.Credential, id)
		}
		s.rotated(at, r, e)
		return true
	})
	return known
})

// rotated keeps what became of a rotation.
func (s *State) rotated(at *Mark, r *Rotation, e events.RotationEnded) {
	c := s.credentials[r.Credential]
	if c == nil || e.Result == events.RotationYielded {
		return
	}
	c.last.put(at, Ended{Rotation: r.ID, Result: e.Result, Detail: e.Detail})
	if e.Result != events.RotationVerified {
		c.failed = append(c.failed, at)
		return
	}
	c.failed = slices.DeleteFunc(c.failed, func(m *Mark) bool { return at.Knows(m) })
}

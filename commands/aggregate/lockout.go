package aggregate

import (
	"iter"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// A presentation of a secret counts against the target's lock-out from before
// it is made until the target is known to have accepted it, or to have seen
// nothing. It counts at the latest time that it can have been made.

// Spending is what one site has presented that counts.
type Spending struct {
	N      int
	Oldest time.Time
}

// Spent tells for each site how many presentations count against the account's
// lock-out since a time. Those before a login that the target accepted count only
// where it counts cumulatively.
func (c *Credential) Spent(since time.Time, cumulative bool) map[events.SiteID]Spending {
	all := map[events.SiteID]Spending{}
	for t := range c.presented() {
		at := t.at.Time()
		if t.free || at.Before(since) || !cumulative && c.forgiven(t) {
			continue
		}
		of := all[t.at.Origin.Site]
		if of.N++; of.N == 1 || at.Before(of.Oldest) {
			of.Oldest = at
		}
		all[t.at.Origin.Site] = of
	}
	return all
}

// presented are all presentations that may count.
func (c *Credential) presented() iter.Seq[try] {
	return func(yield func(try) bool) {
		for _, t := range c.tries {
			if !yield(t) {
				return
			}
		}
		for n := range c.endedElsewhere {
			for _, e := range n.ends {
				if e.crash && !n.Connected && !yield(try{at: e.at}) {
					return
				}
			}
		}
	}
}

// forgiven reports whether a try was over before a login was announced that the
// target accepted.
func (c *Credential) forgiven(t try) bool {
	return !t.open && slices.ContainsFunc(c.resets, func(m *Mark) bool { return m.Knows(t.at) })
}

// reset says that a login which was announced by m was accepted.
func (c *Credential) reset(m *Mark) {
	if slices.ContainsFunc(c.resets, func(o *Mark) bool { return o == m || o.Knows(m) }) {
		return
	}
	c.resets = append(slices.DeleteFunc(c.resets, m.Knows), m)
}

// tookEffect forgets the one change by which the target can have come to hold a
// version: it was let in.
func (s *State) tookEffect(at *Mark, c *Credential, id events.SecretID) {
	var sent []events.ClockEntry
	for try, m := range c.versions[id].sends {
		if at.Knows(m) {
			sent = append(sent, try)
		}
	}
	if len(sent) == 1 {
		s.forget(c, sent[0])
	}
}

// forget says that a try does not count.
func (s *State) forget(c *Credential, id events.ClockEntry) {
	via := s.credentialOf(c.tries[id].via)
	delete(c.tries, id)
	if via != nil {
		delete(via.tries, id)
	}
}

// answered says that a try was over at a time, and whether it showed the target anything.
func (s *State) answered(c *Credential, id events.ClockEntry, at *Mark, notPresented bool) {
	if notPresented {
		s.forget(c, id)
	} else {
		s.spend(c, id, at)
	}
}

// charge says that a try was a wrong login after all.
func (s *State) charge(c *Credential, id events.ClockEntry) {
	if t, ok := c.tries[id]; ok && t.via.IsZero() {
		t.free = false
		c.tries[id] = t
	}
}

// spend says that a try was over at a time.
func (s *State) spend(c *Credential, id events.ClockEntry, at *Mark) {
	t, counts := c.tries[id]
	if !counts {
		return
	}
	c.tries[id] = try{at: later(t.at, at), via: t.via, free: t.free}
	if via := s.credentialOf(t.via); via != nil {
		via.tries[id] = try{at: later(t.at, at)}
	}
}

var _ = fold(func(s *State, at *Mark, e events.SecretTried) bool {
	c, _ := s.version(at, e.Version, Staged)
	if c == nil {
		return false
	}
	id := events.TryID{UUID: at.ID}
	c.tries[at.place()] = try{at: at}
	c.said[id] = append(c.said[id], announced{at: at, test: true})
	s.inRotation(e.Rotation, at, func(r *Rotation) {
		r.attempts[at.place()] = &Attempt{ID: id, Version: e.Version, At: at}
	})
	return true
})

var _ = fold(func(s *State, at *Mark, e events.SecretRejected) bool {
	if !s.reported(at, e.Session) {
		return false
	}
	c, _ := s.version(at, e.Version, Staged)
	if c == nil {
		return false
	}
	if e.Try.IsZero() {
		c.tries[at.place()] = try{at: at}
	}
	for _, a := range c.own(e.Try, at) {
		s.spend(c, a.at.place(), at)
	}
	answer := AnswerRejected
	if e.Locked {
		answer = AnswerLocked
	} else {
		c.doubts = append(c.doubts, at)
	}
	s.answer(e.Rotation, at, e.Try, answer, e.Detail, false)
	return true
})

var _ = fold(func(s *State, at *Mark, e events.SecretUnanswered) bool {
	if !s.reported(at, e.Session) {
		return false
	}
	c, _ := s.version(at, e.Version, Staged)
	if c == nil {
		return false
	}
	if e.Try.IsZero() {
		c.tries[at.place()] = try{at: at}
	}
	for _, a := range c.own(e.Try, at) {
		s.answered(c, a.at.place(), at, e.NotPresented)
	}
	s.answer(e.Rotation, at, e.Try, AnswerNone, e.Detail, e.NotPresented)
	return true
})

// lost takes note that a session was lost with its site before the target had
// answered: it may have presented its secret.
func (s *State) lost(at *Mark, n *Session) {
	if c := s.credentials[n.Credential]; c != nil && !n.Connected {
		c.tries[at.place()] = try{at: at}
	}
}

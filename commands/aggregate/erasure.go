package aggregate

import (
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Erasure is what is said about erasing one thing: who asks for it, who confirms
// that, and which sites have done it (rule R19).
type Erasure struct {
	ID uuid.UUID // of what is erased: a session, or a credential

	asks      []*ErasureAsk
	confirmed []*erasureWord
	withdrawn []*Mark
	done      map[events.SiteID]*Mark
}

// ErasureAsk is one administrator's wish.
type ErasureAsk struct {
	What        events.Erasable
	Reason      string
	Fingerprint string
	At          *Mark
}

// erasureWord confirms an ask.
type erasureWord struct {
	ask         *ErasureAsk
	fingerprint string
	at          *Mark
}

// Erased is an erasure that counts.
type Erased struct {
	Ask *ErasureAsk
	At  *Mark // of the confirmation
}

func (s *State) erasure(id uuid.UUID) *Erasure {
	e := s.erasures[id]
	if e == nil {
		e = &Erasure{ID: id, done: map[events.SiteID]*Mark{}}
		s.erasures[id] = e
	}
	return e
}

var _ = fold(func(s *State, at *Mark, e events.ErasureAsked) bool {
	if at.Actor.Kind != events.ByUser {
		return false
	}
	x := s.erasure(at.Stream)
	x.asks = append(x.asks, &ErasureAsk{What: e.What, Reason: e.Reason, Fingerprint: e.Fingerprint, At: at})
	return true
})

var _ = fold(func(s *State, at *Mark, e events.ErasureConfirmed) bool {
	x := s.erasures[at.Stream]
	if x == nil || at.Actor.Kind != events.ByUser {
		return false
	}
	known := slices.DeleteFunc(x.knownTo(at), func(a *ErasureAsk) bool { return a.At.ID != e.Ask })
	if len(known) == 0 {
		return false
	}
	x.confirmed = append(x.confirmed, &erasureWord{ask: known[0], fingerprint: e.Fingerprint, at: at})
	return true
})

var _ = foldAway(func(s *State, at *Mark, _ events.ErasureWithdrawn) bool {
	x := s.erasures[at.Stream]
	if x == nil || len(x.knownTo(at)) == 0 {
		return false
	}
	x.withdrawn = append(x.withdrawn, at)
	return true
})

// knownTo lists the asks that an event's site knew of, in the order they were made.
func (x *Erasure) knownTo(at *Mark) []*ErasureAsk {
	known := slices.DeleteFunc(slices.Clone(x.asks), func(a *ErasureAsk) bool { return !at.Knows(a.At) })
	slices.SortFunc(known, func(a, b *ErasureAsk) int { return a.At.Compare(b.At) })
	return known
}

// A site speaks for itself only: its word is kept under who wrote it.
var _ = foldAway(func(s *State, at *Mark, _ events.ErasureDone) bool {
	x := s.erasure(at.Stream)
	x.done[at.Origin.Site] = later(x.done[at.Origin.Site], at)
	return true
})

// Erased tells whether something is erased, and by whom: of several confirmations
// that count by the first. What follows a confirmation does not take it back; what did
// not know of it may: a confirmation does not count if one of the two was disabled
// elsewhere, or held a key of the other (rule R9).
func (s *State) Erased(id uuid.UUID) (first Erased, ok bool) {
	x := s.erasures[id]
	if x == nil {
		return first, false
	}
	for _, w := range x.confirmed {
		if (!ok || w.at.Compare(first.At) < 0) && s.erases(x, w) {
			first, ok = Erased{w.ask, w.at}, true
		}
	}
	return first, ok
}

func (s *State) erases(x *Erasure, w *erasureWord) bool {
	switch w.ask.What {
	case events.ErasableRecording:
		if s.sealsElse(x.ID) {
			return false // a site that betrays gave its session the name of another data key
		}
	case events.ErasableSecrets:
		if !s.wasArchived(events.CredentialID{UUID: x.ID}, w.at) {
			return false
		}
	default:
		return false // of a newer version
	}
	return !x.takenBack(w.ask, w.at) && s.twoAdmins(w)
}

// wasArchived reports whether the account of a credential was in the archive when its
// secrets were erased, and nothing was done to them that the confirmation did not know
// of: a rotation on the other side of a cut may have made the only secret that works
// (rule R7). What follows the confirmation does not matter.
func (s *State) wasArchived(id events.CredentialID, at *Mark) bool {
	c := s.credentials[id]
	if c == nil {
		return false
	}
	a := s.accounts[c.Account]
	if a == nil || a.Credential != id {
		return false
	}
	unheard := func(m *Mark) bool { return m != nil && !at.Knows(m) && !m.Knows(at) }
	for _, v := range c.versions {
		if unheard(v.made) || unheard(v.recovered) || slices.ContainsFunc(slices.Collect(maps.Values(v.sends)), unheard) {
			return false
		}
	}
	archives := []*archive{&a.archive}
	if t := s.targets[a.Target]; t != nil {
		archives = append(archives, &t.archive)
	}
	archived := false
	for _, r := range archives {
		archived = archived || len(s.standing(r)) > 0
		for _, back := range r.restores {
			if unheard(back) && !s.suspended(back) {
				return false
			}
			archived = archived || back.Knows(at)
		}
	}
	return archived
}

// KeyErased reports whether a data key is to be destroyed: all that it seals is erased.
func (s *State) KeyErased(key uuid.UUID) bool {
	if _, erased := s.Erased(key); erased && !s.sealsElse(key) {
		return true
	}
	sealed := s.SealedUnder(key)
	return len(sealed) > 0 && s.cas[events.CAID{UUID: key}] == nil && s.factors[events.FactorID{UUID: key}] == nil &&
		!slices.ContainsFunc(sealed, func(c *Credential) bool { _, erased := s.Erased(c.ID.UUID); return !erased })
}

// KeysOf lists the data keys of what is erased. One that is said to seal something else,
// too, is not to be destroyed: see KeyErased.
func (s *State) KeysOf(x *Erasure) []uuid.UUID {
	keys := []uuid.UUID{x.ID}
	if c := s.credentials[events.CredentialID{UUID: x.ID}]; c != nil {
		for _, v := range c.versions {
			if !slices.Contains(keys, v.Key) {
				keys = append(keys, v.Key)
			}
		}
	}
	return keys
}

// takenBack reports whether an ask was withdrawn as far as an event knows; nil knows
// all. Of a withdrawal and a confirmation that did not know of each other the
// confirmation counts, since it has destroyed keys by then.
func (x *Erasure) takenBack(a *ErasureAsk, known *Mark) bool {
	return slices.ContainsFunc(x.withdrawn, func(m *Mark) bool { return m.Knows(a.At) && (known == nil || known.Knows(m)) })
}

// twoAdmins reports whether ask and confirmation are of two different
// administrators whose word counts. Keys that somebody got after it don't matter: else
// giving one of them a key of the other would undo it.
func (s *State) twoAdmins(w *erasureWord) bool {
	for _, m := range []*Mark{w.ask.At, w.at} {
		u := s.users[events.UserID{UUID: m.Actor.ID}]
		if u == nil || u.Role != events.Admin || s.suspended(m) {
			return false
		}
	}
	asker, other := events.UserID{UUID: w.ask.At.Actor.ID}, events.UserID{UUID: w.at.Actor.ID}
	return !s.person(asker, w.at)[other] && (w.fingerprint == "" || w.fingerprint != w.ask.Fingerprint)
}

// sealsElse reports whether a data key of that id seals something else than a
// recording.
func (s *State) sealsElse(id uuid.UUID) bool {
	return s.credentials[events.CredentialID{UUID: id}] != nil || len(s.dataKeys[id]) > 0 ||
		s.cas[events.CAID{UUID: id}] != nil || s.factors[events.FactorID{UUID: id}] != nil
}

// SealsElse is sealsElse for who asks for an erasure.
func (s *State) SealsElse(id uuid.UUID) bool { return s.sealsElse(id) }

// Erasures lists everything that somebody asked to erase, in the order of asking.
func (s *State) Erasures() []*Erasure {
	all := slices.DeleteFunc(slices.Collect(maps.Values(s.erasures)), func(x *Erasure) bool { return len(x.asks) == 0 })
	slices.SortFunc(all, func(a, b *Erasure) int { return a.First().At.Compare(b.First().At) })
	return all
}

// Erasure finds what is said about erasing something.
func (s *State) Erasure(id uuid.UUID) (*Erasure, bool) {
	x := s.erasures[id]
	return x, x != nil && len(x.asks) > 0
}

// First is the ask that sorts first.
func (x *Erasure) First() *ErasureAsk {
	return slices.MinFunc(x.asks, func(a, b *ErasureAsk) int { return a.At.Compare(b.At) })
}

// Open lists the asks that nobody has withdrawn or confirmed, in the order they were
// made. A confirmation that does not count uses its ask up: things were not as whoever
// asked knew them.
func (x *Erasure) Open() []*ErasureAsk {
	open := slices.DeleteFunc(slices.Clone(x.asks), func(a *ErasureAsk) bool {
		return x.takenBack(a, nil) || slices.ContainsFunc(x.confirmed, func(w *erasureWord) bool { return w.ask == a })
	})
	slices.SortFunc(open, func(a, b *ErasureAsk) int { return a.At.Compare(b.At) })
	return open
}

// Confirmed is the ask that was confirmed last, if any was; whether that counts is
// another matter.
func (x *Erasure) Confirmed() (last *ErasureAsk, ok bool) {
	if len(x.confirmed) == 0 {
		return nil, false
	}
	return slices.MaxFunc(x.confirmed, func(a, b *erasureWord) int { return a.at.Compare(b.at) }).ask, true
}

// HasErased gives the event by which a site said last that it holds no key any more;
// nil if it has not. It knew of a confirmation that counts, since one that fell may have
// let the key back in, and said so in its newest log: one that was set aside was perhaps
// written with another disk (rule R15), and an old one has the key.
func (s *State) HasErased(x *Erasure, site events.SiteID) *Mark {
	m := x.done[site]
	if m == nil || !slices.ContainsFunc(x.confirmed, func(w *erasureWord) bool { return m.Knows(w.at) && s.erases(x, w) }) {
		return nil
	}
	for o := range s.logs {
		if o.Site == site && o.Epoch > m.Origin.Epoch {
			return nil
		}
	}
	return m
}

func (s *State) erasureLines(add func(format string, args ...any)) {
	for id, x := range s.erasures {
		by := "nobody"
		if e, ok := s.Erased(id); ok {
			by = show(e.At)
		}
		add("erasure of %s by %s withdrawn %s", id, by, showMarks(x.withdrawn))
		for _, a := range x.asks {
			add("erasure of %s asked %s %q %q %s", id, a.What, a.Reason, a.Fingerprint, show(a.At))
		}
		for _, w := range x.confirmed {
			add("erasure of %s confirmed %s for %s %q", id, show(w.at), show(w.ask.At), w.fingerprint)
		}
		for site, m := range x.done {
			add("erasure of %s done at %s %s", id, site, show(m))
		}
	}
}

// SiteErasure says whether a site has erased something.
type SiteErasure struct {
	Site events.SiteID
	Done *Mark // when it said so last; nil if it has not
	Gone bool  // it is fenced or has left, and goes by nobody's word any more
}

// SitesOf lists for each site of the mesh whether it has erased something.
func (s *State) SitesOf(x *Erasure) (all []SiteErasure) {
	sites := slices.Collect(maps.Keys(s.sites))
	if members := s.MeshSites(); len(members) > 0 {
		sites = nil
		for _, m := range members {
			sites = append(sites, m.Site)
		}
	}
	for _, id := range sites {
		all = append(all, SiteErasure{Site: id, Done: s.HasErased(x, id), Gone: s.Fenced(id) || s.Left(id)})
	}
	slices.SortFunc(all, func(a, b SiteErasure) int { return slices.Compare(a.Site.UUID[:], b.Site.UUID[:]) })
	return all
}

package aggregate

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Credential is the secret of one account, in all its versions.
type Credential struct {
	ID      events.CredentialID
	Account events.AccountID
	Kind    events.SecretKind
	Added   *Mark
	Probe   []byte // of one that began without a version: proves its data key

	Principal string // of the certificates that stand in for a secret

	versions map[events.SecretID]*Version
	truth    heads[events.SecretID] // what the target was last known to hold
	clears   heads[events.SecretID] // what it was last seen to accept, or was said to hold by a person
	doubts   []*Mark                // that no clear knows of
	alarms   []*Mark                // likewise
	branches heads[events.SecretID] // versions that came to light and may be true, that no clear knows of
	revived  map[uuid.UUID]*Mark    // first event that brought something back which a data key has sealed
	tries    map[events.ClockEntry]try
	said     map[events.TryID][]announced // every login and change that a rotation announced
	resets   []*Mark                      // announcements of logins that were accepted, none of which knows another
	shown    map[events.SecretID][]Exposure
	leases   map[events.LeaseID][]*Lease // one each, unless a site betrays
	freed    map[events.SecretID]*Mark   // newest end of a check-out of each version
	used     map[events.SecretID]*Mark   // newest end of a session with each version
	failed   []*Mark                     // ends of rotations without success, that no successful one knows of
	last     heads[Ended]

	endedElsewhere map[*Session]bool // see otherEnd
}

// try is a presentation that may count against a lock-out.
type try struct {
	at   *Mark            // the latest that it can have been made
	open bool             // a change was sent and nothing answers it yet
	via  events.AccountID // that it was made with, if another one
	free bool             // it can't have been a wrong login of the account
}

// announced is a presentation that a rotation said it was about to make. Two under
// one id, of which one betrays, are two: each is answered by its own site.
type announced struct {
	at   *Mark
	via  events.AccountID // that it was to be made with, if another one
	test bool
}

// own lists what an event's site announced under an id and knew.
func (c *Credential) own(id events.TryID, at *Mark) (all []announced) {
	for _, a := range c.said[id] {
		if a.at.Origin.Site == at.Origin.Site && at.Knows(a.at) {
			all = append(all, a)
		}
	}
	return all
}

// Level is how far a version has come. It only grows.
type Level int

const (
	// Staged versions are kept here and not known to the target.
	Staged Level = iota + 1
	// Sent versions may be on their way to the target.
	Sent
	// Refused versions were not taken.
	Refused
	// Unknown versions may have been taken.
	Unknown
	// Applied versions were given to the target, or are said to be held by it.
	Applied
	// Verified versions were accepted by the target.
	Verified
)

// String is the level as people see it.
func (l Level) String() string {
	names := [...]string{"none", "staged", "sent", "refused", "unknown", "applied", "verified"}
	return names[l]
}

// Version is one version of a secret. Versions are never dropped (rule R5).
type Version struct {
	ID     events.SecretID
	Level  Level
	Sealed []byte    // nil where the staging event's payload is not held here
	Public string    // for a private key: its public half, authorized_keys form
	Staged *Mark     // nil like Sealed
	Key    uuid.UUID // names the data key that it is sealed under

	held      *Mark                       // newest event by which the target may hold it
	recovered *Mark                       // first event that brought it back, nil for none
	made      *Mark                       // the event that staged it, nil while only others speak of it
	sends     map[events.ClockEntry]*Mark // when it was sent, by where that was announced
	not       map[events.ClockEntry]bool  // which of those were refused
}

// Version finds a version by id.
func (c *Credential) Version(id events.SecretID) (*Version, bool) {
	v, ok := c.versions[id]
	return v, ok
}

// Versions lists all versions by id, which is the order of their making.
func (c *Credential) Versions() []*Version {
	return slices.SortedFunc(maps.Values(c.versions), func(a, b *Version) int {
		return slices.Compare(a.ID.UUID[:], b.ID.UUID[:])
	})
}

// Current is the version that was last known to be true: of concurrent claims
// the newest by hybrid clock, which is a guess that only the target can settle
// (rule R3; see Contested). False when no version was ever applied, or when its
// bytes are not held here.
func (c *Credential) Current() (*Version, bool) {
	if len(c.truth) == 0 {
		return nil, false
	}
	v := c.versions[c.truth.newest().value]
	return v, v.Sealed != nil
}

// Contested reports whether sites hold different versions to be true without
// knowing of each other, or a part of a log says so that does not count.
func (c *Credential) Contested() bool {
	return len(c.branches) > 0 || slices.ContainsFunc(c.truth, func(h head[events.SecretID]) bool { return h.value != c.truth[0].value })
}

// keptCandidates is how many verified versions that were superseded are still
// tried: a target restored from a snapshot may take one of them (rule R5).
const keptCandidates = 3

// Candidates lists the versions that the target may take, the likeliest first:
// those last sent, applied or seen to work, then the ones before.
func (c *Credential) Candidates() []*Version {
	likely, _ := c.candidates()
	return likely
}

// Older lists what the target may take against all that is known, the newest first:
// versions that were kept and, as far as the logs go, never sent, since the end of
// a log may have been lost with its disk; then those before the candidates; then those
// that it did not get or refused, since a log that was written twice may have told
// otherwise in the branch that is lost.
func (c *Credential) Older() []*Version {
	_, older := c.candidates()
	return older
}

func (c *Credential) candidates() (likely, older []*Version) {
	var all, unsent, refused []*Version
	for _, v := range c.versions {
		switch {
		case v.Sealed == nil:
		case v.possible() != nil:
			all = append(all, v)
		case len(v.sends) == 0:
			unsent = append(unsent, v)
		default:
			refused = append(refused, v)
		}
	}
	for _, of := range [][]*Version{unsent, refused} {
		slices.SortFunc(of, func(a, b *Version) int { return b.Staged.Compare(a.Staged) })
	}
	slices.SortFunc(all, func(a, b *Version) int { return b.possible().Compare(a.possible()) })
	superseded := -1 // the first verified one is not
	for i, v := range all {
		if v.Level == Verified {
			superseded++
		}
		if superseded > keptCandidates {
			return all[:i], slices.Concat(unsent, all[i:], refused)
		}
	}
	return all, slices.Concat(unsent, refused)
}

// possible is the newest event by which the target may hold the version.
func (v *Version) possible() *Mark {
	newest := v.held
	for id, m := range v.sends {
		if !v.not[id] {
			newest = later(newest, m)
		}
	}
	return newest
}

// Unsettled reports whether it is not known which version the target takes:
// sites disagree, a change was sent and nothing came back, or a version that
// was held to be true was turned down.
func (c *Credential) Unsettled() bool {
	if c.Contested() || len(c.doubts) > 0 {
		return true
	}
	for _, t := range c.tries {
		if t.open && !c.outlasted(t.at) {
			return true
		}
	}
	return false
}

// lateEffect is how long a change that was sent may take until it has effect. A
// rotation tests for a little longer, so that clocks need not agree.
const lateEffect = 10 * time.Minute

// outlasted reports whether the target was seen to take a version so long after a
// change was sent that this has no effect any more, though its site may never
// tell what came of it.
func (c *Credential) outlasted(sent *Mark) bool {
	return slices.ContainsFunc(c.clears, func(h head[events.SecretID]) bool {
		return h.at.Knows(sent) && h.at.Time().Sub(sent.Time()) >= lateEffect
	})
}

// Alarmed reports whether no known version was accepted, and since then nothing
// has mended that nor any version come to light that was not tested, as after
// the heal of a cut on whose other side the secret was changed.
func (c *Credential) Alarmed() bool {
	return slices.ContainsFunc(c.alarms, func(m *Mark) bool {
		for _, v := range c.versions {
			if at := v.possible(); v.Sealed != nil && at != nil && !m.Knows(at) {
				return false
			}
		}
		return true
	})
}

// Pending reports whether a change that was sent may yet take effect: nothing
// has shown since what the target takes.
func (c *Credential) Pending() bool {
	for _, v := range c.versions {
		m := v.possible()
		if m != nil && !slices.ContainsFunc(c.clears, func(h head[events.SecretID]) bool { return h.at == m || h.at.Knows(m) }) {
			return true
		}
	}
	return false
}

// LastVerified is when the target was last seen to take the current version.
func (c *Credential) LastVerified() (at time.Time, ok bool) {
	v, known := c.Current()
	if !known || v.Level != Verified {
		return at, false
	}
	for _, h := range c.clears {
		if h.value == v.ID && (!ok || h.at.Time().After(at)) {
			at, ok = h.at.Time(), true
		}
	}
	return at, ok
}

var _ = fold(func(s *State, at *Mark, e events.CredentialAdded) bool {
	id := events.CredentialID{UUID: at.Stream}
	if s.credentials[id] != nil {
		return false
	}
	s.credentials[id] = &Credential{
		ID: id, Account: e.Account, Kind: e.Kind, Principal: e.Principal, Added: at, Probe: e.Probe, versions: map[events.SecretID]*Version{},
		tries: map[events.ClockEntry]try{}, said: map[events.TryID][]announced{}, shown: map[events.SecretID][]Exposure{}, leases: map[events.LeaseID][]*Lease{},
		freed: map[events.SecretID]*Mark{}, used: map[events.SecretID]*Mark{}, endedElsewhere: map[*Session]bool{},
	}
	return true
})

var _ = fold(func(s *State, at *Mark, e events.SecretStaged) bool {
	c, v := s.version(at, events.SecretID{UUID: at.ID}, Staged)
	if c == nil {
		return false
	}
	v.made = at
	v.stage(s, c, at, e.Sealed, e.Public, e.Key)
	s.inRotation(e.Rotation, at, func(r *Rotation) { r.staged.put(at, v.ID) })
	return true
})

var _ = fold(func(s *State, at *Mark, e events.SecretSent) bool {
	c, v := s.version(at, e.Version, Sent)
	if c == nil {
		return false
	}
	id, place := events.TryID{UUID: at.ID}, at.place()
	c.said[id] = append(c.said[id], announced{at: at, via: e.Via})
	c.tries[place] = try{at: at, open: true, via: e.Via, free: e.Proven || !e.Via.IsZero()}
	v.sends[place] = at
	if via := s.credentialOf(e.Via); via != nil {
		via.tries[place] = try{at: at}
	}
	s.inRotation(e.Rotation, at, func(r *Rotation) {
		r.attempts[place] = &Attempt{ID: id, Version: e.Version, Sent: e.Verb, At: at, Replaces: e.Replaces}
	})
	return true
})

var _ = fold(func(s *State, at *Mark, e events.SecretApplied) bool {
	c := s.claim(at, e.Version, Applied)
	if c == nil {
		return false
	}
	for _, a := range c.own(e.Try, at) {
		s.forget(c, a.at.place())
	}
	s.answer(e.Rotation, at, e.Try, AnswerApplied, "", false)
	if e.How == events.ByEntry {
		c.clear(at, e.Version)
	}
	return true
})

var _ = fold(func(s *State, at *Mark, e events.SecretRefused) bool {
	c, v := s.version(at, e.Version, Refused)
	if c == nil {
		return false
	}
	doubted := c
	for _, a := range c.own(e.Try, at) {
		place := a.at.place()
		v.not[place] = true
		if via := s.credentialOf(a.via); via != nil {
			doubted = via
		}
		if e.Rejected {
			s.charge(c, place)
		}
		s.answered(c, place, at, e.NotPresented)
	}
	if e.Rejected {
		doubted.doubts = append(doubted.doubts, at)
	}
	s.answer(e.Rotation, at, e.Try, AnswerRefused, e.Detail, e.NotPresented)
	return true
})

var _ = fold(func(s *State, at *Mark, e events.SecretUnknown) bool {
	c := s.credentials[events.CredentialID{UUID: at.Stream}]
	if c == nil {
		return false
	}
	if e.Alarm {
		c.alarms = append(c.alarms, at)
	}
	if !e.Version.IsZero() {
		_, v := s.version(at, e.Version, Unknown)
		v.held = later(v.held, at)
	}
	for _, a := range c.own(e.Try, at) {
		s.spend(c, a.at.place(), at)
	}
	c.doubts = append(c.doubts, at)
	s.answer(e.Rotation, at, e.Try, AnswerUnknown, e.Detail, false)
	return true
})

var _ = fold(func(s *State, at *Mark, e events.SecretVerified) bool {
	c := s.claim(at, e.Version, Verified)
	if c == nil {
		return false
	}
	for _, a := range c.own(e.Try, at) {
		s.forget(c, a.at.place())
		if a.test {
			c.reset(a.at)
		}
	}
	s.answer(e.Rotation, at, e.Try, AnswerAccepted, "", false)
	c.clear(at, e.Version)
	s.tookEffect(at, c, e.Version)
	for _, n := range s.own(e.Session, at) {
		n.Secret = e.Version
		c.reset(n.Started)
	}
	return true
})

var _ = fold(func(s *State, at *Mark, e events.SecretRetired) bool {
	c, _ := s.version(at, e.Version, Staged)
	s.inRotation(e.Rotation, at, func(r *Rotation) { r.retired = true })
	return c != nil
})

// claim says that the target holds a version.
func (s *State) claim(at *Mark, id events.SecretID, level Level) *Credential {
	c, v := s.version(at, id, level)
	if c == nil {
		return nil
	}
	v.held = later(v.held, at)
	c.truth.put(at, id)
	return c
}

// clear ends the doubts and alarms that at knew of.
func (c *Credential) clear(at *Mark, id events.SecretID) {
	c.clears.put(at, id)
	known := func(m *Mark) bool { return at.Knows(m) }
	c.doubts = slices.DeleteFunc(c.doubts, known)
	c.alarms = slices.DeleteFunc(c.alarms, known)
	c.branches = slices.DeleteFunc(c.branches, func(h head[events.SecretID]) bool { return known(h.at) })
}

// version gives the version of the event's credential, at least at level.
func (s *State) version(at *Mark, id events.SecretID, level Level) (*Credential, *Version) {
	c := s.credentials[events.CredentialID{UUID: at.Stream}]
	if c == nil {
		return nil, nil
	}
	v := c.versions[id]
	if v == nil {
		v = &Version{ID: id, sends: map[events.ClockEntry]*Mark{}, not: map[events.ClockEntry]bool{}}
		c.versions[id] = v
	}
	v.Level = max(v.Level, level)
	return c, v
}

// Credential finds a credential by id.
func (s *State) Credential(id events.CredentialID) (*Credential, bool) {
	c, ok := s.credentials[id]
	return c, ok
}

func (s *State) credentialOf(id events.AccountID) *Credential {
	if a := s.accounts[id]; a != nil {
		return s.credentials[a.Credential]
	}
	return nil
}

// later is the mark that sorts last; one may be nil.
func later(a, b *Mark) *Mark {
	if a == nil || b != nil && b.Compare(a) > 0 {
		return b
	}
	return a
}

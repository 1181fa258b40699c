package aggregate

import (
	"maps"
	"slices"

	"github.com/holdfast-pam/holdfast/events"
)

// Credential is the secret of one account, in all its versions.
type Credential struct {
	ID      events.CredentialID
	Account events.AccountID
	Kind    events.SecretKind
	Added   *Mark

	versions map[events.SecretID]*Version
	truth    heads[events.SecretID] // what the target was last known to hold
}

// Level is how far a version has come. It only grows.
type Level int

const (
	// Staged versions are kept here and not known to the target.
	Staged Level = iota + 1
	// Applied versions were given to the target, or are said to be held by it.
	Applied
	// Verified versions were accepted by the target.
	Verified
)

// Version is one version of a secret. Versions are never dropped (rule R5).
type Version struct {
	ID     events.SecretID
	Level  Level
	Sealed []byte // nil where the staging event's payload is not held here
	Public string // for a private key: its public half, authorized_keys form
	Staged *Mark  // nil like Sealed
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
// knowing of each other.
func (c *Credential) Contested() bool {
	return slices.ContainsFunc(c.truth, func(h head[events.SecretID]) bool { return h.value != c.truth[0].value })
}

var _ = fold(func(s *State, at *Mark, e events.CredentialAdded) bool {
	id := events.CredentialID{UUID: at.Stream}
	if s.credentials[id] != nil {
		return false
	}
	s.credentials[id] = &Credential{
		ID: id, Account: e.Account, Kind: e.Kind, Added: at, versions: map[events.SecretID]*Version{},
	}
	return true
})

var _ = fold(func(s *State, at *Mark, e events.SecretStaged) bool {
	v := s.version(at, events.SecretID{UUID: at.ID}, Staged)
	if v == nil {
		return false
	}
	v.Sealed, v.Public, v.Staged = e.Sealed, e.Public, at
	return true
})

var _ = fold(func(s *State, at *Mark, e events.SecretApplied) bool {
	return s.claim(at, e.Version, Applied)
})

var _ = fold(func(s *State, at *Mark, e events.SecretVerified) bool {
	return s.claim(at, e.Version, Verified)
})

func (s *State) claim(at *Mark, id events.SecretID, level Level) bool {
	if s.version(at, id, level) == nil {
		return false
	}
	s.credentials[events.CredentialID{UUID: at.Stream}].truth.put(at, id)
	return true
}

// version gives the version of the event's credential, at least at level.
func (s *State) version(at *Mark, id events.SecretID, level Level) *Version {
	c := s.credentials[events.CredentialID{UUID: at.Stream}]
	if c == nil {
		return nil
	}
	v := c.versions[id]
	if v == nil {
		v = &Version{ID: id}
		c.versions[id] = v
	}
	v.Level = max(v.Level, level)
	return v
}

// Credential finds a credential by id.
func (s *State) Credential(id events.CredentialID) (*Credential, bool) {
	c, ok := s.credentials[id]
	return c, ok
}

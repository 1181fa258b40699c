package aggregate

import (
	"cmp"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// User is a person or automation with an identity.
type User struct {
	ID    events.UserID
	Name  string
	Role  events.Role
	Added *Mark

	disabled []*Mark // usually none or one
	keys     map[string]*heads[keyState]
	limits   heads[uint32]

	factorRule   heads[events.UserFactorRuleSet]
	factorResets []*Mark
}

// Key is a public key of a user.
type Key struct {
	Key         string // authorized_keys form
	Fingerprint string
	Comment     string
}

// keyState is one head of a key: given, or taken away.
type keyState struct {
	key   Key
	taken bool
}

// Disabled reports whether the user was disabled; that is final.
func (u *User) Disabled() bool { return len(u.disabled) > 0 }

// HasKey reports whether the key is the user's. Of a giving and a taking that
// did not know of each other, the taking counts.
func (u *User) HasKey(fingerprint string) bool {
	h := u.keys[fingerprint]
	return h != nil && !slices.ContainsFunc(*h, func(h head[keyState]) bool { return h.value.taken })
}

// MaxSessions is how many sessions the user may have at once, 0 for no limit;
// of concurrent decisions the strictest.
func (u *User) MaxSessions() uint32 { return strictest(u.limits) }

// Keys lists the user's keys by fingerprint.
func (u *User) Keys() []Key {
	var keys []Key
	for _, f := range slices.Sorted(maps.Keys(u.keys)) {
		if u.HasKey(f) {
			keys = append(keys, u.keys[f].newest().value.key)
		}
	}
	return keys
}

var _ = fold(func(s *State, at *Mark, e events.UserAdded) bool {
	id := events.UserID{UUID: at.Stream}
	if s.users[id] != nil {
		return false
	}
	s.users[id] = &User{ID: id, Name: e.Name, Role: e.Role, Added: at, keys: map[string]*heads[keyState]{}}
	s.usersByName.add(e.Name, id)
	return true
})

var _ = fold(func(s *State, at *Mark, e events.UserKeyAdded) bool {
	return s.putKey(at, e.Fingerprint, keyState{key: Key(e)})
})

var _ = fold(func(s *State, at *Mark, e events.UserKeyRemoved) bool {
	return s.putKey(at, e.Fingerprint, keyState{key: Key{Fingerprint: e.Fingerprint}, taken: true})
})

func (s *State) putKey(at *Mark, fingerprint string, value keyState) bool {
	u := s.users[events.UserID{UUID: at.Stream}]
	if u == nil {
		return false
	}
	h := u.keys[fingerprint]
	if h == nil {
		h = &heads[keyState]{}
		u.keys[fingerprint] = h
	}
	h.put(at, value)
	if s.keyHolders[fingerprint] == nil {
		s.keyHolders[fingerprint] = map[events.UserID][]*Mark{}
	}
	s.keyHolders[fingerprint][u.ID] = append(s.keyHolders[fingerprint][u.ID], at)
	if u.HasKey(fingerprint) {
		s.usersByKey.add(fingerprint, u.ID)
	} else {
		s.usersByKey.remove(fingerprint, u.ID)
	}
	return true
}

var _ = fold(func(s *State, at *Mark, e events.UserLimitsSet) bool {
	u := s.users[events.UserID{UUID: at.Stream}]
	if u != nil {
		u.limits.put(at, e.MaxSessions)
	}
	return u != nil
})

var _ = foldAway(func(s *State, at *Mark, _ events.UserDisabled) bool {
	u := s.users[events.UserID{UUID: at.Stream}]
	if u == nil {
		return false
	}
	u.disabled = append(u.disabled, at)
	s.usersByName.remove(u.Name, u.ID)
	s.archiveAnew()
	return true
})

// User finds a user by id, disabled or not.
func (s *State) User(id events.UserID) (*User, bool) {
	u, ok := s.users[id]
	return u, ok
}

// UserByName finds the live user of that name: ErrUnknown or [*ConflictError].
func (s *State) UserByName(name string) (*User, error) {
	ids := s.usersByName[name]
	switch len(ids) {
	case 0:
		return nil, ErrUnknown
	case 1:
		return s.users[ids[0]], nil
	}
	return nil, conflict("user", name, uuids(ids, func(id events.UserID) uuid.UUID { return id.UUID })...)
}

// UserByKey finds whom a proven key authenticates. Only a nil error lets
// anybody in: ErrUnknown, a [*ConflictError] for a key of several live users
// (which authenticates none of them), ErrDisabled and ErrSuspended, the last
// two with the user concerned.
func (s *State) UserByKey(fingerprint string) (*User, error) {
	var live, disabled []*User
	for _, id := range s.usersByKey[fingerprint] {
		if u := s.users[id]; u.Disabled() {
			disabled = append(disabled, u)
		} else {
			live = append(live, u)
		}
	}
	if len(live) > 1 {
		return nil, conflict("key", fingerprint, uuids(live, func(u *User) uuid.UUID { return u.ID.UUID })...)
	}
	if len(live) == 1 {
		return live[0], s.keyStands(live[0], fingerprint)
	}
	if len(disabled) > 0 {
		newest := slices.MaxFunc(disabled, func(a, b *User) int { return a.Added.Compare(b.Added) })
		return newest, ErrDisabled
	}
	return nil, ErrUnknown
}

// UserStands tells whether a user may act: nil, ErrUnknown, ErrDisabled or ErrSuspended.
func (s *State) UserStands(id events.UserID) error {
	u := s.users[id]
	switch {
	case u == nil:
		return ErrUnknown
	case u.Disabled():
		return ErrDisabled
	case s.suspended(u.Added):
		return ErrSuspended
	}
	return nil
}

// keyStands is UserStands for a login with one of the user's keys.
func (s *State) keyStands(u *User, fingerprint string) error {
	if err := s.UserStands(u.ID); err != nil {
		return err
	}
	for _, h := range *u.keys[fingerprint] {
		if !s.suspended(h.at) {
			return nil // given at least once by somebody whose word counts
		}
	}
	return ErrSuspended
}

// Users lists all users by name, the disabled ones too.
func (s *State) Users() []*User {
	return slices.SortedFunc(maps.Values(s.users), func(a, b *User) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Added.Compare(b.Added))
	})
}

func uuids[T any](list []T, id func(T) uuid.UUID) []uuid.UUID {
	out := make([]uuid.UUID, len(list))
	for i, v := range list {
		out[i] = id(v)
	}
	return out
}

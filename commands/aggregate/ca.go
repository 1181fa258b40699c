package aggregate

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

var (
	// ErrRevoked says that an authority took its word for a certificate back.
	ErrRevoked = errors.New("certificate is revoked")
	// ErrEarlyCertificate and ErrLateCertificate say that a certificate is out
	// of its time.
	ErrEarlyCertificate = errors.New("certificate is not valid yet")
	ErrLateCertificate  = errors.New("certificate has expired")
	// ErrNoPrincipal says that a certificate names nobody here.
	ErrNoPrincipal = errors.New("certificate is for nobody here")
)

// CA is a certificate authority whose user certificates say who somebody is.
type CA struct {
	ID          events.CAID
	Name        string
	Key         string // authorized_keys form
	Fingerprint string
	Comment     string
	Added       *Mark
	Removed     bool // final

	revoked []events.CertificateRevoked // only ever added
}

// Certificate is a user certificate whose signatures were verified, as far as
// decisions depend on it.
type Certificate struct {
	Authority  string // fingerprint of the key that signed it
	Key        string // fingerprint of the certified key
	Serial     uint64
	KeyID      string
	Principals []string
	After      time.Time // first moment of its validity; zero for always
	Before     time.Time // first moment after its validity; zero for no end
}

// revokes reports whether a revocation means a certificate. One that can't be
// read here means every one of its authority.
func revokes(e events.CertificateRevoked, c *Certificate) bool {
	switch {
	case e.Fingerprint != "":
		return e.Fingerprint == c.Key
	case e.KeyID != "":
		return e.KeyID == c.KeyID
	case e.Serial != 0:
		return e.Serial == c.Serial
	}
	return true
}

// HasRevoked reports whether a revocation like this one is on record.
func (a *CA) HasRevoked(e events.CertificateRevoked) bool {
	return slices.ContainsFunc(a.revoked, func(old events.CertificateRevoked) bool {
		e.Reason = old.Reason
		return old == e
	})
}

var _ = fold(func(s *State, at *Mark, e events.CACreated) bool {
	t := s.sites[events.SiteID{UUID: at.Stream}]
	if t != nil && t.CA == "" {
		t.CA = e.Key
	}
	return t != nil
})

var _ = fold(func(s *State, at *Mark, e events.CATrusted) bool {
	id := events.CAID{UUID: at.Stream}
	if s.cas[id] != nil {
		return false
	}
	s.cas[id] = &CA{ID: id, Name: e.Name, Key: e.Key, Fingerprint: e.Fingerprint, Comment: e.Comment, Added: at}
	s.casByName.add(e.Name, id)
	return true
})

var _ = foldAway(func(s *State, at *Mark, _ events.CADistrusted) bool {
	a := s.cas[events.CAID{UUID: at.Stream}]
	if a == nil {
		return false
	}
	a.Removed = true
	s.casByName.remove(a.Name, a.ID)
	return true
})

var _ = foldAway(func(s *State, at *Mark, e events.CertificateRevoked) bool {
	a := s.cas[events.CAID{UUID: at.Stream}]
	if a != nil {
		a.revoked = append(a.revoked, e)
	}
	return a != nil
})

// CA finds an authority by id, removed or not.
func (s *State) CA(id events.CAID) (*CA, bool) {
	a, ok := s.cas[id]
	return a, ok
}

// CAByName finds the trusted authority of that name: ErrUnknown or [*ConflictError].
func (s *State) CAByName(name string) (*CA, error) {
	ids := s.casByName[name]
	switch len(ids) {
	case 0:
		return nil, ErrUnknown
	case 1:
		return s.cas[ids[0]], nil
	}
	return nil, conflict("user-ca", name, uuids(ids, func(id events.CAID) uuid.UUID { return id.UUID })...)
}

// CAs lists all authorities by name, the removed ones too.
func (s *State) CAs() []*CA {
	return slices.SortedFunc(maps.Values(s.cas), func(a, b *CA) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Added.Compare(b.Added))
	})
}

// CAByKey finds the trusted authority that has a key: ErrUnknown, or ErrSuspended
// with the authority concerned.
func (s *State) CAByKey(fingerprint string) (*CA, error) {
	var found *CA
	err := error(ErrUnknown)
	for _, a := range s.CAs() {
		switch {
		case a.Removed || a.Fingerprint != fingerprint:
		case !s.suspended(a.Added):
			return a, nil
		default:
			found, err = a, ErrSuspended
		}
	}
	return found, err
}

// UserByCertificate finds whom a certificate authenticates at a time, and the
// authority that says so. Only a nil error lets anybody in: ErrUnknown when
// no trusted authority signed it, ErrRevoked, ErrEarlyCertificate,
// ErrLateCertificate, ErrNoPrincipal, a [*ConflictError] when its principals name
// several users, ErrDisabled and ErrSuspended, the last two with the user concerned.
func (s *State) UserByCertificate(c *Certificate, now time.Time) (*User, *CA, error) {
	a, err := s.CAByKey(c.Authority)
	if err != nil {
		return nil, a, err
	}
	if err := s.certificateHolds(c); err != nil {
		return nil, a, err
	}
	switch {
	case now.Before(c.After):
		return nil, a, ErrEarlyCertificate
	case !c.Before.IsZero() && !now.Before(c.Before):
		return nil, a, ErrLateCertificate
	}
	u, err := s.userByPrincipals(c.Principals)
	return u, a, err
}

// CertificateStands tells whether what was opened with a certificate may go on
// for a user: the authority is trusted and has not revoked it. Its validity is
// not asked: that ends logins, not sessions.
func (s *State) CertificateStands(c *Certificate, id events.UserID) error {
	if _, err := s.CAByKey(c.Authority); err != nil {
		return err
	}
	if err := s.certificateHolds(c); err != nil {
		return err
	}
	return s.UserStands(id)
}

// certificateHolds asks every authority that ever had the key: to be removed
// and trusted again takes no revocation back.
func (s *State) certificateHolds(c *Certificate) error {
	for _, a := range s.cas {
		if a.Fingerprint == c.Authority && slices.ContainsFunc(a.revoked, func(e events.CertificateRevoked) bool { return revokes(e, c) }) {
			return ErrRevoked
		}
	}
	return nil
}

// userByPrincipals finds the one user that principals name. Those that name
// nobody are passed over: authorities write groups and hosts there too.
func (s *State) userByPrincipals(principals []string) (*User, error) {
	var named []*User
	var disabled *User
	for _, p := range principals {
		for _, u := range s.users {
			switch {
			case u.Name != p || slices.Contains(named, u):
			case u.Disabled():
				if disabled == nil || u.Added.Compare(disabled.Added) > 0 {
					disabled = u
				}
			default:
				named = append(named, u)
			}
		}
	}
	switch {
	case len(named) > 1:
		return nil, conflict("principals", fmt.Sprint(principals), uuids(named, func(u *User) uuid.UUID { return u.ID.UUID })...)
	case len(named) == 1:
		return named[0], s.UserStands(named[0].ID)
	case disabled != nil:
		return disabled, ErrDisabled
	}
	return nil, ErrNoPrincipal
}

// caLines are the authorities' part of the digest.
func (s *State) caLines() []string {
	var lines []string
	for id, a := range s.cas {
		lines = append(lines, fmt.Sprintf("ca %s %q %s made %s removed %t\n", id, a.Name, a.Key, show(a.Added), a.Removed))
		for _, r := range a.revoked {
			lines = append(lines, fmt.Sprintf("revoked by %s %+v\n", id, r))
		}
	}
	return append(lines, indexLines("ca name", s.casByName)...)
}

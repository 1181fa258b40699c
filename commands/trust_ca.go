package commands

import (
	"errors"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// TrustCA takes the user certificates of an authority as proof of who somebody
// is: their principals are names of users.
type TrustCA struct {
	Name string
	Key  string // authorized_keys form
}

var _ = register[TrustCA]("TrustCA", byAdmin|headroom)

// Decide refuses a name or a key that a trusted authority has, and the key of
// a site: what vouches for hosts must not vouch for people.
func (c TrustCA) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkName("user-ca", c.Name); err != nil {
		return nil, err
	}
	key, err := parseKey(c.Key, minUserRSA)
	if err != nil {
		return nil, err
	}
	if _, err := s.CAByName(c.Name); !errors.Is(err, aggregate.ErrUnknown) {
		return nil, conflict("choose another name, or remove that one first", "user-ca %s exists", c.Name)
	}
	if a, _ := s.CAByKey(key.fingerprint); a != nil {
		return nil, conflict("", "user-ca %s has this key", a.Name)
	}
	if s.IsSiteKey(key.line) {
		return nil, conflict("use a key that certifies nothing but users", "this is the key of a site")
	}
	d := newDecision(by, env)
	d.add(d.id(), events.CATrusted{Name: c.Name, Key: key.line, Fingerprint: key.fingerprint, Comment: key.comment})
	return d.done()
}

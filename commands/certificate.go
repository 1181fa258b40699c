package commands

import (
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// proven finds the user whom the key authenticates, by itself or by its
// certificate. A certificate for another key than the one that was proven
// authenticates nobody.
func (c StartSession) proven(s *aggregate.State, now time.Time) (*aggregate.User, error) {
	if c.Certificate == nil {
		return s.UserByKey(c.Fingerprint)
	}
	if c.Certificate.Key != c.Fingerprint {
		return nil, aggregate.ErrUnknown
	}
	u, _, err := s.UserByCertificate(c.Certificate, now)
	return u, err
}

// certificate is what the session's start keeps of the certificate.
func (c StartSession) certificate(s *aggregate.State) events.Certificate {
	if c.Certificate == nil {
		return events.Certificate{}
	}
	a, err := s.CAByKey(c.Certificate.Authority)
	if err != nil {
		return events.Certificate{}
	}
	return events.Certificate{CA: a.ID, Serial: c.Certificate.Serial, KeyID: bounded(c.Certificate.KeyID, maxText)}
}

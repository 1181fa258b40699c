package aggregate

import "github.com/holdfast-pam/holdfast/events"

// A site's keys are published by the site itself and by nobody else: an event of
// another origin that names one would have secrets wrapped to a stranger.

// SealingKey is the public key that data keys are wrapped to, a tink keyset.
func (t *Site) SealingKey() []byte {
	if len(t.sealing) == 0 {
		return nil
	}
	return t.sealing.newest().value.current
}

// NextSealingKey is the key that a rekey under way leads to, nil without one.
func (t *Site) NextSealingKey() []byte {
	if len(t.sealing) == 0 {
		return nil
	}
	return t.sealing.newest().value.next
}

// sealingKeys are both in one value, so that a rekey is one step.
type sealingKeys struct{ current, next []byte }

func (s *State) ownSite(at *Mark) *Site {
	if at.Origin.Site.UUID != at.Stream {
		return nil
	}
	return s.sites[events.SiteID{UUID: at.Stream}]
}

var _ = fold(func(s *State, at *Mark, e events.RekeyBegan) bool {
	t := s.ownSite(at)
	if t != nil {
		t.sealing.put(at, sealingKeys{t.SealingKey(), e.SealingKey})
	}
	return t != nil
})

var _ = fold(func(s *State, at *Mark, _ events.RekeyAbandoned) bool {
	t := s.ownSite(at)
	if t != nil {
		t.sealing.put(at, sealingKeys{current: t.SealingKey()})
	}
	return t != nil
})

var _ = fold(func(s *State, at *Mark, e events.SiteRekeyed) bool {
	t := s.ownSite(at)
	if t != nil {
		t.sealing.put(at, sealingKeys{current: e.SealingKey})
	}
	return t != nil
})

package commands

import (
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

// Sealed finds a version of a secret as the vault opens it.
func Sealed(s *aggregate.State, credential events.CredentialID, version events.SecretID) (vault.Sealed, bool) {
	c, ok := s.Credential(credential)
	if !ok {
		return vault.Sealed{}, false
	}
	v, ok := c.Version(version)
	if !ok || v.Sealed == nil {
		return vault.Sealed{}, false
	}
	return sealedVersion(s, c, v), true
}

func sealedVersion(s *aggregate.State, c *aggregate.Credential, v *aggregate.Version) vault.Sealed {
	out := vault.Sealed{
		Credential: c.ID, Version: v.ID, Kind: c.Kind, Bytes: v.Sealed, Public: v.Public, Exposed: s.Exposed(c, v.Key) != nil,
	}
	if v.Key != c.ID.UUID {
		out.Key = v.Key
	}
	return out
}

// Known is what a further version of a credential's secret is sealed beside: the
// newest version that is held here, of those whose data key is not exposed if there is
// any, or what stands for a version where there is none yet. False without either.
func Known(s *aggregate.State, c *aggregate.Credential) (known vault.Sealed, ok bool) {
	for _, v := range slices.Backward(c.Versions()) {
		if v.Sealed == nil {
			continue
		}
		sealed := sealedVersion(s, c, v)
		if !sealed.Exposed {
			return sealed, true
		}
		if !ok {
			known, ok = sealed, true
		}
	}
	if ok || len(c.Probe) == 0 {
		return known, ok
	}
	return vault.Sealed{Credential: c.ID, Kind: c.Kind, Probe: c.Probe, Exposed: s.Exposed(c, c.ID.UUID) != nil}, true
}

// sealing is a command that brings something sealed under a data key.
type sealing interface {
	sites() []uuid.UUID // that the key was wrapped to, if it was made for that
}

// entrusted refuses what was sealed under a new data key for a site that was cut off
// since: the event that follows would say that its site knew of that.
func entrusted(s *aggregate.State, c Command, env Env) error {
	sealed, ok := c.(sealing)
	if !ok {
		return nil
	}
	for _, id := range sealed.sites() {
		site := events.SiteID{UUID: id}
		if m, member := s.MeshSite(site); member && site != env.Log.Site && !s.Custodian(site) {
			return conflict("do it again", "site %s was a custodian when this was sealed, and is none any more", quoted(m.Name))
		}
	}
	return nil
}

// sealable refuses a version of a secret under a data key that must not seal
// anything more.
func sealable(s *aggregate.State, c *aggregate.Credential, sealed vault.Sealed) error {
	key := sealed.Key
	if key == uuid.Nil {
		key = c.ID.UUID
	}
	if s.Exposed(c, key) != nil {
		return conflict("do it again", "the secret was sealed under a data key that a site may open which is no custodian any more")
	}
	return nil
}

// Candidates lists the versions that the target may take, sealed as they are,
// the likeliest first.
func Candidates(s *aggregate.State, credential events.CredentialID) (all []vault.Sealed) {
	c, ok := s.Credential(credential)
	if !ok {
		return nil
	}
	for _, v := range c.Candidates() {
		all = append(all, sealedVersion(s, c, v))
	}
	return all
}

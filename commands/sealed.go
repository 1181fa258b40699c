package commands

import (
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
	return sealedVersion(c, v), true
}

func sealedVersion(c *aggregate.Credential, v *aggregate.Version) vault.Sealed {
	return vault.Sealed{Credential: c.ID, Version: v.ID, Kind: c.Kind, Bytes: v.Sealed, Public: v.Public}
}

// Candidates lists the versions that the target may take, sealed as they are,
// the likeliest first.
func Candidates(s *aggregate.State, credential events.CredentialID) (all []vault.Sealed) {
	c, ok := s.Credential(credential)
	if !ok {
		return nil
	}
	for _, v := range c.Candidates() {
		all = append(all, sealedVersion(c, v))
	}
	return all
}

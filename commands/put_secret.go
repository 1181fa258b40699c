package commands

import (
	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

// PutSecret enters a new version of an account's secret, which the target is
// said to hold. The versions before stay (rule R5).
type PutSecret struct {
	Account string // name or id
	Target  string // name or id; may be empty with an account's id
	Secret  vault.Sealed
}

var _ = register[PutSecret]("PutSecret", byAdmin|headroom)

func (c PutSecret) sites() []uuid.UUID { return c.Secret.Sites }

// Decide refuses a secret that was sealed for another credential or kind.
func (c PutSecret) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	a, t, err := findAccount(s, c.Account, c.Target)
	if err != nil {
		return nil, err
	}
	if err := refuseErasedSecrets(s, a, t); err != nil {
		return nil, err
	}
	cred, ok := s.Credential(a.Credential)
	if !ok {
		return nil, conflict("add the account anew", "%s has no credential", accountOnTarget(a.Name, t.Name))
	}
	if c.Secret.Credential != cred.ID || c.Secret.Kind != cred.Kind || len(c.Secret.Bytes) == 0 {
		return nil, invalid("", "the secret was not sealed for %s", accountOnTarget(a.Name, t.Name))
	}
	if err := sealable(s, cred, c.Secret); err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	d.addAs(c.Secret.Version.UUID, cred.ID.UUID, uuid.Nil, events.SecretStaged{Sealed: c.Secret.Bytes, Public: c.Secret.Public, Key: c.Secret.Key})
	d.add(cred.ID.UUID, events.SecretApplied{Version: c.Secret.Version, How: events.ByEntry})
	return d.done()
}

// KnownSecret finds what a further version of an account's secret is sealed beside.
// See [Known].
func KnownSecret(s *aggregate.State, account, target string) (vault.Sealed, error) {
	a, t, err := findAccount(s, account, target)
	if err != nil {
		return vault.Sealed{}, err
	}
	if err := refuseErasedSecrets(s, a, t); err != nil {
		return vault.Sealed{}, err
	}
	if c, ok := s.Credential(a.Credential); ok {
		if known, ok := Known(s, c); ok {
			return known, nil
		}
	}
	return vault.Sealed{}, conflict("add the account anew", "no version of the secret of %s is held here", accountOnTarget(a.Name, t.Name))
}

package commands

import (
	"cmp"
	"errors"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/targetkind"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

// AddAccount makes an account on a target, with the secret that the gateway
// presents for it. The secret was sealed before (see [vault.Add] and [vault.Empty]).
type AddAccount struct {
	Name   string            // login name on the target
	Target string            // name or id
	Secret vault.Sealed      // without bytes where the secret is not known: only a privileged account can set one
	Params map[string]string // what the target's kind needs to know of it (see package targetkind)
	Via    Ref               // privileged account on the same target that may change it; zero for none

	Principal string // of certificates; empty for the account's name
}

var _ = register[AddAccount]("AddAccount", byAdmin|headroom)

func (c AddAccount) sites() []uuid.UUID { return c.Secret.Sites }

// Decide refuses a name that a live account on the target has, and what the
// target's kind does not take. The new account's id is the stream of the second event.
func (c AddAccount) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkAccountName(c.Name); err != nil {
		return nil, err
	}
	if err := c.checkSecret(); err != nil {
		return nil, err
	}
	t, err := findTarget(s, c.Target)
	if err != nil {
		return nil, err
	}
	if _, err := s.AccountOn(t.ID, c.Name); !errors.Is(err, aggregate.ErrUnknown) {
		return nil, conflict("choose another one, or remove that account first", "account %s exists", accountOnTarget(c.Name, t.Name))
	}
	if _, taken := s.Credential(c.Secret.Credential); taken {
		return nil, conflict("seal the secret anew", "credential %s exists", c.Secret.Credential)
	}
	if err := targetkind.CheckAccount(t.Kind, c.Secret.Kind, c.Params); err != nil {
		return nil, badParams(err)
	}
	via, err := findVia(s, c.Via, t, c.Name)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	account, credential := d.id(), c.Secret.Credential
	d.add(credential.UUID, events.CredentialAdded{
		Account: events.AccountID{UUID: account}, Kind: c.Secret.Kind, Principal: c.principal(), Probe: c.Secret.Probe,
	})
	d.add(account, events.AccountAdded{Name: c.Name, Target: t.ID, Credential: credential, Via: via, Params: targetkind.Sorted(c.Params)})
	if len(c.Secret.Bytes) == 0 {
		return d.done()
	}
	d.addAs(c.Secret.Version.UUID, credential.UUID, uuid.Nil, events.SecretStaged{Sealed: c.Secret.Bytes, Public: c.Secret.Public})
	d.add(credential.UUID, events.SecretApplied{Version: c.Secret.Version, How: events.ByEntry})
	return d.done()
}

// principal is whom the account's certificates name, empty without any.
func (c AddAccount) principal() string {
	if c.Secret.Kind != events.UserCertificate {
		return ""
	}
	return cmp.Or(c.Principal, c.Name)
}

func (c AddAccount) checkSecret() error {
	switch {
	case c.Secret.Kind == events.UserCertificate:
		if c.Via != (Ref{}) || len(c.Secret.Bytes) > 0 || c.Secret.Credential.IsZero() {
			return invalid("leave --via out", "an account with certificates has no secret that could be changed")
		}
		if c.Principal == "" {
			return nil
		}
		return checkPrincipal(c.Principal)
	case c.Principal != "":
		return invalid("use --certificate", "only certificates have a principal")
	case c.Secret.Credential.IsZero(), c.Secret.Version.IsZero() != (len(c.Secret.Bytes) == 0):
		return invalid("give the account a password or a private key", "the account has no secret")
	case len(c.Secret.Bytes) == 0 && c.Via == (Ref{}):
		return invalid("name one with --via, or give the account its secret", "an account without a known secret needs a privileged account that can set one")
	}
	return nil
}

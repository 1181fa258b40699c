package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// AskSecretsErasure asks that all versions of a removed account's secret are made
// unreadable at every site (rules R7, R19). Another administrator has to confirm it.
type AskSecretsErasure struct {
	Account string // name or id
	Target  string // name or id; may be empty with an account's id
	Reason  string
}

// ConfirmSecretsErasure makes an ask of another administrator true.
type ConfirmSecretsErasure struct{ Account, Target string }

// WithdrawSecretsErasure takes back what was asked and not confirmed.
type WithdrawSecretsErasure struct{ Account, Target, Reason string }

var (
	_ = register[AskSecretsErasure]("AskSecretsErasure", byAdmin|headroom)
	_ = register[ConfirmSecretsErasure]("ConfirmSecretsErasure", byAdmin|headroom)
	_ = register[WithdrawSecretsErasure]("WithdrawSecretsErasure", byAdmin|headroom)
)

// Decide refuses an account that is not removed, or whose removal is contested.
func (c AskSecretsErasure) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	e, err := erasableSecrets(s, env, c.Account, c.Target)
	if err != nil {
		return nil, err
	}
	return e.ask(s, by, env, c.Reason)
}

// Decide refuses whoever asked, under whatever name.
func (c ConfirmSecretsErasure) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	e, err := erasableSecrets(s, env, c.Account, c.Target)
	if err != nil {
		return nil, err
	}
	return e.confirm(s, by, env)
}

// Decide refuses what is erased already.
func (c WithdrawSecretsErasure) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	e, err := erasableSecrets(s, env, c.Account, c.Target)
	if err != nil {
		return nil, err
	}
	return e.withdraw(s, by, env, c.Reason)
}

func erasableSecrets(s *aggregate.State, env Env, account, target string) (e erasable, err error) {
	a, t, err := findArchived(s, account, target)
	if err != nil {
		return e, err
	}
	name := accountOnTarget(a.Name, t.Name)
	e = erasable{what: events.ErasableSecrets, id: a.Credential.UUID, name: "the secrets of " + name, verb: "account erase " + a.ID.String()}
	if e.err = refuseErasedSecrets(s, a, t); e.err != nil {
		return e, nil
	}
	c, ok := s.Credential(a.Credential)
	_, rotates := s.Rotating(a.Credential, env.Log.Site, env.Silence)
	switch {
	case !a.Removed && !t.Removed:
		e.err = conflict("remove it first: `account rm "+name+"`", "%s is not removed", name)
	case s.Contested(a):
		e.err = conflict("settle that first, see `conflict ls`", "%s was removed by who did not know what was done to it elsewhere", name)
	case rotates:
		e.err = conflict("try again when it has ended; see `rotate status`", "a rotation of %s is under way", name)
	case !ok:
		e.err = notFound("", "%s has no secrets", name)
	default:
		for _, v := range c.Versions() {
			if len(s.SealedUnder(v.Key)) > 1 {
				e.err = conflict("fence the site that says so", "a secret of %s is said to be sealed with one of another account: a site betrays", name)
			}
		}
	}
	return e, nil
}

// refuseErasedSecrets says of an account whose secrets are erased by whom, when and why.
func refuseErasedSecrets(s *aggregate.State, a *aggregate.Account, t *aggregate.Target) error {
	return refuseErased(s, a.Credential.UUID, "the secret of "+accountOnTarget(a.Name, t.Name))
}

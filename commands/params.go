package commands

import (
	"maps"
	"slices"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/targetkind"
	"github.com/holdfast-pam/holdfast/events"
)

// SetTargetParams changes parameters of a target. It also settles those that
// sites set apart.
type SetTargetParams struct {
	Target string            // name or id
	Params map[string]string // those to change; without a value, back to the default
}

var _ = register[SetTargetParams]("SetTargetParams", byAdmin|headroom)

// Decide makes no event where nothing changes.
func (c SetTargetParams) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	t, err := findTarget(s, c.Target)
	if err != nil {
		return nil, err
	}
	old, agreed := t.Params()
	params := merged(old, c.Params)
	if err := targetkind.Check(t.Kind, params); err != nil {
		return nil, badParams(err)
	}
	set := targetkind.Sorted(params)
	if agreed && slices.Equal(set, old) {
		return nil, nil
	}
	d := newDecision(by, env)
	d.add(t.ID.UUID, events.TargetParamsSet{Params: set})
	return d.done()
}

// ChangeAccount changes parameters of an account, or who may change its secret.
type ChangeAccount struct {
	Account, Target string            // names or ids; the target may be empty with an account's id
	Params          map[string]string // as with [SetTargetParams]
	Via             *Ref              // the zero Ref takes it away, nil leaves it as it is
}

// Ref names an account: by its name on a target, or by its id.
type Ref struct{ Account, Target string }

var _ = register[ChangeAccount]("ChangeAccount", byAdmin|headroom)

// Decide makes no event where nothing changes.
func (c ChangeAccount) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	a, t, err := findAccount(s, c.Account, c.Target)
	if err != nil {
		return nil, err
	}
	cred, _ := s.Credential(a.Credential)
	old, agreed := a.Params()
	params := merged(old, c.Params)
	if err := targetkind.CheckAccount(t.Kind, cred.Kind, params); err != nil {
		return nil, badParams(err)
	}
	d := newDecision(by, env)
	if set := targetkind.Sorted(params); len(c.Params) > 0 && !(agreed && slices.Equal(set, old)) {
		d.add(a.ID.UUID, events.AccountParamsSet{Params: set})
	}
	if c.Via != nil {
		via, err := findVia(s, *c.Via, t, a.Name)
		if err != nil {
			return nil, err
		}
		if old, agreed := a.Via(); !agreed || old != via {
			d.add(a.ID.UUID, events.AccountViaSet{Via: via})
		}
	}
	return d.done()
}

func merged(old []events.Param, changes map[string]string) map[string]string {
	all := targetkind.Map(old)
	maps.Copy(all, changes)
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	return all
}

func badParams(err error) error { return invalid("see `target add --help`", "%v", err) }

// findVia finds the privileged account that may change the one of that name on
// the target; zero for the zero reference. A change goes through one login on
// one address, so it must be an account of the same target, and another one. Two
// accounts may stand for each other: each is used with its own secret only.
func findVia(s *aggregate.State, ref Ref, t *aggregate.Target, name string) (events.AccountID, error) {
	if ref == (Ref{}) {
		return events.AccountID{}, nil
	}
	via, on, err := findAccount(s, ref.Account, ref.Target)
	if err != nil {
		return events.AccountID{}, err
	}
	switch {
	case on.ID != t.ID:
		return events.AccountID{}, invalid("name an account on "+t.Name,
			"%s is on another target and can't change an account on %s", accountOnTarget(via.Name, on.Name), t.Name)
	case via.Name == name:
		return events.AccountID{}, invalid("leave --via out: an account changes its own secret by proving the old one",
			"%s can't be its own privileged account", accountOnTarget(via.Name, on.Name))
	}
	return via.ID, nil
}

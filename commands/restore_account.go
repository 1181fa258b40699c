package commands

import (
	"errors"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RestoreAccount brings back an account that was removed, with its secrets (rule R7).
// Grants of before do not come back.
type RestoreAccount struct {
	Account string // name or id
	Target  string // name or id; may be empty with an account's id
	Reason  string
}

var _ = register[RestoreAccount]("RestoreAccount", byAdmin|headroom)

// Decide refuses an account that was not removed, whose target is, whose secrets are
// erased, or whose name another one has by now.
func (c RestoreAccount) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkRestore(c.Reason); err != nil {
		return nil, err
	}
	a, t, err := findArchived(s, c.Account, c.Target)
	if err != nil {
		return nil, err
	}
	if err := refuseErasedSecrets(s, a, t); err != nil {
		return nil, err
	}
	name := accountOnTarget(a.Name, t.Name)
	switch taken, err := s.AccountOn(t.ID, a.Name); {
	case !a.Removed && t.Removed:
		return nil, conflict("restore that: `target restore "+t.ID.String()+"`", "%s was removed with its target", name)
	case !a.Removed:
		return nil, conflict("", "%s is not removed", name)
	case t.Removed:
		return nil, conflict("restore that first: `target restore "+t.ID.String()+"`", "the target of %s is removed, too", name)
	case err == nil:
		return nil, conflict("remove that one first", "another account has the name %s by now (%s)", name, taken.ID)
	case !errors.Is(err, aggregate.ErrUnknown):
		return nil, lookup("account", name, err)
	}
	d := newDecision(by, env)
	d.add(a.ID.UUID, events.AccountRestored{Reason: c.Reason})
	return d.done()
}

// RestoreTarget brings back a target that was removed, with the accounts on it that
// were not removed by themselves (rule R7). Grants of before do not come back, nor do
// accounts whose secrets are erased: they are removed by themselves then.
type RestoreTarget struct {
	Target string // name or id
	Reason string
}

var _ = register[RestoreTarget]("RestoreTarget", byAdmin|headroom)

// Decide refuses a target that was not removed, or whose name another one has by now.
func (c RestoreTarget) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkRestore(c.Reason); err != nil {
		return nil, err
	}
	t, err := findArchivedTarget(s, c.Target)
	if err != nil {
		return nil, err
	}
	switch taken, err := s.TargetByName(t.Name); {
	case !t.Removed:
		return nil, conflict("", "%s is not removed", quoted(t.Name))
	case err == nil:
		return nil, conflict("remove that one first", "another target has the name %s by now (%s)", quoted(t.Name), taken.ID)
	case !errors.Is(err, aggregate.ErrUnknown):
		return nil, lookup("target", t.Name, err)
	}
	d := newDecision(by, env)
	for _, a := range s.Accounts() {
		if _, erased := s.Erased(a.Credential.UUID); erased && a.Target == t.ID && !a.Removed {
			d.add(a.ID.UUID, events.AccountRemoved{Reason: "its secrets were erased"})
		}
	}
	d.add(t.ID.UUID, events.TargetRestored{Reason: c.Reason})
	return d.done()
}

func checkRestore(reason string) error {
	if reason == "" {
		return invalid("say why with --reason TEXT", "bringing back what was removed needs a reason")
	}
	return checkText("reason", reason)
}

// findArchivedTarget finds a target by id, or by name one that is in the archive; a
// live one of that name if there is none.
func findArchivedTarget(s *aggregate.State, ref string) (*aggregate.Target, error) {
	if id, err := uuid.Parse(ref); err == nil {
		t, ok := s.Target(events.TargetID{UUID: id})
		if !ok {
			return nil, lookup("target", ref, aggregate.ErrUnknown)
		}
		return t, nil
	}
	var found []*aggregate.Target
	for _, t := range s.Targets() {
		if t.Removed && t.Name == ref {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 0:
		t, err := s.TargetByName(ref)
		return t, lookup("target", ref, err)
	case 1:
		return found[0], nil
	}
	return nil, conflict("name it by its id; see `target ls`", "%d targets of the name %s were removed", len(found), quoted(ref))
}

// findArchived finds an account by id, or by name one that is in the archive, by itself
// or with its target; a live one of that name if there is none.
func findArchived(s *aggregate.State, ref, targetRef string) (*aggregate.Account, *aggregate.Target, error) {
	if id, err := uuid.Parse(ref); err == nil {
		a, ok := s.Account(events.AccountID{UUID: id})
		if !ok {
			return nil, nil, lookup("account", ref, aggregate.ErrUnknown)
		}
		t, ok := s.Target(a.Target)
		if !ok {
			return nil, nil, lookup("target", a.Target.String(), aggregate.ErrUnknown)
		}
		return a, t, nil
	}
	var found []*aggregate.Account
	for _, a := range s.Accounts() {
		t, ok := s.Target(a.Target)
		if ok && (a.Removed || t.Removed) && a.Name == ref && (t.Name == targetRef || t.ID.String() == targetRef) {
			found = append(found, a)
		}
	}
	switch len(found) {
	case 0:
		return findAccount(s, ref, targetRef)
	case 1:
		t, _ := s.Target(found[0].Target)
		return found[0], t, nil
	}
	return nil, nil, conflict("name it by its id; see `account ls`", "%d accounts of the name %s were removed", len(found), accountOnTarget(ref, targetRef))
}

// findContested is findAccount for those whose removal is contested as well.
func findContested(s *aggregate.State, ref, targetRef string) (*aggregate.Account, *aggregate.Target, error) {
	a, t, err := findAccount(s, ref, targetRef)
	if err == nil {
		return a, t, nil
	}
	if a, t, archived := findArchived(s, ref, targetRef); archived == nil && s.Contested(a) {
		return a, t, nil
	}
	return nil, nil, err
}

package commands

import (
	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// A reference names a live aggregate by its name or, where the name is in
// conflict, by its id.

func findUser(s *aggregate.State, ref string) (*aggregate.User, error) {
	if id, err := uuid.Parse(ref); err == nil {
		u, ok := s.User(events.UserID{UUID: id})
		if !ok {
			return nil, lookup("user", ref, aggregate.ErrUnknown)
		}
		if u.Disabled() {
			return nil, conflict("", "user %s (%s) is disabled", u.Name, id)
		}
		return u, nil
	}
	u, err := s.UserByName(ref)
	return u, lookup("user", ref, err)
}

func findTarget(s *aggregate.State, ref string) (*aggregate.Target, error) {
	if id, err := uuid.Parse(ref); err == nil {
		t, ok := s.Target(events.TargetID{UUID: id})
		if !ok {
			return nil, lookup("target", ref, aggregate.ErrUnknown)
		}
		if t.Removed {
			return nil, conflict("", "target %s (%s) is removed", t.Name, id)
		}
		return t, nil
	}
	t, err := s.TargetByName(ref)
	return t, lookup("target", ref, err)
}

// findAccount finds an account by its name on a target, or by its id; the
// target's reference may then be empty.
func findAccount(s *aggregate.State, ref, targetRef string) (*aggregate.Account, *aggregate.Target, error) {
	id, err := uuid.Parse(ref)
	if err != nil {
		t, err := findTarget(s, targetRef)
		if err != nil {
			return nil, nil, err
		}
		a, err := s.AccountOn(t.ID, ref)
		return a, t, lookup("account", accountOnTarget(ref, t.Name), err)
	}
	a, ok := s.Account(events.AccountID{UUID: id})
	if !ok {
		return nil, nil, lookup("account", ref, aggregate.ErrUnknown)
	}
	t, ok := s.Target(a.Target)
	if a.Removed || !ok || t.Removed {
		return nil, nil, conflict("", "account %s (%s) is removed", a.Name, id)
	}
	return a, t, nil
}

// findSession finds a running session.
func findSession(s *aggregate.State, id events.SessionID) (*aggregate.Session, error) {
	n, ok := s.Session(id)
	if !ok {
		return nil, notFound("see `session ls`", "no running session %s", id)
	}
	return n, nil
}

func findCA(s *aggregate.State, ref string) (*aggregate.CA, error) {
	id, err := uuid.Parse(ref)
	if err != nil {
		a, err := s.CAByName(ref)
		return a, lookup("user-ca", ref, err)
	}
	a, ok := s.CA(events.CAID{UUID: id})
	if !ok {
		return nil, lookup("user-ca", ref, aggregate.ErrUnknown)
	}
	if a.Removed {
		return nil, conflict("", "user-ca %s (%s) is removed", a.Name, id)
	}
	return a, nil
}

// FindAccount finds a live account by its name on a target, or by its id; the
// target's reference may then be empty. Errors are refusals.
func FindAccount(s *aggregate.State, account, target string) (*aggregate.Account, error) {
	a, _, err := findAccount(s, account, target)
	return a, err
}

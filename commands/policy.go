package commands

import (
	"errors"
	"fmt"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// allowed asks whether the actor may give a command at all. It is the only
// place that does, beside the commands that judge by what they are about
// (starting a session, reading a recording).
func allowed(s *aggregate.State, by events.Actor, e entry, env Env) ([]events.Draft, error) {
	if e.right&byCommand != 0 {
		return nil, nil
	}
	switch by.Kind {
	case events.BySite:
		if e.right&bySite != 0 {
			return nil, nil
		}
		return refuseActor(by, env, events.NotAllowedVerb, "the site itself may not give this command")
	case events.ByUser:
		reason, detail := roleProblem(s, by, e.right)
		if reason == "" {
			return nil, nil
		}
		return refuseActor(by, env, reason, detail)
	}
	return refuseActor(by, env, events.NotAllowedVerb, "nobody has been authenticated")
}

func roleProblem(s *aggregate.State, by events.Actor, r right) (events.DenyReason, string) {
	id := events.UserID{UUID: by.ID}
	if err := s.UserStands(id); err != nil {
		return standing(err), err.Error()
	}
	if r&byAdmin == 0 {
		return events.NotAllowedVerb, "only the site itself may give this command"
	}
	if u, _ := s.User(id); u.Role != events.Admin {
		return events.NotAllowedVerb, fmt.Sprintf("needs role %s, the user has %s", events.Admin, u.Role)
	}
	return "", ""
}

// standing names the reason for a user who may not act.
func standing(err error) events.DenyReason {
	switch {
	case errors.Is(err, aggregate.ErrDisabled):
		return events.UserIsDisabled
	case errors.Is(err, aggregate.ErrSuspended):
		return events.Suspended
	case errors.As(err, new(*aggregate.ConflictError)):
		return events.NameConflict
	case errors.Is(err, aggregate.ErrRevoked), errors.Is(err, aggregate.ErrNoPrincipal),
		errors.Is(err, aggregate.ErrEarlyCertificate), errors.Is(err, aggregate.ErrLateCertificate):
		return events.BadCertificate
	}
	return events.UnknownKey
}

func refuseActor(by events.Actor, env Env, reason events.DenyReason, detail string) ([]events.Draft, error) {
	e := events.AccessDenied{
		Reason: reason, Login: env.Client.Login, Source: env.Client.Source, Fingerprint: env.Client.Fingerprint,
		Detail: env.command + ": " + detail,
	}
	if by.Kind == events.ByUser {
		e.User = events.UserID{UUID: by.ID}
	}
	return denied(by, env, e, "you may not do this", "ask an administrator of this site")
}

// may asks whether a user who stands has one of the roles.
func may(s *aggregate.State, id events.UserID, roles ...events.Role) bool {
	u, ok := s.User(id)
	if !ok || s.UserStands(id) != nil {
		return false
	}
	for _, r := range roles {
		if u.Role == r {
			return true
		}
	}
	return false
}

// lastAdmin reports whether nobody but the user could still administrate the
// site: no other enabled admin has a key.
func lastAdmin(s *aggregate.State, id events.UserID) bool {
	for _, u := range s.Users() {
		if u.ID != id && len(u.Keys()) > 0 && may(s, u.ID, events.Admin) {
			return false
		}
	}
	return may(s, id, events.Admin)
}

// lastGlass reports whether a user may break the glass and nobody else may.
func lastGlass(s *aggregate.State, id events.UserID) bool {
	for _, u := range s.Users() {
		if _, ok := s.GlassOf(u.ID); ok && u.ID != id {
			return false
		}
	}
	_, ok := s.GlassOf(id)
	return ok
}

package commands

import (
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// groupPrefix marks a group where a user could stand as well; no user's name
// holds a colon.
const groupPrefix = "group:"

// findGroup finds a live group by its name or id.
func findGroup(s *aggregate.State, ref string) (*aggregate.Group, error) {
	id, err := uuid.Parse(ref)
	if err != nil {
		g, err := s.GroupByName(ref)
		return g, lookup("group", ref, err)
	}
	g, ok := s.Group(events.GroupID{UUID: id})
	if !ok {
		return nil, lookup("group", ref, aggregate.ErrUnknown)
	}
	if g.Removed {
		return nil, conflict("", "group %s (%s) is removed", g.Name, id)
	}
	return g, nil
}

// findSubject finds a live user, or with group: before it a live group, and
// says in words whom it is.
func findSubject(s *aggregate.State, ref string) (aggregate.Subject, string, error) {
	if name, ok := strings.CutPrefix(ref, groupPrefix); ok {
		g, err := findGroup(s, name)
		if err != nil {
			return aggregate.Subject{}, "", err
		}
		return aggregate.Subject{Group: g.ID}, "group " + g.Name, nil
	}
	u, err := findUser(s, ref)
	if err != nil {
		return aggregate.Subject{}, "", err
	}
	return aggregate.Subject{User: u.ID}, "user " + u.Name, nil
}

// findScope finds a live account or reads a selector, and says in words what
// it is.
func findScope(s *aggregate.State, account, target, selector string) (aggregate.Scope, string, error) {
	if selector != "" {
		sel, err := readSelector(selector)
		return aggregate.Scope{Selector: sel}, string(sel), err
	}
	a, t, err := findAccount(s, account, target)
	if err != nil {
		return aggregate.Scope{}, "", err
	}
	return aggregate.Scope{Account: a.ID}, accountOnTarget(a.Name, t.Name), nil
}

// readSelector checks a selector and gives its one form.
func readSelector(text string) (events.Selector, error) {
	sel, err := events.ParseSelector(text)
	if err != nil {
		return "", invalid("for example root+env=prod,tier=web, *+env=test or root+*", "%v", err)
	}
	return events.Selector(sel.String()), nil
}

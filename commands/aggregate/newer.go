package aggregate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// A newer holdfast may decide what this version can't read (rule R20). Most of it may
// be passed over. Not so what a right depends on: an event of a type whose name says
// that it bars (see [events.Bars]), or of a version whose meaning has changed. Then
// nothing new is allowed that has to do with its aggregate, until this site is
// upgraded and folds it; what takes away is allowed all the same.

// barring is a record that this version can't read, and that bars.
type barring struct {
	at    *Mark
	areas []events.Area // in which its site could decide then
}

// newer notes a record that this version can't read, if it bars.
func (s *State) newer(at *Mark, h *events.Header) {
	if _, folded := folds[h.Type]; !folded && !events.Bars(h.Type) {
		return
	}
	b := barring{at: at, areas: events.Areas()}
	if !s.mesh.founder.IsZero() && at.Origin.Site != s.mesh.founder {
		known := s.knownAdmissions(at)
		if len(known) == 0 {
			return
		}
		b.areas = areasOf(known)
	}
	if area, own := areaOf(h.Type); area == "" && !own && len(b.areas) < len(events.Areas()) {
		return // nobody knows what it is about, so who may decide on anything has to say it
	}
	if s.barred == nil {
		s.barred = map[uuid.UUID][]barring{}
	}
	s.barred[at.Stream] = append(s.barred[at.Stream], b)
}

// Barred gives the first of the aggregates about which a newer holdfast has decided
// what this version can't read. It takes a site that may decide on such an aggregate,
// whatever its event is called.
func (s *State) Barred(ids ...uuid.UUID) (uuid.UUID, bool) {
	for _, id := range ids {
		if len(s.barredBy(id)) > 0 {
			return id, true
		}
	}
	return uuid.Nil, false
}

func (s *State) barredBy(id uuid.UUID) (by []*Mark) {
	if len(s.barred[id]) == 0 {
		return nil
	}
	kind, _ := s.kindOf(id)
	for _, b := range s.barred[id] {
		area := areas[kind]
		if kind == "user authority" {
			area = events.AreaAccess
		}
		if slices.Contains(b.areas, area) || area == "" && len(b.areas) == len(events.Areas()) { // of what nobody knows, who may decide on anything
			by = append(by, b.at)
		}
	}
	return by
}

// TakesAway reports whether events of a type only take something away. A fence does,
// too: or a site would make itself one that can't be fenced.
func TakesAway(eventType string) bool {
	return folds[eventType].takesAway || eventType == "site.fenced"
}

func (s *State) barredConflicts() (all []Conflict) {
	for id := range s.barred {
		marks := s.barredBy(id)
		if len(marks) == 0 {
			continue
		}
		kind, name := s.kindOf(id)
		c := Conflict{What: "newer decision on " + kind, Name: name, Ruling: "nothing new is allowed that has to do with it", Settle: "upgrade this site"}
		for _, at := range marks {
			c.Heads = append(c.Heads, ConflictHead{ID: at.ID, Of: id, Value: "decided at site " + at.Origin.Site.String(), At: at})
		}
		slices.SortFunc(c.Heads, func(a, b ConflictHead) int { return a.At.Compare(b.At) })
		all = append(all, c)
	}
	return all
}

// kindOf tells what an id names, and how people name that.
func (s *State) kindOf(id uuid.UUID) (kind, name string) {
	if u := s.users[events.UserID{UUID: id}]; u != nil {
		return "user", u.Name
	}
	if g := s.groups[events.GroupID{UUID: id}]; g != nil {
		return "group", g.Name
	}
	if t := s.targets[events.TargetID{UUID: id}]; t != nil {
		return "target", t.Name
	}
	if a := s.accounts[events.AccountID{UUID: id}]; a != nil {
		return "account", a.Name
	}
	if s.credentials[events.CredentialID{UUID: id}] != nil {
		return "credential", id.String()
	}
	if len(s.grants[events.GrantID{UUID: id}]) > 0 {
		return "grant", id.String()
	}
	if s.requesting.policies[events.PolicyID{UUID: id}] != nil {
		return "policy", id.String()
	}
	if s.requesting.requests[events.RequestID{UUID: id}] != nil {
		return "request", id.String()
	}
	if s.factors[events.FactorID{UUID: id}] != nil {
		return "factor", id.String()
	}
	if c := s.cas[events.CAID{UUID: id}]; c != nil {
		return "user authority", c.Name
	}
	for _, role := range []events.Role{events.Admin, events.Operator, events.Approver, events.Auditor} {
		if events.RoleStream(role) == id {
			return "role", string(role)
		}
	}
	return "", id.String()
}

// barredLines writes them for the digest.
func (s *State) barredLines(add func(format string, args ...any)) {
	for id, all := range s.barred {
		var ids []string
		for _, b := range all {
			ids = append(ids, fmt.Sprintf("%s/%d in %v", b.at.Origin, b.at.Position, b.areas))
		}
		slices.Sort(ids)
		add("barred %s by %s", id, strings.Join(ids, " "))
	}
}

package aggregate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Conflict is something that sites decided differently without knowing of each
// other. Nothing of it is discarded: until a person settles it, the ruling says
// what holds.
type Conflict struct {
	What   string // "user name", "host keys of target", ...
	Name   string // the name that is held twice, or of what the value is
	Heads  []ConflictHead
	Ruling string // what holds until it is settled
	Settle string // how
}

// ConflictHead is one of the decisions that did not know of each other.
type ConflictHead struct {
	ID    uuid.UUID // who holds the name; of a value the event that set it
	Of    uuid.UUID // the aggregate
	Value string    // of a value
	At    *Mark
}

// Concerns reports whether the conflict is about an aggregate.
func (c *Conflict) Concerns(id uuid.UUID) bool {
	return slices.ContainsFunc(c.Heads, func(h ConflictHead) bool { return h.Of == id })
}

// Conflicts lists what is in conflict, by what and name.
func (s *State) Conflicts() []Conflict {
	var all []Conflict
	all = append(all, s.nameConflicts()...)
	all = append(all, s.grantConflicts()...)
	all = append(all, s.twinConflicts()...)
	all = append(all, s.barredConflicts()...)
	all = append(all, s.archiveConflicts()...)
	for _, u := range s.users {
		all = append(all, values("session limit of user", u.Name, u.ID.UUID, u.limits, number, lowestCounts, "user limit "+u.ID.String())...)
		all = append(all, values("second factor of user", u.Name, u.ID.UUID, u.factorRule, plain, strictestCounts, "user factor "+u.ID.String())...)
		for f, h := range u.keys {
			all = append(all, values("key "+f+" of user", u.Name, u.ID.UUID, *h, func(k keyState) string { return word(k.taken, "taken away", "given") },
				"it was taken away", "user key add "+u.ID.String()+" gives it again, user key rm takes it away")...)
		}
	}
	for _, t := range s.targets {
		if !t.Removed {
			all = append(all, s.targetConflicts(t)...)
		}
	}
	for _, a := range s.accounts {
		if !a.Removed {
			all = append(all, s.accountConflicts(a)...)
		}
	}
	for _, g := range s.groups {
		for user, h := range g.members {
			all = append(all, values("member "+s.userName(user)+" of group", g.Name, g.ID.UUID, *h, func(out bool) string { return word(out, "out", "in") },
				"they are out", "group member add or group member rm, by ids")...)
		}
	}
	for role, h := range s.roles {
		all = append(all, values("settings of role", string(role), events.RoleStream(role), *h, plain, strictestCounts, "role set "+string(role))...)
	}
	all = append(all, values("copies of recordings", "", s.mesh.founder.UUID, s.recordings.copies,
		func(n uint32) string { return word(n == 0, "all", fmt.Sprint(n)) }, "the greatest number counts", "mesh copies")...)
	for id, h := range s.mesh.members {
		all = append(all, values("admission of site", h.newest().value.Name, id.UUID, h, func(e events.SiteAdmitted) string {
			return fmt.Sprintf("role %s, custodian %t, key %x, decided before %s", e.Role, e.Custodian, e.Identity, events.NewClock(e.Before...))
		}, "the lesser role counts, of two keys none, of what it decided before what all say", "mesh set-role")...)
	}
	slices.SortFunc(all, func(a, b Conflict) int {
		return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.Name, b.Name), slices.Compare(a.Heads[0].ID[:], b.Heads[0].ID[:]))
	})
	return all
}

// Rulings that several kinds of values have.
const (
	lowestCounts    = "the lowest counts"
	strictestCounts = "of each setting the strictest counts"
	noneCounts      = "none counts, so nothing is sent there"
)

func (s *State) nameConflicts() []Conflict {
	const refused = "the name stands for none of them"
	all := names("user name", s.usersByName, refused, "user disable ID, of all but one", func(id events.UserID) (uuid.UUID, *Mark) { return id.UUID, s.users[id].Added })
	for _, c := range names("key", s.usersByKey, "the key lets in none of them", "user key rm ID FINGERPRINT, of all but one",
		func(id events.UserID) (uuid.UUID, *Mark) { return id.UUID, s.users[id].Added }) {
		c.Heads = slices.DeleteFunc(c.Heads, func(h ConflictHead) bool { return s.users[events.UserID{UUID: h.ID}].Disabled() })
		for i, h := range c.Heads {
			c.Heads[i].Value = "user " + s.userName(events.UserID{UUID: h.ID})
		}
		if len(c.Heads) > 1 {
			all = append(all, c)
		}
	}
	all = append(all, names("target name", s.targetsByName, refused, "target rm ID, of all but one",
		func(id events.TargetID) (uuid.UUID, *Mark) { return id.UUID, s.targets[id].Added })...)
	all = append(all, names("group name", s.groupsByName, refused, "group rm ID, of all but one",
		func(id events.GroupID) (uuid.UUID, *Mark) { return id.UUID, s.groups[id].Added })...)
	all = append(all, names("user-ca name", s.casByName, refused, "user-ca rm ID, of all but one",
		func(id events.CAID) (uuid.UUID, *Mark) { return id.UUID, s.cas[id].Added })...)
	all = append(all, names("policy name", s.policiesByName, refused+"; all of them bind", "policy rm ID, of all but one",
		func(id events.PolicyID) (uuid.UUID, *Mark) { return id.UUID, s.policies[id].Added })...)
	byName := index[string, events.AccountID]{}
	for name, ids := range s.accountsByName {
		if t := s.targets[name.target]; t != nil && !t.Removed {
			byName[name.name+"+"+t.Name+" "+t.ID.String()] = ids
		}
	}
	for _, c := range names("account name", byName, refused, "account rm ID, of all but one", func(id events.AccountID) (uuid.UUID, *Mark) { return id.UUID, s.accounts[id].Added }) {
		c.Name, _, _ = strings.Cut(c.Name, " ")
		all = append(all, c)
	}
	return all
}

// names lists what several live holders have.
func names[ID comparable](what string, x index[string, ID], ruling, settle string, holder func(ID) (uuid.UUID, *Mark)) []Conflict {
	var all []Conflict
	for name, ids := range x {
		if len(ids) < 2 {
			continue
		}
		c := Conflict{What: what, Name: name, Ruling: ruling, Settle: settle}
		for _, id := range ids {
			holds, at := holder(id)
			c.Heads = append(c.Heads, ConflictHead{ID: holds, Of: holds, At: at})
		}
		slices.SortFunc(c.Heads, func(a, b ConflictHead) int { return a.At.Compare(b.At) })
		all = append(all, c)
	}
	return all
}

// values lists a value of an aggregate whose heads differ; a zero one stands
// for heads that are each an aggregate.
func values[T any](what, name string, of uuid.UUID, h heads[T], show func(T) string, ruling, settle string) []Conflict {
	if !slices.ContainsFunc(h, func(v head[T]) bool { return show(v.value) != show(h[0].value) }) {
		return nil
	}
	c := Conflict{What: what, Name: name, Ruling: ruling, Settle: settle}
	for _, v := range h {
		one := ConflictHead{ID: v.at.ID, Of: of, Value: show(v.value), At: v.at}
		if of == uuid.Nil {
			one.ID, one.Of = v.at.Stream, v.at.Stream
		}
		c.Heads = append(c.Heads, one)
	}
	slices.SortFunc(c.Heads, func(a, b ConflictHead) int { return a.At.Compare(b.At) })
	return []Conflict{c}
}

// grantConflicts lists rights that were granted with different terms.
func (s *State) grantConflicts() []Conflict {
	var all []Conflict
	for subject, of := range s.rights {
		for scope, r := range of {
			h := heads[*Grant]{}
			for _, g := range s.kept(r) {
				h.put(g.Added, g)
			}
			all = append(all, values("grants of", s.rightName(subject, scope), uuid.Nil, h, func(g *Grant) string {
				return fmt.Sprintf("from %s until %s, %v, %+v", g.From, g.Expires, g.Windows, g.Terms)
			}, "each lets in by its own terms; the newest that stands counts", "grant rm removes them all; then grant add")...)
		}
	}
	return all
}

func (s *State) rightName(subject Subject, scope Scope) string {
	who := "user " + s.userName(subject.User)
	if g := s.groups[subject.Group]; g != nil {
		who = "group " + g.Name
	}
	where := string(scope.Selector)
	if a := s.accounts[scope.Account]; a != nil {
		where = s.accountName(a)
	}
	return who + " for " + where
}

func (s *State) userName(id events.UserID) string {
	if u := s.users[id]; u != nil {
		return u.Name
	}
	return id.String()
}

func (s *State) accountName(a *Account) string {
	if t := s.targets[a.Target]; t != nil {
		return a.Name + "+" + t.Name
	}
	return a.Name
}

func (s *State) targetConflicts(t *Target) []Conflict {
	id := t.ID.String()
	all := values("host keys of target", t.Name, t.ID.UUID, t.hostKeys, func(k hostKeys) string { return strings.Join(k.keys, ", ") },
		"only those that all sites pinned count", "target pin "+id)
	all = append(all, values("algorithms of target", t.Name, t.ID.UUID, t.algorithms, plain, "only those that all sites allow count", "target allow "+id)...)
	all = append(all, values("session limit of target", t.Name, t.ID.UUID, t.limits, number, lowestCounts, "target limit "+id)...)
	all = append(all, values("parameters of target", t.Name, t.ID.UUID, t.params, plain, noneCounts, "target set "+id)...)
	all = append(all, values("rotation policy of target", t.Name, t.ID.UUID, s.rotationPolicies[t.ID.UUID], plain, strictestCounts, "rotate policy set "+id)...)
	for _, key := range slices.Sorted(maps.Keys(t.labels)) {
		all = append(all, values("label "+key+" of target", t.Name, t.ID.UUID, *t.labels[key], func(l labelState) string { return word(l.off, "taken away", l.value) },
			"the target has no such label", "target label "+id)...)
	}
	return all
}

func (s *State) accountConflicts(a *Account) []Conflict {
	id, name := a.ID.String(), s.accountName(a)
	all := values("parameters of account", name, a.ID.UUID, a.params, plain, noneCounts, "account set "+id)
	all = append(all, values("privileged account of account", name, a.ID.UUID, a.via, func(via events.AccountID) string {
		if v := s.accounts[via]; v != nil {
			return v.Name
		}
		return word(via.IsZero(), "none", via.String())
	}, "none may change its secret", "account set "+id+" --via")...)
	all = append(all, values("rotation policy of account", name, a.ID.UUID, s.rotationPolicies[a.ID.UUID], plain, strictestCounts, "rotate policy set "+id)...)
	if c := s.credentials[a.Credential]; c != nil && c.Contested() {
		all = append(all, values("secret of account", name, a.ID.UUID, slices.Concat(c.truth, c.branches), events.SecretID.String,
			"sessions try the likeliest two", "by itself: the account's site asks the target, and rotates once")...)
	}
	return all
}

func plain[T any](v T) string { return fmt.Sprintf("%+v", v) }

func number(n uint32) string { return word(n == 0, "none", fmt.Sprint(n)) }

func word(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}

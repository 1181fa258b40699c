package aggregate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Accounts and targets that are removed go into the archive, with all that they hold
// (rule R7). What brings them back is a restore that knew of the removal: a removal
// wins over a restore that is concurrent with it, and over one by a user who had been
// disabled elsewhere (rule R9). What rights there were on them does not come back.
//
// A removal that did not know of a change on the other side of a cut is contested: the
// secret may have been set anew for a purpose. It stands, so that nothing goes on by
// itself, and says so until somebody restores or removes once more, knowing of both.

// archive is what was decided on the removal of an account or a target.
type archive struct {
	Removed bool // follows from the others and from who is disabled

	removals []*Mark // those that no later one knew of
	restores []*Mark
}

// change is something that was done to an account or a target.
type change struct {
	what string
	at   *Mark
	ever bool // whether it knew of the removal or not
}

func (a *archive) remove(at *Mark) {
	a.removals = append(slices.DeleteFunc(a.removals, at.Knows), at)
}

// standing lists the removals that no restore has lifted.
func (s *State) standing(a *archive) []*Mark {
	return slices.DeleteFunc(slices.Clone(a.removals), func(m *Mark) bool {
		return slices.ContainsFunc(a.restores, func(r *Mark) bool { return r.Knows(m) && !s.suspended(r) })
	})
}

// RemovalOf is the first removal of an account that stands (rules R7, R9); nil where none does.
func (s *State) RemovalOf(a *Account) *Mark { return s.firstStanding(&a.archive) }

// RemovalOfTarget is [State.RemovalOf] of a target.
func (s *State) RemovalOfTarget(t *Target) *Mark { return s.firstStanding(&t.archive) }

func (s *State) firstStanding(a *archive) *Mark {
	if all := s.standing(a); len(all) > 0 {
		return slices.MinFunc(all, (*Mark).Compare)
	}
	return nil
}

// outlived reports whether something was put away since, or without a mark's site
// having known: what was granted or asked for by then is over, whatever comes back.
func (a *archive) outlived(at *Mark) bool {
	return slices.ContainsFunc(a.removals, func(m *Mark) bool { return !at.Knows(m) })
}

// over reports whether an account was put away, by itself or with its target, since a
// mark, or without its site having known.
func (s *State) over(id events.AccountID, at *Mark) bool {
	a := s.accounts[id]
	if a == nil {
		return false
	}
	t := s.targets[a.Target]
	return a.outlived(at) || t != nil && t.outlived(at)
}

func (s *State) archiveAccount(a *Account) {
	a.Removed = len(s.standing(&a.archive)) > 0
	if name := (accountName{a.Target, a.Name}); a.Removed {
		s.accountsByName.remove(name, a.ID)
	} else {
		s.accountsByName.add(name, a.ID)
	}
}

func (s *State) archiveTarget(t *Target) {
	if t.Removed = len(s.standing(&t.archive)) > 0; t.Removed {
		s.targetsByName.remove(t.Name, t.ID)
	} else {
		s.targetsByName.add(t.Name, t.ID)
	}
}

// archiveAnew looks again at what was restored: by whom may count no more.
func (s *State) archiveAnew() {
	for _, a := range s.accounts {
		if len(a.restores) > 0 {
			s.archiveAccount(a)
		}
	}
	for _, t := range s.targets {
		if len(t.restores) > 0 {
			s.archiveTarget(t)
		}
	}
}

var _ = foldAway(func(s *State, at *Mark, _ events.AccountRemoved) bool {
	a := s.accounts[events.AccountID{UUID: at.Stream}]
	if a != nil {
		a.remove(at)
		s.archiveAccount(a)
	}
	return a != nil
})

var _ = fold(func(s *State, at *Mark, _ events.AccountRestored) bool {
	a := s.accounts[events.AccountID{UUID: at.Stream}]
	if a != nil {
		a.restores = append(a.restores, at)
		s.archiveAccount(a)
	}
	return a != nil
})

var _ = foldAway(func(s *State, at *Mark, _ events.TargetRemoved) bool {
	t := s.targets[events.TargetID{UUID: at.Stream}]
	if t != nil {
		t.remove(at)
		s.archiveTarget(t)
	}
	return t != nil
})

var _ = fold(func(s *State, at *Mark, _ events.TargetRestored) bool {
	t := s.targets[events.TargetID{UUID: at.Stream}]
	if t != nil {
		t.restores = append(t.restores, at)
		s.archiveTarget(t)
	}
	return t != nil
})

// contesting lists those of the changes that contest the removal which stands: nobody
// who removed it knew of them, nor they of that.
func (s *State) contesting(a *archive, changes []change) []change {
	removals := s.standing(a)
	if len(removals) == 0 {
		return nil
	}
	for _, r := range a.restores {
		changes = append(changes, change{"restored", r, s.suspended(r)})
	}
	return slices.DeleteFunc(changes, func(c change) bool {
		return slices.ContainsFunc(removals, func(m *Mark) bool { return m.Knows(c.at) }) ||
			!c.ever && !slices.ContainsFunc(removals, func(m *Mark) bool { return !c.at.Knows(m) })
	})
}

// Contested tells whether an account is in the archive and should perhaps not be:
// neither by its own removal nor by that of its target was it known what else was done.
func (s *State) Contested(a *Account) bool {
	if a.Removed {
		return len(s.contesting(&a.archive, s.changesOf(a))) > 0
	}
	t := s.targets[a.Target]
	return t != nil && s.ContestedTarget(t)
}

// ContestedTarget is [State.Contested] of a target.
func (s *State) ContestedTarget(t *Target) bool {
	return t.Removed && len(s.contesting(&t.archive, s.changesOn(t))) > 0
}

// changesOf lists what was done to an account.
func (s *State) changesOf(a *Account) (all []change) {
	all = slices.Concat(changes("parameters set", a.params), changes("privileged account set", a.via), changes("rotation policy set", s.rotationPolicies[a.ID.UUID]))
	all = slices.DeleteFunc(all, func(c change) bool { return c.at == a.Added })
	c := s.credentials[a.Credential]
	if c == nil {
		return all
	}
	for _, v := range c.versions {
		if v.made != nil {
			all = append(all, change{"secret kept", v.made, false})
		}
		if v.recovered != nil {
			all = append(all, change{"secret brought back", v.recovered, true})
		}
		for _, m := range v.sends {
			all = append(all, change{"secret sent", m, false})
		}
	}
	return all
}

// changesOn lists what was done to a target and the accounts on it.
func (s *State) changesOn(t *Target) []change {
	all := slices.Concat(changes("host keys pinned", t.hostKeys), changes("algorithms allowed", t.algorithms), changes("limits set", t.limits),
		changes("parameters set", t.params), changes("rotation policy set", s.rotationPolicies[t.ID.UUID]))
	for h := range maps.Values(t.labels) {
		all = append(all, changes("label set", *h)...)
	}
	for _, a := range s.accounts {
		if a.Target == t.ID {
			all = append(all, change{"account " + a.Name + " added", a.Added, false})
			for _, c := range s.changesOf(a) {
				all = append(all, change{c.what + " of " + a.Name, c.at, c.ever})
			}
		}
	}
	return all
}

func changes[T any](what string, h heads[T]) (all []change) {
	for _, v := range h {
		all = append(all, change{what, v.at, false})
	}
	return all
}

// archiveConflicts lists the removals that are contested.
func (s *State) archiveConflicts() (all []Conflict) {
	for _, a := range s.accounts {
		if a.Removed {
			all = append(all, s.archiveConflict("removal of account", s.accountName(a), "account", a.ID.UUID, &a.archive, s.changesOf(a))...)
		}
	}
	for _, t := range s.targets {
		if t.Removed {
			all = append(all, s.archiveConflict("removal of target", t.Name, "target", t.ID.UUID, &t.archive, s.changesOn(t))...)
		}
	}
	return all
}

func (s *State) archiveConflict(what, name, noun string, id uuid.UUID, a *archive, changes []change) []Conflict {
	against := s.contesting(a, changes)
	if len(against) == 0 {
		return nil
	}
	c := Conflict{
		What: what, Name: name, Ruling: "it stays removed; administrators can still be shown its newest secret",
		Settle: fmt.Sprintf("%s restore %s, or %s rm %s --confirm", noun, id, noun, id),
	}
	for _, m := range s.standing(a) {
		c.Heads = append(c.Heads, ConflictHead{ID: m.ID, Of: id, Value: "removed", At: m})
	}
	for _, ch := range against {
		c.Heads = append(c.Heads, ConflictHead{ID: ch.at.ID, Of: id, Value: ch.what, At: ch.at})
	}
	slices.SortFunc(c.Heads, func(a, b ConflictHead) int {
		if by := a.At.Compare(b.At); by != 0 {
			return by
		}
		return strings.Compare(a.Value, b.Value)
	})
	return []Conflict{c}
}

func (a *archive) String() string {
	return fmt.Sprintf("removed %t by %s restored %s", a.Removed, showMarks(a.removals), showMarks(a.restores))
}

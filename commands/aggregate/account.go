package aggregate

import (
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// Account is a login on a target, with the credential that is presented for it.
type Account struct {
	ID         events.AccountID
	Name       string
	Target     events.TargetID
	Credential events.CredentialID
	Added      *Mark
	Removed    bool // final
}

type accountName struct {
	target events.TargetID
	name   string
}

var _ = fold(func(s *State, at *Mark, e events.AccountAdded) bool {
	id := events.AccountID{UUID: at.Stream}
	if s.accounts[id] != nil {
		return false
	}
	s.accounts[id] = &Account{ID: id, Name: e.Name, Target: e.Target, Credential: e.Credential, Added: at}
	s.accountsByName.add(accountName{e.Target, e.Name}, id)
	return true
})

var _ = foldAway(func(s *State, at *Mark, _ events.AccountRemoved) bool {
	a := s.accounts[events.AccountID{UUID: at.Stream}]
	if a == nil {
		return false
	}
	a.Removed = true
	s.accountsByName.remove(accountName{a.Target, a.Name}, a.ID)
	return true
})

// Account finds an account by id, removed or not.
func (s *State) Account(id events.AccountID) (*Account, bool) {
	a, ok := s.accounts[id]
	return a, ok
}

// AccountByName finds the live account on the live target of those names:
// ErrUnknown, or a [*ConflictError] for either name.
func (s *State) AccountByName(account, target string) (*Account, *Target, error) {
	t, err := s.TargetByName(target)
	if err != nil {
		return nil, nil, err
	}
	a, err := s.AccountOn(t.ID, account)
	return a, t, err
}

// AccountOn finds the live account of that name on a target.
func (s *State) AccountOn(target events.TargetID, name string) (*Account, error) {
	ids := s.accountsByName[accountName{target, name}]
	switch len(ids) {
	case 0:
		return nil, ErrUnknown
	case 1:
		return s.accounts[ids[0]], nil
	}
	return nil, conflict("account", name, uuids(ids, func(id events.AccountID) uuid.UUID { return id.UUID })...)
}

// Accounts lists all accounts in the order they were made, the removed ones too.
func (s *State) Accounts() []*Account {
	return slices.SortedFunc(maps.Values(s.accounts), func(a, b *Account) int { return a.Added.Compare(b.Added) })
}

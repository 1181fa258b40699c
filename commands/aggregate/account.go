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

	archive
	via    heads[events.AccountID]
	params heads[[]events.Param]
}

// Via is the privileged account on the same target that may change this one,
// zero for none. False where sites set different ones without knowing of each
// other; then none may.
func (a *Account) Via() (events.AccountID, bool) {
	via, agreed := settled(a.via, func(x, y events.AccountID) bool { return x == y })
	if !agreed {
		return events.AccountID{}, false
	}
	return via, true
}

// Params are the account's parameters, sorted by name. False where sites set
// different ones without knowing of each other (see [Target.Params]).
func (a *Account) Params() ([]events.Param, bool) { return settled(a.params, slices.Equal) }

type accountName struct {
	target events.TargetID
	name   string
}

var _ = fold(func(s *State, at *Mark, e events.AccountAdded) bool {
	id := events.AccountID{UUID: at.Stream}
	if s.accounts[id] != nil {
		return false
	}
	a := &Account{ID: id, Name: e.Name, Target: e.Target, Credential: e.Credential, Added: at}
	a.via.put(at, e.Via)
	a.params.put(at, e.Params)
	s.accounts[id] = a
	s.accountsByName.add(accountName{e.Target, e.Name}, id)
	return true
})

var _ = fold(func(s *State, at *Mark, e events.AccountViaSet) bool {
	a := s.accounts[events.AccountID{UUID: at.Stream}]
	if a != nil {
		a.via.put(at, e.Via)
	}
	return a != nil
})

var _ = fold(func(s *State, at *Mark, e events.AccountParamsSet) bool {
	a := s.accounts[events.AccountID{UUID: at.Stream}]
	if a != nil {
		a.params.put(at, e.Params)
	}
	return a != nil
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

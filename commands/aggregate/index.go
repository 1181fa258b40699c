package aggregate

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

var (
	// ErrUnknown says that nothing live has that id, name or key.
	ErrUnknown = errors.New("not known")
	// ErrDisabled says that the user was disabled.
	ErrDisabled = errors.New("user is disabled")
	// ErrSuspended says that it was made by somebody who had been disabled
	// elsewhere at that time, so that an administrator has to settle it.
	ErrSuspended = errors.New("suspended: made by a user who had been disabled at another site")
	// ErrExpired says that a grant has ended.
	ErrExpired = errors.New("grant has expired")
	// ErrNotBegun says that a grant has not begun.
	ErrNotBegun = errors.New("grant has not begun")
	// ErrClosed says that none of a grant's windows is open.
	ErrClosed = errors.New("outside the grant's windows")
	// ErrNoMember says that a grant is to a group that the user is not in (any more).
	ErrNoMember = errors.New("the user is not in the grant's group")
	// ErrNotSelected says that a grant's selector does not take the account in (any more).
	ErrNotSelected = errors.New("the grant's selector does not take the account in")
	// ErrContested says that sites disagree about a value and that its
	// strictest reading leaves nothing.
	ErrContested = errors.New("sites disagree about it")
)

// ConflictError says that a name or key has more than one live holder. It
// stands for none of them until all but one are removed.
type ConflictError struct {
	What string      // "user", "key", "target", "account"
	Name string      // as given
	IDs  []uuid.UUID // the holders, in order
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s %q stands for %d different ones: %v", e.What, e.Name, len(e.IDs), e.IDs)
}

// index maps a key to all its live holders.
type index[K comparable, ID comparable] map[K][]ID

func (x index[K, ID]) add(key K, id ID) {
	if !slices.Contains(x[key], id) {
		x[key] = append(x[key], id)
	}
}

func (x index[K, ID]) remove(key K, id ID) {
	left := slices.DeleteFunc(slices.Clone(x[key]), func(other ID) bool { return other == id })
	if len(left) == 0 {
		delete(x, key)
		return
	}
	x[key] = left
}

// conflict builds the error for several holders.
func conflict(what, name string, ids ...uuid.UUID) *ConflictError {
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return &ConflictError{What: what, Name: name, IDs: ids}
}

package seal

import (
	"errors"
	"fmt"
)

var (
	// ErrSealed: the site's private key is not available, so nothing can be opened.
	// Recording goes on.
	ErrSealed = errors.New("the site is sealed: recording goes on, but nothing sealed can be opened; " +
		"an administrator unseals it (vault unseal)")

	// ErrMismatch: authentication failed. The bytes were altered, belong to
	// another place (see Binding), or are under another key.
	ErrMismatch = errors.New("sealed bytes do not match their key and place; they were altered or moved")

	// ErrNotFound: the key table holds no such key: never made here, or erased.
	ErrNotFound = errors.New("no such data key in the key table: it was erased or never reached this site")

	// ErrErased: it is decided that the key is destroyed; see [Sealer.Forget].
	ErrErased = errors.New("the data key is erased: nothing that it sealed can be opened again")

	// ErrExists: a different wrap of the same key for the same recipient is stored already.
	ErrExists = errors.New("the key table already has this data key for this recipient")

	// ErrNotRecipient: the key is here, but not wrapped to this site.
	ErrNotRecipient = errors.New("the data key is not wrapped to this site; a custodian site must re-wrap it")

	// ErrReleased: a data key was used after Release.
	ErrReleased = errors.New("data key used after its release")

	// ErrUnproven: a data key that came from the table must open something
	// before it seals; see DataKey.Seal.
	ErrUnproven = errors.New("data key from the key table has not opened anything yet; " +
		"open the newest payload sealed with it first, or make a new key")

	// ErrExhausted: the key has sealed as many messages as random nonces allow.
	ErrExhausted = errors.New("data key has sealed as many messages as it may; make a new key")

	// ErrClosed: the key table was closed, by Close or by a failed write or sync.
	ErrClosed = errors.New("the key table is closed")
)

// DamageError is a part of the key table that no crash of holdfast can have left.
type DamageError struct {
	Path   string // the table's file
	Slot   uint32 // slot number; 0 is the file header
	Offset int64  // in bytes from the start of the file
	Detail string // what is wrong
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("key table %s: slot %d (offset %d) is damaged: %s; restore the slot from a copy of the file "+
		"or from a site that holds the same keys", e.Path, e.Slot, e.Offset, e.Detail)
}

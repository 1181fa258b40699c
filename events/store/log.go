// Package store holds the contract of a log, and the writer that stands before
// it. The engines are packages below this one; each passes the conformance
// suite of storetest.
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/holdfast-pam/holdfast/events"
)

// Log is one append-only log: what one origin wrote. There is one writer, and
// any number of readers beside it; all methods are safe for concurrent use.
//
// A commit is the unit of durability: all of its entries survive a crash or
// none. An engine keeps with each commit the size and root hash of the log
// before it, so that commits are chained.
type Log interface {
	// Origin is the identity of the log.
	Origin() events.Origin

	// Append makes one commit of entries, which take the positions expect+1,
	// expect+2 and so on. When it returns nil, they are durable: they survive
	// kill -9 and the loss of power. It returns [ErrFenced] when the log's
	// size is not expect, without writing. Appending once more exactly what a
	// commit at expect holds succeeds without writing, so that a caller may
	// retry after an unknown outcome. [ErrFenced], [ErrFull], [ErrSealed],
	// [ErrBadAppend] and the error of a ctx that was done beforehand say that
	// nothing was written. After any other error the outcome is unknown and
	// the log is closed: reopen it.
	Append(ctx context.Context, expect uint64, entries []events.Entry) error

	// Read yields the entries from position from (at least 1) to the durable
	// end, in order and without gaps, each with its checks passed. It stops
	// after the first error, which it yields: [*DamageError] names the place.
	// Bytes that were not acknowledged are never yielded. The end is the one at
	// the start of the iteration. Entries may be kept and must not be changed;
	// one that is kept keeps up to a commit of its neighbours in memory.
	Read(ctx context.Context, from uint64) iter.Seq2[events.Entry, error]

	// Headers is Read without the payloads (Payload is nil in every entry): it
	// costs neither reading nor checking them.
	Headers(ctx context.Context, from uint64) iter.Seq2[events.Entry, error]

	// Size is the number of durable records and the RFC 6962 root hash over
	// their headers.
	Size() (uint64, events.Hash)

	// Watch returns a channel that is closed once the log's size is over size,
	// or once the log is closed.
	Watch(size uint64) <-chan struct{}

	// Space tells whether the log takes entries.
	Space() Space

	// Seal ends the log for good: nothing is appended after it. Sealing a
	// sealed log does nothing.
	Seal(ctx context.Context) error

	// Close releases the log. A log that was closed in order has no tail that
	// could be in doubt when it is opened again.
	Close() error
}

// Space is a log's state of storage.
type Space struct {
	Full     bool   // only head-room is left: Append refuses what is not marked for it
	Err      error  // why the log takes nothing any more; nil while it is open
	Free     uint64 // bytes that the engine can still take before it is full, as far as it can tell
	Headroom uint64 // bytes kept for what must still be written when the log is full
}

type headroomKey struct{}

// WithHeadroom marks appends under ctx as allowed to use the head-room: ends
// of sessions, an administrator's decisions, recovery sessions.
func WithHeadroom(ctx context.Context) context.Context {
	return context.WithValue(ctx, headroomKey{}, true)
}

// MayUseHeadroom reports whether ctx was marked by [WithHeadroom].
func MayUseHeadroom(ctx context.Context) bool {
	ok, _ := ctx.Value(headroomKey{}).(bool)
	return ok
}

var (
	// ErrFenced says that the log's size is not what the writer expected:
	// somebody else wrote to it.
	ErrFenced = errors.New("log has another size than expected")
	// ErrFull says that storage has no room for the append; nothing was
	// written and the log stays open.
	ErrFull = errors.New("log storage is full")
	// ErrBadAppend says that entries break the limits of a record or a commit
	// (see [CheckEntries]); nothing was written and the log stays open.
	ErrBadAppend = errors.New("entries cannot be appended")
	// ErrSealed says that the log was ended for good.
	ErrSealed = errors.New("log is sealed")
	// ErrClosed says that the log was closed, by Close or by a failed write.
	ErrClosed = errors.New("log is closed")
	// ErrLocked says that another process has the log open.
	ErrLocked = errors.New("log is in use by another process")
	// ErrDamaged is the class of [*DamageError].
	ErrDamaged = errors.New("log is damaged")
)

// DamageError names stored bytes that are not what was written.
type DamageError struct {
	Origin   events.Origin
	Position uint64 // of the record concerned, or of the first record of its commit; 0 if not known
	File     string // where the engine has files
	Offset   int64  // in File
	What     string // what does not fit
}

// Error names the place and what to do.
func (e *DamageError) Error() string {
	at := ""
	if e.File != "" {
		at = fmt.Sprintf(" (%s, byte %d)", e.File, e.Offset)
	}
	return fmt.Sprintf("log %s is damaged at position %d%s: %s; restore this file from a replica or a backup, nothing was changed",
		e.Origin, e.Position, at, e.What)
}

// Is makes a DamageError match [ErrDamaged].
func (e *DamageError) Is(target error) bool { return target == ErrDamaged }

// MaxCommitSize bounds the headers and payloads of one commit, in bytes.
const MaxCommitSize = 8 << 20

// MaxCommitEntries bounds the entries of one commit.
const MaxCommitEntries = 1 << 15

// CheckEntries reports whether entries may be one commit: at least one, none
// without a header, none over the limits. Engines call it before they write.
func CheckEntries(entries []events.Entry) error {
	if n := len(entries); n == 0 || n > MaxCommitEntries {
		return fmt.Errorf("%w: a commit of %d, the limits are 1 and %d", ErrBadAppend, n, MaxCommitEntries)
	}
	size := 0
	for i, e := range entries {
		if h, p := len(e.Header), len(e.Payload); h == 0 || h > events.MaxHeaderSize || p > events.MaxPayloadSize {
			return fmt.Errorf("%w: entry %d has a header of %d bytes and a payload of %d, the limits are %d and %d",
				ErrBadAppend, i, h, p, events.MaxHeaderSize, events.MaxPayloadSize)
		}
		size += len(e.Header) + len(e.Payload)
	}
	if size > MaxCommitSize {
		return fmt.Errorf("%w: a commit of %d bytes, the limit is %d", ErrBadAppend, size, MaxCommitSize)
	}
	return nil
}

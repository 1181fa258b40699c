package store

import (
	"context"
	"fmt"
	"iter"

	"github.com/holdfast-pam/holdfast/events"
)

// Engine keeps logs in directories of this machine.
type Engine interface {
	// Open opens the log of origin in dir, which exists, or makes it. known is
	// a size that is proven to have been durable, by a signed head: a log that
	// holds less is damaged, not torn. A log that was opened in doubt, and lost
	// a tail that may have been written and cannot have been acknowledged, is
	// sealed from then on, and every Open tells so again ([Opened]).
	Open(dir string, origin events.Origin, known uint64) (Opened, error)

	// Frames yields the stored commits of a log without changing anything and
	// without locking it, each with its checks passed. A zero site in origin
	// stands for the one that the log names itself. An error that comes
	// with entries is a [*DamageError] for the first of their payloads that is
	// not what was written (those are nil), and the sequence goes on; any
	// other error ends it. The last frame has no entries: it states how the
	// log ends. Beside a writer, whoever iterates must stop at a commit that
	// was durable beforehand.
	Frames(ctx context.Context, dir string, origin events.Origin) iter.Seq2[Frame, error]
}

// Opened is a log and what was found on opening it.
type Opened struct {
	Log    Log
	Sealed bool
	Tail   *TailDropped // the tail that was cut off when the log was sealed, nil for none
}

// Frame is one commit as it is stored.
type Frame struct {
	First   uint64         // position of the first entry
	Root    events.Hash    // of the log before it; its size is First-1
	Entries []events.Entry // payloads that are absent are nil
	File    string         // where the engine has files, relative to the log's directory
	Offset  int64          // of the commit in File
	End     *End           // set in the last frame only
}

// End is how a stored log ends.
type End struct {
	Sealed bool         // for good
	Clean  bool         // closed in order: no tail can be in doubt
	Tail   *TailDropped // bytes cut off when the log was sealed, nil for none
	// Torn is the number of bytes after the last commit that are no commit
	// and may never have been acknowledged. They are still there.
	Torn int64
	// Doubt is what the torn bytes are if something proves that they were
	// acknowledged.
	Doubt *DamageError
}

// TailDropped describes bytes at the end of a log that recovery cut off. They
// may have been written and cannot have been acknowledged.
type TailDropped struct {
	Size    uint64      // records that the log keeps
	Root    events.Hash // root hash over them
	File    string      // relative to the log's directory
	Offset  int64       // where the dropped bytes began
	Dropped int64       // bytes from there to the last one that was not zero
}

// String tells where the bytes were.
func (t *TailDropped) String() string {
	return fmt.Sprintf("%d bytes at byte %d of %s, after record %d", t.Dropped, t.Offset, t.File, t.Size)
}

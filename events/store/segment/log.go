package segment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/store"
)

// Options are the sizes of a log. The zero value gives the defaults.
type Options struct {
	// SegmentSize is the length of a segment file in bytes, 64 MiB unless set.
	// A commit that needs more gets a longer one.
	SegmentSize int64
	// Reserve is the head-room in bytes, 16 MiB unless set: storage that is
	// held back for appends under [store.WithHeadroom] when the disk is full.
	Reserve int64
	// Replica marks a copy of a log that is written elsewhere: a tail that can't
	// have been acknowledged is cut off and comes again from another copy, where
	// the log's own writer would have to seal the log.
	Replica bool
}

func (o Options) withDefaults() Options {
	if o.SegmentSize <= 0 {
		o.SegmentSize = 64 << 20
	}
	if o.Reserve <= 0 {
		o.Reserve = 16 << 20
	}
	o.SegmentSize, o.Reserve = max(padded(o.SegmentSize), 2*headSize), max(padded(o.Reserve), 2*headSize)
	return o
}

// marksRoom is kept free in a segment for a startFrame and an endFrame.
const marksRoom = 2 * frameSize

// Log is a log in segment files. See [store.Log] for the contract.
type Log struct {
	fs     FS
	opts   Options
	origin events.Origin
	lock   io.Closer

	// writing is held by who changes files; the fields up to mu are its. It
	// is taken before mu.
	writing sync.Mutex
	file    File // the segment that is written to; nil when sealed or closed
	header  *segmentHeader
	tree    evidence.Tree // over all records
	kind    frameKind     // of the last frame in the file
	reserve bool          // the reserve file is there
	buf     []byte        // for what is written
	parts   [][]byte      // of a commit; nil between commits

	mu       sync.Mutex
	view     view // what readers see: durable, and never changed in place
	sealed   bool
	full     bool  // the last append without head-room was refused
	gone     error // why the log is closed, nil while it is open
	watchers []watcher
}

// view is the durable log at one moment.
type view struct {
	segments []segmentRef // at least one
	tail     index        // of the last segment while it is written to
	end      int64        // of the last segment, after the last durable frame
	size     uint64
	root     events.Hash
}

// segmentRef is what a reader needs to know of a segment.
type segmentRef struct {
	first  uint64
	mark   uint64
	footer int64 // its offset; 0 in the segment that is written to
}

type watcher struct {
	size uint64
	ch   chan struct{}
}

// Origin is the identity of the log.
func (l *Log) Origin() events.Origin { return l.origin }

// Size is the number of durable records and the root hash over them.
func (l *Log) Size() (uint64, events.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.view.size, l.view.root
}

// Append makes one commit: one write and one fdatasync.
func (l *Log) Append(ctx context.Context, expect uint64, entries []events.Entry) error {
	if err := store.CheckEntries(entries); err != nil {
		return fmt.Errorf("append to log %s: %w", l.origin, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("append to log %s: %w", l.origin, err)
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	v, err := l.current()
	if err != nil {
		return err
	}
	if expect != v.size {
		return l.appendedBefore(ctx, v, expect, entries)
	}
	if l.file == nil {
		return fmt.Errorf("append to log %s: %w", l.origin, store.ErrSealed)
	}
	if err := l.makeRoom(ctx, commitSize(entries)); err != nil {
		return err
	}
	return l.commit(entries)
}

// commit writes a frame, makes it durable and shows it to readers.
func (l *Log) commit(entries []events.Entry) error {
	at := l.view.end // only the holder of writing changes it
	l.buf, l.parts = layOut(l.buf, l.parts, l.header.mark, l.view.size+1, l.view.root, entries)
	err := l.write(l.parts, at)
	clear(l.parts)
	l.parts = l.parts[:0]
	if err != nil {
		return err
	}
	l.kind = commitFrame
	for _, e := range entries {
		l.tree.Append(evidence.LeafHash(e.Header))
	}
	root := l.tree.Root()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.view.tail = l.view.tail.add(l.view.size+1, at)
	l.view.size, l.view.root = l.tree.Size(), root
	l.view.end = at + commitSize(entries)
	l.wake()
	if cap(l.buf) > 2<<20 {
		l.buf = nil
	}
	return nil
}

// write puts parts at an offset of the tail and makes them durable. After a
// failure nobody knows what is on disk, and asking once more would be answered
// from memory: the log closes.
func (l *Log) write(parts [][]byte, at int64) error {
	err := l.file.WritePartsAt(parts, at)
	if err == nil {
		err = l.file.SyncData()
	}
	if err != nil {
		return l.fail(fmt.Errorf("write to segment %s: %w", segmentName(l.header.first), err))
	}
	return nil
}

// current gives the durable log, or why there is none.
func (l *Log) current() (view, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone != nil {
		return view{}, fmt.Errorf("log %s: %w", l.origin, l.gone)
	}
	return l.view, nil
}

// fail closes the log for a cause. What files and lock it holds is released
// by Close.
func (l *Log) fail(cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone == nil {
		l.gone = fmt.Errorf("%w: %w; open it again to find out what is stored", store.ErrClosed, cause)
	}
	l.wake()
	return fmt.Errorf("log %s: %w", l.origin, l.gone)
}

// wake closes the channels of those whose size is passed, or of all when the
// log is closed. mu is held.
func (l *Log) wake() {
	kept := l.watchers[:0]
	for _, w := range l.watchers {
		if l.gone != nil || w.size < l.view.size {
			close(w.ch)
		} else {
			kept = append(kept, w)
		}
	}
	l.watchers = kept
}

// Watch returns a channel that is closed once the size is over size, or the
// log is closed.
func (l *Log) Watch(size uint64) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.watchers {
		if w.size == size {
			return w.ch
		}
	}
	ch := make(chan struct{})
	if l.gone != nil || size < l.view.size {
		close(ch)
		return ch
	}
	l.watchers = append(l.watchers, watcher{size, ch})
	return ch
}

// appendedBefore answers an append whose place is taken or not there yet: nil
// when it repeats the commit that is there.
func (l *Log) appendedBefore(ctx context.Context, v view, expect uint64, entries []events.Entry) error {
	fenced := fmt.Errorf("append to log %s at %d: %w: it is %d", l.origin, expect, store.ErrFenced, v.size)
	if expect > v.size {
		return fenced
	}
	same := false
	for f, err := range l.frames(ctx, v, expect+1, true) {
		if err != nil {
			return err
		}
		same = f.first == expect+1 && sameEntries(f.entries, entries)
		break
	}
	if !same {
		return fenced
	}
	return nil
}

// Seal ends the log for good: it writes the last footer and cuts the segment
// after it.
func (l *Log) Seal(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("seal log %s: %w", l.origin, err)
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	if _, err := l.current(); err != nil || l.file == nil {
		return err
	}
	if err := l.finish(sealFrame); err != nil {
		return l.fail(err)
	}
	err := l.file.Close()
	l.file = nil
	l.mu.Lock()
	l.sealed = true
	l.mu.Unlock()
	return errors.Join(err, l.dropReserve())
}

// Close ends the log in order and releases it. On a log that closed itself it
// only releases.
func (l *Log) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.lock == nil {
		return nil
	}
	var err error
	if _, gone := l.current(); gone == nil && l.file != nil {
		err = l.endInOrder()
	}
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
		l.file = nil
	}
	err = errors.Join(err, l.lock.Close())
	l.lock = nil
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone == nil {
		l.gone = store.ErrClosed
	}
	l.wake()
	return err
}

// endInOrder writes the end mark, or the footer where the segment has no room
// for the mark and the start mark of the next life.
func (l *Log) endInOrder() error {
	if !l.fits(0) {
		if err := l.finish(footerFrame); err != nil {
			return l.fail(err)
		}
		return nil
	}
	l.buf = appendMark(l.buf[:0], l.header.mark, endFrame, l.view.size, l.view.root)
	return l.write([][]byte{l.buf}, l.view.end)
}

// noSpace tells a full disk (or quota) from other errors.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

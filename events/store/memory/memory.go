// Package memory is a log in memory, for tests of what stands on a log. It
// keeps the contract of [store.Log], but for durability: what a [Disk] holds
// is gone with the process.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/store"
)

// Disk holds the content of one log while the log is closed.
type Disk struct {
	origin events.Origin

	mu      sync.Mutex
	entries []events.Entry
	commits map[uint64]int // entries of the commit that begins at a position
	tree    evidence.Tree
	sealed  bool
	open    bool
}

// New makes an empty disk for a log.
func New(origin events.Origin) *Disk {
	return &Disk{origin: origin, commits: map[uint64]int{}}
}

// Open opens the log on the disk. It returns [store.ErrLocked] when it is open
// already.
func (d *Disk) Open() (*Log, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open {
		return nil, fmt.Errorf("open log %s: %w", d.origin, store.ErrLocked)
	}
	d.open = true
	return &Log{disk: d, moved: make(chan struct{})}, nil
}

// Log is an open log in memory. See [store.Log].
type Log struct {
	disk   *Disk
	closed bool          // guarded by disk.mu
	moved  chan struct{} // closed and replaced when the size moves; guarded by disk.mu
}

// Origin is the identity of the log.
func (l *Log) Origin() events.Origin { return l.disk.origin }

// Append makes one commit.
func (l *Log) Append(ctx context.Context, expect uint64, entries []events.Entry) error {
	if err := store.CheckEntries(entries); err != nil {
		return fmt.Errorf("append to log %s: %w", l.Origin(), err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("append to log %s: %w", l.Origin(), err)
	}
	d := l.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	switch size := uint64(len(d.entries)); {
	case l.closed:
		return fmt.Errorf("append to log %s: %w", l.Origin(), store.ErrClosed)
	case expect != size && !d.repeats(expect, entries):
		return fmt.Errorf("append to log %s at %d: %w: it is %d", l.Origin(), expect, store.ErrFenced, size)
	case expect != size:
		return nil
	case d.sealed:
		return fmt.Errorf("append to log %s: %w", l.Origin(), store.ErrSealed)
	}
	d.commits[expect+1] = len(entries)
	for _, e := range entries {
		d.entries = append(d.entries, events.Entry{Header: bytes.Clone(e.Header), Payload: bytes.Clone(e.Payload)})
		d.tree.Append(evidence.LeafHash(e.Header))
	}
	close(l.moved)
	l.moved = make(chan struct{})
	return nil
}

// repeats reports whether the commit after a size holds exactly entries.
func (d *Disk) repeats(size uint64, entries []events.Entry) bool {
	if d.commits[size+1] != len(entries) {
		return false
	}
	return slices.EqualFunc(d.entries[size:][:len(entries)], entries, func(a, b events.Entry) bool {
		return bytes.Equal(a.Header, b.Header) && bytes.Equal(a.Payload, b.Payload)
	})
}

// Read yields the entries from a position.
func (l *Log) Read(ctx context.Context, from uint64) iter.Seq2[events.Entry, error] {
	return func(yield func(events.Entry, error) bool) {
		entries, err := l.from(from)
		for _, e := range entries {
			if err = ctx.Err(); err != nil {
				break
			}
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(events.Entry{}, fmt.Errorf("read log %s: %w", l.Origin(), err))
		}
	}
}

// Headers is Read without the payloads.
func (l *Log) Headers(ctx context.Context, from uint64) iter.Seq2[events.Entry, error] {
	return func(yield func(events.Entry, error) bool) {
		for e, err := range l.Read(ctx, from) {
			if !yield(events.Entry{Header: e.Header}, err) {
				return
			}
		}
	}
}

func (l *Log) from(position uint64) ([]events.Entry, error) {
	d := l.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case l.closed:
		return nil, store.ErrClosed
	case position == 0:
		return nil, fmt.Errorf("from position 0: positions begin at 1")
	case position > uint64(len(d.entries)):
		return nil, nil
	}
	return d.entries[position-1:], nil
}

// Size is the number of records and the root hash over them.
func (l *Log) Size() (uint64, events.Hash) {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	return l.disk.tree.Size(), l.disk.tree.Root()
}

// Watch returns a channel that is closed once the size is over size, or the
// log is closed.
func (l *Log) Watch(size uint64) <-chan struct{} {
	passed := make(chan struct{})
	go l.wait(size, passed)
	return passed
}

// wait ends when the size is passed or the log is closed.
func (l *Log) wait(size uint64, passed chan struct{}) {
	defer close(passed)
	for {
		l.disk.mu.Lock()
		done, moved := l.closed || l.disk.tree.Size() > size, l.moved
		l.disk.mu.Unlock()
		if done {
			return
		}
		<-moved
	}
}

// Space tells that there is room: memory is not counted.
func (l *Log) Space() store.Space { return store.Space{Free: 1 << 30} }

// Seal ends the log for good.
func (l *Log) Seal(ctx context.Context) error {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("seal log %s: %w", l.Origin(), err)
	}
	if l.closed {
		return fmt.Errorf("seal log %s: %w", l.Origin(), store.ErrClosed)
	}
	l.disk.sealed = true
	return nil
}

// Close releases the log; its disk can be opened again.
func (l *Log) Close() error {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	if !l.closed {
		l.closed, l.disk.open = true, false
		close(l.moved)
	}
	return nil
}

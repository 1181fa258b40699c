package segment

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/store"
)

// errNoSpace is what the operating system says when the disk is full.
var errNoSpace error = syscall.ENOSPC

// treeState is the tree at the end of a segment.
type treeState = evidence.Tree

// slack is left on a disk for what other parts of the site must write.
const slack = 1 << 20

// Space tells whether the log takes entries.
func (l *Log) Space() store.Space {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	full, gone := l.full || !l.reserve, l.gone
	l.mu.Unlock()
	if gone != nil || l.file == nil {
		return store.Space{Full: true, Err: gone}
	}
	free, err := l.fs.Free()
	if err != nil {
		free = 0 // cannot be known; an append finds out
	}
	need := uint64(l.opts.SegmentSize)
	if !l.reserve {
		need += uint64(l.opts.Reserve)
	}
	rest := uint64(max(0, int64(l.header.capacity)-l.view.end-marksRoom-footerBound(int64(l.header.capacity))))
	s := store.Space{Full: full && free < need+slack, Free: free}
	switch {
	case l.reserve:
		s.Headroom = uint64(l.opts.Reserve)
	case s.Full:
		s.Headroom = rest
	}
	if s.Full {
		s.Free = 0
	} else {
		s.Free += rest
	}
	return s
}

// allocate makes a file with storage for size bytes. Without room it leaves
// nothing behind and fails as a full disk does.
func (l *Log) allocate(name string, size int64) (File, error) {
	if free, err := l.fs.Free(); err == nil && free < uint64(size)+slack {
		return nil, fmt.Errorf("make %s of %d bytes with %d free: %w", name, size, free, errNoSpace)
	}
	f, err := l.fs.Create(name)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	if err := f.Allocate(size); err != nil {
		return nil, errors.Join(fmt.Errorf("make %s of %d bytes: %w", name, size, err), f.Close(), l.fs.Remove(name))
	}
	return f, nil
}

// makeReserve makes the file that holds the head-room.
func (l *Log) makeReserve() error {
	f, err := l.allocate(reserveName+tmpSuffix, l.opts.Reserve)
	if err != nil {
		return err
	}
	if err = errors.Join(f.Sync(), f.Close()); err == nil {
		err = l.fs.Rename(reserveName+tmpSuffix, reserveName)
	}
	if err == nil {
		err = l.fs.SyncDir()
	}
	if err != nil {
		return fmt.Errorf("make head-room: %w", err)
	}
	l.reserve = true
	return nil
}

// checkReserve takes over the reserve of a former life, if it has the right
// size, and makes one otherwise. A full disk is no error: the log then opens
// full.
func (l *Log) checkReserve() error {
	names, err := l.fs.List()
	if err != nil {
		return fmt.Errorf("list log %s: %w", l.origin, err)
	}
	if slices.Contains(names, reserveName) {
		f, err := l.fs.Open(reserveName, true)
		if err != nil {
			return fmt.Errorf("open head-room: %w", err)
		}
		size, err := f.Size()
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("open head-room: %w", err)
		}
		if size == l.opts.Reserve {
			l.reserve = true
			return nil
		}
		if err := l.fs.Remove(reserveName); err != nil {
			return fmt.Errorf("replace head-room: %w", err)
		}
	}
	if err := l.makeReserve(); err != nil && !noSpace(err) {
		return err
	}
	return nil
}

// dropReserve gives the head-room of a sealed log back.
func (l *Log) dropReserve() error {
	names, err := l.fs.List()
	if err != nil || !slices.Contains(names, reserveName) {
		return err
	}
	l.reserve = false
	return l.fs.Remove(reserveName)
}

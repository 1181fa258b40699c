package segment

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/holdfast-pam/holdfast/events/store"
)

// makeRoom sees to it that a frame of n bytes fits the tail, with what must
// follow it. It goes on in a new segment where it does not. When the disk is
// full, an append that may use the head-room gets the reserve as its segment,
// and others get store.ErrFull until there is a reserve again.
func (l *Log) makeRoom(ctx context.Context, n int64) error {
	err := l.room(n, store.MayUseHeadroom(ctx))
	full := noSpace(err)
	if !store.MayUseHeadroom(ctx) {
		l.mu.Lock()
		l.full = full
		l.mu.Unlock()
	}
	if full {
		return fmt.Errorf("append %d bytes to log %s: %w; free some space, it goes on by itself", n, l.origin, store.ErrFull)
	}
	if err != nil {
		return l.fail(err)
	}
	return nil
}

func (l *Log) room(n int64, headroom bool) error {
	if !l.reserve {
		if err := l.makeReserve(); err != nil && (!headroom || !noSpace(err)) {
			return err
		}
	}
	if l.fits(n) {
		return nil
	}
	next, err := l.prepare(l.tree.Clone(), l.capacityFor(n))
	if noSpace(err) && headroom && l.reserve {
		if next, err = l.prepareReserve(n); err == nil {
			l.reserve = false
		}
	}
	if err != nil {
		return err
	}
	if err := l.finish(footerFrame); err != nil {
		return errors.Join(err, next.Close())
	}
	return l.enter(next)
}

// fits reports whether a frame of n bytes, marks and the footer fit the tail.
func (l *Log) fits(n int64) bool {
	capacity := int64(l.header.capacity)
	return l.view.end+n+marksRoom+footerBound(capacity) <= capacity
}

// capacityFor is the length of a segment in which a frame of n bytes fits.
func (l *Log) capacityFor(n int64) int64 {
	need := headSize + n + marksRoom + footerBound(l.opts.SegmentSize)
	if need <= l.opts.SegmentSize {
		return l.opts.SegmentSize
	}
	return padded(need + footerBound(need))
}

// pending is a segment that is complete and durable under another name.
type pending struct {
	File
	header *segmentHeader
	name   string // the other name
}

// prepare makes the segment that goes on after tree's records.
func (l *Log) prepare(tree treeState, capacity int64) (*pending, error) {
	name := segmentName(tree.Size()+1) + tmpSuffix
	f, err := l.allocate(name, capacity)
	if err != nil {
		return nil, err
	}
	return l.begin(&pending{File: f, name: name}, tree, capacity)
}

// prepareReserve makes the reserve that segment.
func (l *Log) prepareReserve(n int64) (*pending, error) {
	need := headSize + n + marksRoom + footerBound(l.opts.Reserve)
	if need > l.opts.Reserve {
		return nil, fmt.Errorf("%d bytes do not fit the head-room of %d: %w", n, l.opts.Reserve, errNoSpace)
	}
	f, err := l.fs.Open(reserveName, true)
	if err != nil {
		return nil, fmt.Errorf("open head-room: %w", err)
	}
	return l.begin(&pending{File: f, name: reserveName}, l.tree.Clone(), l.opts.Reserve)
}

// begin writes the segment header.
func (l *Log) begin(p *pending, tree treeState, capacity int64) (*pending, error) {
	var mark [8]byte
	if _, err := rand.Read(mark[:]); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.header = &segmentHeader{
		mark: binary.LittleEndian.Uint64(mark[:]), origin: l.origin,
		first: tree.Size() + 1, capacity: uint64(capacity), tree: tree,
	}
	_, err := p.WriteAt(p.header.encode(), 0)
	if err == nil {
		err = p.Sync()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write segment header: %w", err), p.Close())
	}
	return p, nil
}

// finish writes the footer of the tail, and cuts the file after it. The footer
// is durable first: a file that is cut and has none would be damaged.
func (l *Log) finish(kind frameKind) error {
	at := l.view.end
	l.buf = appendFooter(l.buf[:0], l.header.mark, &footer{
		kind: kind, size: l.view.size, root: l.view.root, index: l.view.tail,
	}, at)
	_, err := l.file.WriteAt(l.buf, at)
	if err == nil {
		err = l.file.SyncData()
	}
	if err == nil {
		err = l.file.Truncate(at + int64(len(l.buf)))
	}
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("finish segment %s: %w", segmentName(l.header.first), err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.view.segments) - 1
	last := l.view.segments[n]
	last.footer = at
	l.view.segments = append(l.view.segments[:n:n], last)
	l.view.tail = nil
	return nil
}

// enter gives a pending segment its name and makes it the tail.
func (l *Log) enter(p *pending) error {
	if err := l.fs.Rename(p.name, segmentName(p.header.first)); err != nil {
		return errors.Join(fmt.Errorf("name segment: %w", err), p.Close())
	}
	if err := l.fs.SyncDir(); err != nil {
		return errors.Join(fmt.Errorf("name segment: %w", err), p.Close())
	}
	if l.file != nil { // it was synced when it was finished
		if err := l.file.Close(); err != nil {
			return errors.Join(fmt.Errorf("close segment %s: %w", segmentName(l.header.first), err), p.Close())
		}
	}
	l.file, l.header, l.kind = p.File, p.header, startFrame
	l.mu.Lock()
	defer l.mu.Unlock()
	segments := l.view.segments
	l.view.segments = append(segments[:len(segments):len(segments)], segmentRef{first: p.header.first, mark: p.header.mark})
	l.view.end = headSize
	return nil
}

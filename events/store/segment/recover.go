package segment

import (
	"errors"
	"fmt"

	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/store"
)

// tailScan is what is found in a segment that was being written to.
type tailScan struct {
	tree  evidence.Tree // over the records up to end
	index index
	end   int64     // after the last good frame
	kind  frameKind // of the last good frame, startFrame when there is none
	foot  int64     // length of a footer at end that the file was not cut after, 0 for none
	torn  int64     // bytes from end to the last one that is not zero
	cause error     // what is wrong with them
	drop  *store.TailDropped
}

// visitor is shown each commit of a scan, with the *bodyError of a damaged
// payload where that is all that is wrong.
type visitor func(f scanned, payload error) error

// scanTail reads a segment without a footer and judges how it ends. Bytes
// after the last good frame are a tail that may be dropped when all of this
// holds; otherwise they are damage:
//
//   - nothing valid follows them: a commit is begun only when the one before
//     it is durable, so whatever has a successor was acknowledged;
//   - they are no more than one commit can be;
//   - the log was not closed in order before them.
//
// That no signed head covers them is for the caller to check.
func (s *segmentFile) scanTail(visit visitor) (*tailScan, error) {
	t := &tailScan{tree: s.header.tree.Clone()}
	sc := s.scanner(headSize, s.size, readStep)
	if err := t.walk(s, sc, visit); err != nil {
		return t, err
	}
	if t.drop != nil {
		t.drop.File = s.file
		return t, nil
	}
	last, err := sc.lastByte(t.end)
	if err != nil {
		return nil, fmt.Errorf("read segment %s: %w", s.file, err)
	}
	t.torn = last - t.end
	switch {
	case t.torn <= t.foot: // the life before was about to cut the file here
		t.torn = 0
	case t.kind == endFrame && t.torn <= frameSize: // a start mark, not finished: no record comes before one
		t.torn = 0
	}
	if t.torn == 0 {
		return t, nil
	}
	return t, t.judge(s, sc)
}

// judge tells a tail that may be dropped from damage.
func (t *tailScan) judge(s *segmentFile, sc *scanner) error {
	position := t.tree.Size() + 1
	at, follows, err := sc.frameAfter(t.end + 8)
	switch {
	case err != nil:
		return fmt.Errorf("read segment %s: %w", s.file, err)
	case t.foot > 0:
		return s.damage(position, t.end, errors.New("bytes after the footer"))
	case follows:
		return s.damage(position, t.end, fmt.Errorf("%w, and the log goes on at byte %d", t.cause, at))
	case t.torn > maxFrame:
		return s.damage(position, t.end, fmt.Errorf("%w, and %d bytes follow, more than one commit", t.cause, t.torn))
	case t.kind == endFrame:
		return s.damage(position, t.end, errors.New("bytes after the mark of an orderly end"))
	}
	t.drop = &store.TailDropped{Size: t.tree.Size(), Root: t.tree.Root(), File: s.file, Offset: t.end, Dropped: t.torn}
	return nil
}

// walk reads good frames up to the first that is not, and keeps what is wrong
// with that one in cause (nil when all of the scanner's range was frames). The
// error is for frames that are good and do not belong here, and for a failure
// to read.
func (t *tailScan) walk(s *segmentFile, sc *scanner, visit visitor) error {
	t.end, t.kind = sc.off, startFrame
	for sc.off < sc.end {
		h, err := sc.peek()
		if err == nil && (h.first != t.tree.Size()+1 || h.root != t.tree.Root()) {
			return s.damage(t.tree.Size()+1, sc.off, fmt.Errorf("the frame here follows %d records with root %s, before it are %d with root %s",
				h.first-1, h.root, t.tree.Size(), t.tree.Root()))
		}
		var f scanned
		if err == nil {
			f, err = sc.take(h, true, nil)
		}
		if err != nil && !isDamage(err) {
			return fmt.Errorf("read segment %s: %w", s.file, err)
		}
		if err != nil && (visit == nil || f.entries == nil || !sc.goesOn()) {
			t.cause = err
			return nil
		}
		if h.kind == footerFrame || h.kind == sealFrame {
			t.footer(&h, f)
			return nil
		}
		if visit != nil && h.kind == commitFrame {
			if err := visit(f, err); err != nil {
				return err
			}
		}
		t.add(f)
		t.end, t.kind = sc.off, h.kind
	}
	return nil
}

// goesOn reports whether the scanner's range ends here or a good frame header
// follows: a damaged payload before it was then acknowledged once.
func (s *scanner) goesOn() bool {
	if s.off == s.end {
		return true
	}
	_, err := s.peek()
	return err == nil
}

// footer takes note of a footer in a file that was not cut after it. Only one
// that tells of a dropped tail matters: the log is sealed at it.
func (t *tailScan) footer(h *frameHeader, f scanned) {
	t.foot = h.size()
	if foot, err := decodeFooter(h, f.body, f.offset); err == nil {
		t.drop = foot.drop
	}
}

func (t *tailScan) add(f scanned) {
	if f.kind == commitFrame {
		t.index = t.index.add(f.first, f.offset)
	}
	for _, e := range f.entries {
		t.tree.Append(evidence.LeafHash(e.Header))
	}
}

// adopt takes a scanned tail into use.
//
// After an orderly end the file is used as it is: its end mark is written once
// more, with a start mark after it, since the one that was read may never have
// reached the disk. After any other end the good content is written to a new
// file, which then takes the old one's name: what was read may be in memory
// only, if a sync failed in the life before, and the kernel does not write such
// pages again.
func (l *Log) adopt(s *segmentFile, t *tailScan) error {
	l.tree, l.view.size, l.view.root = t.tree, t.tree.Size(), t.tree.Root()
	ref := segmentRef{first: s.header.first, mark: s.header.mark}
	var err error
	switch size, root := l.view.size, l.view.root; {
	case t.drop != nil:
		l.buf = appendFooter(l.buf[:0], ref.mark, &footer{kind: sealFrame, size: size, root: root, index: t.index, drop: t.drop}, t.end)
		ref.footer, l.sealed = t.end, true
		err = errors.Join(l.rewrite(s, t.end, t.end+int64(len(l.buf))), l.file.Close())
		l.file = nil
	case t.kind == endFrame:
		l.buf = appendMark(appendMark(l.buf[:0], ref.mark, endFrame, size, root), ref.mark, startFrame, size, root)
		if _, err = s.WriteAt(l.buf, t.end-frameSize); err == nil {
			err = s.Sync()
		}
		l.view.end, l.view.tail, l.kind = t.end+frameSize, t.index, startFrame
	default:
		l.buf = l.buf[:0]
		if t.kind != startFrame {
			l.buf = appendMark(l.buf, ref.mark, startFrame, size, root)
		}
		err = l.rewrite(s, t.end, s.size)
		l.view.end, l.view.tail, l.kind = t.end+int64(len(l.buf)), t.index, startFrame
	}
	l.view.segments = append(l.view.segments, ref)
	if err != nil {
		return fmt.Errorf("recover segment %s: %w", s.file, err)
	}
	return nil
}

// rewrite puts the content of s up to end, and buf after it, into a new file
// of a size, and that into the place of the old one. On a full disk it writes
// the old file over with what it holds.
func (l *Log) rewrite(s *segmentFile, end, size int64) error {
	name := s.file + tmpSuffix
	f, err := l.allocate(name, size)
	if noSpace(err) {
		return l.rewriteInPlace(s, end, size)
	}
	if err != nil {
		return err
	}
	if err := l.copyTail(s, f, end); err != nil {
		return errors.Join(err, f.Close())
	}
	old := l.file
	l.file = f
	if err := errors.Join(old.Close(), l.fs.Rename(name, s.file)); err != nil {
		return err
	}
	return l.fs.SyncDir()
}

func (l *Log) rewriteInPlace(s *segmentFile, end, size int64) error {
	if err := l.copyTail(s, s.File, end); err != nil || size == s.size {
		return err
	}
	if err := s.Truncate(size); err != nil {
		return err
	}
	return s.Sync()
}

// copyTail writes the content of s up to end to f, then buf.
func (l *Log) copyTail(s *segmentFile, f File, end int64) error {
	sc := s.scanner(0, end, 1<<20)
	for off := int64(0); off < end; {
		b, err := sc.bytes(off, min(sc.step, end-off))
		if err == nil {
			_, err = f.WriteAt(b, off)
		}
		if err != nil {
			return err
		}
		off += int64(len(b))
	}
	if _, err := f.WriteAt(l.buf, end); err != nil {
		return err
	}
	return f.Sync()
}

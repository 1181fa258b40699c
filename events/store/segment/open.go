package segment

import (
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/store"
)

// Engine keeps logs in segment files.
type Engine struct{ Options }

// Open opens or makes the log of origin in a directory that exists. See
// [store.Engine].
func (e Engine) Open(dir string, origin events.Origin, known uint64) (store.Opened, error) {
	l, tail, err := Open(Dir(dir), origin, known, e.Options)
	if err != nil {
		return store.Opened{}, err
	}
	return store.Opened{Log: l, Sealed: l.sealed, Tail: tail}, nil
}

// Open opens or makes the log of origin in fs. known is a size that is proven
// to have been durable. The tail returned, if any, was cut off now or earlier;
// the log is then sealed.
func Open(fs FS, origin events.Origin, known uint64, opts Options) (*Log, *store.TailDropped, error) {
	lock, err := fs.Lock()
	if err != nil {
		return nil, nil, fmt.Errorf("open log %s: %w", origin, err)
	}
	l := &Log{fs: fs, opts: opts.withDefaults(), origin: origin, lock: lock}
	tail, err := l.load(known)
	if err == nil && !l.sealed {
		err = l.checkReserve()
	}
	if err != nil {
		if l.file != nil {
			err = errors.Join(err, l.file.Close())
		}
		return nil, nil, fmt.Errorf("open log %s: %w", origin, errors.Join(err, lock.Close()))
	}
	return l, tail, nil
}

// load reads the segments from the first to the last and takes the last one
// into use.
func (l *Log) load(known uint64) (*store.TailDropped, error) {
	listing, err := l.fs.List()
	if err != nil {
		return nil, err
	}
	names, err := segmentNames(listing, l.origin)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		if known > 0 {
			return nil, l.short(0, known, "")
		}
		return nil, l.create()
	}
	for _, name := range names[:len(names)-1] {
		if err := l.loadFinished(name); err != nil {
			return nil, err
		}
	}
	tail, err := l.loadLast(names[len(names)-1], known)
	if err != nil {
		return nil, err
	}
	return tail, l.removeTemporary()
}

// create makes the first segment.
func (l *Log) create() error {
	if err := l.removeTemporary(); err != nil {
		return err
	}
	p, err := l.prepare(evidence.Tree{}, l.opts.SegmentSize)
	if err != nil {
		return err
	}
	l.view.root = l.tree.Root()
	return l.enter(p)
}

// removeTemporary removes what a former life was about to make.
func (l *Log) removeTemporary() error {
	listing, err := l.fs.List()
	if err != nil {
		return err
	}
	for _, name := range listing {
		if strings.HasSuffix(name, tmpSuffix) {
			if err := l.fs.Remove(name); err != nil {
				return fmt.Errorf("remove unfinished %s: %w", name, err)
			}
		}
	}
	return nil
}

// short says that a signed head covers more than there is.
func (l *Log) short(size, known uint64, file string) error {
	return place{l.origin, file}.damage(size+1, 0,
		fmt.Errorf("a signed head covers %d records and only %d are here", known, size))
}

// loadFinished takes note of a segment that has a successor. It reads header
// and footer, not the records.
func (l *Log) loadFinished(name string) error {
	s, err := openSegment(l.fs, l.origin, name, false)
	if err != nil {
		return err
	}
	h, at, err := s.findFooter()
	if err = errors.Join(l.continues(s), s.unfinished(err), s.Close()); err != nil {
		return err
	}
	if h.kind != footerFrame {
		return s.damage(h.first, at, errors.New("the log was sealed here, yet another segment follows"))
	}
	l.view.segments = append(l.view.segments, segmentRef{s.header.first, s.header.mark, at})
	l.view.size, l.view.root = h.first-1, h.root
	return nil
}

// unfinished makes the error for a footer that is not there.
func (s *segmentFile) unfinished(err error) error {
	if isDamage(err) || errors.Is(err, errNoFooter) {
		return s.damage(s.header.first, s.size, err)
	}
	return err
}

// continues checks that a segment begins where the one before it ended.
func (l *Log) continues(s *segmentFile) error {
	if len(l.view.segments) == 0 && s.header.first != 1 {
		return s.damage(1, 0, fmt.Errorf("the segments before position %d are missing", s.header.first))
	}
	if len(l.view.segments) == 0 {
		return nil
	}
	if size := s.header.tree.Size(); size != l.view.size {
		return s.damage(l.view.size+1, 0, fmt.Errorf("the segment before ends at position %d, this one begins at %d", l.view.size, s.header.first))
	}
	if root := s.header.tree.Root(); root != l.view.root {
		return s.damage(s.header.first, 0, fmt.Errorf("root hash %s does not follow %s of the segment before", root, l.view.root))
	}
	return nil
}

// loadLast takes the last segment into use, whatever state it was left in.
func (l *Log) loadLast(name string, known uint64) (*store.TailDropped, error) {
	s, err := openSegment(l.fs, l.origin, name, true)
	if err != nil {
		return nil, err
	}
	l.file, l.header = s.File, s.header
	if err := l.continues(s); err != nil {
		return nil, err
	}
	f, at, err := s.readFooter()
	switch {
	case err == nil:
		return l.afterFooter(s, f, at, known)
	case !isDamage(err) && !errors.Is(err, errNoFooter):
		return nil, fmt.Errorf("read segment %s: %w", name, err)
	case s.size != int64(s.header.capacity):
		return nil, s.damage(s.header.first, s.size, fmt.Errorf("the file is %d bytes long, neither %d nor closed by a footer", s.size, s.header.capacity))
	}
	t, err := s.scanTail(nil)
	if err != nil {
		return nil, err
	}
	if t.tree.Size() < known {
		return nil, l.short(t.tree.Size(), known, name)
	}
	if l.opts.Replica {
		t.drop = nil
	}
	return t.drop, l.adopt(s, t)
}

// afterFooter takes over a last segment that has its footer. The footer is
// written once more: the one that was read may be in memory only, if the life
// before failed to sync it.
func (l *Log) afterFooter(s *segmentFile, f *footer, at int64, known uint64) (*store.TailDropped, error) {
	if f.size < known {
		return nil, l.short(f.size, known, s.file)
	}
	body, err := s.scanner(0, s.size, frameSize).bytes(at, s.size-at)
	if err != nil {
		return nil, err
	}
	if _, err := s.WriteAt(body, at); err != nil {
		return nil, err
	}
	if err := s.Sync(); err != nil {
		return nil, err
	}
	l.view.segments = append(l.view.segments, segmentRef{s.header.first, s.header.mark, at})
	l.view.size, l.view.root = f.size, f.root
	if f.kind == sealFrame {
		err := s.Close()
		l.file, l.sealed = nil, true
		return f.drop, err
	}
	if l.tree, err = s.treeAtEnd(at, f); err != nil {
		return nil, err
	}
	next, err := l.prepare(l.tree.Clone(), l.opts.SegmentSize)
	if noSpace(err) {
		if reserve := l.checkReserve(); reserve != nil {
			return nil, reserve
		}
		if l.reserve {
			next, err = l.prepareReserve(0)
			l.reserve = false
		}
	}
	if err != nil {
		return nil, err
	}
	return nil, l.enter(next)
}

// treeAtEnd grows the tree of a segment over its records, up to the footer.
func (s *segmentFile) treeAtEnd(end int64, f *footer) (evidence.Tree, error) {
	t := tailScan{tree: s.header.tree.Clone()}
	err := t.walk(s, s.scanner(headSize, end, readStep), nil)
	if err == nil && (t.cause != nil || t.tree.Size() != f.size || t.tree.Root() != f.root) {
		err = s.damage(t.tree.Size()+1, t.end, errors.Join(errors.New("the records do not add up to what the footer says"), t.cause))
	}
	return t.tree, err
}

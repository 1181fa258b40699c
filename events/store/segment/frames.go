package segment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// Frames yields the stored commits of the log in a directory. See
// [store.Engine].
func (e Engine) Frames(ctx context.Context, dir string, origin events.Origin) iter.Seq2[store.Frame, error] {
	return Frames(ctx, Dir(dir), origin)
}

// errStop ends a scan that nobody listens to any more.
var errStop = errors.New("stop")

// Frames yields the stored commits of the log in fs without changing or
// locking anything.
func Frames(ctx context.Context, fs FS, origin events.Origin) iter.Seq2[store.Frame, error] {
	return func(yield func(store.Frame, error) bool) {
		err := frames(ctx, fs, origin, yield)
		if err != nil && !errors.Is(err, errStop) {
			yield(store.Frame{}, err)
		}
	}
}

func frames(ctx context.Context, fs FS, origin events.Origin, yield func(store.Frame, error) bool) error {
	listing, err := fs.List()
	if err != nil {
		return fmt.Errorf("list log %s: %w", origin, err)
	}
	names, err := segmentNames(listing, origin)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return place{origin, ""}.damage(1, 0, errors.New("there are no segments"))
	}
	if origin.Site.IsZero() {
		if origin.Site, err = siteOf(fs, names[0]); err != nil {
			return err
		}
	}
	l := &Log{fs: fs, origin: origin} // for the chain of segments; nothing is written
	for i, name := range names {
		last := i == len(names)-1
		end, err := l.segmentFrames(ctx, name, last, yield)
		if err != nil {
			return err
		}
		if last && !yield(store.Frame{First: l.view.size + 1, Root: l.view.root, File: name, End: end}, nil) {
			return errStop
		}
	}
	return nil
}

// segmentFrames yields the commits of one segment, and says how the last one
// ends.
func (l *Log) segmentFrames(ctx context.Context, name string, last bool, yield func(store.Frame, error) bool) (*store.End, error) {
	s, err := openSegment(l.fs, l.origin, name, false)
	if err != nil {
		return nil, err
	}
	defer s.Close() // only read
	if err := l.continues(s); err != nil {
		return nil, err
	}
	visit := func(f scanned, payload error) error {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read log %s: %w", l.origin, err)
		}
		if payload != nil {
			payload = s.damage(f.first, f.offset, payload)
		}
		if !yield(store.Frame{First: f.first, Root: f.root, Entries: f.entries, File: name, Offset: f.offset}, payload) {
			return errStop
		}
		return nil
	}
	foot, at, err := s.readFooter()
	if err == nil {
		return l.finishedFrames(s, foot, at, last, visit)
	}
	if !last || s.size != int64(s.header.capacity) {
		return nil, s.unfinished(err)
	}
	t, err := s.scanTail(visit)
	if err != nil {
		return nil, err
	}
	l.view.segments = append(l.view.segments, segmentRef{first: s.header.first})
	l.view.size, l.view.root = t.tree.Size(), t.tree.Root()
	end := &store.End{Clean: t.kind == endFrame && t.torn == 0}
	if t.drop != nil && t.foot > 0 {
		end.Sealed, end.Tail = true, t.drop
	} else if t.drop != nil {
		end.Torn, end.Doubt = t.torn, s.damage(t.tree.Size()+1, t.end, t.cause)
	}
	return end, nil
}

// finishedFrames yields the commits of a segment that has its footer.
func (l *Log) finishedFrames(s *segmentFile, foot *footer, at int64, last bool, visit visitor) (*store.End, error) {
	t := &tailScan{tree: s.header.tree.Clone()}
	if err := t.walk(s, s.scanner(headSize, at, readStep), visit); err != nil {
		return nil, err
	}
	if t.cause != nil {
		return nil, s.damage(t.tree.Size()+1, t.end, t.cause)
	}
	if t.tree.Size() != foot.size || t.tree.Root() != foot.root {
		return nil, s.damage(t.tree.Size()+1, at, fmt.Errorf("the footer says %d records with root %s, before it are %d with root %s",
			foot.size, foot.root, t.tree.Size(), t.tree.Root()))
	}
	if foot.kind == sealFrame && !last {
		return nil, s.damage(foot.size+1, at, errors.New("the log was sealed here, yet another segment follows"))
	}
	l.view.segments = append(l.view.segments, segmentRef{first: s.header.first})
	l.view.size, l.view.root = foot.size, foot.root
	return &store.End{Sealed: foot.kind == sealFrame, Clean: true, Tail: foot.drop}, nil
}

// siteOf reads whose log a segment belongs to.
func siteOf(fs FS, name string) (events.SiteID, error) {
	f, err := fs.Open(name, false)
	if err != nil {
		return events.SiteID{}, fmt.Errorf("open segment %s: %w", name, err)
	}
	defer f.Close() // only read
	b := make([]byte, headSize)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return events.SiteID{}, fmt.Errorf("read segment %s: %w", name, err)
	}
	h, err := decodeSegmentHeader(b)
	if err != nil {
		return events.SiteID{}, place{events.Origin{}, name}.damage(1, 0, err)
	}
	return h.origin.Site, nil
}

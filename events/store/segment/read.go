package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sort"

	"github.com/holdfast-pam/holdfast/events"
)

// Read yields the entries from a position to the durable end.
func (l *Log) Read(ctx context.Context, from uint64) iter.Seq2[events.Entry, error] {
	return l.entries(ctx, from, true)
}

// Headers is Read without the payloads.
func (l *Log) Headers(ctx context.Context, from uint64) iter.Seq2[events.Entry, error] {
	return l.entries(ctx, from, false)
}

func (l *Log) entries(ctx context.Context, from uint64, payloads bool) iter.Seq2[events.Entry, error] {
	return func(yield func(events.Entry, error) bool) {
		v, err := l.current()
		if err == nil && from == 0 {
			err = fmt.Errorf("read log %s from position 0: positions begin at 1", l.origin)
		}
		if err != nil {
			yield(events.Entry{}, err)
			return
		}
		for f, err := range l.frames(ctx, v, from, payloads) {
			skip := uint64(0)
			if f.first < from {
				skip = from - f.first
			}
			for i := skip; i < uint64(len(f.entries)); i++ {
				if !yield(f.entries[i], nil) {
					return
				}
			}
			if err != nil {
				yield(events.Entry{}, err)
				return
			}
		}
	}
}

// frames yields the commits of v from the one that holds a position on. The
// entries of a frame are good until the next one. A frame that comes with an
// error has the entries before the damaged one.
func (l *Log) frames(ctx context.Context, v view, from uint64, payloads bool) iter.Seq2[scanned, error] {
	return func(yield func(scanned, error) bool) {
		next := from // the next frame holds it
		i := sort.Search(len(v.segments), func(i int) bool { return v.segments[i].first > from }) - 1
		for ; i < len(v.segments) && next <= v.size; i++ {
			r := segmentReader{log: l, ref: v.segments[i], next: next}
			if err := r.open(v, i, payloads); err != nil {
				yield(scanned{}, err)
				return
			}
			more := r.each(ctx, payloads, yield)
			if err := r.data.Close(); err != nil && more {
				yield(scanned{}, fmt.Errorf("close segment of log %s: %w", l.origin, err))
				return
			}
			if !more {
				return
			}
			next = r.next
		}
		if next <= v.size {
			yield(scanned{}, place{l.origin, ""}.damage(next, 0, errors.New("the record is missing")))
		}
	}
}

// segmentReader reads the commits of one segment.
type segmentReader struct {
	place
	log  *Log
	ref  segmentRef
	data File
	scan *scanner
	next uint64 // position that the next frame must hold
}

// open finds the place in the file where reading begins.
func (r *segmentReader) open(v view, i int, payloads bool) error {
	r.place = place{r.log.origin, segmentName(r.ref.first)}
	f, err := r.log.fs.Open(r.file, false)
	if err != nil {
		return fmt.Errorf("open segment %s of log %s: %w", r.file, r.origin, err)
	}
	r.data = f
	r.scan = &scanner{file: f, mark: r.ref.mark, off: headSize, end: r.ref.footer, step: headerStep}
	if payloads {
		r.scan.step = readStep
	}
	at := v.tail
	if r.ref.footer == 0 {
		r.scan.end = v.end
	} else if r.next > r.ref.first {
		if at, err = r.index(); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if r.next > r.ref.first {
		r.scan.off = at.find(r.next)
	}
	return nil
}

func (r *segmentReader) index() (index, error) {
	s := &segmentFile{place: r.place, File: r.data, header: &segmentHeader{mark: r.ref.mark}}
	var err error
	if s.size, err = s.Size(); err != nil {
		return nil, fmt.Errorf("segment %s of log %s: %w", r.file, r.origin, err)
	}
	f, _, err := s.readFooter()
	if err != nil {
		return nil, r.wrap(r.ref.footer, err)
	}
	return f.index, nil
}

// each yields the commits up to the end of the segment and reports whether to
// go on.
func (r *segmentReader) each(ctx context.Context, payloads bool, yield func(scanned, error) bool) bool {
	var scratch []events.Entry
	found := false
	for r.scan.off < r.scan.end {
		if err := ctx.Err(); err != nil {
			yield(scanned{}, fmt.Errorf("read log %s: %w", r.origin, err))
			return false
		}
		h, err := r.scan.peek()
		if err != nil {
			yield(scanned{}, r.wrap(r.scan.off, err))
			return false
		}
		after := h.first + uint64(h.count)
		if h.kind != commitFrame || after <= r.next && !found {
			r.scan.off += h.size()
			continue
		}
		if h.first > r.next || found && h.first != r.next {
			yield(scanned{}, r.damage(r.next, r.scan.off, fmt.Errorf("the commit here begins at position %d", h.first)))
			return false
		}
		f, err := r.scan.take(h, payloads, scratch[:0])
		if err != nil {
			cut(&f, err)
			yield(f, r.wrapAt(h.first, f.offset, err))
			return false
		}
		scratch, r.next, found = f.entries, after, true
		if !yield(f, nil) {
			return false
		}
	}
	return true
}

// cut leaves the entries of a frame before the damaged one.
func cut(f *scanned, err error) {
	var body *bodyError
	if !errors.As(err, &body) || body.record < 0 {
		f.entries = nil
	} else if len(f.entries) > body.record {
		f.entries = f.entries[:body.record]
	}
}

func (r *segmentReader) wrap(offset int64, err error) error { return r.wrapAt(r.next, offset, err) }

func (r *segmentReader) wrapAt(position uint64, offset int64, err error) error {
	if isDamage(err) || errors.Is(err, errNoFooter) {
		return r.damage(position, offset, err)
	}
	return fmt.Errorf("read segment %s of log %s: %w", r.file, r.origin, err)
}

// sameEntries compares what is stored with what is to be appended. A payload
// that is not held here any more does not tell them apart: its header does.
func sameEntries(stored, given []events.Entry) bool {
	if len(stored) != len(given) {
		return false
	}
	for i := range stored {
		if !bytes.Equal(stored[i].Header, given[i].Header) {
			return false
		}
		if stored[i].Payload != nil && given[i].Payload != nil && !bytes.Equal(stored[i].Payload, given[i].Payload) {
			return false
		}
	}
	return true
}

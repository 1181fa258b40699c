package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// The names in a log's directory: segments by their first position, and these.
const (
	lockName    = "lock"
	reserveName = "reserve"
	tmpSuffix   = ".tmp"
	segSuffix   = ".seg"
)

func segmentName(first uint64) string { return fmt.Sprintf("%020d%s", first, segSuffix) }

// segmentNames picks the segments of a sorted listing. A name that ends like
// one and is none is damage.
func segmentNames(names []string, origin events.Origin) ([]string, error) {
	var out []string
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, segSuffix)
		if !ok {
			continue
		}
		first, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || segmentName(first) != name {
			return nil, &store.DamageError{Origin: origin, File: name, What: "not the name of a segment"}
		}
		out = append(out, name)
	}
	return out, nil
}

// segmentFile is an open segment with its header read and checked.
type segmentFile struct {
	place
	File
	header *segmentHeader
	size   int64
}

// openSegment opens a segment file and checks that its header names this log
// and this file.
func openSegment(fs FS, origin events.Origin, name string, write bool) (*segmentFile, error) {
	f, err := fs.Open(name, write)
	if err != nil {
		return nil, fmt.Errorf("open segment %s of log %s: %w", name, origin, err)
	}
	s := &segmentFile{place: place{origin, name}, File: f}
	if err := s.readHeader(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

func (s *segmentFile) readHeader() error {
	var err error
	if s.size, err = s.Size(); err != nil {
		return fmt.Errorf("segment %s of log %s: %w", s.file, s.origin, err)
	}
	b, err := s.scanner(0, s.size, headSize).bytes(0, headSize)
	if err != nil && !isDamage(err) {
		return fmt.Errorf("read segment %s of log %s: %w", s.file, s.origin, err)
	}
	first, _ := strconv.ParseUint(strings.TrimSuffix(s.file, segSuffix), 10, 64) // segmentNames has checked it
	if err == nil {
		s.header, err = decodeSegmentHeader(b)
	}
	switch {
	case err != nil:
		return s.damage(first, 0, err)
	case s.header.origin != s.origin:
		return s.damage(first, 0, fmt.Errorf("the file belongs to log %s", s.header.origin))
	case s.header.first != first:
		return s.damage(first, 0, fmt.Errorf("the file begins at position %d and is named for another", s.header.first))
	}
	return nil
}

func (s *segmentFile) scanner(off, end, step int64) *scanner {
	sc := &scanner{file: s.File, off: off, end: end, step: step}
	if s.header != nil {
		sc.mark = s.header.mark
	}
	return sc
}

// errNoFooter says that a file does not end in a footer.
var errNoFooter = errors.New("the file does not end in a footer")

// findFooter finds the footer at the end of the file by its last bytes, and
// reads its frame header only.
func (s *segmentFile) findFooter() (frameHeader, int64, error) {
	sc := s.scanner(0, s.size, frameSize)
	b, err := sc.bytes(s.size-8, 8)
	if err != nil {
		return frameHeader{}, 0, err
	}
	at := binary.LittleEndian.Uint64(b)
	if at < headSize || at > uint64(s.size-frameSize) || at%8 != 0 {
		return frameHeader{}, 0, errNoFooter
	}
	sc.off = int64(at)
	h, err := sc.peek()
	if err != nil && !isDamage(err) {
		return h, 0, err
	}
	if err != nil || h.kind != footerFrame && h.kind != sealFrame || sc.off+h.size() != s.size {
		return h, 0, errNoFooter
	}
	return h, sc.off, nil
}

// readFooter reads the footer at the end of the file and checks all of it.
func (s *segmentFile) readFooter() (*footer, int64, error) {
	h, at, err := s.findFooter()
	if err != nil {
		return nil, 0, err
	}
	body, err := s.scanner(0, s.size, frameSize).bytes(at+frameSize, int64(h.head))
	if err != nil {
		return nil, 0, err
	}
	f, err := decodeFooter(&h, body, at)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errNoFooter, err)
	}
	if f.drop != nil {
		f.drop.File = s.file
	}
	return f, at, nil
}

package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// How much is read at a time. Headers are read in smaller steps, so that bulk
// payloads between them are passed over.
const (
	readStep   = 128 << 10
	headerStep = 32 << 10
)

// scanner walks the frames of one segment file.
type scanner struct {
	file File
	mark uint64
	off  int64 // of the next frame
	end  int64 // nothing from here on is read
	step int64

	chunk []byte // read and not changed any more: entries are parts of it
	at    int64  // offset of chunk
}

// scanned is a frame that passed its checks, as far as it was read.
type scanned struct {
	frameHeader
	offset  int64
	body    []byte
	entries []events.Entry // of a commit
}

// bytes gives n bytes at off, or io.ErrUnexpectedEOF where there are less.
func (s *scanner) bytes(off, n int64) ([]byte, error) {
	if off+n > s.end {
		return nil, io.ErrUnexpectedEOF
	}
	if off < s.at || off+n > s.at+int64(len(s.chunk)) {
		buf := make([]byte, max(n, min(s.step, s.end-off)))
		have := 0
		if off >= s.at && off < s.at+int64(len(s.chunk)) {
			have = copy(buf, s.chunk[off-s.at:])
		}
		got, err := s.file.ReadAt(buf[have:], off+int64(have))
		if got += have; int64(got) < n { // the rest of the chunk may be cut off while it is read
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		s.chunk, s.at = buf[:got], off
	}
	return s.chunk[off-s.at:][:n:n], nil
}

// peek reads the header of the next frame. The error is errNoFrame when there
// is none, or when it would go past the end.
func (s *scanner) peek() (frameHeader, error) {
	b, err := s.bytes(s.off, frameSize)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return frameHeader{}, errNoFrame
	}
	if err != nil {
		return frameHeader{}, err
	}
	h, err := decodeFrameHeader(b, s.mark)
	if err == nil && s.off+h.size() > s.end {
		return h, fmt.Errorf("%w: it goes past the end", errNoFrame)
	}
	return h, err
}

// take reads the frame that peek showed and steps over it. The scanner stays
// in place on an error other than damaged payloads (see commitEntries).
func (s *scanner) take(h frameHeader, payloads bool, into []events.Entry) (scanned, error) {
	f := scanned{frameHeader: h, offset: s.off}
	n := h.table() + int64(h.head)
	if payloads {
		n = h.size() - frameSize
	}
	var err error
	if f.body, err = s.bytes(s.off+frameSize, n); err != nil {
		return f, err
	}
	if h.kind == commitFrame {
		if f.entries, err = commitEntries(into, &h, f.body, payloads); f.entries == nil {
			return f, err
		}
	}
	s.off += h.size()
	return f, err
}

// frameAfter looks for the header of a frame anywhere from off on.
func (s *scanner) frameAfter(off int64) (int64, bool, error) {
	for ; off+frameSize <= s.end; off += 8 {
		b, err := s.bytes(off, frameSize)
		if err != nil {
			return 0, false, err
		}
		if binary.LittleEndian.Uint64(b) != s.mark {
			continue
		}
		if _, err := decodeFrameHeader(b, s.mark); err == nil {
			return off, true, nil
		}
	}
	return 0, false, nil
}

// lastByte is the offset after the last byte from off on that is not zero, or
// off if there is none.
func (s *scanner) lastByte(off int64) (int64, error) {
	last := off
	for off < s.end {
		n := min(readStep, s.end-off)
		b, err := s.bytes(off, n)
		if err != nil {
			return 0, err
		}
		if !zero(b) {
			i := len(b)
			for b[i-1] == 0 {
				i--
			}
			last = off + int64(i)
		}
		off += n
	}
	return last, nil
}

// place says where damage is.
type place struct {
	origin events.Origin
	file   string
}

// damage makes the error for bytes that are not what was written. A *bodyError
// in cause tells the record, counted from position.
func (p place) damage(position uint64, offset int64, cause error) *store.DamageError {
	var body *bodyError
	if errors.As(cause, &body) && body.record > 0 {
		position += uint64(body.record)
	}
	return &store.DamageError{Origin: p.origin, Position: position, File: p.file, Offset: offset, What: cause.Error()}
}

// isDamage tells bytes that are wrong from bytes that could not be read.
func isDamage(err error) bool {
	var body *bodyError
	return errors.Is(err, errNoFrame) || errors.As(err, &body) || errors.Is(err, io.ErrUnexpectedEOF)
}

package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/store"
)

// All numbers are little-endian; checks are CRC-32C (Castagnoli). DESIGN.md
// has the diagrams of what is encoded here.
const (
	magic           = "HFSEGv1\n"
	headSize        = 4096 // segment header
	frameSize       = 80   // frame header
	tableEntrySize  = 16
	indexEntrySize  = 16
	absent          = 1<<32 - 1 // payload length in the table: not held here
	maxBody         = store.MaxCommitSize + store.MaxCommitEntries*tableEntrySize + 8
	maxFrame        = frameSize + maxBody
	dropSize        = 16      // a seal's note of what was dropped
	maxIndexEntries = 1 << 20 // bounds what a footer may ask to allocate
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

func crc(b []byte) uint32 { return crc32.Checksum(b, crcTable) }

// errNoFrame says that bytes are not a frame of their segment.
var errNoFrame = errors.New("no frame of this segment")

// segmentHeader is the first block of a segment file.
type segmentHeader struct {
	mark     uint64 // random; every frame of the file begins with it
	origin   events.Origin
	first    uint64 // position of the first record, one more than the tree's size
	capacity uint64 // length of the file while it is written to
	tree     evidence.Tree
}

func (h *segmentHeader) encode() []byte {
	b := make([]byte, 0, headSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint64(b, h.mark)
	b = append(b, h.origin.Site.UUID[:]...)
	b = binary.LittleEndian.AppendUint32(b, h.origin.Epoch)
	b = binary.LittleEndian.AppendUint32(b, kindCode(h.origin.Kind))
	b = binary.LittleEndian.AppendUint64(b, h.first)
	b = binary.LittleEndian.AppendUint64(b, h.capacity)
	tree, err := h.tree.MarshalBinary()
	if err != nil {
		panic(err) // it has no way to fail
	}
	b = append(b, tree...)[:headSize]
	binary.LittleEndian.PutUint32(b[headSize-4:], crc(b[:headSize-4]))
	return b
}

// decodeSegmentHeader reads what encode wrote, and nothing else.
func decodeSegmentHeader(b []byte) (*segmentHeader, error) {
	if len(b) != headSize || string(b[:8]) != magic {
		return nil, errors.New("no segment header")
	}
	if crc(b[:headSize-4]) != binary.LittleEndian.Uint32(b[headSize-4:]) {
		return nil, errors.New("checksum of the segment header")
	}
	h := &segmentHeader{
		mark:     binary.LittleEndian.Uint64(b[8:]),
		first:    binary.LittleEndian.Uint64(b[40:]),
		capacity: binary.LittleEndian.Uint64(b[48:]),
	}
	copy(h.origin.Site.UUID[:], b[16:32])
	h.origin.Epoch = binary.LittleEndian.Uint32(b[32:])
	h.origin.Kind = kindOf(binary.LittleEndian.Uint32(b[36:]))
	size := binary.LittleEndian.Uint64(b[56:])
	if err := h.tree.UnmarshalBinary(b[56 : 56+evidence.StateSize(size)]); err != nil {
		return nil, fmt.Errorf("segment header: %w", err)
	}
	if h.first != size+1 || h.capacity > 1<<62 || !bytes.Equal(h.encode(), b) {
		return nil, errors.New("fields of the segment header do not fit together")
	}
	return h, nil
}

func kindCode(k events.Kind) uint32 {
	switch k {
	case events.Ctl:
		return 1
	case events.Rec:
		return 2
	}
	return 0
}

func kindOf(code uint32) events.Kind {
	switch code {
	case 1:
		return events.Ctl
	case 2:
		return events.Rec
	}
	return ""
}

// frameKind says what a frame holds.
type frameKind uint32

const (
	commitFrame frameKind = 1 // records
	startFrame  frameKind = 2 // everything before it is durable, and more may follow
	endFrame    frameKind = 3 // the log was closed in order; nothing follows until a startFrame
	footerFrame frameKind = 4 // the segment is full: index; the log goes on in the next one
	sealFrame   frameKind = 5 // the log ended for good: index, and what was dropped
)

// frameHeader begins every frame. Its body follows it: for a commit the table,
// the headers, the payloads, and zeros up to a multiple of 8.
type frameHeader struct {
	kind     frameKind
	count    uint32      // records, or index entries
	first    uint64      // position of the first record that is not before the frame
	root     events.Hash // of the log before the frame; its size is first-1
	head     uint32      // bytes of the headers, or of the body of another kind
	check    uint32      // of the table, or of the body of another kind
	payloads uint64      // bytes of the payloads
}

func (h *frameHeader) encode(b []byte, mark uint64) {
	_ = b[frameSize-1]
	binary.LittleEndian.PutUint64(b, mark)
	binary.LittleEndian.PutUint32(b[8:], uint32(h.kind))
	binary.LittleEndian.PutUint32(b[12:], h.count)
	binary.LittleEndian.PutUint64(b[16:], h.first)
	copy(b[24:56], h.root[:])
	binary.LittleEndian.PutUint32(b[56:], h.head)
	binary.LittleEndian.PutUint32(b[60:], h.check)
	binary.LittleEndian.PutUint64(b[64:], h.payloads)
	binary.LittleEndian.PutUint32(b[72:], 0)
	binary.LittleEndian.PutUint32(b[76:], crc(b[:76]))
}

// decodeFrameHeader reads a frame header. Everything it returns is in bounds:
// a caller may allocate what the header asks for.
func decodeFrameHeader(b []byte, mark uint64) (frameHeader, error) {
	if len(b) < frameSize || binary.LittleEndian.Uint64(b) != mark ||
		crc(b[:76]) != binary.LittleEndian.Uint32(b[76:]) {
		return frameHeader{}, errNoFrame
	}
	h := frameHeader{
		kind:     frameKind(binary.LittleEndian.Uint32(b[8:])),
		count:    binary.LittleEndian.Uint32(b[12:]),
		first:    binary.LittleEndian.Uint64(b[16:]),
		root:     events.Hash(b[24:56]),
		head:     binary.LittleEndian.Uint32(b[56:]),
		check:    binary.LittleEndian.Uint32(b[60:]),
		payloads: binary.LittleEndian.Uint64(b[64:]),
	}
	ok := h.first > 0 && binary.LittleEndian.Uint32(b[72:]) == 0
	switch h.kind {
	case commitFrame:
		ok = ok && h.count > 0 && h.count <= store.MaxCommitEntries && uint64(h.head)+h.payloads <= store.MaxCommitSize
	case startFrame, endFrame:
		ok = ok && h.count == 0 && h.head == 0 && h.payloads == 0 && h.check == 0
	case footerFrame, sealFrame:
		ok = ok && h.payloads == 0 && h.count <= maxIndexEntries && h.head >= 8 && h.head%8 == 0 &&
			h.head <= 8+h.count*indexEntrySize+dropSize && h.head >= 8+h.count*indexEntrySize
	default:
		ok = false
	}
	if !ok {
		return frameHeader{}, fmt.Errorf("%w: header fields out of range", errNoFrame)
	}
	return h, nil
}

// table is the length of a commit's record table.
func (h *frameHeader) table() int64 {
	if h.kind != commitFrame {
		return 0
	}
	return int64(h.count) * tableEntrySize
}

// size is the length of the whole frame.
func (h *frameHeader) size() int64 {
	return padded(frameSize + h.table() + int64(h.head) + int64(h.payloads))
}

func padded(n int64) int64 { return (n + 7) &^ 7 }

// bodyError names the record of a commit whose bytes fail their check.
type bodyError struct {
	record int // index in the commit, -1 for the table or the padding
	what   string
}

func (e *bodyError) Error() string { return e.what }

// commitSize is the length of the frame of a commit.
func commitSize(entries []events.Entry) int64 { return padded(unpadded(entries)) }

func unpadded(entries []events.Entry) int64 {
	n := frameSize + len(entries)*tableEntrySize
	for _, e := range entries {
		n += len(e.Header) + len(e.Payload)
	}
	return int64(n)
}

// copiedPayload is the length up to which a payload is copied beside its
// neighbours; longer ones are written from where they are.
const copiedPayload = 8 << 10

// layOut makes the frame of a commit: parts that are to be written one after
// the other. They point into buf, which is used for all that is not a long
// payload, and into the entries.
func layOut(buf []byte, parts [][]byte, mark uint64, first uint64, root events.Hash, entries []events.Entry) ([]byte, [][]byte) {
	b := slices.Grow(buf[:0], copiedSize(entries))[:frameSize] // it does not move below
	h := frameHeader{kind: commitFrame, count: uint32(len(entries)), first: first, root: root}
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Header)))
		b = binary.LittleEndian.AppendUint32(b, crc(e.Header))
		h.head += uint32(len(e.Header))
		if e.Payload == nil {
			b = binary.LittleEndian.AppendUint64(b, absent)
			continue
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Payload)))
		b = binary.LittleEndian.AppendUint32(b, crc(e.Payload))
		h.payloads += uint64(len(e.Payload))
	}
	h.check = crc(b[frameSize:])
	h.encode(b[:frameSize], mark)
	for _, e := range entries {
		b = append(b, e.Header...)
	}
	done := 0 // bytes of b that parts has
	for _, e := range entries {
		if len(e.Payload) <= copiedPayload {
			b = append(b, e.Payload...)
			continue
		}
		parts, done = append(parts, b[done:len(b):len(b)], e.Payload), len(b)
	}
	b = append(b, make([]byte, commitSize(entries)-unpadded(entries))...)
	return b, append(parts, b[done:])
}

// copiedSize is how much of a commit's frame is not a long payload.
func copiedSize(entries []events.Entry) int {
	n := commitSize(entries)
	for _, e := range entries {
		if len(e.Payload) > copiedPayload {
			n -= int64(len(e.Payload))
		}
	}
	return int(n)
}

// commitEntries appends the entries of a commit to into. body is the whole
// body, or table and headers only when payloads is false; the entries are
// parts of it. Where bytes fail their check the error is a *bodyError. When
// only payloads do, all entries are returned, without those payloads, and the
// error names the first.
func commitEntries(into []events.Entry, h *frameHeader, body []byte, payloads bool) ([]events.Entry, error) {
	table, rest := body[:h.table()], body[h.table():]
	if crc(table) != h.check {
		return nil, &bodyError{-1, "checksum of the record table"}
	}
	heads, rest := rest[:h.head], rest[h.head:]
	var bad error
	for i := range int(h.count) {
		row := table[i*tableEntrySize:][:tableEntrySize]
		n := binary.LittleEndian.Uint32(row)
		if uint64(n) > uint64(len(heads)) || n == 0 {
			return nil, &bodyError{-1, "lengths in the record table"}
		}
		if crc(heads[:n]) != binary.LittleEndian.Uint32(row[4:]) {
			return nil, &bodyError{i, "checksum of the record's header"}
		}
		e := events.Entry{Header: heads[:n:n]}
		heads = heads[n:]
		if m := binary.LittleEndian.Uint32(row[8:]); payloads && m != absent {
			if uint64(m) > uint64(len(rest)) {
				return nil, &bodyError{-1, "lengths in the record table"}
			}
			if crc(rest[:m]) == binary.LittleEndian.Uint32(row[12:]) {
				e.Payload = rest[:m:m]
			} else if bad == nil {
				bad = &bodyError{i, "checksum of the record's payload"}
			}
			rest = rest[m:]
		}
		into = append(into, e)
	}
	if len(heads) > 0 || payloads && (len(rest) > 7 || !zero(rest)) {
		return nil, &bodyError{-1, "padding of the commit"}
	}
	return into, bad
}

// appendMark appends a startFrame or an endFrame.
func appendMark(b []byte, mark uint64, kind frameKind, size uint64, root events.Hash) []byte {
	h := frameHeader{kind: kind, first: size + 1, root: root}
	b = append(b, make([]byte, frameSize)...)
	h.encode(b[len(b)-frameSize:], mark)
	return b
}

// zero reports whether b has no other bytes than zeros.
func zero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

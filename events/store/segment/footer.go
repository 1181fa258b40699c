package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// indexStep is how far apart indexed commits are, in bytes.
const indexStep = 64 << 10

// indexEntry says where the commit that begins at a position is.
type indexEntry struct {
	first  uint64
	offset int64
}

// index is sparse and sorted.
type index []indexEntry

// add takes note of a commit; most are passed over.
func (x index) add(first uint64, offset int64) index {
	if n := len(x); n > 0 && offset < x[n-1].offset+indexStep {
		return x
	}
	return append(x, indexEntry{first, offset})
}

// find gives the offset of the last indexed commit that begins at or before a
// position.
func (x index) find(position uint64) int64 {
	i := sort.Search(len(x), func(i int) bool { return x[i].first > position })
	if i == 0 {
		return headSize
	}
	return x[i-1].offset
}

// footerBound is the room that a segment keeps free for its footer.
func footerBound(capacity int64) int64 {
	return frameSize + indexEntrySize*(capacity/indexStep+1) + dropSize + 8
}

// footer is the body of a footerFrame or a sealFrame: the index, then in a
// sealFrame what was dropped when the log was sealed, then its own offset, so
// that it is found from the end of the file.
type footer struct {
	kind  frameKind
	size  uint64 // records of the log up to the end of this segment
	root  events.Hash
	index index
	drop  *store.TailDropped // with kind sealFrame, nil for nothing dropped
}

func appendFooter(b []byte, mark uint64, f *footer, offset int64) []byte {
	start := len(b)
	b = append(b, make([]byte, frameSize)...)
	for _, e := range f.index {
		b = binary.LittleEndian.AppendUint64(b, e.first)
		b = binary.LittleEndian.AppendUint64(b, uint64(e.offset))
	}
	if f.drop != nil {
		b = binary.LittleEndian.AppendUint64(b, uint64(f.drop.Offset))
		b = binary.LittleEndian.AppendUint64(b, uint64(f.drop.Dropped))
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(offset))
	body := b[start+frameSize:]
	h := frameHeader{
		kind: f.kind, count: uint32(len(f.index)), first: f.size + 1, root: f.root,
		head: uint32(len(body)), check: crc(body),
	}
	h.encode(b[start:], mark)
	return b
}

// decodeFooter reads the body of a footer that stands at offset.
func decodeFooter(h *frameHeader, body []byte, offset int64) (*footer, error) {
	if h.kind != footerFrame && h.kind != sealFrame {
		return nil, fmt.Errorf("%w: no footer", errNoFrame)
	}
	if len(body) != int(h.head) || crc(body) != h.check {
		return nil, errors.New("checksum of the footer")
	}
	if binary.LittleEndian.Uint64(body[len(body)-8:]) != uint64(offset) {
		return nil, errors.New("offset of the footer")
	}
	f := &footer{kind: h.kind, size: h.first - 1, root: h.root, index: make(index, h.count)}
	for i := range f.index {
		e := indexEntry{binary.LittleEndian.Uint64(body), int64(binary.LittleEndian.Uint64(body[8:]))}
		if e.offset < headSize || e.offset >= offset || e.first > f.size ||
			i > 0 && (e.first <= f.index[i-1].first || e.offset <= f.index[i-1].offset) {
			return nil, errors.New("index in the footer")
		}
		f.index[i], body = e, body[indexEntrySize:]
	}
	switch note := body[:len(body)-8]; {
	case len(note) == 0:
	case h.kind == footerFrame || len(note) != dropSize:
		return nil, errors.New("length of the footer")
	default:
		f.drop = &store.TailDropped{
			Size: f.size, Root: f.root,
			Offset:  int64(binary.LittleEndian.Uint64(note)),
			Dropped: int64(binary.LittleEndian.Uint64(note[8:])),
		}
	}
	return f, nil
}

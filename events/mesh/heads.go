package mesh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"sort"

	"golang.org/x/sys/unix"
)

// headFile keeps the heads that cover a copy of a log, one for each place where
// a batch ended. It is an append-only file of
//
//	0   4  length of the note
//	4   8  size that the head covers
//	12  8  bytes of the records up to there
//	20  .  the note
//	.   4  CRC-32C of all of the above
//
// integers big-endian. What does not check at the end was never acknowledged
// and is cut off on opening. Zeros stand ahead of the end: a write into them is made
// durable without the file system's journal. Not safe for concurrent use.
type headFile struct {
	file  *os.File
	size  int64
	room  int64 // up to where there is something in the file, heads or zeros
	heads []storedHead
}

// storedHead is a head, and where its note is in the file.
type storedHead struct {
	size  uint64 // records
	bytes uint64 // of records up to there
	note  []byte
}

const (
	headsFixed = 20
	// sparse is how far apart heads stay when the file is written anew: what
	// lies between two of them must fit into a batch.
	sparseBytes   = 1 << 20
	sparseRecords = 4096
	// headsMax is the length over which the file is written anew on opening.
	headsMax = 1 << 20
	// headsAhead is how many zeros are written at once.
	headsAhead = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func openHeads(path string) (*headFile, error) {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read heads: %w", err)
	}
	h := &headFile{}
	for {
		head, n := readHead(b[h.size:])
		if n == 0 {
			break
		}
		h.heads = append(h.heads, head)
		h.size += int64(n)
	}
	if h.size > headsMax {
		if err := h.rewrite(path); err != nil {
			return nil, fmt.Errorf("write heads anew: %w", err)
		}
	}
	if h.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("open heads: %w", err)
	}
	if err := errors.Join(h.file.Truncate(h.size), h.file.Sync()); err != nil {
		return nil, errors.Join(fmt.Errorf("open heads: %w", err), h.file.Close())
	}
	h.room = h.size
	return h, nil
}

// readHead reads the first entry of b, and its length; 0 when there is none.
func readHead(b []byte) (storedHead, int) {
	if len(b) < headsFixed+4 {
		return storedHead{}, 0
	}
	n := int(binary.BigEndian.Uint32(b))
	if n > maxHead || len(b) < headsFixed+n+4 {
		return storedHead{}, 0
	}
	end := headsFixed + n
	if crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return storedHead{}, 0
	}
	return storedHead{
		size: binary.BigEndian.Uint64(b[4:]), bytes: binary.BigEndian.Uint64(b[12:]), note: append([]byte(nil), b[headsFixed:end]...),
	}, end + 4
}

func appendHead(b []byte, h storedHead) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, uint32(len(h.note)))
	b = binary.BigEndian.AppendUint64(b, h.size)
	b = binary.BigEndian.AppendUint64(b, h.bytes)
	b = append(b, h.note...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// rewrite leaves out heads that others stand close to, and puts the rest into a
// new file.
func (h *headFile) rewrite(path string) error {
	h.heads = thin(h.heads)
	var b []byte
	for _, head := range h.heads {
		b = appendHead(b, head)
	}
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	h.size = int64(len(b))
	return os.Rename(tmp, path)
}

// thin leaves out heads, so that what is between two of those that stay is no
// more than the sparse limits, where it was not before.
func thin(heads []storedHead) []storedHead {
	var kept []storedHead
	var last storedHead
	for i, head := range heads {
		if i+1 < len(heads) {
			next := heads[i+1]
			if next.bytes-last.bytes <= sparseBytes && next.size-last.size <= sparseRecords {
				continue
			}
		}
		kept, last = append(kept, head), head
	}
	return kept
}

// add makes heads durable.
func (h *headFile) add(heads []storedHead) error {
	var b []byte
	for _, head := range heads {
		b = appendHead(b, head)
	}
	end := h.size + int64(len(b))
	if end > h.room {
		if _, err := h.file.WriteAt(append(b, make([]byte, headsAhead)...), h.size); err != nil {
			return err
		}
		if err := h.file.Sync(); err != nil {
			return err
		}
		h.room = end + headsAhead
	} else {
		if _, err := h.file.WriteAt(b, h.size); err != nil {
			return err
		}
		if err := unix.Fdatasync(int(h.file.Fd())); err != nil {
			return err
		}
	}
	h.size = end
	h.heads = append(h.heads, heads...)
	return nil
}

// cut forgets the heads over more than a size: their records did not become
// durable.
func (h *headFile) cut(size uint64) error {
	n := sort.Search(len(h.heads), func(i int) bool { return h.heads[i].size > size })
	if n == len(h.heads) {
		return nil
	}
	for _, head := range h.heads[n:] {
		h.size -= int64(headsFixed + len(head.note) + 4)
	}
	h.heads, h.room = h.heads[:n], h.size
	return errors.Join(h.file.Truncate(h.size), h.file.Sync())
}

// newest is the head that covers most; its size is 0 when there is none.
func (h *headFile) newest() storedHead {
	if n := len(h.heads); n > 0 {
		return h.heads[n-1]
	}
	return storedHead{}
}

// after is the greatest head over at most limit bytes more than records up to
// from have, at least the next one; its size is 0 when there is none.
func (h *headFile) after(from, to, limit uint64) storedHead {
	i := sort.Search(len(h.heads), func(i int) bool { return h.heads[i].size > from })
	if i == len(h.heads) {
		return storedHead{}
	}
	start := uint64(0)
	if i > 0 {
		start = h.heads[i-1].bytes
	}
	best := h.heads[i]
	for _, head := range h.heads[i+1:] {
		if head.size > to || head.bytes-start > limit || head.size-from > sparseRecords {
			break
		}
		best = head
	}
	return best
}

func (h *headFile) close() error { return h.file.Close() }

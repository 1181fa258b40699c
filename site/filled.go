package site

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/store"
)

// filled is the copy of another site's log with payloads that came later than their
// headers. They stand in a directory beside the records, in files named by their
// first and last position: for each position the length of its payload, 4 bytes
// little-endian, and the payload. What proves a payload is the header.
type filled struct {
	store.Log
	dir string
	log *slog.Logger

	mu   sync.Mutex // guards what follows
	has  []stretch  // sorted, none overlaps another
	read stretch    // what was read last
	kept [][]byte   // its payloads
}

// stretch is the positions from first to last.
type stretch struct{ first, last uint64 }

func (s stretch) file() string { return fmt.Sprintf("%020d-%020d", s.first, s.last) }

// openFilled gives a copy that has the payloads of earlier runs.
func openFilled(log store.Log, dir string, l *slog.Logger) (*filled, error) {
	f := &filled{Log: log, dir: dir, log: l}
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("payloads of log %s that came later: %w", log.Origin(), err)
	}
	for _, e := range files {
		var s stretch
		if n, err := fmt.Sscanf(e.Name(), "%020d-%020d", &s.first, &s.last); err == nil && n == 2 && s.first <= s.last && s.file() == e.Name() {
			f.has = append(f.has, s)
		}
	}
	slices.SortFunc(f.has, byFirst)
	return f, nil
}

func byFirst(a, b stretch) int {
	if a.first < b.first {
		return -1
	}
	if a.first > b.first {
		return 1
	}
	return 0
}

// TreeBefore implements [store.TreeKeeper].
func (f *filled) TreeBefore(size uint64) (evidence.Tree, error) {
	if k, ok := f.Log.(store.TreeKeeper); ok {
		return k.TreeBefore(size)
	}
	return evidence.Tree{}, nil
}

// Absent yields the positions, from one on, whose payload has not come.
func (f *filled) Absent(ctx context.Context, from uint64) iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		k, ok := f.Log.(store.AbsentKeeper)
		if !ok {
			return
		}
		for p, err := range k.Absent(ctx, from) {
			if err == nil && f.covers(p) {
				continue
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// Read yields entries like the log, with the payloads that have come since.
func (f *filled) Read(ctx context.Context, from uint64) iter.Seq2[events.Entry, error] {
	return func(yield func(events.Entry, error) bool) {
		at := from
		for e, err := range f.Log.Read(ctx, from) {
			if err == nil && e.Payload == nil && f.covers(at) {
				e.Payload = f.payload(at, e.Header)
			}
			if !yield(e, err) || err != nil {
				return
			}
			at++
		}
	}
}

// fill makes payloads durable, of positions from first on.
func (f *filled) fill(first uint64, payloads [][]byte) error {
	var b []byte
	for _, p := range payloads {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	s := stretch{first, first + uint64(len(payloads)) - 1}
	err := os.MkdirAll(f.dir, 0o700)
	if err == nil {
		err = writeDurable(filepath.Join(f.dir, s.file()), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("payloads of log %s that came later: %w", f.Origin(), err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	i, _ := slices.BinarySearchFunc(f.has, s, byFirst)
	f.has = slices.Insert(f.has, i, s)
	return nil
}

func (f *filled) covers(position uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.find(position)
	return ok
}

// find gives the stretch that holds a position; under mu.
func (f *filled) find(position uint64) (stretch, bool) {
	i, exact := slices.BinarySearchFunc(f.has, stretch{first: position}, byFirst)
	if !exact {
		i--
	}
	if i < 0 || f.has[i].last < position {
		return stretch{}, false
	}
	return f.has[i], true
}

// payload gives what has come for a position. A file that was damaged is given up:
// what it held is absent again, and is fetched again.
func (f *filled) payload(position uint64, header []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.find(position)
	if !ok {
		return nil
	}
	err := f.load(s)
	if err == nil {
		p := f.kept[position-s.first]
		if _, err = events.DecodeEntry(events.Entry{Header: header, Payload: p}); err == nil {
			return p
		}
	}
	f.log.Error("payloads that came later than their headers are damaged; they are fetched again",
		"log", f.Origin().String(), "file", filepath.Join(f.dir, s.file()), "error", err, "removed", os.Remove(filepath.Join(f.dir, s.file())) == nil)
	f.has = slices.DeleteFunc(f.has, func(other stretch) bool { return other == s })
	f.read, f.kept = stretch{}, nil
	return nil
}

// load reads the file of a stretch, unless it was the last one; under mu.
func (f *filled) load(s stretch) error {
	if f.read == s {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(f.dir, s.file()))
	if err != nil {
		return err
	}
	var payloads [][]byte
	for len(b) >= 4 {
		n := uint64(binary.LittleEndian.Uint32(b))
		if b = b[4:]; n > uint64(len(b)) {
			break
		}
		payloads, b = append(payloads, b[:n:n]), b[n:]
	}
	if len(b) > 0 || uint64(len(payloads)) != s.last-s.first+1 {
		return errors.New("it ends early")
	}
	f.read, f.kept = s, payloads
	return nil
}

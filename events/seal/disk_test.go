package seal

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
)

var errDisk = errors.New("injected disk error")

// disk is a tableFile that knows what is durable and what is only in the cache.
type disk struct {
	mu      sync.Mutex
	durable []byte
	cached  []byte
	dirty   []diskWrite // since the last sync, in order
	syncs   int

	beforeWrite func(off int64, n int) error // nil: all writes work
	beforeSync  func() error                 // nil: all syncs work
}

type diskWrite struct {
	off  int64
	data []byte
}

// newDisk returns a disk that holds image, durably.
func newDisk(image []byte) *disk {
	return &disk{durable: bytes.Clone(image), cached: bytes.Clone(image)}
}

// emptyTable is the image of a table just created.
func emptyTable() []byte {
	image := make([]byte, chunkSize)
	copy(image, encodeHeader())
	return image
}

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off >= int64(len(d.cached)) {
		return 0, io.EOF
	}
	n := copy(p, d.cached[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.beforeWrite != nil {
		if err := d.beforeWrite(off, len(p)); err != nil {
			return 0, err
		}
	}
	w := diskWrite{off: off, data: bytes.Clone(p)}
	d.cached = w.apply(d.cached, func(int) bool { return true })
	d.dirty = append(d.dirty, w)
	return len(p), nil
}

// apply returns image with those bytes of w that keep allows.
func (w diskWrite) apply(image []byte, keep func(i int) bool) []byte {
	for i, c := range w.data {
		if !keep(i) {
			continue
		}
		at := int(w.off) + i
		if at >= len(image) {
			image = slices.Grow(image, at+1-len(image))
			for len(image) <= at {
				image = append(image, 0)
			}
		}
		image[at] = c
	}
	return image
}

func (d *disk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.beforeSync != nil {
		if err := d.beforeSync(); err != nil {
			return err
		}
	}
	d.syncs++
	for _, w := range d.dirty {
		d.durable = w.apply(d.durable, func(int) bool { return true })
	}
	d.dirty = nil
	return nil
}

func (d *disk) Size() (int64, error) { return int64(len(d.cached)), nil }

func (d *disk) Close() error { return nil }

// crash returns what the disk holds after power loss, where keep says which
// byte of which write since the last sync made it.
func (d *disk) crash(keep func(write, i int) bool) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	image := bytes.Clone(d.durable)
	for n, w := range d.dirty {
		image = w.apply(image, func(i int) bool { return keep(n, i) })
	}
	return image
}

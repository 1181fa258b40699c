package segment

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/holdfast-pam/holdfast/events/store"
)

// fault is what one step of a memFS does instead of what it is asked to.
type fault int

const (
	works          fault = iota
	failsUndone          // reports an error; nothing happened, and what was to be synced is lost
	failsButDone         // reports an error although all of it happened
	liesDone             // reports success; nothing reached the disk
	powerCutInHalf       // half of it reaches the disk, and the power goes
	stopsDone            // it happened in the cache, and the power goes
)

var errFault = errors.New("injected fault")

const page = 512

// memFS is a disk with a cache before it, as a kernel keeps one: a write is in
// the cache until a sync, and pages of a failed sync are clean: no later sync
// writes them. Names are durable after SyncDir, or lost by a crash.
type memFS struct {
	mu     sync.Mutex
	names  map[string]*memData
	synced map[string]*memData // names on disk
	locked bool
	free   int64 // bytes that Allocate can still take

	step   int // counts every call that changes something
	at     int // the step that goes wrong, 0 for none
	fault  fault
	broken bool // after a power cut nothing works
	hit    string
}

// memData is the content of a file: in the cache, and on disk.
type memData struct {
	cache, disk []byte
	dirty       map[int64]bool // pages
}

func newMemFS() *memFS {
	return &memFS{names: map[string]*memData{}, synced: map[string]*memData{}, free: 1 << 40}
}

// next counts a step and gives its fault. mu is held.
func (m *memFS) next(what string) fault {
	m.step++
	if m.broken {
		return failsUndone
	}
	if m.step == m.at {
		m.hit = what
		return m.fault
	}
	return works
}

// do runs a step under its fault. half is what a power cut leaves done.
func (m *memFS) do(what string, act, undo, half func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.next(what) {
	case works:
		act()
		return nil
	case failsButDone:
		act()
		return fmt.Errorf("%s: %w", what, errFault)
	case liesDone:
		undo()
		return nil
	case powerCutInHalf:
		half()
		m.broken = true
	case stopsDone:
		if !strings.HasPrefix(what, "sync") {
			act()
		}
		m.broken = true
	default:
		undo()
	}
	return fmt.Errorf("%s: %w", what, errFault)
}

func nothing() {}

// kill gives the disk as a new process finds it: the cache is still there.
func (m *memFS) kill() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := newMemFS()
	out.free = m.free
	for name, d := range m.names {
		out.names[name] = d.clone()
		out.synced[name] = out.names[name]
	}
	return out
}

// crash gives the disk after a loss of power: only what was synced. Of the
// names that were not, those in keep survive anyway.
func (m *memFS) crash() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := newMemFS()
	out.free = m.free
	for name, d := range m.synced {
		c := &memData{cache: slices.Clone(d.disk), disk: slices.Clone(d.disk), dirty: map[int64]bool{}}
		out.names[name], out.synced[name] = c, c
	}
	return out
}

func (d *memData) clone() *memData {
	return &memData{cache: slices.Clone(d.cache), disk: slices.Clone(d.disk), dirty: maps.Clone(d.dirty)}
}

// flush writes dirty pages to the disk, the first limit of them.
func (d *memData) flush(limit int) {
	pages := slices.Sorted(maps.Keys(d.dirty))
	d.disk = resize(d.disk, len(d.cache))
	for i, p := range pages {
		if i >= limit {
			return
		}
		copy(d.disk[min(int(p)*page, len(d.disk)):], d.cache[min(int(p)*page, len(d.cache)):min(int(p+1)*page, len(d.cache))])
		delete(d.dirty, p)
	}
}

func resize(b []byte, n int) []byte {
	if n <= len(b) {
		return b[:n:n]
	}
	return append(b, make([]byte, n-len(b))...)
}

func (m *memFS) List() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.names)), nil
}

func (m *memFS) Create(name string) (File, error) {
	d := &memData{dirty: map[int64]bool{}}
	if err := m.do("create "+name, func() { m.names[name] = d }, nothing, nothing); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.names[name] = d // a lie about a creation can only be about the disk
	return &memFile{m, d, name}, nil
}

func (m *memFS) Open(name string, _ bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.names[name]
	if d == nil {
		return nil, fmt.Errorf("open %s: %w", name, syscall.ENOENT)
	}
	return &memFile{m, d, name}, nil
}

func (m *memFS) Rename(from, to string) error {
	act := func() { m.names[to] = m.names[from]; delete(m.names, from) }
	return m.do("rename to "+to, act, nothing, nothing)
}

func (m *memFS) Remove(name string) error {
	return m.do("remove "+name, func() { m.free += int64(len(m.names[name].cache)); delete(m.names, name) }, nothing, nothing)
}

func (m *memFS) SyncDir() error {
	return m.do("sync directory", func() { m.synced = maps.Clone(m.names) }, nothing, nothing)
}

func (m *memFS) Free() (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(m.free), nil
}

func (m *memFS) Lock() (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locked {
		return nil, store.ErrLocked
	}
	m.locked = true
	return unlocker{m}, nil
}

type unlocker struct{ m *memFS }

func (u unlocker) Close() error {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	u.m.locked = false
	return nil
}

type memFile struct {
	m    *memFS
	d    *memData
	name string
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if off >= int64(len(f.d.cache)) {
		return 0, io.EOF
	}
	n := copy(b, f.d.cache[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	put := func(b []byte) func() {
		return func() {
			f.d.cache = resize(f.d.cache, max(len(f.d.cache), int(off)+len(b)))
			copy(f.d.cache[off:], b)
			for p := off / page; p*page < off+int64(len(b)); p++ {
				f.d.dirty[p] = true
			}
		}
	}
	half := func() { put(b[:len(b)/2])(); f.d.flush(1 << 30) }
	if err := f.m.do(fmt.Sprintf("write %d bytes to %s", len(b), f.name), put(b), nothing, half); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (f *memFile) WritePartsAt(parts [][]byte, off int64) error {
	_, err := f.WriteAt(slices.Concat(parts...), off)
	return err
}

func (f *memFile) Sync() error {
	lost := func() { f.d.dirty = map[int64]bool{} }
	return f.m.do("sync "+f.name, func() { f.d.flush(1 << 30) }, lost, func() { f.d.flush((len(f.d.dirty) + 1) / 2) })
}

func (f *memFile) SyncData() error { return f.Sync() }

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return int64(len(f.d.cache)), nil
}

func (f *memFile) Allocate(size int64) error {
	f.m.mu.Lock()
	more := size - int64(len(f.d.cache))
	if more > f.m.free {
		f.m.mu.Unlock()
		return syscall.ENOSPC
	}
	f.m.mu.Unlock()
	act := func() { f.m.free -= more; f.d.cache = resize(f.d.cache, int(size)) }
	return f.m.do("allocate "+f.name, act, act, nothing)
}

func (f *memFile) Truncate(size int64) error {
	act := func() { f.m.free += int64(len(f.d.cache)) - size; f.d.cache = resize(f.d.cache, int(size)) }
	return f.m.do("truncate "+f.name, act, act, nothing)
}

func (f *memFile) Close() error { return nil }

// crashSome gives the disk after a loss of power that let some of what was not
// synced through: each dirty page, and the names as a whole, by chance.
func (m *memFS) crashSome(lucky func() bool) *memFS {
	out := m.crash()
	m.mu.Lock()
	defer m.mu.Unlock()
	names := m.synced
	if lucky() {
		names = m.names
	}
	out.names, out.synced = map[string]*memData{}, map[string]*memData{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		d := names[name].clone()
		for _, p := range slices.Sorted(maps.Keys(d.dirty)) {
			if !lucky() {
				delete(d.dirty, p)
			}
		}
		d.flush(1 << 30)
		c := &memData{cache: d.disk, disk: slices.Clone(d.disk), dirty: map[int64]bool{}}
		out.names[name], out.synced[name] = c, c
	}
	return out
}

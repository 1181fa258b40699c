package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"sync"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// KeyTable is the file of wrapped data keys beside the log, the one part of a
// site's history that can be made to forget. It is opened by one process at a
// time (flock) and safe for concurrent use in it. Wraps are read from the file
// at each Get; only names and slot numbers are kept in memory.
type KeyTable struct {
	path string
	file tableFile

	// io is held for the length of one group commit. Lock order: io, mu.
	io          sync.Mutex
	chunks      uint32            // file size in chunks; guarded by io
	unconfirmed map[uint32][]byte // slots of the last commit, still PUT_; guarded by io

	mu     sync.Mutex // guards the rest
	slots  map[uuid.UUID][]uint32
	free   []uint32  // the next to be used is the last
	queue  []*change // waiting for the next group commit
	broken error     // why the table is closed; nil while it is open

	recovered Recovery       // written while opening only
	damage    []*DamageError // written while opening only
}

// Recovery counts what a crash had left half done and opening the table finished.
type Recovery struct {
	TornPuts int // puts never acknowledged, removed
	Erasures int // erasures under way, completed; or puts torn at both ends, removed
}

// TableOptions of OpenKeyTable.
type TableOptions struct {
	// AllowDamage opens a table with damaged slots: they are reported by
	// Damage, never used and never overwritten. Without it they are an error.
	AllowDamage bool
}

// tableFile is the disk under a table; tests put a failing one there.
type tableFile interface {
	io.ReaderAt
	io.WriterAt
	Sync() error // data durable on return
	Size() (int64, error)
	Close() error
}

type diskFile struct{ *os.File }

func (f diskFile) Sync() error { return syncData(f.File) }

func (f diskFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// CreateKeyTable makes an empty table at path, mode 0600, durably. It never
// replaces a file: an existing one is fs.ErrExist.
func CreateKeyTable(path string) error {
	content := make([]byte, chunkSize)
	copy(content, encodeHeader())
	return createFile(path, 0o600, content)
}

// OpenKeyTable opens the table at path. It removes what a crash left half done
// (see Recovered) and refuses anything else that is not whole with one
// *DamageError for each slot, joined. A missing file is fs.ErrNotExist and is never
// made anew here: without it nothing sealed at this site can be opened.
func OpenKeyTable(path string, opts TableOptions) (*KeyTable, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open key table: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open key table %s: another process has it open; stop that one first: %w", path, err)
	}
	if err := syncData(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open key table %s: sync: %w", path, err)
	}
	forgetCache(f)
	return openTable(path, diskFile{f}, opts)
}

// openTable owns f from here on, also when it fails.
func openTable(path string, f tableFile, opts TableOptions) (*KeyTable, error) {
	t := &KeyTable{path: path, file: f, slots: map[uuid.UUID][]uint32{}, unconfirmed: map[uint32][]byte{}}
	err := t.scan(opts)
	if err == nil && !opts.AllowDamage {
		for _, d := range t.damage {
			err = errors.Join(err, d)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return t, nil
}

// scan reads the whole file, builds the index, and makes the repairs durable.
func (t *KeyTable) scan(opts TableOptions) error {
	size, err := t.file.Size()
	if err != nil {
		return fmt.Errorf("open key table %s: %w", t.path, err)
	}
	t.chunks = uint32(size / chunkSize)
	if err := t.checkEnd(size, opts); err != nil {
		return err
	}
	repairs := false
	buf := make([]byte, chunkSize)
	for c := range t.chunks {
		if _, err := t.file.ReadAt(buf, int64(c)*chunkSize); err != nil {
			return fmt.Errorf("read key table %s: %w", t.path, err)
		}
		repaired, err := t.scanChunk(c, buf)
		if err != nil {
			return err
		}
		repairs = repairs || repaired
	}
	if repairs {
		if err := t.file.Sync(); err != nil {
			return fmt.Errorf("repair key table %s: sync: %w", t.path, err)
		}
	}
	slices.Reverse(t.free) // fill the file from its start
	return nil
}

// checkEnd judges a last chunk that is not whole. A crash while the file grows
// leaves zeros there, which growing writes again; anything else means that the
// file was cut. A cut file that is to be opened all the same is padded with
// zeros to a whole chunk, so that what is left of it reads as slots.
func (t *KeyTable) checkEnd(size int64, opts TableOptions) error {
	start := size / chunkSize * chunkSize
	rest := make([]byte, chunkSize)
	n, err := t.file.ReadAt(rest[:size-start], start)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read key table %s: %w", t.path, err)
	}
	if start > 0 && bytes.Count(rest, []byte{0}) == chunkSize {
		return nil
	}
	cut := t.damaged(uint32(size/slotSize), fmt.Sprintf("the file was cut: it ends at %d bytes, in a part that was in use", size))
	if !opts.AllowDamage {
		return cut
	}
	t.damage = append(t.damage, cut)
	if _, err := t.file.WriteAt(rest[n:], size); err != nil {
		return fmt.Errorf("pad key table %s: %w", t.path, err)
	}
	t.chunks++
	return t.file.Sync()
}

func (t *KeyTable) scanChunk(chunk uint32, buf []byte) (repaired bool, err error) {
	for i := uint32(0); i < chunkSize/slotSize; i++ {
		slot, b := chunk*(chunkSize/slotSize)+i, buf[i*slotSize:(i+1)*slotSize]
		if slot == 0 {
			if !bytes.Equal(b, encodeHeader()) {
				return false, &DamageError{Path: t.path, Detail: "not the header of a key table of this version"}
			}
			continue
		}
		changed, err := t.scanSlot(slot, b)
		if err != nil {
			return false, err
		}
		repaired = repaired || changed
	}
	return repaired, nil
}

func (t *KeyTable) scanSlot(slot uint32, b []byte) (repaired bool, err error) {
	state, e, detail := decodeSlot(b)
	repair := zeroSlot
	switch state {
	case slotFree:
		t.free = append(t.free, slot)
		return false, nil
	case slotLive:
		t.slots[e.id] = append(t.slots[e.id], slot)
		return false, nil
	case slotDamaged:
		t.damage = append(t.damage, t.damaged(slot, detail))
		return false, nil
	case slotPending:
		t.slots[e.id] = append(t.slots[e.id], slot)
		repair = b
		setWord(repair, wordLive)
	case slotTorn:
		t.recovered.TornPuts++
		t.free = append(t.free, slot)
	case slotErasing:
		t.recovered.Erasures++
		t.free = append(t.free, slot)
	}
	if err := t.write(slot, repair); err != nil {
		return false, fmt.Errorf("repair key table: %w", err)
	}
	return true, nil
}

func (t *KeyTable) damaged(slot uint32, detail string) *DamageError {
	return &DamageError{Path: t.path, Slot: slot, Offset: int64(slot) * slotSize, Detail: detail}
}

// Recovered says what opening had to finish; worth an event when not zero.
func (t *KeyTable) Recovered() Recovery { return t.recovered }

// Damage lists the damaged slots of a table opened with AllowDamage.
func (t *KeyTable) Damage() []*DamageError { return slices.Clone(t.damage) }

// Has says whether any wrap of the data key id is stored.
func (t *KeyTable) Has(id uuid.UUID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.slots[id]) > 0
}

// Keys yields the ids of all stored data keys as of the call, in ascending
// order, so that a long walk can stop and resume.
func (t *KeyTable) Keys() iter.Seq[uuid.UUID] {
	t.mu.Lock()
	ids := make([]uuid.UUID, 0, len(t.slots))
	for id := range t.slots {
		ids = append(ids, id)
	}
	t.mu.Unlock()
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Values(ids)
}

// Get returns the wraps of the data key id, one for each recipient. Errors:
// ErrNotFound, ErrClosed, *DamageError, or the disk's.
func (t *KeyTable) Get(id uuid.UUID) ([]Wrap, error) {
	wraps, err := t.get(id)
	if damage := (*DamageError)(nil); errors.As(err, &damage) {
		// A commit may have been writing over what we read: look again without one.
		t.io.Lock()
		defer t.io.Unlock()
		return t.get(id)
	}
	return wraps, err
}

func (t *KeyTable) get(id uuid.UUID) ([]Wrap, error) {
	t.mu.Lock()
	slots, broken := slices.Clone(t.slots[id]), t.broken
	t.mu.Unlock()
	if broken != nil {
		return nil, broken
	}
	if len(slots) == 0 {
		return nil, fmt.Errorf("key table %s: data key %s: %w", t.path, id, ErrNotFound)
	}
	wraps := make([]Wrap, len(slots))
	for i, slot := range slots {
		e, err := t.read(slot)
		if err != nil {
			return nil, err
		}
		if e.id != id {
			return nil, t.damaged(slot, fmt.Sprintf("it holds data key %s where %s was", e.id, id))
		}
		wraps[i] = e.wrap
	}
	return wraps, nil
}

// read returns the entry in a slot that the index says is in use.
func (t *KeyTable) read(slot uint32) (entry, error) {
	b, err := t.readSlot(slot)
	if err != nil {
		return entry{}, err
	}
	state, e, detail := decodeSlot(b)
	if state != slotLive && state != slotPending {
		return entry{}, t.damaged(slot, "its key was in use and is gone: "+detail)
	}
	return e, nil
}

func (t *KeyTable) readSlot(slot uint32) ([]byte, error) {
	b := make([]byte, slotSize)
	if _, err := t.file.ReadAt(b, int64(slot)*slotSize); err != nil {
		return nil, fmt.Errorf("read key table %s, slot %d: %w", t.path, slot, err)
	}
	return b, nil
}

func (t *KeyTable) write(slot uint32, b []byte) error {
	if _, err := t.file.WriteAt(b, int64(slot)*slotSize); err != nil {
		return fmt.Errorf("write key table %s, slot %d: %w", t.path, slot, err)
	}
	return nil
}

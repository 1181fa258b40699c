package seal

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// change is what one caller asks of the table: entries to put, or a name to erase.
type change struct {
	put   []entry
	fresh bool // the name must not be in use

	erase uuid.UUID
	from  []Recipient // erase only these wraps; none means all

	done bool  // guarded by io
	err  error // valid once done
}

// Create stores the wraps of a new data key, at least one. It returns once all
// are durable. ErrExists: some wrap of id is stored already. After any other error
// the key must not be used; a crash may leave some of its wraps.
func (t *KeyTable) Create(id uuid.UUID, wraps ...Wrap) error {
	return t.store(id, wraps, true)
}

// Put adds wraps, at least one, to a data key that may or may not have others:
// one received from a peer, or one for a new custodian. It returns once all are
// durable. A wrap that is already stored is fine; ErrExists means a different one for
// the same recipient.
func (t *KeyTable) Put(id uuid.UUID, wraps ...Wrap) error {
	return t.store(id, wraps, false)
}

func (t *KeyTable) store(id uuid.UUID, wraps []Wrap, fresh bool) error {
	if len(wraps) == 0 {
		return fmt.Errorf("store data key %s: it is wrapped to nobody, so nobody could ever open it", id)
	}
	c := &change{fresh: fresh}
	for _, w := range wraps {
		e := entry{id: id, wrap: w}
		if _, err := encodeSlot(wordPut, e); err != nil {
			return err
		}
		c.put = append(c.put, e)
	}
	return t.commit(c)
}

// Erase overwrites the wraps of the data key id with zeros: those to the given
// recipients, or all. It returns once that is durable; nothing of them stays in
// the file, not even the name. Erasing what is not there is not an error.
//
// A device that remaps blocks, a copy-on-write file system or a snapshot may
// keep the old blocks; against whoever reads those, rekey the site as well.
func (t *KeyTable) Erase(id uuid.UUID, from ...Recipient) error {
	return t.commit(&change{erase: id, from: from})
}

// Close waits for commits under way, marks the last puts as acknowledged and
// closes the file. Later calls get ErrClosed.
func (t *KeyTable) Close() error {
	t.io.Lock()
	defer t.io.Unlock()
	if t.closed() != nil {
		return nil
	}
	err := t.writeAll(&groupCommit{confirm: t.unconfirmed})
	t.mu.Lock()
	t.broken = fmt.Errorf("key table %s: %w", t.path, ErrClosed)
	t.mu.Unlock()
	return errors.Join(err, t.file.Close())
}

func (t *KeyTable) closed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.broken
}

// commit queues c and returns when it is durable or has failed. Whoever gets io
// first does the work of all who queued meanwhile, with one sync.
func (t *KeyTable) commit(c *change) error {
	t.mu.Lock()
	t.queue = append(t.queue, c)
	t.mu.Unlock()

	t.io.Lock()
	defer t.io.Unlock()
	if c.done {
		return c.err
	}
	t.mu.Lock()
	batch := t.queue
	t.queue = nil
	t.mu.Unlock()
	t.run(batch)
	return c.err
}

// groupCommit is what one round of writes does. Slots it takes or frees change
// hands in the index only after its last sync.
type groupCommit struct {
	confirm map[uint32][]byte // earlier puts, to be marked LIVE
	put     map[uint32]entry
	erase   map[uint32]erasure
}

// erasure keeps the slot as read, so that a damaged one can be erased as well.
type erasure struct {
	id   uuid.UUID
	slot []byte
}

// run carries out a batch; io is held.
func (t *KeyTable) run(batch []*change) {
	err := t.closed()
	g := &groupCommit{confirm: t.unconfirmed, put: map[uint32]entry{}, erase: map[uint32]erasure{}}
	for _, c := range batch {
		c.done = true
		switch {
		case err != nil:
			c.err = err
		case c.put != nil:
			c.err = t.stagePut(g, c)
		default:
			c.err = t.stageErase(g, c)
		}
	}
	if err != nil || len(g.put)+len(g.erase) == 0 {
		return
	}
	if err = t.closed(); err == nil { // growing the file may have failed
		err = t.writeAll(g)
	}
	if err == nil {
		t.index(g)
		return
	}
	err = t.fail(err)
	for _, c := range batch {
		c.err = err
	}
}

// fail closes the table for good. What the page cache holds after a failed write
// or sync is not to be trusted, so nothing is retried; opening reads the disk.
func (t *KeyTable) fail(cause error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken != nil {
		return t.broken
	}
	t.broken = fmt.Errorf("%w after a failure: %w; check the disk, then restart the site: "+
		"opening the table sorts out what became durable", ErrClosed, cause)
	return errors.Join(t.broken, t.file.Close())
}

// stagePut gives each entry of c a slot, or leaves g as it was.
func (t *KeyTable) stagePut(g *groupCommit, c *change) error {
	var taken []uint32
	for _, e := range c.put {
		stored, err := t.stored(g, e, c.fresh && len(taken) == 0)
		var slot uint32
		if err == nil && !stored {
			slot, err = t.take()
		}
		if err != nil {
			for _, s := range taken {
				delete(g.put, s)
			}
			t.give(taken)
			return err
		}
		if !stored {
			g.put[slot] = e
			taken = append(taken, slot)
		}
	}
	return nil
}

// stored says whether e is in the table or in g already; ErrExists if another
// wrap stands in its place, or if the name must be free and is not.
func (t *KeyTable) stored(g *groupCommit, e entry, fresh bool) (bool, error) {
	var others []entry
	for _, other := range g.put {
		if other.id == e.id {
			others = append(others, other)
		}
	}
	for _, slot := range t.slotsOf(e.id) {
		if _, leaving := g.erase[slot]; leaving {
			continue
		}
		other, err := t.read(slot)
		if err != nil {
			return false, err
		}
		others = append(others, other)
	}
	for _, other := range others {
		if fresh || other.wrap.To == e.wrap.To && !bytes.Equal(other.wrap.Sealed, e.wrap.Sealed) {
			return false, fmt.Errorf("key table %s: data key %s: %w", t.path, e.id, ErrExists)
		}
		if other.wrap.To == e.wrap.To {
			return true, nil
		}
	}
	return false, nil
}

// stageErase marks the slots of c. A put of the same name in this batch is
// concurrent with the erasure and counts as after it.
func (t *KeyTable) stageErase(g *groupCommit, c *change) error {
	for _, slot := range t.slotsOf(c.erase) {
		b, err := t.readSlot(slot)
		if err != nil {
			return err
		}
		_, e, _ := decodeSlot(b)
		if len(c.from) == 0 || slices.Contains(c.from, e.wrap.To) {
			setWord(b, wordErase)
			g.erase[slot] = erasure{id: c.erase, slot: b}
		}
	}
	return nil
}

// writeAll makes g durable. The order is what decodeSlot relies on: LIVE goes
// only onto puts that an earlier round synced, zeros only after DEAD is synced.
func (t *KeyTable) writeAll(g *groupCommit) error {
	for slot, b := range g.confirm {
		if _, leaving := g.erase[slot]; leaving {
			continue
		}
		setWord(b, wordLive)
		if err := t.write(slot, b); err != nil {
			return err
		}
	}
	t.unconfirmed = make(map[uint32][]byte, len(g.put))
	for slot, e := range g.put {
		b, err := encodeSlot(wordPut, e)
		if err != nil {
			return err
		}
		if err := t.write(slot, b); err != nil {
			return err
		}
		t.unconfirmed[slot] = b
	}
	for slot, e := range g.erase {
		if err := t.write(slot, e.slot); err != nil {
			return err
		}
	}
	if err := t.sync(); err != nil || len(g.erase) == 0 {
		return err
	}
	for slot := range g.erase {
		if err := t.write(slot, zeroSlot); err != nil {
			return err
		}
	}
	return t.sync()
}

func (t *KeyTable) sync() error {
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("sync key table %s: %w", t.path, err)
	}
	return nil
}

// index lets readers see what g made durable.
func (t *KeyTable) index(g *groupCommit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for slot, e := range g.put {
		t.slots[e.id] = append(t.slots[e.id], slot)
	}
	for slot, e := range g.erase {
		left := slices.DeleteFunc(slices.Clone(t.slots[e.id]), func(s uint32) bool { return s == slot })
		if t.slots[e.id] = left; len(left) == 0 {
			delete(t.slots, e.id)
		}
		t.free = append(t.free, slot)
	}
}

func (t *KeyTable) slotsOf(id uuid.UUID) []uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.slots[id])
}

// take returns a free slot, growing the file if there is none.
func (t *KeyTable) take() (uint32, error) {
	t.mu.Lock()
	full := len(t.free) == 0
	t.mu.Unlock()
	if full {
		if err := t.grow(); err != nil {
			return 0, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	slot := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	return slot, nil
}

func (t *KeyTable) give(slots []uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free = append(t.free, slots...)
}

// grow adds one chunk of zeros, durable before a slot in it is used, so that a
// put never has to wait for file system metadata. A full disk fails the puts
// that needed room and leaves the table open: the unused zeros are written again.
func (t *KeyTable) grow() error {
	if _, err := t.file.WriteAt(make([]byte, chunkSize), int64(t.chunks)*chunkSize); err != nil {
		return fmt.Errorf("grow key table %s: %w; free some space", t.path, err)
	}
	if err := t.sync(); err != nil {
		return t.fail(err)
	}
	const perChunk = chunkSize / slotSize
	first := t.chunks * perChunk
	t.chunks++
	t.mu.Lock()
	defer t.mu.Unlock()
	for slot := first + perChunk; slot > first; slot-- {
		t.free = append(t.free, slot-1)
	}
	return nil
}

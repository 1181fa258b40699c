package mesh

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/store"
)

// replica is a copy of a log that is written elsewhere: the records in an
// engine's log, and beside them, in the same directory,
//
//	voucher  the log's key with the signature of its site's identity
//	heads    the heads that cover the records
//
// Safe for concurrent use.
type replica struct {
	log store.Log
	key Key

	mu    sync.Mutex // guards heads; held while storing
	heads *headFile
}

func voucherPath(dir string) string { return filepath.Join(dir, "voucher") }

// openReplica takes a copy into use. key is what a peer told of a log that is
// not there yet; nil for one that is.
func openReplica(log store.Log, dir string, key *Key) (*replica, error) {
	r := &replica{log: log}
	var err error
	if key != nil {
		err = r.keepKey(dir, *key)
	} else {
		err = r.loadKey(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("key of log %s: %w", log.Origin(), err)
	}
	if r.heads, err = openHeads(filepath.Join(dir, "heads")); err != nil {
		return nil, fmt.Errorf("copy of log %s: %w", log.Origin(), err)
	}
	size, _ := log.Size()
	if err := r.heads.cut(size); err != nil {
		return nil, errors.Join(fmt.Errorf("heads of log %s: %w", log.Origin(), err), r.heads.close())
	}
	return r, nil
}

func (r *replica) keepKey(dir string, key Key) error {
	b, err := json.Marshal(key)
	if err != nil {
		return err
	}
	r.key = key
	return writeDurable(voucherPath(dir), append(b, '\n'))
}

func (r *replica) loadKey(dir string) error {
	b, err := os.ReadFile(voucherPath(dir))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &r.key); err != nil {
		return err
	}
	if r.key.Origin != r.log.Origin() {
		return fmt.Errorf("the voucher is for log %s", r.key.Origin)
	}
	return nil
}

// writeDurable makes a file, whole and durable.
func writeDurable(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Cover makes the copy of a log one that can be given on, by the site that wrote it
// and goes on with it no more: its key with a voucher, and heads over all that
// is there.
func Cover(ctx context.Context, log store.Log, dir string, identity ed25519.PrivateKey, key *evidence.Key) error {
	k := Vouch(identity, log.Origin(), key.Public())
	r, err := openReplica(log, dir, &k)
	if err != nil {
		return err
	}
	err = r.cover(ctx, key)
	return errors.Join(err, r.close())
}

// cover signs heads over what none covers yet, close enough to each other that
// what lies between two of them is a batch.
func (r *replica) cover(ctx context.Context, key *evidence.Key) error {
	last := r.heads.newest()
	tree, err := store.TreeAt(ctx, r.log, last.size)
	if err != nil {
		return err
	}
	end, _ := r.log.Size()
	var heads []storedHead
	at := storedHead{size: last.size, bytes: last.bytes}
	for e, err := range r.log.Headers(ctx, last.size+1) {
		var h events.Header
		if err == nil {
			h, err = events.DecodeHeader(e.Header)
		}
		if err != nil {
			return err
		}
		tree.Append(evidence.LeafHash(e.Header))
		at.size++
		at.bytes += uint64(len(e.Header)) + h.PayloadSize
		if at.size < end && at.size-last.size < sparseRecords && at.bytes-last.bytes < sparseBytes {
			continue
		}
		head, err := key.Sign(at.size, tree.Root())
		if err != nil {
			return err
		}
		at.note = head.Note
		heads, last = append(heads, at), at
	}
	if len(heads) == 0 {
		return nil
	}
	return r.heads.add(heads)
}

// opened tells the core of the copy: as far as heads cover it. What is behind
// the last head is stored already and comes once more, with its head.
func (r *replica) opened(ctx context.Context) (Opened, error) {
	r.mu.Lock()
	newest := r.heads.newest()
	r.mu.Unlock()
	tree, err := store.TreeAt(ctx, r.log, newest.size)
	return Opened{Key: r.key, Tree: tree, Head: newest.note}, err
}

// store makes records and their heads durable, both at once.
func (r *replica) store(ctx context.Context, s Store) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	have, _ := r.log.Size()
	entries, expect := s.Entries, s.Expect
	if have > expect { // a former life stored records and not their heads
		skip := min(have-expect, uint64(len(entries)))
		if err := r.holds(ctx, expect, entries[:skip]); err != nil {
			return err
		}
		entries, expect = entries[skip:], expect+skip
	}
	before := r.heads.newest()
	heads, err := placeHeads(before, s)
	if err != nil {
		return err
	}
	noted := make(chan error, 1)
	go func() { noted <- r.heads.add(heads) }()
	if len(entries) > 0 {
		err = r.log.Append(ctx, expect, entries)
	}
	if err := errors.Join(err, <-noted); err != nil {
		size, _ := r.log.Size()
		return errors.Join(err, r.heads.cut(min(size, s.Expect)))
	}
	return nil
}

// holds checks that the log holds exactly these entries after a size.
func (r *replica) holds(ctx context.Context, after uint64, entries []events.Entry) error {
	i := 0
	for e, err := range r.log.Headers(ctx, after+1) {
		if err != nil {
			return err
		}
		if i == len(entries) {
			return nil
		}
		if string(e.Header) != string(entries[i].Header) {
			return fmt.Errorf("%w: log %s position %d is another record here", evidence.ErrInconsistent, r.log.Origin(), after+uint64(i)+1)
		}
		i++
	}
	return nil
}

// placeHeads says what the heads of a commit cover, in records and bytes.
func placeHeads(before storedHead, s Store) ([]storedHead, error) {
	var out []storedHead
	at, bytes := s.Expect, before.bytes
	for i, note := range s.Heads {
		size := s.Sizes[i]
		if size <= at || size > s.Expect+uint64(len(s.Entries)) {
			return nil, fmt.Errorf("head at %d of records %d to %d", size, s.Expect+1, s.Expect+uint64(len(s.Entries)))
		}
		for ; at < size; at++ {
			e := s.Entries[at-s.Expect]
			bytes += uint64(len(e.Header) + len(e.Payload))
		}
		out = append(out, storedHead{size: size, bytes: bytes, note: note})
	}
	return out, nil
}

// read gives the records to push, up to where a stored head ends.
func (r *replica) read(ctx context.Context, in Read) ReadDone {
	out := ReadDone{Link: in.Link, Origin: in.Origin, From: in.From}
	r.mu.Lock()
	head := r.heads.after(in.From, in.To, uint64(in.Bytes))
	r.mu.Unlock()
	if head.size == 0 {
		out.Err = fmt.Errorf("no head covers log %s after %d", in.Origin, in.From)
		return out
	}
	out.Head = head.note
	out.Entries, out.Err = readEntries(ctx, r.log, in.From, head.size, 0, in.Payloads)
	return out
}

// readEntries reads the records after a size, up to another one, and no more
// than about limit bytes of them (0 for no limit).
func readEntries(ctx context.Context, log store.Log, from, to uint64, limit int, payloads bool) ([]events.Entry, error) {
	read := log.Headers
	if payloads {
		read = log.Read
	}
	var out []events.Entry
	size := 0
	for e, err := range read(ctx, from+1) {
		if err != nil {
			return nil, err
		}
		size += len(e.Header) + len(e.Payload)
		if limit > 0 && len(out) > 0 && size > limit || len(out) == store.MaxCommitEntries {
			break
		}
		if out = append(out, e); from+uint64(len(out)) == to {
			break
		}
	}
	return out, nil
}

// prove makes a proof against the newest head.
func (r *replica) prove(ctx context.Context, sizes []uint64) (Branch, error) {
	r.mu.Lock()
	head := r.heads.newest()
	r.mu.Unlock()
	return proveAt(ctx, r.log, head.size, head.note, sizes)
}

func proveAt(ctx context.Context, log store.Log, size uint64, head []byte, sizes []uint64) (Branch, error) {
	hashes, err := evidence.ReadHashes(func(yield func(events.Hash, error) bool) {
		left := size
		if left == 0 {
			return
		}
		for e, err := range log.Headers(ctx, 1) {
			if !yield(evidence.LeafHash(e.Header), err) || err != nil {
				return
			}
			if left--; left == 0 {
				return
			}
		}
	})
	if err != nil {
		return Branch{}, err
	}
	return MakeBranch(hashes, head, sizes)
}

func (r *replica) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heads.close()
}

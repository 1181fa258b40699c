package evidence

import (
	"fmt"
	"iter"
	"math"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-pam/holdfast/events"
)

// Hashes are all hashes of a log's tree: what proofs are made from. It takes 64
// bytes a record, so it is made when a proof is asked for and thrown away.
type Hashes struct {
	size   int64
	stored []tlog.Hash
}

// ReadHashes grows the hashes of a tree from the leaf hashes of a log.
func ReadHashes(leaves iter.Seq2[events.Hash, error]) (*Hashes, error) {
	t := &Hashes{}
	reader := tlog.HashReaderFunc(t.read)
	for leaf, err := range leaves {
		if err != nil {
			return nil, err
		}
		more, err := tlog.StoredHashesForRecordHash(t.size, tlog.Hash(leaf), reader)
		if err != nil {
			return nil, fmt.Errorf("grow tree at %d: %w", t.size, err)
		}
		t.stored = append(t.stored, more...)
		t.size++
	}
	return t, nil
}

func (t *Hashes) read(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, n := range indexes {
		if n < 0 || n >= int64(len(t.stored)) {
			return nil, fmt.Errorf("hash %d of %d", n, len(t.stored))
		}
		out[i] = t.stored[n]
	}
	return out, nil
}

// Size is the number of leaves.
func (t *Hashes) Size() uint64 { return uint64(t.size) }

// Root is the root hash over the first size leaves.
func (t *Hashes) Root(size uint64) (events.Hash, error) {
	if size > uint64(t.size) {
		return events.Hash{}, fmt.Errorf("root at %d of a tree of %d", size, t.size)
	}
	h, err := tlog.TreeHash(int64(size), tlog.HashReaderFunc(t.read))
	return events.Hash(h), err
}

// Consistency proves that the tree at size old is a prefix of the tree at size
// (RFC 6962 section 2.1.2). Both are at least 1.
func (t *Hashes) Consistency(old, size uint64) ([]events.Hash, error) {
	if size > uint64(t.size) {
		return nil, fmt.Errorf("proof at %d of a tree of %d", size, t.size)
	}
	p, err := tlog.ProveTree(int64(size), int64(old), tlog.HashReaderFunc(t.read))
	if err != nil {
		return nil, err
	}
	out := make([]events.Hash, len(p))
	for i, h := range p {
		out[i] = events.Hash(h)
	}
	return out, nil
}

// CheckConsistency checks a proof that the tree with root oldRoot at size old
// is a prefix of the tree with root at size. Nothing is a prefix of everything.
func CheckConsistency(proof []events.Hash, size uint64, root events.Hash, old uint64, oldRoot events.Hash) error {
	if old == 0 && oldRoot == emptyRoot && len(proof) == 0 {
		return nil
	}
	if size > math.MaxInt64 || old > size {
		return fmt.Errorf("%w: a prefix of %d records of a log of %d", ErrInconsistent, old, size)
	}
	p := make(tlog.TreeProof, len(proof))
	for i, h := range proof {
		p[i] = tlog.Hash(h)
	}
	if err := tlog.CheckTree(p, int64(size), tlog.Hash(root), int64(old), tlog.Hash(oldRoot)); err != nil {
		return fmt.Errorf("%w: %w", ErrInconsistent, err)
	}
	return nil
}

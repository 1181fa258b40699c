package evidence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-pam/holdfast/events"
)

// ErrBadTree says that bytes are not the state of a tree.
var ErrBadTree = errors.New("not a valid tree state")

// Tree is the frontier of an RFC 6962 tree (section 2.1): enough to append and
// to give the root, in O(log n) space. The leaves are header bytes. The zero
// value is the empty tree. It is not safe for concurrent use.
type Tree struct {
	size uint64
	// nodes are the roots of the complete subtrees that size consists of, the
	// largest first: one for each bit that is set in size.
	nodes []events.Hash
}

// LeafHash is the hash of a leaf: SHA-256 of 0x00 and the header's bytes.
func LeafHash(header []byte) events.Hash { return events.Hash(tlog.RecordHash(header)) }

// Size is the number of leaves.
func (t *Tree) Size() uint64 { return t.size }

// Append adds a leaf by its hash.
func (t *Tree) Append(leaf events.Hash) {
	t.nodes = append(t.nodes, leaf)
	for s := t.size; s&1 == 1; s >>= 1 {
		n := len(t.nodes)
		t.nodes[n-2] = nodeHash(t.nodes[n-2], t.nodes[n-1])
		t.nodes = t.nodes[:n-1]
	}
	t.size++
}

// Root is the tree's root hash; for the empty tree it is the hash of nothing.
func (t *Tree) Root() events.Hash {
	if t.size == 0 {
		return emptyRoot
	}
	root := t.nodes[len(t.nodes)-1]
	for i := len(t.nodes) - 2; i >= 0; i-- {
		root = nodeHash(t.nodes[i], root)
	}
	return root
}

// Clone gives an independent copy.
func (t *Tree) Clone() Tree { return Tree{t.size, slices.Clone(t.nodes)} }

// MarshalBinary gives the state: the size as 8 bytes, little-endian, and the
// 32-byte nodes.
func (t *Tree) MarshalBinary() ([]byte, error) {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, 8+32*len(t.nodes)), t.size)
	for _, n := range t.nodes {
		b = append(b, n[:]...)
	}
	return b, nil
}

// UnmarshalBinary restores a state; its length follows from the size in it.
func (t *Tree) UnmarshalBinary(b []byte) error {
	if len(b) < 8 {
		return fmt.Errorf("%w: %d bytes", ErrBadTree, len(b))
	}
	size := binary.LittleEndian.Uint64(b)
	if len(b) != StateSize(size) {
		return fmt.Errorf("%w: %d bytes for %d leaves, want %d", ErrBadTree, len(b), size, StateSize(size))
	}
	nodes := make([]events.Hash, 0, bits.OnesCount64(size))
	for b = b[8:]; len(b) > 0; b = b[32:] {
		nodes = append(nodes, events.Hash(b[:32]))
	}
	t.size, t.nodes = size, nodes
	return nil
}

// StateSize is the length in bytes of the state of a tree with size leaves.
func StateSize(size uint64) int { return 8 + 32*bits.OnesCount64(size) }

var emptyRoot = func() events.Hash {
	h, err := tlog.TreeHash(0, nil)
	if err != nil {
		panic(err) // the empty tree reads no hashes
	}
	return events.Hash(h)
}()

func nodeHash(left, right events.Hash) events.Hash {
	return events.Hash(tlog.NodeHash(tlog.Hash(left), tlog.Hash(right)))
}

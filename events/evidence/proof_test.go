package evidence

import (
	"iter"
	"testing"

	"github.com/holdfast-pam/holdfast/events"
)

func leavesOf(n int, other int) iter.Seq2[events.Hash, error] {
	return func(yield func(events.Hash, error) bool) {
		for i := range n {
			leaf := []byte{byte(i), byte(i >> 8)}
			if i >= other {
				leaf = append(leaf, 'x')
			}
			if !yield(LeafHash(leaf), nil) {
				return
			}
		}
	}
}

func TestConsistencyOfEveryPair(t *testing.T) {
	const n = 40
	h, err := ReadHashes(leavesOf(n, n))
	if err != nil {
		t.Fatal(err)
	}
	other, err := ReadHashes(leavesOf(n, 7)) // differs from the eighth record on
	if err != nil {
		t.Fatal(err)
	}
	for size := uint64(1); size <= n; size++ {
		root, _ := h.Root(size)
		for old := uint64(1); old <= size; old++ {
			oldRoot, _ := h.Root(old)
			proof, err := h.Consistency(old, size)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckConsistency(proof, size, root, old, oldRoot); err != nil {
				t.Fatalf("%d in %d: %v", old, size, err)
			}
			otherRoot, _ := other.Root(old)
			if err := CheckConsistency(proof, size, root, old, otherRoot); (err == nil) != (old <= 7) {
				t.Fatalf("root of the other branch at %d in %d: %v", old, size, err)
			}
			if old < size && CheckConsistency(proof, size, root, old+1, oldRoot) == nil {
				t.Fatalf("a proof for %d passes for %d", old, old+1)
			}
		}
	}
	if err := CheckConsistency(nil, 5, events.Hash{1}, 0, emptyRoot); err != nil {
		t.Errorf("nothing is no prefix: %v", err)
	}
	if CheckConsistency(nil, 5, events.Hash{1}, 6, events.Hash{1}) == nil || CheckConsistency(nil, 1<<63, events.Hash{1}, 1, events.Hash{1}) == nil {
		t.Error("sizes out of range pass")
	}
	if _, err := h.Root(n + 1); err == nil {
		t.Error("a root beyond the end")
	}
	if _, err := h.Consistency(1, n+1); err == nil {
		t.Error("a proof beyond the end")
	}
}

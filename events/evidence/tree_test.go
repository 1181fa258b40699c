package evidence

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/events"
)

// grow gives the tree over n leaves "leaf 0", "leaf 1" and so on.
func grow(n int) *Tree {
	var t Tree
	for i := range n {
		t.Append(LeafHash(fmt.Appendf(nil, "leaf %d", i)))
	}
	return &t
}

// TestRootAgreesWithLibraries compares every size with two independent
// implementations of RFC 6962.
func TestRootAgreesWithLibraries(t *testing.T) {
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	theirs := factory.NewEmptyRange(0)
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, n := range at {
			out[i] = stored[n]
		}
		return out, nil
	})
	var ours Tree
	if got, want := ours.Root(), rfc6962.DefaultHasher.EmptyRoot(); !bytes.Equal(got[:], want) {
		t.Fatalf("empty root = %s, want %x", got, want)
	}
	for i := range 300 {
		leaf := fmt.Appendf(nil, "leaf %d", i)
		ours.Append(LeafHash(leaf))
		if err := theirs.Append(rfc6962.DefaultHasher.HashLeaf(leaf), nil); err != nil {
			t.Fatal(err)
		}
		more, err := tlog.StoredHashes(int64(i), leaf, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
		got := ours.Root()
		if want, err := theirs.GetRootHash(nil); err != nil || !bytes.Equal(got[:], want) {
			t.Fatalf("root of %d leaves = %s, merkle says %x, %v", i+1, got, want, err)
		}
		if want, err := tlog.TreeHash(int64(i+1), reader); err != nil || tlog.Hash(got) != want {
			t.Fatalf("root of %d leaves = %s, tlog says %x, %v", i+1, got, want[:], err)
		}
	}
}

func TestTreeStateRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 600).Draw(t, "leaves")
		more := rapid.IntRange(0, 20).Draw(t, "more")
		tree := grow(n)
		state, err := tree.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var again Tree
		if err := again.UnmarshalBinary(state); err != nil {
			t.Fatal(err)
		}
		clone := tree.Clone()
		for i := range more {
			leaf := LeafHash([]byte{byte(i)})
			tree.Append(leaf)
			again.Append(leaf)
		}
		if tree.Root() != again.Root() || tree.Size() != again.Size() {
			t.Errorf("restored tree of %d leaves went another way after %d more", n, more)
		}
		if want := grow(n); clone.Root() != want.Root() {
			t.Error("appending to a tree changed its clone")
		}
	})
}

func TestTreeStateRefuses(t *testing.T) {
	good, err := grow(5).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty":       nil,
		"size only":   good[:8],
		"node short":  good[:len(good)-1],
		"node extra":  append(bytes.Clone(good), make([]byte, 32)...),
		"other size":  append([]byte{7}, good[1:]...),
		"seven bytes": good[:7],
	} {
		tree := *grow(2)
		if err := tree.UnmarshalBinary(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if want := grow(2); tree.Root() != want.Root() {
			t.Errorf("%s: the refused state changed the tree", name)
		}
	}
}

func BenchmarkTreeAppend(b *testing.B) {
	var tree Tree
	header := make([]byte, 300)
	b.ReportAllocs()
	for b.Loop() {
		tree.Append(LeafHash(header))
	}
	if tree.Root() == (events.Hash{}) {
		b.Fatal("no root")
	}
}

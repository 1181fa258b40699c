package segment

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/storetest"
)

// treeOf is a tree over n leaves.
func treeOf(n int) evidence.Tree {
	var t evidence.Tree
	for i := range n {
		t.Append(evidence.LeafHash(fmt.Append(nil, i)))
	}
	return t
}

func TestSegmentHeaderRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 7, 1000} {
		h := &segmentHeader{mark: 42, origin: storetest.Origin, first: uint64(n) + 1, capacity: 1 << 20, tree: treeOf(n)}
		b := h.encode()
		got, err := decodeSegmentHeader(b)
		if err != nil || len(b) != headSize || got.origin != h.origin || got.first != h.first || got.tree.Root() != h.tree.Root() {
			t.Errorf("%d records before it: %+v, %v", n, got, err)
		}
		for bit := 0; bit < 8*headSize; bit += 11 {
			b[bit/8] ^= 1 << (bit % 8)
			if _, err := decodeSegmentHeader(b); err == nil {
				t.Fatalf("bit %d flipped: accepted", bit)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// appendCommit puts the parts of a commit's frame together.
func appendCommit(b []byte, mark uint64, first uint64, root events.Hash, entries []events.Entry) []byte {
	_, parts := layOut(nil, nil, mark, first, root, entries)
	return append(b, slices.Concat(parts...)...)
}

func TestCommitRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) events.Entry {
			e := events.Entry{Header: rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "header")}
			if rapid.Bool().Draw(t, "held") {
				e.Payload = append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "payload")...)
				if rapid.IntRange(0, 4).Draw(t, "long") == 0 {
					e.Payload = append(e.Payload, make([]byte, copiedPayload-1000)...) // around the length from which it is not copied
				}
			}
			return e
		}), 1, 20).Draw(t, "entries")
		root := events.Hash(sha256.Sum256(nil))
		before := rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "before")
		before = append(before, make([]byte, 8-len(before))...)
		b := appendCommit(before, 7, 12, root, entries)[len(before):]
		if int64(len(b)) != commitSize(entries) || len(b)%8 != 0 {
			t.Fatalf("%d bytes, commitSize says %d", len(b), commitSize(entries))
		}
		h, err := decodeFrameHeader(b, 7)
		if err != nil || h.first != 12 || h.root != root || h.size() != int64(len(b)) {
			t.Fatalf("%+v, %v", h, err)
		}
		got, err := commitEntries(nil, &h, b[frameSize:], true)
		if err != nil || !reflect.DeepEqual(got, entries) {
			t.Fatalf("%v; entries differ: %q, want %q", err, got, entries)
		}
		heads, err := commitEntries(nil, &h, b[frameSize:frameSize+h.table()+int64(h.head)], false)
		if err != nil || len(heads) != len(entries) {
			t.Fatalf("headers only: %d, %v", len(heads), err)
		}
		if _, err := decodeFrameHeader(b, 8); err == nil {
			t.Error("a frame of another segment was accepted")
		}
	})
}

func TestFooterRoundTrip(t *testing.T) {
	for name, f := range map[string]*footer{
		"empty":   {kind: footerFrame, size: 0},
		"indexed": {kind: footerFrame, size: 90, index: index{{1, headSize}, {40, 90_000}}},
		"sealed":  {kind: sealFrame, size: 90, index: index{{1, headSize}}},
		"dropped": {kind: sealFrame, size: 90, drop: &store.TailDropped{Size: 90, Offset: 5000, Dropped: 12}},
	} {
		at := int64(200_000)
		b := appendFooter(nil, 7, f, at)
		h, err := decodeFrameHeader(b, 7)
		if err != nil || h.size() != int64(len(b)) {
			t.Fatalf("%s: %+v, %v", name, h, err)
		}
		got, err := decodeFooter(&h, b[frameSize:], at)
		if err != nil || got.size != f.size || len(got.index) != len(f.index) || !reflect.DeepEqual(got.drop, f.drop) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if _, err := decodeFooter(&h, b[frameSize:], at+8); err == nil {
			t.Errorf("%s: accepted in another place", name)
		}
	}
}

func TestFooterFitsItsBound(t *testing.T) {
	for _, capacity := range []int64{8 << 10, 64 << 10, 1 << 20, 64 << 20} {
		var x index
		n := uint64(1)
		for at := int64(headSize); at < capacity; at += 96 {
			x = x.add(n, at)
			n++
		}
		b := appendFooter(nil, 1, &footer{kind: sealFrame, size: n, index: x, drop: &store.TailDropped{}}, capacity)
		if int64(len(b)) > footerBound(capacity) {
			t.Errorf("a footer of %d bytes in a segment of %d; the bound is %d", len(b), capacity, footerBound(capacity))
		}
	}
}

func TestIndexFind(t *testing.T) {
	x := index{{1, 4096}, {100, 70_000}, {250, 140_000}}
	for position, want := range map[uint64]int64{1: 4096, 99: 4096, 100: 70_000, 249: 70_000, 250: 140_000, 9999: 140_000} {
		if got := x.find(position); got != want {
			t.Errorf("find(%d) = %d, want %d", position, got, want)
		}
	}
	if got := index(nil).find(3); got != headSize {
		t.Errorf("an empty index gives %d", got)
	}
}

func FuzzSegmentHeader(f *testing.F) {
	h := &segmentHeader{mark: 42, origin: storetest.Origin, first: 6, capacity: 1 << 20, tree: treeOf(5)}
	f.Add(h.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		b = fixCRC(b, headSize)
		if h, err := decodeSegmentHeader(b); err == nil && !bytes.Equal(h.encode(), b) {
			t.Error("a header that is not canonical was accepted")
		}
	})
}

// fixCRC makes the last four of the first n bytes their checksum, so that the
// fuzzer gets past it.
func fixCRC(b []byte, n int) []byte {
	if len(b) < n {
		return b
	}
	sum := crc(b[:n-4])
	return append(append(bytes.Clone(b[:n-4]), byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)), b[n:]...)
}

func FuzzFrame(f *testing.F) {
	f.Add(appendCommit(nil, 7, 1, events.Hash{}, storetest.Entries(0, 3, 20)))
	f.Add(appendMark(nil, 7, endFrame, 3, events.Hash{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = fixCRC(b, frameSize)
		h, err := decodeFrameHeader(b, 7)
		if err != nil || h.size() > int64(len(b)) || h.size() > maxFrame+8 {
			return
		}
		entries, err := commitEntries(nil, &h, b[frameSize:h.size()], true)
		if h.kind != commitFrame || err != nil {
			return
		}
		if again := appendCommit(nil, 7, h.first, h.root, entries); len(again) > len(b) {
			t.Errorf("%d bytes were read as a commit of %d", len(b), len(again))
		}
	})
}

func FuzzFooter(f *testing.F) {
	for _, kind := range []frameKind{footerFrame, sealFrame} {
		f.Add(appendFooter(nil, 7, &footer{kind: kind, size: 9, index: index{{1, headSize}, {5, 80_000}}}, 100_000), int64(100_000))
	}
	f.Add(appendFooter(nil, 7, &footer{kind: sealFrame, size: 9, drop: &store.TailDropped{Offset: 1, Dropped: 2}}, 8192), int64(8192))
	f.Fuzz(func(t *testing.T, b []byte, at int64) {
		b = fixCRC(b, frameSize)
		h, err := decodeFrameHeader(b, 7)
		if err != nil || at < headSize || h.kind == commitFrame || h.size() > int64(len(b)) {
			return
		}
		h.check = crc(b[frameSize:h.size()])
		foot, err := decodeFooter(&h, b[frameSize:h.size()], at)
		if err != nil {
			return
		}
		if again := appendFooter(nil, 7, foot, at); !bytes.Equal(again[frameSize:], b[frameSize:h.size()]) {
			t.Error("a footer that is not canonical was accepted")
		}
	})
}

// FuzzOpen opens whatever a segment file may hold: it never panics, and what
// it calls durable can be read.
func FuzzOpen(f *testing.F) {
	fs := newMemFS()
	l, _, err := Open(fs, storetest.Origin, 0, small)
	if err != nil {
		f.Fatal(err)
	}
	for i := range uint64(5) {
		if err := l.Append(f.Context(), i, storetest.Entries(i, 1, 50)); err != nil {
			f.Fatal(err)
		}
	}
	good := fs.kill().names[segmentName(1)].cache
	f.Add(uint16(headSize), []byte("x"))
	f.Add(uint16(headSize+400), make([]byte, 3000))
	f.Fuzz(func(t *testing.T, at uint16, b []byte) {
		disk := fs.kill()
		cache := bytes.Clone(good)
		copy(cache[min(int(at), len(cache)):], b)
		disk.names[segmentName(1)].cache = cache
		for range Frames(t.Context(), disk, storetest.Origin) {
		}
		l, _, err := Open(disk, storetest.Origin, 0, small)
		if err != nil {
			return
		}
		size, _ := l.Size()
		holds(t, l, size)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

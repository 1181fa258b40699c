package mesh

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func headsUpTo(n int) []storedHead {
	var out []storedHead
	for i := 1; i <= n; i++ {
		out = append(out, storedHead{size: uint64(3 * i), bytes: uint64(300 * i), note: fmt.Appendf(nil, "note %d", i)})
	}
	return out
}

func TestHeadFileSurvivesATornEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "heads")
	h, err := openHeads(path)
	if err != nil {
		t.Fatal(err)
	}
	want := headsUpTo(5)
	if err := h.add(want[:4]); err != nil {
		t.Fatal(err)
	}
	whole := h.size
	if err := h.add(want[4:]); err != nil {
		t.Fatal(err)
	}
	if err := h.close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.TrimRight(b, "\x00") // what stands ahead
	for cut := whole; cut <= int64(len(b)); cut++ {
		if err := os.WriteFile(path, b[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := openHeads(path)
		if err != nil {
			t.Fatal(err)
		}
		n := 4
		if cut == int64(len(b)) {
			n = 5
		}
		if len(h.heads) != n || h.newest().size != want[n-1].size || !bytes.Equal(h.newest().note, want[n-1].note) {
			t.Fatalf("cut at %d: %d heads, the newest at %d", cut, len(h.heads), h.newest().size)
		}
		if err := h.close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHeadFileCutAndChoice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "heads")
	h, err := openHeads(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.add(headsUpTo(10)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, limit, want uint64 }{
		{0, 30, 1, 3}, {0, 30, 900, 9}, {3, 30, 600, 9}, {4, 30, 600, 9}, {29, 30, 1, 30}, {30, 30, 1000, 0}, {0, 30, 1 << 20, 30},
		{0, 20, 1 << 20, 18}, {18, 20, 1 << 20, 21}, // no head ends there: the next one, or it would never be given
	} {
		if got := h.after(c.from, c.to, c.limit); got.size != c.want {
			t.Errorf("after %d up to %d within %d bytes: %d, want %d", c.from, c.to, c.limit, got.size, c.want)
		}
	}
	if err := h.cut(20); err != nil {
		t.Fatal(err)
	}
	if got := h.newest().size; got != 18 {
		t.Errorf("after the cut at 20 the newest head is at %d, want 18", got)
	}
	if err := h.add([]storedHead{{size: 19, bytes: 1900, note: []byte("n")}}); err != nil {
		t.Fatal(err)
	}
	if err := h.close(); err != nil {
		t.Fatal(err)
	}
	if h, err = openHeads(path); err != nil || h.newest().size != 19 || len(h.heads) != 7 {
		t.Errorf("opened again: %d heads, newest at %d, %v", len(h.heads), h.newest().size, err)
	}
}

// What lies between two heads must still fit into a batch when others were
// left out.
func TestHeadsAreThinnedWithinABatch(t *testing.T) {
	var heads []storedHead
	for i := range 20_000 {
		heads = append(heads, storedHead{size: uint64(i + 1), bytes: uint64(i+1) * 700, note: make([]byte, 250)})
	}
	path := filepath.Join(t.TempDir(), "heads")
	h, err := openHeads(path)
	if err == nil {
		err = h.add(heads)
	}
	if err == nil {
		err = h.close()
	}
	if err == nil {
		h, err = openHeads(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(h.heads) > 50 || h.newest().size != 20_000 {
		t.Errorf("%d heads are left, the newest at %d", len(h.heads), h.newest().size)
	}
	var last storedHead
	for _, head := range h.heads {
		if head.bytes-last.bytes > sparseBytes || head.size-last.size > sparseRecords {
			t.Fatalf("from %d to %d there are %d bytes", last.size, head.size, head.bytes-last.bytes)
		}
		last = head
	}
}

func FuzzReadHeads(f *testing.F) {
	f.Add(appendHead(appendHead(nil, storedHead{size: 1, bytes: 2, note: []byte("n")}), storedHead{size: 2, bytes: 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			head, n := readHead(b)
			if n == 0 {
				return
			}
			if again := appendHead(nil, head); !bytes.Equal(again, b[:n]) {
				t.Fatalf("%x was read as %x", b[:n], again)
			}
			b = b[n:]
		}
	})
}

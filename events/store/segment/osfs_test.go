package segment

import (
	"bytes"
	"slices"
	"testing"
)

// TestWriteParts writes more parts than the kernel takes at once, empty ones
// among them, to the middle of a file.
func TestWriteParts(t *testing.T) {
	for _, n := range []int{1, 2, maxParts, maxParts + 1, 2*maxParts + 500} {
		parts := make([][]byte, n)
		for i := range parts {
			parts[i] = bytes.Repeat([]byte{byte(i + 1)}, i*7%1000)
		}
		f, err := Dir(t.TempDir()).Create("parts")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.WritePartsAt(parts, 123); err != nil {
			t.Fatal(err)
		}
		want := slices.Concat(parts...)
		got := make([]byte, len(want))
		if _, err := f.ReadAt(got, 123); err != nil && len(want) > 0 {
			t.Fatal(err)
		}
		if size, err := f.Size(); err != nil || (size != 123+int64(len(want)) && len(want) > 0) || !bytes.Equal(got, want) {
			t.Errorf("%d parts: %d bytes, %v; read back equal: %v", n, size, err, bytes.Equal(got, want))
		}
	}
	f, err := Dir(t.TempDir()).Create("closed")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := f.WritePartsAt([][]byte{{1}}, 0); err == nil {
		t.Error("writing to a closed file succeeds")
	}
}

package seal

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func TestSlotBytes(t *testing.T) {
	e := entry{id: newID, wrap: testWrap(newID, 9)}
	b, err := encodeSlot(wordLive, e)
	must(t, err)
	if string(b[0:8]) != "LIVEHFK1" || string(b[252:]) != "LIVE" || !bytes.Equal(b[8:24], newID[:]) ||
		b[39] != 9 || b[43] != 9 || b[44] != 0 || b[45] != 85 || !bytes.Equal(b[46:131], e.wrap.Sealed) {
		t.Errorf("layout changed: %x", b)
	}
	if state, got, detail := decodeSlot(b); state != slotLive || got.id != e.id || got.wrap.To != e.wrap.To ||
		!bytes.Equal(got.wrap.Sealed, e.wrap.Sealed) {
		t.Errorf("decoded to %d, %v, %q", state, got, detail)
	}
}

// TestStateWordsDiffer: the decoder's rule needs words that share no byte with
// each other or with zero.
func TestStateWordsDiffer(t *testing.T) {
	words := [][4]byte{wordZero, wordPut, wordLive, wordErase}
	for i, a := range words {
		for _, b := range words[:i] {
			for at := range a {
				if a[at] == b[at] {
					t.Errorf("%q and %q share byte %d", a, b, at)
				}
			}
		}
	}
}

// TestTornOverZeros: any subset of the bytes of a put is the put or nothing, and
// any subset of the zeros of an erasure is an erasure.
func TestTornOverZeros(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom([][4]byte{wordPut, wordErase}).Draw(t, "word")
		b, err := encodeSlot(word, entry{id: newID, wrap: testWrap(newID, 1)})
		if err != nil {
			t.Fatal(err)
		}
		lost := rapid.SliceOfN(rapid.Bool(), slotSize, slotSize).Draw(t, "lost")
		for i, l := range lost {
			if l {
				b[i] = 0
			}
		}
		state, e, _ := decodeSlot(b)
		switch {
		case state == slotFree:
		case word == wordErase && state == slotErasing:
		case word == wordPut && (state == slotTorn || state == slotErasing):
		case word == wordPut && state == slotPending && e.id == newID && bytes.Equal(e.wrap.Sealed, testWrap(newID, 1).Sealed):
		default:
			t.Fatalf("state %d, entry %v", state, e)
		}
	})
}

// FuzzDecodeSlot: no slot panics; one that yields an entry is what encodeSlot
// writes; a table with it opens, and opens the same again.
func FuzzDecodeSlot(f *testing.F) {
	for _, word := range [][4]byte{wordZero, wordPut, wordLive, wordErase} {
		b, err := encodeSlot(word, entry{id: newID, wrap: testWrap(newID, 1)})
		must(f, err)
		f.Add(b)
		b = bytes.Clone(b)
		b[50] ^= 4
		f.Add(b)
	}
	f.Add(zeroSlot)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != slotSize {
			return
		}
		state, e, detail := decodeSlot(b)
		if state < slotFree || state > slotDamaged || (state == slotDamaged) != (detail != "") {
			t.Fatalf("state %d, detail %q", state, detail)
		}
		if state == slotLive || state == slotPending {
			again, err := encodeSlot([4]byte(b[headAt:]), e)
			must(t, err)
			if !bytes.Equal(again[:tailAt], b[:tailAt]) {
				t.Fatalf("%x encodes again as %x", b, again)
			}
		}
		image := emptyTable()
		copy(image[slotSize:], b)
		table, d, err := openImage(t, image, TableOptions{AllowDamage: true})
		must(t, err)
		again, after, err := openImage(t, d.durable, TableOptions{})
		if damage := (*DamageError)(nil); state == slotDamaged && errors.As(err, &damage) {
			return
		}
		must(t, err)
		if again.Recovered() != (Recovery{}) || !bytes.Equal(after.durable, d.durable) || again.Has(e.id) != table.Has(e.id) {
			t.Fatal("opening twice differs from opening once")
		}
	})
}

package events

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// sampleHeader is a header with every field set.
func sampleHeader(t testing.TB, payload []byte) Header {
	t.Helper()
	return Header{
		V:           HeaderVersion,
		ID:          uuid.MustParse("01900000-0000-7000-8000-000000000001"),
		Site:        SiteID{uuid.MustParse("01900000-0000-7000-8000-0000000000aa")},
		Epoch:       1,
		Kind:        Ctl,
		Position:    7,
		Type:        "user.added",
		TypeVersion: 1,
		Stream:      uuid.MustParse("01900000-0000-7000-8000-0000000000bb"),
		Actor:       Actor{Kind: ByUser, ID: uuid.MustParse("01900000-0000-7000-8000-0000000000cc")},
		Command:     "AddUser",
		Parent:      uuid.MustParse("01900000-0000-7000-8000-0000000000dd"),
		HLC:         HLC(1_700_000_000_000 << 16),
		Wall:        1_700_000_000_000_000,
		Clock:       []byte{0, 1},
		PayloadHash: sha256.Sum256(payload),
		PayloadSize: uint64(len(payload)),
	}
}

func TestHeaderRoundTrip(t *testing.T) {
	h := sampleHeader(t, []byte("payload"))
	b, err := EncodeHeader(&h)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(h, got); diff != "" {
		t.Errorf("header changed (-want +got):\n%s", diff)
	}
	t.Logf("header: %d bytes", len(b))
}

func TestDecodeHeaderRefuses(t *testing.T) {
	h := sampleHeader(t, nil)
	good, err := EncodeHeader(&h)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(f func(m map[string]any)) []byte {
		var m map[string]any
		if err := cbor.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		f(m)
		b, err := encMode.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	longInt := bytes.Replace(good, []byte("\x65epoch\x01"), []byte("\x65epoch\x18\x01"), 1)
	tests := map[string][]byte{
		"empty":             nil,
		"cut short":         good[:len(good)-1],
		"trailing byte":     append(bytes.Clone(good), 0),
		"unknown field":     edit(func(m map[string]any) { m["extra"] = 1 }),
		"newer version":     edit(func(m map[string]any) { m["v"] = 2 }),
		"position zero":     edit(func(m map[string]any) { m["pos"] = 0 }),
		"epoch zero":        edit(func(m map[string]any) { m["epoch"] = 0 }),
		"unknown kind":      edit(func(m map[string]any) { m["kind"] = "tmp" }),
		"huge payload":      edit(func(m map[string]any) { m["size"] = MaxPayloadSize + 1 }),
		"missing field":     edit(func(m map[string]any) { delete(m, "wall") }),
		"short hash":        edit(func(m map[string]any) { m["hash"] = []byte{1, 2} }),
		"non-minimal int":   longInt,
		"over the limit":    bytes.Repeat([]byte{0xa0}, MaxHeaderSize+1),
		"other letter case": bytes.Replace(good, []byte("\x63pos"), []byte("\x63Pos"), 1),
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			if bytes.Equal(b, good) {
				t.Fatal("the test did not change the header")
			}
			if _, err := DecodeHeader(b); !errors.Is(err, ErrBadRecord) {
				t.Errorf("DecodeHeader = %v, want ErrBadRecord", err)
			}
		})
	}
}

func TestEntryWithAbsentPayload(t *testing.T) {
	payload := []byte("hello")
	h := sampleHeader(t, payload)
	raw, err := EncodeHeader(&h)
	if err != nil {
		t.Fatal(err)
	}
	r, err := DecodeEntry(Entry{Header: raw})
	if err != nil {
		t.Fatalf("absent payload: %v", err)
	}
	if _, err := r.Event(); !errors.Is(err, ErrPayloadAbsent) {
		t.Errorf("Event = %v, want ErrPayloadAbsent", err)
	}
	if _, err := DecodeEntry(Entry{Header: raw, Payload: []byte("hellO")}); !errors.Is(err, ErrBadRecord) {
		t.Errorf("changed payload: %v, want ErrBadRecord", err)
	}
	if _, err := DecodeEntry(Entry{Header: raw, Payload: []byte{}}); !errors.Is(err, ErrBadRecord) {
		t.Errorf("emptied payload: %v, want ErrBadRecord", err)
	}
}

func TestEventRoundTrip(t *testing.T) {
	want := GrantAdded{Expires: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)}
	b, err := EncodeEvent(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeEvent("grant.added", 1, b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("event changed (-want +got):\n%s", diff)
	}
}

func TestUnknownTypesAndFields(t *testing.T) {
	if _, err := DecodeEvent("user.promoted", 1, nil); !errors.Is(err, ErrUnknownType) {
		t.Errorf("unknown type: %v", err)
	}
	if _, err := EncodeEvent(struct{ X int }{}); !errors.Is(err, ErrUnknownType) {
		t.Errorf("undeclared struct: %v", err)
	}
	newer, err := encMode.Marshal(map[string]any{"name": "ada", "role": "admin", "since_v9": "x"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeEvent("user.added", 1, newer)
	if err != nil || got.(UserAdded).Name != "ada" {
		t.Errorf("a payload with a newer field: %v, %v; it must pass", got, err)
	}
	twice := []byte("\xa2\x64name\x61a\x64name\x61b")
	if _, err := DecodeEvent("user.added", 1, twice); err == nil || !strings.Contains(err.Error(), "duplicate") {
		t.Errorf("duplicate key: %v", err)
	}
}

func FuzzDecodeHeader(f *testing.F) {
	h := sampleHeader(f, nil)
	good, err := EncodeHeader(&h)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := DecodeHeader(b)
		if err != nil {
			return
		}
		again, err := EncodeHeader(&h)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("decoded %x but it encodes to %x (%v)", b, again, err)
		}
	})
}

func FuzzDecodeEvent(f *testing.F) {
	for _, typ := range Catalogue() {
		f.Add(typ.Name, []byte{0xa0})
	}
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		e, err := DecodeEvent(name, 1, b)
		if err != nil {
			return
		}
		if _, err := EncodeEvent(e); err != nil {
			t.Errorf("%s decoded to %#v, which does not encode: %v", name, e, err)
		}
	})
}

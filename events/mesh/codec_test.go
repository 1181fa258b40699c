package mesh

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

var testOrigin = events.Origin{Site: events.SiteID{UUID: uuid.MustParse("01900000-0000-7000-8000-0000000000aa")}, Epoch: 3, Kind: events.Rec}

func samples() []Message {
	key := Key{Origin: testOrigin, Key: "key", Voucher: []byte{1}}
	branch := Branch{Head: []byte("head"), Points: []Point{{Size: 4, Root: events.Hash{1}, Proof: []events.Hash{{2}, {3}}}}}
	return []Message{
		Hello{Level: 1, Site: testOrigin.Site, Wall: -5, Windows: [lanes]uint64{1, 2}, Mesh: testOrigin.Site},
		key,
		Have{Logs: []Holding{{testOrigin, 9, events.Hash{7}}}},
		Subscribe{Origin: testOrigin, From: 8, Payloads: true},
		Batch{Origin: testOrigin, First: 3, Head: []byte("head"), Records: []WireRecord{
			{Header: []byte("h"), Payload: []byte("p")}, {Header: []byte("i"), Absent: true}, {Header: []byte("j"), Payload: []byte{}},
		}},
		Ack{testOrigin, 5},
		Prove{testOrigin, []uint64{1, 2}},
		Proof{testOrigin, branch},
		Forked{Fork{Origin: testOrigin, Size: 4, A: branch, B: branch}},
		Forked{Fork{Origin: testOrigin, Keys: []Key{key, key}}},
		Fetch{ID: 1, Origin: testOrigin, First: 2, Count: 3},
		Payload{ID: 1, Origin: testOrigin, Position: 2, Payload: []byte("x")},
		Ping{Wall: 1, At: 2, Echo: 3, Held: 4},
		Lease{Run: 1, At: 2},
		Kept{Keys: []uuid.UUID{uuid.Must(uuid.NewV7())}},
		Lease{Answer: true, Run: 1, At: 2, Log: testOrigin, Size: 3},
		Wraps{Keys: [][]byte{{1}, {2}}},
		Wraps{Keys: [][]byte{{1}}, After: []events.ClockEntry{{Origin: testOrigin, Position: 7}}},
	}
}

func TestMessagesComeBack(t *testing.T) {
	seen := map[uint8]bool{}
	for _, m := range samples() {
		b, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		var wire bytes.Buffer
		if err := WriteFrame(&wire, b); err != nil {
			t.Fatal(err)
		}
		read, err := ReadFrame(&wire)
		if err != nil {
			t.Fatalf("%T: %v", m, err)
		}
		got, err := Decode(read)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%T came back as %+v, %v; want %+v", m, got, err, m)
		}
		seen[m.kind()] = true
	}
	for kind := range decoders {
		if !seen[kind] {
			t.Errorf("message %d has no sample", kind)
		}
	}
}

// An absent payload and an empty one are not the same.
func TestBatchKeepsAbsentAndEmptyApart(t *testing.T) {
	entries := []events.Entry{{Header: []byte("h"), Payload: []byte{}}, {Header: []byte("i")}}
	b, err := Encode(Batch{Origin: testOrigin, First: 1, Head: []byte("head"), Records: wireRecords(entries)})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.(Batch).entries(); !reflect.DeepEqual(got, entries) {
		t.Errorf("%v came back as %v", entries, got)
	}
}

func TestBadMessagesAreRefused(t *testing.T) {
	zero := testOrigin
	zero.Epoch = 0
	for name, m := range map[string]Message{
		"log without an epoch":   Ack{Origin: zero},
		"log of another kind":    Ack{Origin: events.Origin{Site: testOrigin.Site, Epoch: 1, Kind: "doc"}},
		"batch without records":  Batch{Origin: testOrigin, First: 1, Head: []byte("h")},
		"batch without a head":   Batch{Origin: testOrigin, First: 1, Records: []WireRecord{{Header: []byte("h")}}},
		"batch with a long head": Batch{Origin: testOrigin, First: 1, Head: make([]byte, maxHead+1), Records: []WireRecord{{Header: []byte("h")}}},
		"batch from nowhere":     Batch{Origin: testOrigin, First: 0, Head: []byte("h"), Records: []WireRecord{{Header: []byte("h")}}},
		"batch over the end":     Batch{Origin: testOrigin, First: 1<<64 - 1, Head: []byte("h"), Records: []WireRecord{{Header: []byte("h")}}},
		"record without header":  Batch{Origin: testOrigin, First: 1, Head: []byte("h"), Records: []WireRecord{{}}},
		"long header":            Batch{Origin: testOrigin, First: 1, Head: []byte("h"), Records: []WireRecord{{Header: make([]byte, events.MaxHeaderSize+1)}}},
		"absent, yet there":      Batch{Origin: testOrigin, First: 1, Head: []byte("h"), Records: []WireRecord{{Header: []byte("h"), Payload: []byte("p"), Absent: true}}},
		"too many sizes":         Prove{testOrigin, make([]uint64, maxPoints+1)},
		"too many logs":          Have{make([]Holding, maxHoldings+1)},
		"long proof":             Proof{testOrigin, Branch{Points: []Point{{Proof: make([]events.Hash, maxProof+1)}}}},
		"long key":               Key{Origin: testOrigin, Key: strings.Repeat("k", maxKey+1)},
		"too many wraps":         Wraps{Keys: make([][]byte, MaxWraps+1)},
	} {
		b, err := Encode(m)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := Decode(b); !errors.Is(err, ErrBadMessage) {
			t.Errorf("%s: %v, want ErrBadMessage", name, err)
		}
	}
	if _, err := Decode([]byte{200, 1}); !errors.Is(err, ErrUnknownMessage) {
		t.Errorf("message of a newer level: %v", err)
	}
	if _, err := Decode(nil); !errors.Is(err, ErrBadMessage) {
		t.Errorf("empty message: %v", err)
	}
}

// The length of a frame is judged before its body is read.
func TestOversizedFramesAreRefused(t *testing.T) {
	for _, kind := range []uint8{Have{}.kind(), Batch{}.kind(), 200} {
		b := binary.BigEndian.AppendUint32(nil, uint32(bound(kind)+2))
		if _, err := ReadFrame(bytes.NewReader(append(b, kind))); !errors.Is(err, ErrBadMessage) {
			t.Errorf("message %d, one byte too long: %v", kind, err)
		}
	}
	if _, err := ReadFrame(bytes.NewReader(make([]byte, 5))); !errors.Is(err, ErrBadMessage) {
		t.Errorf("frame of length 0: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		b, err := Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Encode(m)
		if err != nil {
			t.Fatalf("%+v was read and can't be written: %v", m, err)
		}
		back, err := Decode(again)
		if err != nil || !reflect.DeepEqual(normal(back), normal(m)) {
			t.Fatalf("%+v came back as %+v, %v", m, back, err)
		}
	})
}

// normal takes the difference between nil and empty lists out of a message.
func normal(m Message) string {
	b, err := Encode(m)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 12, 160})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ReadFrame(bytes.NewReader(b))
		if err == nil && len(got) > len(b)-4 {
			t.Fatalf("%d bytes read from a frame of %d", len(got), len(b))
		}
	})
}

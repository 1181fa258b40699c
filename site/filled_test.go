package site

import (
	"bytes"
	"crypto/sha256"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store/storetest"
)

// Payloads that come later than their headers are read like the others, also after
// a restart. A file of them that was damaged is no answer: they are absent again.
func TestFilledPayloads(t *testing.T) {
	dir := t.TempDir()
	var payloads [][]byte
	var stored []events.Entry
	for i := range 12 {
		payload := bytes.Repeat([]byte{byte(i)}, 100+i)
		header, err := events.EncodeHeader(&events.Header{
			V:    events.HeaderVersion,
			Site: storetest.Origin.Site, Epoch: storetest.Origin.Epoch, Kind: storetest.Origin.Kind, Position: uint64(i) + 1,
			ID: uuid.Must(uuid.NewV7()), Stream: uuid.Must(uuid.NewV7()), Actor: events.SiteActor(storetest.Origin.Site), Type: "session.packets", TypeVersion: 1,
			PayloadHash: sha256.Sum256(payload), PayloadSize: uint64(len(payload)),
		})
		if err != nil {
			t.Fatal(err)
		}
		payloads = append(payloads, payload)
		if i != 2 {
			payload = nil
		}
		stored = append(stored, events.Entry{Header: header, Payload: payload})
	}
	opened, err := otherEngine.Open(dir, storetest.Origin, 0)
	if err == nil {
		err = opened.Log.Append(t.Context(), 0, stored)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Log.Close() })
	var said bytes.Buffer
	open := func() *filled {
		f, err := openFilled(opened.Log, filepath.Join(dir, "filled"), slog.New(slog.NewTextHandler(&said, nil)))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	absent := func(f *filled) (all []uint64) {
		for p, err := range f.Absent(t.Context(), 1) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
		return all
	}
	has := func(f *filled, from uint64) (all []uint64) {
		at := from
		for e, err := range f.Read(t.Context(), from) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Payload != nil {
				if !bytes.Equal(e.Payload, payloads[at-1]) {
					t.Errorf("position %d has another payload", at)
				}
				all = append(all, at)
			}
			at++
		}
		return all
	}
	f := open()
	if got := absent(f); !slices.Equal(got, []uint64{1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12}) {
		t.Errorf("absent: %v", got)
	}
	if headers, err := f.gap(t.Context(), 2); err != nil || len(headers) != 1 || headers[0].Position != 2 {
		t.Errorf("gap from 2: %v, %v", headers, err)
	}
	for _, s := range []stretch{{6, 8}, {1, 2}, {9, 9}} {
		if err := f.fill(s.first, payloads[s.first-1:s.last]); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if got := absent(f); !slices.Equal(got, []uint64{4, 5, 10, 11, 12}) {
			t.Errorf("absent: %v", got)
		}
		if got := has(f, 2); !slices.Equal(got, []uint64{2, 3, 6, 7, 8, 9}) {
			t.Errorf("held from 2 on: %v", got)
		}
		f = open()
	}
	path := filepath.Join(dir, "filled", stretch{6, 8}.file())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{"a changed byte": append(append(bytes.Clone(b[:50]), b[50]^1), b[51:]...), "cut": b[:len(b)-5], "empty": {}} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		said.Reset()
		f = open()
		if got := has(f, 1); !slices.Equal(got, []uint64{1, 2, 3, 9}) {
			t.Errorf("%s: held %v", name, got)
		}
		if got := absent(f); !slices.Equal(got, []uint64{4, 5, 6, 7, 8, 10, 11, 12}) {
			t.Errorf("%s: absent %v", name, got)
		}
		if !bytes.Contains(said.Bytes(), []byte("damaged")) {
			t.Errorf("%s: said %s", name, said.String())
		}
	}
}

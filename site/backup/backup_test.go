package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-pam/holdfast/events"
)

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var origin = events.Origin{Site: events.SiteID{UUID: [16]byte{15: 1}}, Epoch: 3, Kind: events.Ctl}

func entries(n int) iter.Seq2[events.Entry, error] {
	return func(yield func(events.Entry, error) bool) {
		for i := range n {
			e := events.Entry{Header: fmt.Appendf(nil, "header %d", i), Payload: bytes.Repeat([]byte{byte(i)}, i%700)}
			if i%5 == 0 {
				e.Payload = nil
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// sample is a backup of 3,000 records and a file, and what is in it.
func sample(t testing.TB, key *age.X25519Identity) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, About{Name: "north"}, key.Recipient())
	if err == nil {
		err = w.Log(origin, 3000, entries(3500)) // the log goes on while it is copied
	}
	if err == nil {
		err = w.File("keys/ca.key", []byte("a key"))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestABackupHoldsWhatWasWritten(t *testing.T) {
	key := identity(t)
	var got []events.Entry
	var last Item
	for item, err := range Read(bytes.NewReader(sample(t, key)), key) {
		if err != nil {
			t.Fatal(err)
		}
		if item.Chunk != nil {
			if item.Chunk.First != uint64(len(got))+1 || item.Chunk.Origin != origin {
				t.Fatalf("chunk of %s from %d after %d records", item.Chunk.Origin, item.Chunk.First, len(got))
			}
			got = append(got, item.Chunk.Entries...)
		}
		if item.File != nil && (item.File.Path != "keys/ca.key" || string(item.File.Content) != "a key") {
			t.Errorf("file %+v", item.File)
		}
		last = item
	}
	i := 0
	for want := range entries(3000) {
		if !bytes.Equal(got[i].Header, want.Header) || !bytes.Equal(got[i].Payload, want.Payload) || (got[i].Payload == nil) != (want.Payload == nil) {
			t.Fatalf("record %d is %q, %q", i+1, got[i].Header, got[i].Payload)
		}
		i++
	}
	if len(got) != 3000 || last.End == nil || !slices.ContainsFunc(last.End.Logs, func(l LogSize) bool { return l.Origin == origin && l.Records == 3000 }) {
		t.Errorf("%d records, end %+v", len(got), last.End)
	}
}

// Whatever is cut off or changed, it is never taken for a whole backup.
func TestAttackAlteredBackups(t *testing.T) {
	key := identity(t)
	whole := sample(t, key)
	read := func(b []byte) error {
		for _, err := range Read(bytes.NewReader(b), key) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := read(whole); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(whole); at += len(whole)/41 + 1 {
		if err := read(whole[:at]); !errors.Is(err, ErrBad) {
			t.Errorf("cut at %d of %d: %v", at, len(whole), err)
		}
		flipped := bytes.Clone(whole)
		flipped[at] ^= 1
		if err := read(flipped); !errors.Is(err, ErrBad) {
			t.Errorf("flipped at %d of %d: %v", at, len(whole), err)
		}
	}
	if err := read(append(bytes.Clone(whole), 0)); !errors.Is(err, ErrBad) {
		t.Errorf("with a byte more: %v", err)
	}
}

func TestALogThatEndsEarlyIsNoBackup(t *testing.T) {
	w, err := NewWriter(io.Discard, About{}, identity(t).Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Log(origin, 10, entries(9)); err == nil {
		t.Error("9 of 10 records were enough")
	}
}

// Paths never lead out of the directory that a backup is restored to.
func TestAttackPathsInABackup(t *testing.T) {
	for _, path := range []string{"", ".", "..", "/etc/passwd", "keys/../../x", "keys//x", "keys/", "a\\b", "C:x", "a\x00b", "./x"} {
		if item, err := parse(filePath+path, nil); err == nil {
			t.Errorf("%q was taken as %+v", path, item.File)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(aboutName, []byte(`{"format":1}`))
	f.Add(endName, []byte(`{"logs":[]}`))
	f.Add(filePath+"keys/ca.key", []byte("x"))
	f.Add(logPrefix+logName(origin)+"/00000000000000000001", appendEntry(appendEntry(nil, events.Entry{Header: []byte("h"), Payload: []byte("p")}), events.Entry{Header: []byte("h")}))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		item, err := parse(name, content)
		if err == nil && item.Chunk != nil {
			var again []byte
			for _, e := range item.Chunk.Entries {
				again = appendEntry(again, e)
			}
			if len(again) > len(content) {
				t.Errorf("%d bytes became %d", len(content), len(again))
			}
		}
	})
}

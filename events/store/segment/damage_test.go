package segment

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/storetest"
)

// stride thins out what is tried at every byte or bit, unless all is asked for.
func stride(n int) int {
	if os.Getenv("HOLDFAST_TEST_FULL") != "" {
		return 1
	}
	return n
}

// filledLog is a closed or killed log of three segments.
func filledLog(t *testing.T, closed bool) (fs *memFS, size uint64, last string, commit, end int64) {
	fs = newMemFS()
	l, _, err := Open(fs, storetest.Origin, 0, small)
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(0); len(l.view.segments) < 3 || l.view.end < headSize+2000; i++ {
		entries := storetest.Entries(size, int(i%3)+1, int(i%4)*150)
		if err := l.Append(t.Context(), size, entries); err != nil {
			t.Fatal(err)
		}
		commit = l.view.end - commitSize(entries)
		size += uint64(len(entries))
	}
	last, end = segmentName(l.header.first), l.view.end
	if closed {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		end += frameSize
	}
	return fs.kill(), size, last, commit, end
}

// scan reads the stored frames and gives the first error.
func scan(t *testing.T, fs FS) (records uint64, end *store.End, err error) {
	for f, ferr := range Frames(t.Context(), fs, storetest.Origin) {
		if ferr != nil && err == nil {
			err = ferr
		}
		records += uint64(len(f.Entries))
		end = f.End
	}
	return records, end, err
}

// TestEveryFlippedBit flips bits of a log that was closed in order: a scan
// notices each, opening or reading too, and nothing on disk is changed.
func TestEveryFlippedBit(t *testing.T) {
	fs, size, last, _, end := filledLog(t, true)
	if n, e, err := scan(t, fs); err != nil || n != size || !e.Clean {
		t.Fatalf("before any flip: %d records, %+v, %v", n, e, err)
	}
	for name, data := range fs.names {
		if name == reserveName {
			continue
		}
		used := int64(len(data.cache))
		if name == last {
			used = end - frameSize // without the end mark
		}
		for bit := int64(0); bit < 8*used; bit += int64(stride(37)) {
			flipped := fs.kill()
			b := flipped.names[name].cache
			b[bit/8] ^= 1 << (bit % 8)
			before := bytes.Clone(b)
			if _, _, err := scan(t, flipped); !errors.Is(err, store.ErrDamaged) {
				t.Fatalf("bit %d of %s flipped: scan gives %v", bit, name, err)
			} else if !named(err, name) {
				t.Fatalf("bit %d of %s flipped: %v", bit, name, err)
			}
			if err := openAndRead(t, flipped, size); err != nil && !errors.Is(err, store.ErrDamaged) || err == nil && name != last && bit/8 < used {
				if !inIndex(t, fs, name, bit/8) {
					t.Fatalf("bit %d of %s flipped: opening and reading gives %v", bit, name, err)
				}
			} else if err != nil && !bytes.Equal(before, flipped.names[name].cache) {
				t.Fatalf("bit %d of %s flipped: refused, but the file was changed", bit, name)
			}
		}
	}
}

// TestFlippedEndMark flips each bit of the mark of an orderly end. No record
// is in doubt, yet the log can't tell the mark from a torn commit: it reports
// the bytes and is sealed with all its records.
func TestFlippedEndMark(t *testing.T) {
	fs, size, last, _, end := filledLog(t, true)
	for bit := 8 * (end - frameSize); bit < 8*end; bit += int64(stride(5)) {
		flipped := fs.kill()
		flipped.names[last].cache[bit/8] ^= 1 << (bit % 8)
		if _, e, err := scan(t, flipped); err != nil || e.Torn == 0 || e.Clean {
			t.Fatalf("bit %d: scan gives %+v, %v", bit, e, err)
		}
		l, tail, err := Open(flipped, storetest.Origin, size, small)
		if err != nil || tail == nil || tail.Size != size {
			t.Fatalf("bit %d: %v, %v", bit, tail, err)
		}
		holds(t, l, size)
	}
}

// named reports whether an error names a file.
func named(err error, file string) bool {
	var d *store.DamageError
	return errors.As(err, &d) && (d.File == file || d.File > file)
}

// inIndex tells the index in a footer, which reading from the start does not
// use.
func inIndex(t *testing.T, fs FS, name string, at int64) bool {
	s, err := openSegment(fs, storetest.Origin, name, false)
	if err != nil {
		t.Fatal(err)
	}
	_, foot, err := s.readFooter()
	return err == nil && at >= foot+frameSize && at < s.size-8
}

// openAndRead opens a log whose head covers size records and reads it all.
func openAndRead(t *testing.T, fs FS, size uint64) error {
	l, tail, err := Open(fs, storetest.Origin, size, small)
	if err != nil {
		return err
	}
	if tail != nil {
		t.Fatalf("a tail was dropped: %v", tail)
	}
	var last error
	for _, err := range l.Read(t.Context(), 1) {
		last = err
	}
	return errors.Join(last, l.Close())
}

// TestDamageNamesTheRecord flips a bit in every record and looks at what the
// error says.
func TestDamageNamesTheRecord(t *testing.T) {
	fs, size, _, _, _ := filledLog(t, true)
	for position := uint64(1); position <= size; position++ {
		e := storetest.Entries(position-1, 1, 0)[0]
		for name, data := range fs.names {
			i := bytes.Index(data.cache, e.Header)
			if i < 0 {
				continue
			}
			flipped := fs.kill()
			flipped.names[name].cache[i+5] ^= 4
			_, _, err := scan(t, flipped)
			var d *store.DamageError
			if !errors.As(err, &d) || d.Position != position || d.File != name || d.Origin != storetest.Origin {
				t.Fatalf("record %d flipped in %s: %v", position, name, err)
			}
		}
	}
}

// TestFlippedPayloadIsSkippedByHeaders checks that header and payload stand
// apart.
func TestFlippedPayloadIsSkippedByHeaders(t *testing.T) {
	fs := newMemFS()
	l, _, err := Open(fs, storetest.Origin, 0, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	entries := storetest.Entries(0, 3, 200_000)
	if err := l.Append(t.Context(), 0, entries); err != nil {
		t.Fatal(err)
	}
	cache := fs.names[segmentName(1)].cache
	cache[bytes.Index(cache, entries[1].Payload)+7] ^= 1
	n := 0
	for e, err := range l.Read(t.Context(), 1) {
		var d *store.DamageError
		if n == 1 && (!errors.As(err, &d) || d.Position != 2) || n == 0 && !bytes.Equal(e.Payload, entries[0].Payload) {
			t.Errorf("entry %d: %v", n+1, err)
		}
		n++
	}
	if n != 2 {
		t.Errorf("Read gave %d results, want the entry before the damage and the error", n)
	}
	n = 0
	for _, err := range l.Headers(t.Context(), 1) {
		if err != nil {
			t.Error(err)
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d headers, want 3", n)
	}
}

// TestTornAtEveryByte leaves the last commit of a killed log written up to
// every byte, the rest zeros; and with each of its bytes flipped.
func TestTornAtEveryByte(t *testing.T) {
	fs, size, last, commit, end := filledLog(t, false)
	for at := commit; at <= end; at += int64(stride(3)) {
		torn := fs.kill()
		b := torn.names[last].cache
		clear(b[at:])
		checkTorn(t, torn, size, commit, zero(b[commit:]), bytes.Equal(b, fs.names[last].cache))
		if at == end {
			break
		}
		flipped := fs.kill()
		flipped.names[last].cache[at] ^= 0x10
		checkTorn(t, flipped, size, commit, false, false)
	}
	// A head that covers the commit makes the same a loss that is refused.
	torn := fs.kill()
	clear(torn.names[last].cache[commit+100:])
	before := bytes.Clone(torn.names[last].cache)
	if _, _, err := Open(torn, storetest.Origin, size, small); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a torn commit that a head covers: %v", err)
	}
	if !bytes.Equal(before, torn.names[last].cache) {
		t.Error("refused, but the file was changed")
	}
}

// A copy of a log that is torn is cut to what is whole, and takes the rest
// again, where the log itself would be sealed.
func TestTornReplicaGoesOn(t *testing.T) {
	fs, size, last, commit, end := filledLog(t, false)
	options := small
	options.Replica = true
	for at := commit + 1; at < end; at += int64(stride(7)) {
		torn := fs.kill()
		clear(torn.names[last].cache[at:])
		l, tail, err := Open(torn, storetest.Origin, 0, options)
		if err != nil || tail != nil {
			t.Fatalf("torn at %d: tail %v, %v", at, tail, err)
		}
		got, _ := l.Size()
		if got >= size {
			t.Fatalf("torn at %d: %d records", at, got)
		}
		if err := l.Append(t.Context(), got, storetest.Entries(got, int(size-got), 10)); err != nil {
			t.Fatal(err)
		}
		holds(t, l, size)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkTorn opens a log whose last commit is torn, gone or whole.
func checkTorn(t *testing.T, fs *memFS, size uint64, commit int64, gone, whole bool) {
	t.Helper()
	_, end, err := scan(t, fs)
	if err != nil || end == nil || (end.Torn > 0) != (!gone && !whole) {
		t.Fatalf("scan of a torn log: %+v, %v", end, err)
	}
	l, tail, err := Open(fs, storetest.Origin, 0, small)
	if err != nil {
		t.Fatal(err)
	}
	got, root := l.Size()
	switch {
	case whole && (got != size || tail != nil), gone && (got >= size || tail != nil):
		t.Fatalf("%d of %d records, tail %v", got, size, tail)
	case !whole && !gone && (tail == nil || tail.Offset != commit || tail.Size != got || tail.Root != root || got >= size):
		t.Fatalf("%d of %d records, tail %+v", got, size, tail)
	}
	holds(t, l, got)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestTruncatedAtEveryByte cuts the file itself: its length was durable before
// it was used, so this is never the work of a crash.
func TestTruncatedAtEveryByte(t *testing.T) {
	for _, closed := range []bool{true, false} {
		fs, _, last, _, _ := filledLog(t, closed)
		full := len(fs.names[last].cache)
		for at := 0; at < full; at += stride(17) {
			cut := fs.kill()
			cut.names[last].cache = cut.names[last].cache[:at]
			if _, _, err := Open(cut, storetest.Origin, 0, small); !errors.Is(err, store.ErrDamaged) {
				t.Fatalf("cut at %d of %d: %v", at, full, err)
			}
			if _, _, err := scan(t, cut); !errors.Is(err, store.ErrDamaged) {
				t.Fatalf("cut at %d of %d: scan gives %v", at, full, err)
			}
		}
	}
}

// TestMissingAndForeignFiles takes files away and puts others in their place.
func TestMissingAndForeignFiles(t *testing.T) {
	fs, size, last, _, _ := filledLog(t, true)
	names, err := fs.List()
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, disk *memFS, known uint64) {
		t.Helper()
		if _, _, err := Open(disk, storetest.Origin, known, small); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: %v, want damage", what, err)
		}
	}
	for _, name := range names {
		if name == reserveName {
			continue
		}
		gone := fs.kill()
		delete(gone.names, name)
		refused(name+" is missing", gone, size)
	}
	refused("an empty directory under a head", newMemFS(), 1)
	named := fs.kill()
	named.names["12.seg"] = named.names[last]
	refused("a file with an odd name", named, 0)
	moved := fs.kill()
	moved.names[segmentName(size+1)] = moved.names[last].clone()
	refused("a copy under another name", moved, 0)
	other := storetest.Origin
	other.Epoch = 2
	if _, _, err := Open(fs.kill(), other, 0, small); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("the log of another epoch: %v", err)
	}
	garbage := fs.kill()
	garbage.names[last].cache[len(garbage.names[last].cache)-1] = 1
	refused("a byte after the orderly end", garbage, 0)
}

// TestTailLongerThanACommit leaves more bytes after the last commit than one
// can have: no crash does that.
func TestTailLongerThanACommit(t *testing.T) {
	fs := newMemFS()
	l, _, err := Open(fs, storetest.Origin, 0, Options{SegmentSize: 2 * maxFrame})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Append(t.Context(), 0, storetest.Entries(0, 1, 10)); err != nil {
		t.Fatal(err)
	}
	for length, want := range map[int64]bool{maxFrame - 100: false, maxFrame + 8: true} {
		disk := fs.kill()
		cache := disk.names[segmentName(1)].cache
		copy(cache[l.view.end:], bytes.Repeat([]byte{0xee}, int(length)))
		if _, _, err := Open(disk, storetest.Origin, 0, Options{}); errors.Is(err, store.ErrDamaged) != want {
			t.Errorf("a tail of %d bytes: %v", length, err)
		}
	}
}

// TestForgedFrameInPayload stores a copy of a frame as somebody's payload: it
// is in the last commit, which is torn, and must not pass for a later commit.
func TestForgedFrameInPayload(t *testing.T) {
	fs := newMemFS()
	l, _, err := Open(fs, storetest.Origin, 0, small)
	if err != nil {
		t.Fatal(err)
	}
	forged := appendCommit(nil, 12345, 3, l.view.root, storetest.Entries(2, 1, 10))
	entries := storetest.Entries(0, 2, 10)
	entries[1].Payload = append(make([]byte, 32), forged...)
	if err := l.Append(t.Context(), 0, entries); err != nil {
		t.Fatal(err)
	}
	torn := fs.kill()
	torn.names[segmentName(1)].cache[headSize+frameSize+3] ^= 1
	l, tail, err := Open(torn, storetest.Origin, 0, small)
	if err != nil || tail == nil {
		t.Fatalf("Open = %v, %v; want the torn commit dropped", tail, err)
	}
	holds(t, l, 0)
}

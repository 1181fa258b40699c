package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/memory"
	"github.com/holdfast-pam/holdfast/events/store/segment"
	"github.com/holdfast-pam/holdfast/events/store/storetest"
)

// smallEngine makes segments that a few records fill.
var smallEngine = segment.Engine{Options: segment.Options{SegmentSize: 16 << 10, Reserve: 16 << 10}}

func historyConfig(dir string, kind events.Kind) store.HistoryConfig {
	cfg := store.HistoryConfig{
		Dir: filepath.Join(dir, string(kind)), Site: storetest.Origin.Site, Kind: kind, Engine: smallEngine,
		Writer:    store.WriterConfig{Ticker: &events.Ticker{Now: time.Now}, Now: time.Now},
		HeadEvery: time.Hour,
	}
	if kind == events.Ctl {
		other := events.Origin{Site: events.SiteID{UUID: uuid.UUID{9}}, Epoch: 1, Kind: events.Ctl}
		n := uint64(0)
		cfg.Writer.Clock = func() events.Clock {
			n++
			return events.NewClock(events.ClockEntry{Origin: other, Position: n})
		}
	}
	return cfg
}

func openHistory(t *testing.T, cfg store.HistoryConfig) *store.History {
	t.Helper()
	h, err := store.OpenHistory(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// fill appends n records of a size to a history.
func fill(t *testing.T, h *store.History, n, size int) {
	t.Helper()
	for i := range n {
		if _, err := h.Writer().Append(t.Context(), chunk(t, 1, i+1, size)); err != nil {
			t.Fatal(err)
		}
	}
}

func closeHistory(t *testing.T, h *store.History) {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
}

// readAll reads a history from a checkpoint and gives the places.
func readAll(t *testing.T, h *store.History, after events.Clock) []store.Located {
	t.Helper()
	var out []store.Located
	for l, err := range h.Read(t.Context(), after) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

func verify(t *testing.T, cfg store.HistoryConfig) *store.VerifyReport {
	t.Helper()
	r, err := store.Verify(t.Context(), smallEngine, cfg.Dir, cfg.Kind)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestHistoryBeginsAndGoesOn(t *testing.T) {
	for _, kind := range []events.Kind{events.Ctl, events.Rec} {
		t.Run(string(kind), func(t *testing.T) {
			cfg := historyConfig(t.TempDir(), kind)
			for life := range 3 {
				h := openHistory(t, cfg)
				fill(t, h, 20, 1000)
				if got := len(readAll(t, h, events.Clock{})); got != 1+20*(life+1) {
					t.Fatalf("life %d: %d records", life, got)
				}
				closeHistory(t, h)
				r := verify(t, cfg)
				if err := r.Err(); err != nil {
					t.Fatal(err)
				}
				if e := r.Epochs[0]; len(r.Epochs) != 1 || e.Records != uint64(1+20*(life+1)) || e.Head.Size != e.Records || !e.End.Clean || e.Absent != 0 {
					t.Fatalf("life %d: %+v", life, r)
				}
			}
		})
	}
}

// TestCheckpointOverEpochs reads on from every place of a history with three
// epochs, two of which lost a tail.
func TestCheckpointOverEpochs(t *testing.T) {
	cfg := historyConfig(t.TempDir(), events.Ctl)
	for range 2 {
		loseTail(t, cfg)
	}
	h := openHistory(t, cfg)
	defer closeHistory(t, h)
	fill(t, h, 3, 10)
	all := readAll(t, h, events.Clock{})
	var checkpoint events.Clock
	for i, at := range all {
		checkpoint = checkpoint.With(at.Origin, at.Position)
		rest := readAll(t, h, checkpoint)
		if len(rest) != len(all)-i-1 {
			t.Fatalf("after %s: %d records, want %d", checkpoint, len(rest), len(all)-i-1)
		}
	}
	ahead := checkpoint.With(h.Log().Origin(), 1000)
	for _, err := range h.Read(t.Context(), ahead) {
		if err == nil {
			t.Error("a checkpoint ahead of the log was accepted")
		}
	}
}

// loseTail opens a history, appends, and leaves it as a process does that is
// killed in the middle of a commit.
func loseTail(t *testing.T, cfg store.HistoryConfig) {
	t.Helper()
	h := openHistory(t, cfg)
	fill(t, h, 5, 300)
	dir := filepath.Join(cfg.Dir, fmt.Sprint(h.Log().Origin().Epoch))
	closeHistory(t, h)
	tear(t, dir)
}

// tear turns the mark of an orderly end, which is the last thing in the newest
// segment, into bytes of nothing.
func tear(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	name := names[len(names)-1]
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	end := len(strings.TrimRight(string(b), "\x00"))
	b[end-1] ^= 0xff
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDroppedTailOpensAnEpoch(t *testing.T) {
	cfg := historyConfig(t.TempDir(), events.Ctl)
	loseTail(t, cfg)
	if r := verify(t, cfg); r.Err() != nil || r.Epochs[0].End.Torn == 0 {
		t.Fatalf("before recovery: %+v, %v", r.Epochs[0].End, r.Err())
	}
	h := openHistory(t, cfg)
	tail := h.TailDropped()
	if tail == nil || tail.Size != 6 || h.Log().Origin().Epoch != 2 || len(h.Logs()) != 2 {
		t.Fatalf("dropped %+v, now at %s", tail, h.Log().Origin())
	}
	all := readAll(t, h, events.NewClock(events.ClockEntry{Origin: h.Logs()[0].Origin(), Position: tail.Size}))
	if len(all) != 2 {
		t.Fatalf("%d records in the new epoch", len(all))
	}
	want := []any{
		events.LogOpened{Previous: 1, Size: tail.Size, Root: tail.Root[:]},
		events.LogTailDropped{Epoch: 1, Size: tail.Size, Root: tail.Root[:], File: tail.File, Offset: tail.Offset, Dropped: tail.Dropped},
	}
	var keys []string
	for i, at := range all {
		r, err := events.DecodeEntry(at.Entry)
		if err != nil {
			t.Fatal(err)
		}
		e, err := r.Event()
		if err != nil {
			t.Fatal(err)
		}
		if o, ok := e.(events.LogOpened); ok {
			keys, o.Key = append(keys, o.Key), ""
			e = o
		}
		if fmt.Sprint(e) != fmt.Sprint(want[i]) {
			t.Errorf("record %d: %+v, want %+v", i+1, e, want[i])
		}
	}
	if len(keys) != 1 || !strings.Contains(keys[0], "/2/ctl") {
		t.Errorf("the key of the new epoch is %v", keys)
	}
	fill(t, h, 3, 10)
	closeHistory(t, h)
	r := verify(t, cfg)
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	if e := r.Epochs[0]; !e.End.Sealed || e.End.Tail == nil || e.Head.Size != e.Records {
		t.Errorf("the sealed epoch: %+v", e)
	}
	closeHistory(t, h) // twice does no harm
	again := openHistory(t, cfg)
	if again.Log().Origin().Epoch != 2 {
		t.Errorf("another start opened %s", again.Log().Origin())
	}
	closeHistory(t, again)
}

// TestCrashBetweenEpochs interrupts the making of an epoch at each step.
func TestCrashBetweenEpochs(t *testing.T) {
	cfg := historyConfig(t.TempDir(), events.Rec)
	loseTail(t, cfg)
	origin := storetest.Origin
	// Recovery has sealed the old epoch; nothing else was done.
	opened, err := smallEngine.Open(filepath.Join(cfg.Dir, "1"), origin, 0)
	if err != nil || opened.Tail == nil {
		t.Fatal(opened.Tail, err)
	}
	if err := opened.Log.Close(); err != nil {
		t.Fatal(err)
	}
	// The directory of the new one was begun.
	if err := os.Mkdir(filepath.Join(cfg.Dir, "2.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	// It is complete, with an empty log.
	h := openHistory(t, cfg)
	closeHistory(t, h)
	if err := os.RemoveAll(filepath.Join(cfg.Dir, "2")); err != nil {
		t.Fatal(err)
	}
	origin.Epoch = 2
	if err := os.Mkdir(filepath.Join(cfg.Dir, "2"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.CreateKey(filepath.Join(cfg.Dir, "2", "key"), origin, zeros{}); err != nil {
		t.Fatal(err)
	}
	h = openHistory(t, cfg)
	if h.Log().Origin().Epoch != 2 || h.TailDropped() == nil {
		t.Fatalf("opened %s", h.Log().Origin())
	}
	closeHistory(t, h)
	r := verify(t, cfg)
	if err := r.Err(); err != nil || r.Epochs[1].Records != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestHistoryRefuses(t *testing.T) {
	build := func(t *testing.T) store.HistoryConfig {
		cfg := historyConfig(t.TempDir(), events.Rec)
		loseTail(t, cfg)
		h := openHistory(t, cfg)
		fill(t, h, 4, 10)
		closeHistory(t, h)
		return cfg
	}
	for name, test := range map[string]struct {
		spoil func(dir string) error
		want  error
	}{
		"an epoch is missing": {func(dir string) error { return os.RemoveAll(filepath.Join(dir, "1")) }, nil},
		"the key is readable": {func(dir string) error { return os.Chmod(filepath.Join(dir, "2", "key"), 0o644) }, evidence.ErrKeyExposed},
		"the key is missing":  {func(dir string) error { return os.Remove(filepath.Join(dir, "2", "key")) }, fs.ErrNotExist},
		"the head is damaged": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "2", "head"), []byte("x"), 0o600) }, evidence.ErrBadHead},
		"the log is gone": {func(dir string) error {
			names, err := filepath.Glob(filepath.Join(dir, "2", "*.seg"))
			for _, n := range names {
				err = errors.Join(err, os.Remove(n))
			}
			return err
		}, store.ErrDamaged},
		"an old epoch is the new one's": {func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "1")), os.CopyFS(filepath.Join(dir, "1"), os.DirFS(filepath.Join(dir, "2"))))
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := build(t)
			if err := test.spoil(cfg.Dir); err != nil {
				t.Fatal(err)
			}
			h, err := store.OpenHistory(t.Context(), cfg)
			if err == nil {
				closeHistory(t, h)
				t.Fatal("it was opened")
			}
			if test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

func TestHistoryIsLocked(t *testing.T) {
	cfg := historyConfig(t.TempDir(), events.Rec)
	h := openHistory(t, cfg)
	defer closeHistory(t, h)
	if _, err := store.OpenHistory(t.Context(), cfg); !errors.Is(err, store.ErrLocked) {
		t.Errorf("opening twice: %v", err)
	}
}

func TestHeadsAreKept(t *testing.T) {
	cfg := historyConfig(t.TempDir(), events.Rec)
	cfg.HeadEvery = 5 * time.Millisecond
	h := openHistory(t, cfg)
	fill(t, h, 3, 10)
	for deadline := time.Now().Add(10 * time.Second); h.Heads().Head().Size < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no head was signed: %v", h.Heads().Err())
		}
	}
	path := filepath.Join(cfg.Dir, "1", "head")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	if after, err := os.Stat(path); err != nil || after.ModTime() != before.ModTime() {
		t.Errorf("a head was written although the log stood still: %v", err)
	}
	closeHistory(t, h)
}

// TestHeadsThatCannotBeStored takes the directory away from the keeper: the
// log does not depend on it, and the keeper tells.
func TestHeadsThatCannotBeStored(t *testing.T) {
	log, err := memory.New(storetest.Origin).Open()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, err := evidence.CreateKey(filepath.Join(dir, "key"), storetest.Origin, zeros{})
	if err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(dir, "gone")
	heads := store.KeepHeads(log, key, filepath.Join(gone, "head"), evidence.Head{}, time.Hour)
	if err := log.Append(t.Context(), 0, storetest.Entries(0, 3, 10)); err != nil {
		t.Fatal(err)
	}
	if err := heads.Sign(); !errors.Is(err, fs.ErrNotExist) || heads.Err() == nil || heads.Head().Size != 0 {
		t.Errorf("Sign = %v, Err = %v, head of %d", err, heads.Err(), heads.Head().Size)
	}
	if err := os.Mkdir(gone, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(heads.Close(), heads.Close(), heads.Err()); err != nil || heads.Head().Size != 3 {
		t.Errorf("after the directory came back: %v, head of %d", err, heads.Head().Size)
	}
}

// TestVerifyNoticesEveryFlippedBit flips bits all over the segment files of a
// copy of the directory: each is noticed, and the record named where one is
// hit.
func TestVerifyNoticesEveryFlippedBit(t *testing.T) {
	cfg := historyConfig(t.TempDir(), events.Ctl)
	loseTail(t, cfg)
	h := openHistory(t, cfg)
	fill(t, h, 6, 200)
	closeHistory(t, h)
	stride := 97
	if os.Getenv("HOLDFAST_TEST_FULL") != "" {
		stride = 1
	}
	names, err := filepath.Glob(filepath.Join(cfg.Dir, "*", "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	const mark = 80 // the end mark holds no record
	for _, name := range names {
		good, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		end := len(strings.TrimRight(string(good), "\x00")) - mark
		for bit := 0; bit < 8*end; bit += stride {
			if _, err := f.WriteAt([]byte{good[bit/8] ^ 1<<(bit%8)}, int64(bit/8)); err != nil {
				t.Fatal(err)
			}
			r := verify(t, cfg)
			if err := r.Err(); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), filepath.Base(name)) {
				t.Fatalf("bit %d of %s flipped: %v", bit, name, err)
			}
			if _, err := f.WriteAt(good[bit/8:bit/8+1], int64(bit/8)); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := verify(t, cfg).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyFindsForgery changes logs in ways that keep every checksum right.
func TestVerifyFindsForgery(t *testing.T) {
	// forge makes the log of one epoch anew, from changed entries, in the
	// place of the old one, beside the old key and head.
	forge := func(t *testing.T, cfg store.HistoryConfig, change func([]events.Entry) []events.Entry) error {
		dir := filepath.Join(cfg.Dir, "1")
		var entries []events.Entry
		for f, err := range smallEngine.Frames(t.Context(), dir, storetest.Origin) {
			if err != nil {
				t.Fatal(err)
			}
			entries = append(entries, f.Entries...)
		}
		names, err := filepath.Glob(filepath.Join(dir, "*.seg"))
		for _, n := range names {
			err = errors.Join(err, os.Remove(n))
		}
		if err != nil {
			t.Fatal(err)
		}
		opened, err := smallEngine.Open(dir, storetest.Origin, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range change(entries) {
			if err := opened.Log.Append(t.Context(), uint64(i), []events.Entry{e}); err != nil {
				t.Fatal(err)
			}
		}
		if err := opened.Log.Close(); err != nil {
			t.Fatal(err)
		}
		return verify(t, cfg).Err()
	}
	reheader := func(e events.Entry, f func(h *events.Header)) events.Entry {
		h, err := events.DecodeHeader(e.Header)
		if err != nil {
			t.Fatal(err)
		}
		f(&h)
		raw, err := events.EncodeHeader(&h)
		if err != nil {
			t.Fatal(err)
		}
		return events.Entry{Header: raw, Payload: e.Payload}
	}
	for name, change := range map[string]func([]events.Entry) []events.Entry{
		"unchanged":  func(e []events.Entry) []events.Entry { return e },
		"cut":        func(e []events.Entry) []events.Entry { return e[:4] },
		"dropped":    func(e []events.Entry) []events.Entry { return append(e[:2:2], e[3:]...) },
		"swapped":    func(e []events.Entry) []events.Entry { e[2], e[3] = e[3], e[2]; return e },
		"no opening": func(e []events.Entry) []events.Entry { return e[1:] },
		"other actor": func(e []events.Entry) []events.Entry {
			e[3] = reheader(e[3], func(h *events.Header) { h.Actor = events.UnknownActor() })
			return e
		},
		"other origin": func(e []events.Entry) []events.Entry {
			e[3] = reheader(e[3], func(h *events.Header) { h.Epoch = 7 })
			return e
		},
		"old time": func(e []events.Entry) []events.Entry {
			e[3] = reheader(e[3], func(h *events.Header) { h.HLC = 1 })
			return e
		},
		"with a clock": func(e []events.Entry) []events.Entry {
			e[3] = reheader(e[3], func(h *events.Header) { h.Clock = []byte{0} })
			return e
		},
		"payload": func(e []events.Entry) []events.Entry { e[3].Payload = append([]byte{}, e[2].Payload...); return e },
		"added":   func(e []events.Entry) []events.Entry { return append(e, e[len(e)-1]) },
		"absent":  func(e []events.Entry) []events.Entry { e[3].Payload = nil; return e },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := historyConfig(t.TempDir(), events.Rec)
			h := openHistory(t, cfg)
			fill(t, h, 6, 50)
			closeHistory(t, h)
			err := forge(t, cfg, change)
			if fine := name == "unchanged" || name == "absent"; fine != (err == nil) {
				t.Errorf("Verify = %v", err)
			}
			if r := verify(t, cfg); name == "absent" && r.Epochs[0].Absent != 1 {
				t.Errorf("%d payloads absent, want 1", r.Epochs[0].Absent)
			}
		})
	}
}

// TestVerifyBesideTheWriter verifies a history while records are appended and
// heads are signed: nothing is ever reported.
func TestVerifyBesideTheWriter(t *testing.T) {
	cfg := historyConfig(t.TempDir(), events.Rec)
	loseTail(t, cfg)
	cfg.HeadEvery = time.Millisecond
	h := openHistory(t, cfg)
	done := make(chan struct{})
	go func() {
		defer close(done)
		fill(t, h, 150, 3000)
	}()
	for n := 0; ; n++ {
		before, _ := h.Log().Size()
		r, err := h.Verify(t.Context())
		if err != nil || r.Err() != nil {
			t.Fatalf("round %d: %v, %v", n, err, r.Err())
		}
		if got := r.Epochs[1].Records; got < before {
			t.Fatalf("round %d checked %d records of %d", n, got, before)
		}
		select {
		case <-done:
			closeHistory(t, h)
			return
		default:
		}
	}
}

func TestVerifyNoticesAForeignHead(t *testing.T) {
	cfg := historyConfig(t.TempDir(), events.Rec)
	loseTail(t, cfg)
	closeHistory(t, openHistory(t, cfg))
	b, err := os.ReadFile(filepath.Join(cfg.Dir, "1", "head"))
	if err == nil {
		err = os.WriteFile(filepath.Join(cfg.Dir, "2", "head"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(t, cfg).Err(); !errors.Is(err, evidence.ErrBadHead) {
		t.Errorf("Verify = %v", err)
	}
	if _, err := store.Verify(context.Background(), smallEngine, t.TempDir(), events.Rec); err == nil {
		t.Error("an empty directory verified")
	}
}

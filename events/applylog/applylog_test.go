package applylog

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/events"
)

func origin(n byte) events.Origin {
	return events.Origin{Site: events.SiteID{UUID: uuid.UUID{6: 0x70, 8: 0x80, 15: n}}, Epoch: 1, Kind: events.Ctl}
}

func open(t testing.TB, path string) *Log {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func apply(t testing.TB, l *Log, o events.Origin, to uint64) {
	t.Helper()
	if err := l.Append(o, to); err != nil {
		t.Fatal(err)
	}
}

// sample is a file with five cells that make four runs.
func sample(t testing.TB) (path string, data []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "apply.log")
	l := open(t, path)
	a, b := origin(1), origin(2)
	apply(t, l, a, 5)
	apply(t, l, b, 3)
	apply(t, l, b, 4)
	apply(t, l, a, 6)
	apply(t, l, b, 10)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, data
}

func TestRunsSurviveReopening(t *testing.T) {
	path, _ := sample(t)
	l := open(t, path)
	a, b := origin(1), origin(2)
	want := []Run{{1, a, 1, 5}, {6, b, 1, 4}, {10, a, 6, 6}, {11, b, 5, 10}}
	if diff := cmp.Diff(want, l.Runs()); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	apply(t, l, b, 11)
	if got := l.Runs(); got[3].To != 11 || l.Clock().At(b) != 11 {
		t.Errorf("a run goes on after reopening: %+v", got[3])
	}
	for n, want := range map[uint64][2]uint64{0: {0, 0}, 1: {1, 0}, 5: {5, 0}, 8: {5, 3}, 9: {5, 4}, 10: {6, 4}, 12: {6, 6}, 99: {6, 11}} {
		if at := l.ClockAt(n); at.At(a) != want[0] || at.At(b) != want[1] {
			t.Errorf("after %d events: %s, want %v", n, at, want)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestAppendRefuses(t *testing.T) {
	path, _ := sample(t)
	l := open(t, path)
	rec := origin(1)
	rec.Kind = events.Rec
	tests := map[string]struct {
		origin events.Origin
		to     uint64
	}{
		"a position again": {origin(1), 6},
		"a step back":      {origin(2), 3},
		"nothing":          {origin(3), 0},
		"a rec log":        {rec, 1},
		"no epoch":         {events.Origin{Kind: events.Ctl}, 1},
		"more than counts": {origin(3), 1<<64 - 1},
	}
	before := l.Runs()
	for name, test := range tests {
		if err := l.Append(test.origin, test.to); err == nil {
			t.Errorf("%s passed", name)
		}
	}
	if diff := cmp.Diff(before, l.Runs()); diff != "" {
		t.Errorf("a refusal left a trace:\n%s", diff)
	}
	apply(t, l, origin(1), 7)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(origin(1), 8); err == nil {
		t.Error("a closed log took a cell")
	}
}

// A file that fails takes nothing more, since nobody knows what it holds.
func TestAFailedWriteEndsTheLog(t *testing.T) {
	path, data := sample(t)
	l := open(t, path)
	if err := l.file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(origin(1), 7); err == nil {
		t.Fatal("a write to a closed file succeeded")
	}
	if err := l.Append(origin(1), 8); err == nil {
		t.Error("it went on after a failed write")
	}
	again := open(t, path)
	if again.size != int64(len(data)) || again.Clock().At(origin(1)) != 6 {
		t.Errorf("reopened at %s", again.Clock())
	}
}

// Cut anywhere behind its first cell, the file opens with the whole cells that
// are left, and takes new ones.
func TestCutAtEveryByte(t *testing.T) {
	path, data := sample(t)
	for size := range len(data) {
		if err := os.WriteFile(path, data[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(path)
		if size < cellSize {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("cut at %d: %v, want damage", size, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("cut at %d: %v", size, err)
		}
		if whole := int64(size / cellSize * cellSize); l.size != whole {
			t.Errorf("cut at %d: kept %d bytes, want %d", size, l.size, whole)
		}
		apply(t, l, origin(3), 1)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if again := open(t, path); again.Clock().At(origin(3)) != 1 {
			t.Errorf("cut at %d: what was appended afterwards is lost", size)
		}
	}
}

// Each flipped bit before the last cell is refused and the file left alone; in
// the last cell it is taken for a torn one.
func TestFlipEveryBit(t *testing.T) {
	path, data := sample(t)
	for bit := range len(data) * 8 {
		bad := append([]byte(nil), data...)
		bad[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(path)
		if bit/8 >= len(data)-cellSize {
			if err != nil || l.size != int64(len(data)-cellSize) {
				t.Fatalf("bit %d of the last cell: %v", bit, err)
			}
			_ = l.Close()
			continue
		}
		left, readErr := os.ReadFile(path)
		if !errors.Is(err, ErrDamaged) || readErr != nil || string(left) != string(bad) {
			t.Fatalf("bit %d: %v, want damage and the file as it was", bit, err)
		}
	}
}

func TestGarbageBehindTheEndIsCutOff(t *testing.T) {
	path, data := sample(t)
	for name, tail := range map[string][]byte{"zeros": make([]byte, 4096), "letters": []byte("some bytes that no cell has, of more than two cells in length........")} {
		if err := os.WriteFile(path, append(append([]byte(nil), data...), tail...), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(path)
		if err != nil || l.size != int64(len(data)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever is applied, the runs tell it back.
func TestRunsAreWhatWasApplied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "apply.log")
	rapid.Check(t, func(rt *rapid.T) {
		_ = os.Remove(path)
		l, err := Open(path)
		if err != nil {
			rt.Fatal(err)
		}
		var order []events.Clock // after each event
		var at events.Clock
		for range rapid.IntRange(0, 8).Draw(rt, "batches") {
			o := origin(byte(rapid.IntRange(1, 3).Draw(rt, "origin")))
			n := rapid.Uint64Range(1, 5).Draw(rt, "events")
			for range n {
				at = at.With(o, at.At(o)+1)
				order = append(order, at)
			}
			if err := l.Append(o, at.At(o)); err != nil {
				rt.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			rt.Fatal(err)
		}
		if l, err = Open(path); err != nil {
			rt.Fatal(err)
		}
		for i, want := range order {
			if got := l.ClockAt(uint64(i + 1)); got.Compare(want) != events.Equal {
				rt.Errorf("after %d events: %s, want %s", i+1, got, want)
			}
			// what goes on from there is all that is left, and no run more
			left := uint64(len(order) - i - 1)
			for _, r := range l.After(want) {
				if r.Last() <= uint64(i+1) {
					rt.Errorf("after %s comes %+v, which it covers", want, r)
				}
				left -= r.Last() - max(r.Seq, uint64(i+2)) + 1
			}
			if left != 0 {
				rt.Errorf("after %s %d events are missing", want, left)
			}
		}
		if got := l.After(events.Clock{}.With(origin(1), 1000).With(origin(9), 1)); len(order) > 0 && at.At(origin(1)) < uint64(len(order)) && len(got) == 0 {
			rt.Error("nothing comes after a clock that this log never went through")
		}
		_ = l.Close()
	})
}

func FuzzDecode(f *testing.F) {
	_, data := sample(f)
	f.Add(data)
	f.Add(data[:cellSize])
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := decode(data)
		if err != nil {
			return
		}
		var seq uint64
		at := events.Clock{}
		for _, r := range l.Runs() {
			if r.Seq != seq+1 || r.From != at.At(r.Origin)+1 || r.To < r.From {
				t.Fatalf("run %+v does not follow event %d at %s", r, seq, at)
			}
			seq, at = r.Last(), at.With(r.Origin, r.To)
		}
		if l.size > int64(len(data)) || at.Compare(l.Clock()) != events.Equal {
			t.Errorf("%d bytes decode to %s, the runs to %s", len(data), l.Clock(), at)
		}
	})
}

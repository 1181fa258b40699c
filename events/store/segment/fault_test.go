package segment

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/storetest"
)

// small makes segments that a few commits fill.
var small = Options{SegmentSize: 8 << 10, Reserve: 8 << 10}

// workload is a life of a log: commits of several sizes, an orderly restart,
// more commits, an orderly end. It stops at the first error and tells how many
// entries were acknowledged, and how many had been handed over.
func workload(t *testing.T, fs FS) (acked, tried uint64, err error) {
	for life := range 2 {
		l, tail, err := Open(fs, storetest.Origin, 0, small)
		if err != nil {
			return acked, tried, err
		}
		if tail != nil {
			return acked, tried, fmt.Errorf("life %d lost a tail: %v", life, tail)
		}
		for i := range uint64(7) {
			entries := storetest.Entries(acked, int(i%3)+1, int(i)*300)
			tried = acked + uint64(len(entries))
			if err := l.Append(t.Context(), acked, entries); err != nil {
				if again := l.Append(t.Context(), acked, entries); !errors.Is(err, store.ErrFenced) && !errors.Is(again, store.ErrClosed) {
					t.Errorf("an append after a failed one: %v, want ErrClosed", again)
				}
				_ = l.Close() // the process is about to end; only its lock matters here
				return acked, tried, err
			}
			acked = tried
		}
		if err := l.Close(); err != nil {
			return acked, tried, err
		}
	}
	return acked, tried, nil
}

// after opens a log that went through a fault, and checks that it holds a
// prefix of what was handed over, at least what was acknowledged. Then it
// appends, or sees that the log is sealed, and checks all once more.
func after(t *testing.T, fs *memFS, acked, tried uint64) {
	t.Helper()
	l, tail, err := Open(fs, storetest.Origin, acked, small)
	if err != nil {
		t.Errorf("Open: %v", err)
		return
	}
	if l.sealed != (tail != nil) {
		t.Errorf("sealed %v after dropping %v", l.sealed, tail)
	}
	size, _ := l.Size()
	if size < acked || size > tried {
		t.Errorf("%d records after %d were acknowledged and %d handed over", size, acked, tried)
	}
	holds(t, l, size)
	err = l.Append(t.Context(), size, storetest.Entries(size, 1, 100))
	if tail != nil {
		if !errors.Is(err, store.ErrSealed) || tail.Size != size || tail.Dropped <= 0 {
			t.Errorf("after dropping %v: Append = %v", tail, err)
		}
	} else if err != nil {
		t.Errorf("Append: %v", err)
	} else {
		size++
	}
	if err := l.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	again, tailAgain, err := Open(fs.crash(), storetest.Origin, size, small)
	if err != nil {
		t.Errorf("second Open: %v", err)
		return
	}
	holds(t, again, size)
	if (tail == nil) != (tailAgain == nil) {
		t.Errorf("the dropped tail was %v and is %v", tail, tailAgain)
	}
	clean(t, fs)
}

// holds checks that a log has exactly the first n entries.
func holds(t *testing.T, l *Log, n uint64) {
	t.Helper()
	var at uint64
	for e, err := range l.Read(t.Context(), 1) {
		if err != nil {
			t.Fatalf("after %d of %d entries: %v", at, n, err)
		}
		at++
		if !bytes.Equal(e.Header, storetest.Entries(at-1, 1, 0)[0].Header) {
			t.Fatalf("entry %d is %.40q", at, e.Header)
		}
	}
	if size, _ := l.Size(); at != n || size != n {
		t.Errorf("%d entries and size %d, want %d", at, size, n)
	}
}

// clean checks every frame of a closed log.
func clean(t *testing.T, fs FS) {
	t.Helper()
	ended := false
	for f, err := range Frames(t.Context(), fs, storetest.Origin) {
		if err != nil {
			t.Errorf("Frames: %v", err)
		}
		if f.End != nil {
			ended = true
			if !f.End.Clean {
				t.Errorf("the log does not end in order: %+v", f.End)
			}
		}
	}
	if !ended {
		t.Error("Frames gave no end")
	}
}

// TestEveryStepFails lets each step of the workload fail in each way, and
// opens what a kill and what a loss of power leave.
func TestEveryStepFails(t *testing.T) {
	probe := newMemFS()
	if _, _, err := workload(t, probe); err != nil {
		t.Fatal(err)
	}
	for kind, f := range map[string]fault{"undone": failsUndone, "but done": failsButDone, "power cut": powerCutInHalf} {
		t.Run(kind, func(t *testing.T) {
			for step := 1; step <= probe.step; step++ {
				fs := newMemFS()
				fs.at, fs.fault = step, f
				acked, tried, err := workload(t, fs)
				if err == nil {
					t.Errorf("step %d (%s) failed and nobody noticed", step, fs.hit)
				}
				t.Run(fmt.Sprintf("kill at %d (%s)", step, fs.hit), func(t *testing.T) { after(t, fs.kill(), acked, tried) })
				t.Run(fmt.Sprintf("power loss at %d (%s)", step, fs.hit), func(t *testing.T) { after(t, fs.crash(), acked, tried) })
			}
		})
	}
}

// TestPowerLossLetsSomePagesThrough cuts the power at a step of the workload,
// and lets any part of what was not synced reach the disk.
func TestPowerLossLetsSomePagesThrough(t *testing.T) {
	probe := newMemFS()
	if _, _, err := workload(t, probe); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		fs := newMemFS()
		fs.at = rapid.IntRange(1, probe.step).Draw(rt, "step")
		fs.fault = rapid.SampledFrom([]fault{failsUndone, failsButDone, stopsDone}).Draw(rt, "fault")
		acked, tried, err := workload(t, fs)
		if err == nil {
			rt.Fatalf("step %d (%s) failed and nobody noticed", fs.at, fs.hit)
		}
		lucky := rapid.Bool()
		after(t, fs.crashSome(func() bool { return lucky.Draw(rt, "lucky") }), acked, tried)
		if t.Failed() {
			rt.Fatalf("step %d (%s)", fs.at, fs.hit)
		}
	})
}

// TestRecoveryFails lets each step of opening a log in doubt fail, in each
// way; the next opening finds the same as if nothing had been tried.
func TestRecoveryFails(t *testing.T) {
	for name, tear := range map[string]bool{"killed": false, "torn": true} {
		t.Run(name, func(t *testing.T) {
			disk, acked := unfinishedLog(t, tear)
			probe := disk.kill()
			if _, _, err := Open(probe, storetest.Origin, acked, small); err != nil {
				t.Fatal(err)
			}
			for _, f := range []fault{failsUndone, failsButDone, powerCutInHalf} {
				for step := 1; step <= probe.step; step++ {
					for crash := range 2 {
						fs := disk.kill()
						fs.at, fs.fault = step, f
						if l, _, err := Open(fs, storetest.Origin, acked, small); err == nil {
							t.Errorf("step %d (%s) failed and nobody noticed", step, fs.hit)
							_ = l.Close()
						}
						next := fs.kill()
						if crash == 1 {
							next = fs.crash()
						}
						l, tail, err := Open(next, storetest.Origin, acked, small)
						if err != nil {
							t.Errorf("fault %d at step %d (%s): %v", f, step, fs.hit, err)
							continue
						}
						if (tail != nil) != tear {
							t.Errorf("fault %d at step %d (%s): dropped tail %v", f, step, fs.hit, tail)
						}
						holds(t, l, acked)
					}
				}
			}
		})
	}
}

// unfinishedLog is the disk of a process that was killed, with or without a
// commit that was half written.
func unfinishedLog(t *testing.T, tear bool) (*memFS, uint64) {
	fs := newMemFS()
	l, _, err := Open(fs, storetest.Origin, 0, small)
	if err != nil {
		t.Fatal(err)
	}
	size := uint64(0)
	for i := range 6 {
		if err := l.Append(t.Context(), size, storetest.Entries(size, 2, 400*i)); err != nil {
			t.Fatal(err)
		}
		size += 2
	}
	if tear {
		f, err := fs.Open(segmentName(l.header.first), true)
		if err != nil {
			t.Fatal(err)
		}
		frame := appendCommit(nil, l.header.mark, size+1, l.view.root, storetest.Entries(size, 1, 200))
		if _, err := f.WriteAt(frame[:len(frame)/2], l.view.end); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range fs.names {
		d.flush(1 << 30)
	}
	return fs.kill(), size
}

// TestEveryStepLies lets each sync report success and do nothing. What was
// acknowledged on that lie can't be kept; but with a head that covers it, the
// loss is always noticed, and without one what is left is still a prefix.
func TestEveryStepLies(t *testing.T) {
	probe := newMemFS()
	if _, _, err := workload(t, probe); err != nil {
		t.Fatal(err)
	}
	for step := 1; step <= probe.step; step++ {
		fs := newMemFS()
		fs.at, fs.fault = step, liesDone
		acked, _, err := workload(t, fs)
		if err != nil {
			continue // it was noticed while running
		}
		l, tail, err := Open(fs.crash(), storetest.Origin, acked, small)
		if err == nil {
			if size, _ := l.Size(); size != acked || tail != nil {
				t.Errorf("step %d (%s): opened with %d of %d records although a head covers them", step, fs.hit, size, acked)
			}
			for _, err = range l.Read(t.Context(), 1) { // finished segments are checked when they are read
			}
			if err == nil {
				holds(t, l, acked)
			}
		}
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			t.Errorf("step %d (%s): %v", step, fs.hit, err)
		}
	}
}

// TestDiskFull fills the disk, uses the head-room up, frees the disk again.
func TestDiskFull(t *testing.T) {
	fs := newMemFS()
	fs.free = 5*small.SegmentSize + slack
	l, _, err := Open(fs, storetest.Origin, 0, small)
	if err != nil {
		t.Fatal(err)
	}
	size := uint64(0)
	add := func(head bool) error {
		ctx := t.Context()
		if head {
			ctx = store.WithHeadroom(ctx)
		}
		err := l.Append(ctx, size, storetest.Entries(size, 1, 500))
		if err == nil {
			size++
		}
		return err
	}
	for err = add(false); err == nil; err = add(false) {
		if l.Space().Full {
			t.Fatal("Full before an append was refused")
		}
	}
	if s := l.Space(); !errors.Is(err, store.ErrFull) || !s.Full || s.Headroom == 0 || s.Free != 0 {
		t.Fatalf("on a full disk: %v, %+v", err, s)
	}
	plain := size
	for err = add(true); err == nil; err = add(true) {
		if again := add(false); !errors.Is(again, store.ErrFull) {
			t.Fatalf("an append without head-room among those with: %v", again)
		}
	}
	if !errors.Is(err, store.ErrFull) || size < plain+5 {
		t.Fatalf("head-room took %d records, then %v", size-plain, err)
	}
	holds(t, l, size)
	reopened := fs.kill() // a restart on the full disk, after an unclean end
	if full, tail, err := Open(reopened, storetest.Origin, size, small); err != nil || tail != nil {
		t.Fatalf("opening on a full disk: %v, %v", tail, err)
	} else if err := full.Append(t.Context(), size, storetest.Entries(size, 1, 500)); !errors.Is(err, store.ErrFull) {
		t.Errorf("appending after that: %v", err)
	}
	fs.mu.Lock()
	fs.free += 10 * small.SegmentSize
	fs.mu.Unlock()
	if s := l.Space(); s.Full {
		t.Errorf("space came back: %+v", s)
	}
	for range 20 {
		if err := add(false); err != nil {
			t.Fatal(err)
		}
	}
	if s := l.Space(); s.Full || s.Headroom != uint64(small.Reserve) {
		t.Errorf("at the end: %+v", s)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, _, err := Open(fs.crash(), storetest.Origin, size, small)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, again, size)
	clean(t, fs)
}

// TestReadFailure tells bytes that can't be read from damaged ones.
func TestReadFailure(t *testing.T) {
	disk, size := unfinishedLog(t, false)
	l, _, err := Open(&unreadable{memFS: disk, good: 3}, storetest.Origin, size, small)
	if l != nil || !errors.Is(err, errFault) || errors.Is(err, store.ErrDamaged) {
		t.Errorf("Open = %v; an input error is no damage", err)
	}
}

// unreadable is a disk whose reads fail after some.
type unreadable struct {
	*memFS
	good int
}

func (u *unreadable) Open(name string, write bool) (File, error) {
	f, err := u.memFS.Open(name, write)
	return &badReads{f, u}, err
}

type badReads struct {
	File
	u *unreadable
}

func (b *badReads) ReadAt(p []byte, off int64) (int, error) {
	if b.u.good--; b.u.good < 0 {
		return 0, errFault
	}
	return b.File.ReadAt(p, off)
}

// TestRestartOnAFullDisk fills the last segment of a log on a full disk to
// within some bytes, and starts and stops it until its marks fill the rest, so
// that it ends in a footer with no room for another segment. It opens each
// time, refuses plain appends at the end, and takes those with head-room.
func TestRestartOnAFullDisk(t *testing.T) {
	footers := 0
	for left := int64(0); left < 400; left += 40 {
		fs := newMemFS()
		fs.free = small.SegmentSize + small.Reserve + slack + 100
		l, _, err := Open(fs, storetest.Origin, 0, small)
		if err != nil {
			t.Fatal(err)
		}
		capacity := int64(l.header.capacity)
		room := capacity - l.view.end - marksRoom - footerBound(capacity) - left
		fill := storetest.Entries(0, 1, int(room-commitSize(storetest.Entries(0, 1, 0)))-8)
		if err := l.Append(t.Context(), 0, fill); err != nil {
			t.Fatal(err)
		}
		for life := range 6 {
			if err := l.Close(); err != nil {
				t.Fatalf("left %d, life %d: Close: %v", left, life, err)
			}
			if l.view.segments[0].footer > 0 && len(l.view.segments) == 1 {
				footers++
			}
			fs = fs.crash()
			var tail *store.TailDropped
			if l, tail, err = Open(fs, storetest.Origin, 1, small); err != nil || tail != nil {
				t.Fatalf("left %d, life %d: Open: %v, %v", left, life, tail, err)
			}
			holds(t, l, 1)
		}
		if err := l.Append(t.Context(), 1, storetest.Entries(1, 1, 3000)); !errors.Is(err, store.ErrFull) {
			t.Errorf("left %d: a plain append: %v", left, err)
		}
		if err := l.Append(store.WithHeadroom(t.Context()), 1, storetest.Entries(1, 1, 10)); err != nil {
			t.Errorf("left %d: with head-room: %v", left, err)
		}
		holds(t, l, 2)
	}
	if footers == 0 {
		t.Error("no log ended in a footer: the test shows nothing")
	}
}

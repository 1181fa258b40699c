package applylog

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// On a disk that others have filled a site goes on recording what it applies for a
// long while, is told when it can't any more before it has applied anything, and goes
// on when there is room again.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("needs to mount a file system, as root: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	l, err := Open(filepath.Join(dir, "order"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if err := l.Room(); err != nil {
		t.Fatal(err)
	}
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 4096); err == nil; {
		_, err = filler.Write(b)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	log := origin(1)
	at := uint64(0)
	for err = nil; err == nil; {
		if err = l.Room(); err == nil {
			at++
			if err := l.Append(log, at); err != nil {
				t.Fatalf("append %d, for which there was room: %v", at, err)
			}
		}
	}
	if !errors.Is(err, ErrFull) || at < 1000 {
		t.Fatalf("after %d appends: %v", at, err)
	}
	if err := errors.Join(filler.Close(), os.Remove(filler.Name()), l.Room(), l.Append(log, at+1)); err != nil {
		t.Fatal(err)
	}
}

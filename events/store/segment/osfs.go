package segment

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pam/holdfast/events/store"
)

// dir is the FS of the operating system.
type dir string

// Dir gives the FS of a directory that exists.
func Dir(path string) FS { return dir(path) }

func (d dir) path(name string) string { return filepath.Join(string(d), name) }

// List gives the names that os.ReadDir gives, which sorts.
func (d dir) List() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Create makes a file that only the owner may read.
func (d dir) Create(name string) (File, error) {
	f, err := os.OpenFile(d.path(name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Open opens a file that exists.
func (d dir) Open(name string, write bool) (File, error) {
	mode := os.O_RDONLY
	if write {
		mode = os.O_RDWR
	}
	f, err := os.OpenFile(d.path(name), mode, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Rename renames within the directory.
func (d dir) Rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }

// Remove removes a file.
func (d dir) Remove(name string) error { return os.Remove(d.path(name)) }

// SyncDir syncs the directory itself.
func (d dir) SyncDir() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Free is what the file system has left for an ordinary user.
func (d dir) Free() (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(string(d), &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", string(d), err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// Lock takes a lock by flock, which the kernel drops with the process.
func (d dir) Lock() (io.Closer, error) {
	f, err := os.OpenFile(d.path(lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written to it
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", store.ErrLocked, string(d))
		}
		return nil, fmt.Errorf("lock %s: %w", string(d), err)
	}
	return f, nil
}

type osFile struct{ *os.File }

// Size asks the kernel each time.
func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// WritePartsAt is a pwritev, or several where there are more parts than the
// kernel takes at once or it wrote less than all.
func (f osFile) WritePartsAt(parts [][]byte, off int64) error {
	rest := slices.DeleteFunc(slices.Clone(parts), func(p []byte) bool { return len(p) == 0 })
	for len(rest) > 0 {
		n, err := unix.Pwritev(int(f.Fd()), rest[:min(len(rest), maxParts)], off)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return &os.PathError{Op: "pwritev", Path: f.Name(), Err: err}
		}
		off += int64(n)
		for len(rest) > 0 && n >= len(rest[0]) {
			n -= len(rest[0])
			rest = rest[1:]
		}
		if n > 0 {
			rest[0] = rest[0][n:]
		}
	}
	return nil
}

// maxParts is IOV_MAX of Linux.
const maxParts = 1024

// Allocate falls back to a sparse file where the file system can't allocate
// ahead; head-room is then only as good as the free space.
func (f osFile) Allocate(size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR): // a signal came first; nothing is lost by asking again
		case errors.Is(err, unix.EOPNOTSUPP):
			return f.Truncate(size)
		default:
			return err
		}
	}
}

// SyncData is one fdatasync, never repeated.
func (f osFile) SyncData() error { return unix.Fdatasync(int(f.Fd())) }

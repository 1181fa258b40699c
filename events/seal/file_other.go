//go:build unix && !linux

package seal

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// syncData makes what was written to f durable.
func syncData(f *os.File) error { return f.Sync() }

// forgetCache does nothing: there is no portable way.
func forgetCache(*os.File) {}

// LockDown sets the core file limit to 0, which is all that is portable.
func LockDown() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("lock down: set core file limit to 0: %w", err)
	}
	return nil
}

// lockedMemory gives at least n bytes outside the Go heap, not swapped out where
// this process may lock memory.
func lockedMemory(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("get memory for a key: %w", err)
	}
	_ = unix.Mlock(b) // RLIMIT_MEMLOCK may forbid it
	return b, nil
}

// freeLocked overwrites what lockedMemory gave and gives it back.
func freeLocked(b []byte) error {
	clear(b)
	if err := unix.Munmap(b); err != nil {
		return fmt.Errorf("give the memory of a key back: %w", err)
	}
	return nil
}

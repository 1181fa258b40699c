package seal

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// syncData makes what was written to f durable (fdatasync). An interrupted call
// reported nothing yet and is made again; any other error is final.
func syncData(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// forgetCache makes the next reads of f come from the disk: after a failed sync
// the page cache may hold what the disk does not. Advice, so no error.
func forgetCache(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

// LockDown keeps the memory of this process, with its keys, out of core dumps
// and away from debuggers of the same user: RLIMIT_CORE 0 (core files) and
// PR_SET_DUMPABLE 0 (core_pattern pipes, ptrace). main calls it before it loads a
// key. Neither undoes itself; child processes inherit the limit. Swap is not
// covered: use encrypted or no swap.
func LockDown() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("lock down: set core file limit to 0: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("lock down: make the process undumpable: %w", err)
	}
	return nil
}

// lockedMemory gives at least n bytes outside the Go heap, left out of core
// dumps, of child processes and, where this process may lock memory, of swap.
func lockedMemory(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("get memory for a key: %w", err)
	}
	if err := errors.Join(unix.Madvise(b, unix.MADV_DONTDUMP), unix.Madvise(b, unix.MADV_WIPEONFORK)); err != nil {
		return nil, errors.Join(fmt.Errorf("keep the memory of a key out of core dumps: %w", err), unix.Munmap(b))
	}
	_ = unix.Mlock(b) // RLIMIT_MEMLOCK may forbid it: then swap must be encrypted or off, as for the rest
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

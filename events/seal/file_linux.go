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

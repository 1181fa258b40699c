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

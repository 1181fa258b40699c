package seal

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLockDown runs itself in a child, since LockDown can't be undone; the child
// checks both settings and then dies of a signal that would dump core.
func TestLockDown(t *testing.T) {
	const marker = "SEAL_TEST_LOCKDOWN"
	if os.Getenv(marker) != "" {
		lockedDownChild()
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockDown$")
	cmd.Env = append(os.Environ(), marker+"=1", "GOTRACEBACK=crash")
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("child did not die: %v\n%s", err, out)
	}
	status := exit.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != syscall.SIGABRT {
		t.Fatalf("child ended with %v\n%s", exit, out)
	}
	if status.CoreDump() {
		t.Error("child dumped core")
	}
}

func lockedDownChild() {
	// Ask for core files first, so that the limit is LockDown's doing.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		os.Exit(10)
	}
	limit.Cur = limit.Max
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &limit)
	if err := LockDown(); err != nil {
		os.Exit(11)
	}
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
		os.Exit(12)
	}
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
		os.Exit(13)
	}
	panic("die and, if it were allowed, dump core")
}

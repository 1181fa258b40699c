package gatewaytest

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// NoLeaks checks, when the test is over, that as many goroutines run as when it was called. It waits up to five seconds
// of real time for them, also where a test's own time is simulated.
func NoLeaks(t testing.TB) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for range 1000 {
			if runtime.NumGoroutine() <= before {
				return
			}
			_ = unix.Nanosleep(&unix.Timespec{Nsec: 5_000_000}, nil) // cut short by a signal is fine
		}
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines run, %d ran before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
	})
}

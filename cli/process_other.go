//go:build !linux

package cli

import (
	"runtime"

	"github.com/holdfast-pam/holdfast/cli/console"
)

// process tells what can be told without proc(5).
func process() (console.Process, error) {
	return console.Process{Goroutines: runtime.NumGoroutine()}, nil
}

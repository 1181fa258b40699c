package cli

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"github.com/holdfast-pam/holdfast/cli/console"
)

// process tells what this process holds, by proc(5).
func process() (console.Process, error) {
	p := console.Process{Goroutines: runtime.NumGoroutine()}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return p, fmt.Errorf("count open descriptors: %w", err)
	}
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return p, fmt.Errorf("read resident memory: %w", err)
	}
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return p, fmt.Errorf("read resident memory: /proc/self/statm says %q", statm)
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return p, fmt.Errorf("read resident memory: %w", err)
	}
	p.Descriptors, p.Memory = len(open)-1, pages*int64(os.Getpagesize()) // one was the directory
	return p, nil
}

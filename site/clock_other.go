//go:build !linux

package site

import "time"

// allTime is a clock that only grows. Whether it does while the machine sleeps
// depends on the system.
func allTime() time.Duration { return time.Since(processStart) }

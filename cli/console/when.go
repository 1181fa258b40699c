package console

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/projections"
)

// duration reads a length of time: Go's form (8h, 90m, 1h30m), or a whole
// number of days or weeks (30d, 2w). It is never negative.
func duration(s string) (time.Duration, error) {
	bad := &Fault{Exit: Usage, Message: fmt.Sprintf("%q is no length of time", s), Hint: "write it like 8h, 90m, 30d or 2w"}
	unit := time.Duration(0)
	switch {
	case strings.HasSuffix(s, "d"):
		unit = 24 * time.Hour
	case strings.HasSuffix(s, "w"):
		unit = 7 * 24 * time.Hour
	}
	if unit == 0 {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return 0, bad
		}
		return d, nil
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if err != nil || n > uint64(math.MaxInt64/unit) {
		return 0, bad
	}
	return time.Duration(n) * unit, nil
}

// pointInTime reads an RFC 3339 time, or a length of time counted from now in
// the direction of sign; the empty string is the zero time.
func pointInTime(s string, now time.Time, sign int) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UTC(), nil
	}
	d, err := duration(s)
	if err != nil {
		return time.Time{}, &Fault{Exit: Usage, Message: fmt.Sprintf("%q is neither a time nor a length of time", s),
			Hint: "write a time like 2026-01-31T18:00:00Z or a length like 8h or 30d"}
	}
	return now.Add(time.Duration(sign) * d).UTC().Truncate(time.Second), nil
}

// window is the flags that every list takes.
type window struct {
	since, until string
	limit        int
	live         bool
}

func (w *window) flags(cmd *cobra.Command) *cobra.Command {
	f := cmd.Flags()
	f.StringVar(&w.since, "since", "", "only from this time on (RFC 3339, or how long ago: 8h, 30d)")
	f.StringVar(&w.until, "until", "", "only before this time")
	f.IntVar(&w.limit, "limit", projections.DefaultLimit, "at most this many")
	f.BoolVar(&w.live, "live", false, "leave out what has ended, expired, was removed or disabled")
	return cmd
}

func (w *window) filter() (f projections.Filter, err error) {
	if w.limit < 1 || w.limit > projections.MaxLimit {
		return f, usageError("--limit takes a number from 1 to %d", projections.MaxLimit)
	}
	f = projections.Filter{Limit: w.limit, Live: w.live}
	now := time.Now()
	if f.Since, err = pointInTime(w.since, now, -1); err != nil {
		return f, err
	}
	f.Until, err = pointInTime(w.until, now, -1)
	return f, err
}

package events

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // so that a time zone means the same on a machine without a zone database
)

// Window is a time of the week at which something is allowed:
// DAYS@HH:MM-HH:MM@ZONE, for example mon-fri@08:00-18:00@Europe/Berlin. DAYS
// are weekdays and ranges of them with commas between, or daily. A window that
// ends before it begins runs into the next day; 24:00 is the end of the day.
// ZONE is an IANA name, UTC where it is left out. Stored in the form that
// [ParseWindow] gives.
type Window string

var weekdays = [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

var (
	windowHours = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|24:00)$`)
	zoneName    = regexp.MustCompile(`^[A-Z][A-Za-z0-9_+-]*(/[A-Z][A-Za-z0-9_+-]*){0,2}$`)
)

// week is a window that was read.
type week struct {
	days     [7]bool // by time.Weekday: on which it begins
	from, to int     // minutes since midnight; to may be 1440, and not more than from for a window over midnight
	zone     *time.Location
}

// ParseWindow reads a window and gives its one form.
func ParseWindow(text string) (Window, error) {
	if _, err := readWindow(text); err != nil {
		return "", err
	}
	parts := strings.Split(text, "@")
	if len(parts) == 2 {
		parts = append(parts, "UTC")
	}
	return Window(strings.Join(parts, "@")), nil
}

func readWindow(text string) (w week, err error) {
	parts := strings.Split(text, "@")
	if len(text) > 200 || len(parts) < 2 || len(parts) > 3 {
		return w, fmt.Errorf("%.80q is no window: write DAYS@HH:MM-HH:MM@ZONE, like mon-fri@08:00-18:00@Europe/Berlin", text)
	}
	if w.days, err = readDays(parts[0]); err != nil {
		return w, err
	}
	m := windowHours.FindStringSubmatch(parts[1])
	if m == nil {
		return w, fmt.Errorf("%.80q are no hours: write HH:MM-HH:MM", parts[1])
	}
	w.from, w.to = minutes(m[1], m[2]), 24*60
	if m[3] != "" {
		w.to = minutes(m[3], m[4])
	}
	if w.from == w.to {
		return w, errors.New("a window that ends when it begins is none; 00:00-24:00 is a whole day")
	}
	zone := "UTC"
	if len(parts) == 3 {
		zone = parts[2]
	}
	w.zone, err = location(zone)
	return w, err
}

func minutes(hour, minute string) int {
	h, _ := strconv.Atoi(hour) // both matched two digits
	m, _ := strconv.Atoi(minute)
	return h*60 + m
}

func readDays(text string) (days [7]bool, err error) {
	if text == "daily" {
		return [7]bool{true, true, true, true, true, true, true}, nil
	}
	for _, part := range strings.Split(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, ok := weekday(first)
		to, ok2 := from, true
		if isRange {
			to, ok2 = weekday(last)
		}
		if !ok || !ok2 {
			return days, fmt.Errorf("%.80q is no weekday: use mon tue wed thu fri sat sun, ranges like mon-fri, or daily", part)
		}
		for d := from; ; d = (d + 1) % 7 {
			days[d] = true
			if d == to {
				break
			}
		}
	}
	return days, nil
}

func weekday(name string) (int, bool) {
	for i, d := range weekdays {
		if d == name {
			return i, true
		}
	}
	return 0, false
}

// zones keeps the time zones that were loaded; there are some hundred.
var zones sync.Map

func location(name string) (*time.Location, error) {
	if known, ok := zones.Load(name); ok {
		return known.(*time.Location), nil
	}
	if !zoneName.MatchString(name) || name == "Local" { // nothing that could name a file outside the zone database
		return nil, fmt.Errorf("%.80q is no time zone: use an IANA name like Europe/Berlin, or UTC", name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%.80q is no time zone that is known here: use an IANA name like Europe/Berlin, or UTC", name)
	}
	zones.Store(name, zone)
	return zone, nil
}

// Open reports whether now lies in the window, and when that ends. A window
// that can't be read is never open.
func (w Window) Open(now time.Time) (until time.Time, open bool) {
	v, err := readWindow(string(w))
	if err != nil {
		return time.Time{}, false
	}
	local := now.In(v.zone)
	for back := range 2 { // it may have begun yesterday
		y, m, d := local.AddDate(0, 0, -back).Date()
		from := time.Date(y, m, d, 0, v.from, 0, 0, v.zone)
		to := time.Date(y, m, d, 0, v.to, 0, 0, v.zone)
		if v.to <= v.from {
			to = time.Date(y, m, d+1, 0, v.to, 0, 0, v.zone)
		}
		if v.days[time.Date(y, m, d, 12, 0, 0, 0, v.zone).Weekday()] && !now.Before(from) && now.Before(to) {
			return to.UTC(), true
		}
	}
	return time.Time{}, false
}

// OpenNow reports whether one of the windows is open, and until when that is
// sure; no windows at all are always open, and until is then zero.
func OpenNow(windows []Window, now time.Time) (until time.Time, open bool) {
	if len(windows) == 0 {
		return time.Time{}, true
	}
	for _, w := range windows {
		if end, ok := w.Open(now); ok && end.After(until) {
			until, open = end, true
		}
	}
	return until, open
}

package events

import (
	"testing"
	"time"
)

func moment(t *testing.T, text string) time.Time {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestWindows(t *testing.T) {
	tests := []struct{ window, now, until string }{ // until "" is closed
		{"mon-fri@08:00-18:00@Europe/Berlin", "2026-01-05T07:00:00Z", "2026-01-05T17:00:00Z"}, // a Monday in winter
		{"mon-fri@08:00-18:00@Europe/Berlin", "2026-01-05T06:59:59Z", ""},
		{"mon-fri@08:00-18:00@Europe/Berlin", "2026-01-05T17:00:00Z", ""},                     // the end is outside
		{"mon-fri@08:00-18:00@Europe/Berlin", "2026-07-06T06:00:00Z", "2026-07-06T16:00:00Z"}, // in summer
		{"mon-fri@08:00-18:00@Europe/Berlin", "2026-01-10T10:00:00Z", ""},                     // a Saturday
		{"fri-mon@00:00-24:00", "2026-01-11T23:00:00Z", "2026-01-12T00:00:00Z"},
		{"sat@22:00-06:00@UTC", "2026-01-11T05:59:59Z", "2026-01-11T06:00:00Z"}, // began on Saturday
		{"sat@22:00-06:00@UTC", "2026-01-10T05:00:00Z", ""},                     // Friday's night is none
		{"sat@22:00-06:00@UTC", "2026-01-11T22:30:00Z", ""},
		{"daily@01:00-05:00@Europe/Berlin", "2026-03-29T02:30:00Z", "2026-03-29T03:00:00Z"}, // the night of 23 hours
		{"daily@23:00-05:00@Europe/Berlin", "2026-10-25T03:30:00Z", "2026-10-25T04:00:00Z"}, // and that of 25
		{"tue,thu@09:00-10:00@Asia/Kolkata", "2026-01-06T03:30:00Z", "2026-01-06T04:30:00Z"},
		{"nonsense", "2026-01-06T03:30:00Z", ""},
	}
	for _, tt := range tests {
		until, open := Window(tt.window).Open(moment(t, tt.now))
		if open != (tt.until != "") || open && !until.Equal(moment(t, tt.until)) {
			t.Errorf("%s at %s: open %t until %s, want %q", tt.window, tt.now, open, until, tt.until)
		}
	}
	if until, open := OpenNow(nil, time.Now()); !open || !until.IsZero() {
		t.Error("no windows are not always open")
	}
	two := []Window{"daily@08:00-12:00", "daily@11:00-15:00"}
	if until, open := OpenNow(two, moment(t, "2026-01-06T11:30:00Z")); !open || until.Hour() != 15 {
		t.Errorf("overlapping windows: %t until %s", open, until)
	}
	if _, open := OpenNow([]Window{"x", "daily@08:00-12:00"}, moment(t, "2026-01-06T13:00:00Z")); open {
		t.Error("open outside")
	}
}

func TestWindowsThatAreNone(t *testing.T) {
	for _, text := range []string{
		"", "mon", "mon@", "mon@08:00", "mon@8:00-9:00", "mon@08:00-25:00", "mon@24:00-08:00", "mon@08:00-08:00", "Mon@08:00-09:00", "mon-@08:00-09:00",
		"mon@08:00-09:00@Local", "mon@08:00-09:00@", "mon@08:00-09:00@../../etc/passwd", "mon@08:00-09:00@/etc/localtime", "mon@08:00-09:00@Europe/Nowhere",
		"mon@08:00-09:00@UTC@UTC", "mon tue@08:00-09:00",
	} {
		if w, err := ParseWindow(text); err == nil {
			t.Errorf("%q is read as %q", text, w)
		}
	}
	if w, err := ParseWindow("daily@08:00-24:00"); err != nil || w != "daily@08:00-24:00@UTC" {
		t.Errorf("%q, %v", w, err)
	}
}

// Whatever can be read is either closed, or open until a moment not far away.
func FuzzWindow(f *testing.F) {
	f.Add("mon-fri@08:00-18:00@Europe/Berlin", int64(1767596400))
	f.Fuzz(func(t *testing.T, text string, at int64) {
		w, err := ParseWindow(text)
		if err != nil {
			return
		}
		now := time.Unix(at%(1<<33), 0)
		if until, open := w.Open(now); open && (!until.After(now) || until.Sub(now) > 26*time.Hour) {
			t.Errorf("%s at %s: open until %s", w, now, until)
		}
	})
}

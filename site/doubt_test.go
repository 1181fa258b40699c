package site

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-pam/holdfast/events"
)

// copyData copies a data directory of a site that does not run.
func copyData(t *testing.T, c Config) Config {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(c.Site.Data)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(to, func(path string, e os.DirEntry, err error) error { // CopyFS leaves out modes
		if err != nil {
			return err
		}
		return os.Chmod(path, map[bool]os.FileMode{true: 0o700, false: 0o600}[e.IsDir()])
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Site.Data = to
	return c
}

// A copy of a data directory is a site that goes on in new logs, once: with all
// that was decided, whatever step of setting the old ones aside a crash cut off.
func TestACopyOfASiteGoesOnInNewLogs(t *testing.T) {
	c := testConfig(t)
	a := open(t, c)
	addUser(t, a, "ann")
	old := a.ctl.Log().Origin()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	crashes := map[string]func(t *testing.T, d data, id events.SiteID){
		"none": func(*testing.T, data, events.SiteID) {},
		"one log is moved": func(t *testing.T, d data, id events.SiteID) {
			to := d.aside(id, events.Ctl)
			err := errors.Join(d.writeDoubt(doubt{Why: "test"}), os.MkdirAll(to, 0o700), os.Rename(filepath.Join(d.log(events.Ctl), "1"), filepath.Join(to, "1")))
			if err != nil {
				t.Fatal(err)
			}
		},
		"both are moved": func(t *testing.T, d data, id events.SiteID) {
			if err := d.writeDoubt(doubt{Why: "test"}); err != nil {
				t.Fatal(err)
			}
			for _, k := range []events.Kind{events.Ctl, events.Rec} {
				to := d.aside(id, k)
				if err := errors.Join(os.MkdirAll(to, 0o700), os.Rename(filepath.Join(d.log(k), "1"), filepath.Join(to, "1"))); err != nil {
					t.Fatal(err)
				}
			}
		},
	}
	for name, crash := range crashes {
		t.Run(name, func(t *testing.T) {
			c := copyData(t, c)
			crash(t, data{c.Site.Data}, a.ID())
			epoch := uint32(0)
			for life := range 3 {
				s := open(t, c)
				if s.ID() != a.ID() || !knows(s, "ann") {
					t.Fatalf("life %d: it lost what was decided", life)
				}
				now := s.ctl.Log().Origin()
				if now.Epoch <= old.Epoch+1 || life > 0 && now.Epoch != epoch {
					t.Errorf("life %d: epoch %d after %d", life, now.Epoch, epoch)
				}
				epoch = now.Epoch
				addUser(t, s, "user"+string(rune('a'+life)))
				reports, err := s.VerifyLogs(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range reports {
					if err := r.Err(); err != nil || len(r.Epochs) != 2 {
						t.Errorf("life %d: %d epochs, %v", life, len(r.Epochs), err)
					}
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if reports, err := VerifyLogs(t.Context(), c.Site.Data); err != nil || reports[0].Err() != nil || reports[1].Err() != nil {
					t.Errorf("life %d: verify: %v", life, err)
				}
			}
		})
	}
	again := open(t, c)
	defer again.Close()
	if again.ctl.Log().Origin() != old {
		t.Errorf("the directory that was left goes on in %s, not %s", again.ctl.Log().Origin(), old)
	}
}

// The marker says of a directory whether it is the one that was left.
func TestMarker(t *testing.T) {
	d := data{t.TempDir()}
	if why, err := d.checkMarker(); why != "" || err != nil {
		t.Errorf("a new directory: %q, %v", why, err)
	}
	if err := d.mark(); err != nil {
		t.Fatal(err)
	}
	if err := d.mark(); err != nil { // again does nothing
		t.Fatal(err)
	}
	if why, err := d.checkMarker(); why != "" || err != nil {
		t.Errorf("the same directory: %q, %v", why, err)
	}
	b, err := os.ReadFile(d.marker())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(d.marker()+".copy", b, 0o600), os.Rename(d.marker()+".copy", d.marker())); err != nil {
		t.Fatal(err)
	}
	if why, err := d.checkMarker(); why == "" || err != nil {
		t.Errorf("a copy of the marker: %q, %v", why, err)
	}
}

package site

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

func testConfig(t *testing.T) Config {
	t.Helper()
	c := Defaults()
	c.Site.Data, c.Site.Name = t.TempDir(), "test"
	c.Log.SegmentSize, c.Log.Headroom = 8<<20, 1<<20
	return c
}

func open(t *testing.T, c Config) *Site {
	t.Helper()
	s, err := Open(t.Context(), c, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpenTwice(t *testing.T) {
	c := testConfig(t)
	s := open(t, c)
	id := s.ID()
	if err := s.CaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), c, "test", slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("a data directory was opened twice at once")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, c)
	if s.ID() != id || s.Name() != "test" {
		t.Errorf("after a restart the site is %s %q, it was %s", s.ID(), s.Name(), id)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A log that was there and is gone, or that is an older copy, is refused: its
// positions must not be given out again.
func TestLostLogsAreRefused(t *testing.T) {
	grow := func(s *Site) {
		if err := s.AddAdmin(t.Context(), "ada", newPublicKey(t)); err != nil {
			t.Fatal(err)
		}
	}
	for name, lose := range map[string]func(d data) error{
		"ctl removed":       func(d data) error { return os.RemoveAll(d.log(events.Ctl)) },
		"rec removed":       func(d data) error { return os.RemoveAll(d.log(events.Rec)) },
		"both removed":      func(d data) error { return os.RemoveAll(filepath.Join(d.dir, "log")) },
		"ctl epoch removed": func(d data) error { return os.RemoveAll(filepath.Join(d.log(events.Ctl), "1")) },
		"ctl emptied": func(d data) error {
			files, err := filepath.Glob(filepath.Join(d.log(events.Ctl), "1", "*.seg"))
			for _, f := range append(files, filepath.Join(d.log(events.Ctl), "1", "head")) {
				err = errors.Join(err, os.Remove(f))
			}
			return err
		},
		"ctl older": func(d data) error {
			return errors.Join(os.RemoveAll(d.log(events.Ctl)), exec.Command("cp", "-a", d.dir+".older", d.log(events.Ctl)).Run())
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := testConfig(t)
			d := data{c.Site.Data}
			s := open(t, c)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := exec.Command("cp", "-a", d.log(events.Ctl), d.dir+".older").Run(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(d.dir + ".older") })
			s = open(t, c)
			grow(s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := lose(d); err != nil {
				t.Fatal(err)
			}
			if s, err := Open(t.Context(), c, "test", slog.New(slog.DiscardHandler)); err == nil {
				t.Error("the site started as if nothing were missing")
				_ = s.Close()
			} else if !strings.Contains(err.Error(), "restore") {
				t.Errorf("the refusal does not say what to do: %v", err)
			}
		})
	}
}

func newPublicKey(t *testing.T) string {
	t.Helper()
	b, err := makeKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(b)
	if err != nil {
		t.Fatal(err)
	}
	return authorizedKey(signer.PublicKey())
}

// The options that make the first administrator do nothing for a name that was
// ever there: else a restart would bring a disabled one back.
func TestDisabledAdminStaysOut(t *testing.T) {
	s := open(t, testConfig(t))
	defer s.Close()
	admins := map[string]events.Actor{}
	for _, name := range []string{"ada", "eve"} {
		if s.KnowsUser(name) {
			t.Errorf("%s is known before they were added", name)
		}
		if err := s.AddAdmin(t.Context(), name, newPublicKey(t)); err != nil {
			t.Fatal(err)
		}
		s.Commands().View(func(state *aggregate.State) {
			u, err := state.UserByName(name)
			if err != nil {
				t.Fatal(err)
			}
			admins[name] = events.UserActor(u.ID)
		})
	}
	if _, err := s.Commands().Do(t.Context(), admins["ada"], commands.DisableUser{User: "eve"}); err != nil {
		t.Fatal(err)
	}
	if !s.KnowsUser("eve") {
		t.Error("a disabled administrator is forgotten, so the next start would make them anew")
	}
}

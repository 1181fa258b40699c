package site

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway"
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
		if !s.Lacks(name) {
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
	if s.Lacks("eve") {
		t.Error("a disabled administrator is forgotten, so the next start would make them anew")
	}
}

type noConsole struct{}

func (noConsole) Run(context.Context, *gateway.ConsoleRequest) int { return 0 }

// A failed write closes the rec log for good. The site goes on, so that
// administrators reach it, tells, and lets no session begin.
func TestClosedRecLogIsTold(t *testing.T) {
	c := testConfig(t)
	c.SSH.Listen = "127.0.0.1:0"
	s := open(t, c)
	if err := s.Listen(t.Context(), noConsole{}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	failWrites(t, s.data.log(events.Rec))
	d, err := events.NewDraft(s.who.ID.UUID, s.actor(), "", events.SessionPackets{Direction: events.In, Count: 1, Sealed: []byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.rec.Writer().Append(t.Context(), d); err == nil {
		t.Fatal("the write did not fail")
	}
	if space := s.rec.Log().Space(); !space.Full || space.Err == nil {
		t.Errorf("the closed log says of itself: %+v", space)
	}
	told := func() (full bool) {
		s.commands.View(func(state *aggregate.State) {
			site, _ := state.Site(s.who.ID)
			full = site.Full(events.Rec)
		})
		return full
	}
	for end := time.Now().Add(10 * time.Second); !told() && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
	}
	if !told() {
		t.Error("10 s later nothing has been recorded about it")
	}
	select {
	case err := <-served:
		t.Errorf("the site ended: %v", err)
	default:
	}
	stop()
	<-served
	_ = s.Close() // it tells of the closed log again
}

// failWrites puts a read-only descriptor in the place of each open segment
// below dir, so that the next write fails.
func failWrites(t *testing.T, dir string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	broke := 0
	for _, e := range fds {
		file, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || !strings.HasPrefix(file, dir) || !strings.HasSuffix(file, ".seg") {
			continue
		}
		readOnly, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(unix.Dup3(int(readOnly.Fd()), fd, unix.O_CLOEXEC), readOnly.Close()); err != nil {
			t.Fatal(err)
		}
		broke++
	}
	if broke == 0 {
		t.Fatalf("no segment is open below %s", dir)
	}
}

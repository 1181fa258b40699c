package console

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
	"github.com/holdfast-pam/holdfast/site"
)

// begin starts a session of the operator on root+web1 that goes on.
func (w *world) begin(p Person) events.SessionID {
	w.Helper()
	started, err := w.site.Commands().StartSession(w.Context(), p.actor(), commands.StartSession{
		User: p.ID, Fingerprint: p.Fingerprint, Account: "root", Target: "web1", Login: "root+web1", Source: p.Source, Client: "SSH-2.0-x",
	})
	if err != nil {
		w.Fatal(err)
	}
	return started.Session
}

// frozen is a site whose views stand still.
type frozen struct {
	*site.Site
	views *projections.Projections
}

func (f frozen) Views() *projections.Projections { return f.views }

func (f frozen) CaughtUp(ctx context.Context) error {
	log := f.Histories()[0].Log()
	size, _ := log.Size()
	return f.views.WaitFor(ctx, log.Origin(), size)
}

// freeze shows the console views that hold what was decided so far and stay so.
func (w *world) freeze() {
	w.Helper()
	views, err := projections.Open(w.Context(), projections.Config{Dir: w.TempDir(), Source: w.site.Source()})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = views.Close() })
	ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
	done := make(chan error)
	go func() { done <- views.Run(ctx) }()
	f := frozen{w.site, views}
	err = f.CaughtUp(ctx)
	cancel()
	if err := errors.Join(err, <-done); err != nil {
		w.Fatal(err)
	}
	w.console.cfg.Site = f
}

// flip changes one byte in the middle of what a file holds.
func flip(t *testing.T, file string, at int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 0x10
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A damaged recording is a matter of that recording: everybody else is seen,
// and a running session can be ended.
func TestADamagedRecordingBlindsNobody(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	old := w.record(w.operator, slices.Repeat([]string{strings.Repeat("x", 200_000)}, 4)...)
	for range 10 { // a start reads the segment that is being written, and refuses damage in it
		w.record(w.operator, slices.Repeat([]string{strings.Repeat("x", 200_000)}, 4)...)
	}
	w.restart(func(data string) {
		flip(t, filepath.Join(data, "log", "rec", "1", "00000000000000000001.seg"), 6000)
		if err := os.RemoveAll(filepath.Join(data, "views")); err != nil {
			t.Fatal(err)
		}
	})
	live := w.begin(w.operator)
	for _, c := range []struct {
		line, want string
		exit       Exit
	}{
		{"user ls", "opal", Done},
		{"session ls", old.String(), Done},
		{"session show " + live.String(), "running", Done},
		{"audit tail -n 100", "session.started", Done},
		{"projection ls", "projection recordings stopped", Done},
		{"status --json", `"state":"projection recordings stopped`, Done},
		{"session play " + old.String() + " --speed max", "is damaged at position", Damaged},
		{"session kill last", "session.kill_requested", Done},
	} {
		r := w.run(w.admin, c.line, "")
		if r.exit != c.exit || !strings.Contains(r.out+r.err, c.want) {
			t.Errorf("%s: exit %d, want %d and %q\n%s%s", c.line, r.exit, c.exit, c.want, r.out, r.err)
		}
	}
}

// An answer that may be behind is given, and says so in each form. What runs is
// seen and can be ended all the same.
func TestAnswersThatMayBeBehindSaySo(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	ended := w.record(w.operator, "hello\n")
	w.freeze()
	first, second := w.begin(w.operator), w.begin(w.operator)
	w.addUser("eve", events.Operator)
	const warning, fault = "warning: what is shown may be behind: the views may lack ", `{"error":{"code":"partly","message":"what is shown may be behind`
	for _, c := range []struct {
		line     string
		exit     Exit
		out, err string // parts of what is printed
	}{
		{"user ls", Partly, "opal", warning},
		{"user ls --json", Partly, `"stale":true`, fault},
		{"user show opal --json", Partly, `"stale":true`, fault},
		{"user show eve", Unavailable, "", `error: no user "eve" is known to the views, which may be behind`},
		{"user show eve --json", Unavailable, "", `"code":"unavailable"`},
		{"audit tail --json", Partly, `"stale":true`, fault},
		{"session ls", Partly, first.String(), warning},
		{"session ls --live --user opal --target web1", Partly, second.String(), warning},
		{"session ls --json", Partly, second.String(), fault},
		{"session show " + first.String() + " --json", Partly, `"account":"root","target":"web1"`, fault},
		{"session kill " + ended.String(), Conflict, "", "session " + ended.String() + " has ended"},
		{"session kill " + first.String()[:13] + "ffff", Unavailable, "", "no session"},
		{"session kill " + first.String()[:8], Conflict, "", "several session ids"},
		{"session kill last", Done, second.String(), ""},
		{"session kill " + strings.ToUpper(first.String()) + " --json", Partly, first.String(), fault},
		{"status", Done, "the views are not kept up to date: projections are not running", ""},
		{"whoami", Done, "ada", ""},
	} {
		r := w.run(w.admin, c.line, "")
		if r.exit != c.exit || !strings.Contains(r.out, c.out) || !strings.Contains(r.err, c.err) || c.out == "" && r.out != "" || c.err == "" && r.err != "" {
			t.Errorf("%s: exit %d, want %d, %q and %q\n%s%s", c.line, r.exit, c.exit, c.out, c.err, r.out, r.err)
		}
	}
	if n := len(w.audited("session.kill_requested")); n != 2 {
		t.Errorf("%d kills are on record, want 2", n)
	}
	for _, line := range []string{"session ls --user ada", "session ls --target db1", "session ls --until 1h"} {
		if r := w.run(w.admin, line, ""); r.exit != Partly || strings.Contains(r.out, first.String()) {
			t.Errorf("%s shows what it should leave out: exit %d\n%s", line, r.exit, r.out)
		}
	}
}

func TestKillOfWhatDoesNotRun(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	ended := w.record(w.operator, "hello\n")
	for line, want := range map[string]Exit{
		"session kill last": NotFound, "session kill " + ended.String(): Conflict, "session kill " + ended.String()[:13]: Conflict,
		"session kill 00000000-0000-7000-8000-000000000000": NotFound, "session kill web1": Usage,
	} {
		if r := w.run(w.admin, line, ""); r.exit != want || r.out != "" {
			t.Errorf("%s: exit %d, want %d\n%s%s", line, r.exit, want, r.out, r.err)
		}
	}
}

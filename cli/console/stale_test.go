package console

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
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

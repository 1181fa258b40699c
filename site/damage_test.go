package site

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// spoil overwrites bytes somewhere in the middle of a log.
func spoil(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("damage"), 4096+3000); err != nil {
		t.Fatal(err)
	}
}

// A member whose own log is damaged in the middle goes on in a new one, says so, and
// gets all that was in the old one back from a peer.
func TestADamagedLogComesBackFromAPeer(t *testing.T) {
	there := serveMember(t, "there")
	if err := there.AddAdmin(t.Context(), "ada", newPublicKey(t)); err != nil {
		t.Fatal(err)
	}
	var admin events.Actor
	there.commands.View(func(s *aggregate.State) { admin = events.UserActor(s.Users()[0].ID) })
	c := testConfig(t)
	c.Site.Name, c.SSH.Listen, c.Mesh.Listen = "here", "127.0.0.1:0", "127.0.0.1:0"
	here := serveConfig(t, c)
	here.join(there, admin, events.PeerSite)
	const users = 40
	for n := range users {
		addUser(t, here.Site, fmt.Sprint("user", n))
	}
	there.hears(here)
	old := here.ctl.Log().Origin()
	size, _ := here.ctl.Log().Size()
	here.end()
	spoil(t, filepath.Join(data{c.Site.Data}.log(events.Ctl), fmt.Sprint(old.Epoch)))

	here = serveConfig(t, c)
	if now := here.ctl.Log().Origin(); now.Epoch <= old.Epoch {
		t.Fatalf("it goes on in %s", now)
	}
	deadline := time.Now().Add(time.Minute)
	for at := uint64(0); at < size; time.Sleep(50 * time.Millisecond) {
		at, _ = here.commands.Applied(old)
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d records are back", at, size)
		}
	}
	for n := range users {
		if name := fmt.Sprint("user", n); !knows(here.Site, name) {
			t.Errorf("%s is not known", name)
		}
	}
	there.hears(here)
	said := ""
	for r, err := range there.source.Records(t.Context(), events.Ctl, events.Clock{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e, err := r.Event(); err == nil && r.Header.Type == "site.doubted" {
			said = e.(events.SiteDoubted).Why
		}
	}
	if !strings.Contains(said, "damaged") {
		t.Errorf("of why it goes on in a new log it says %q", said)
	}
	reports, err := here.VerifyLogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reports {
		if err := r.Err(); err != nil {
			t.Errorf("after all came back: %v", err)
		}
	}
	var a, b string
	here.commands.View(func(s *aggregate.State) { a = s.Digest() })
	there.commands.View(func(s *aggregate.State) { b = s.Digest() })
	if a != b {
		t.Error("the sites differ")
	}
}

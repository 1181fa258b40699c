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

// A member with a log that is damaged in the middle, its own or a copy of another
// one's, goes on in a new one, says so, and gets all that was in it back from a peer.
func TestADamagedLogComesBackFromAPeer(t *testing.T) {
	for name, own := range map[string]bool{"its own": true, "a copy": false} {
		t.Run(name, func(t *testing.T) { damagedLog(t, own) })
	}
}

func damagedLog(t *testing.T, own bool) {
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
		addUser(t, there.Site, fmt.Sprint("other", n))
		if n%8 == 0 {
			here.hears(there)
		}
	}
	there.hears(here)
	here.hears(there)
	old, log, dir := here.ctl.Log().Origin(), here.ctl.Log(), ""
	if dir = filepath.Join(data{c.Site.Data}.log(events.Ctl), fmt.Sprint(old.Epoch)); !own {
		log = there.ctl.Log()
		dir = data{c.Site.Data}.other(log.Origin())
	}
	damaged := log.Origin()
	size, _ := log.Size()
	here.end()
	spoil(t, dir)

	here = serveConfig(t, c)
	if now := here.ctl.Log().Origin(); now.Epoch <= old.Epoch {
		t.Fatalf("it goes on in %s", now)
	}
	deadline := time.Now().Add(time.Minute)
	for at := uint64(0); at < size; time.Sleep(50 * time.Millisecond) {
		at, _ = here.commands.Applied(damaged)
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d records are back; held: %v", at, size, here.Held())
		}
	}
	here.hears(there)
	there.hears(here)
	for n := range users {
		for _, name := range []string{fmt.Sprint("user", n), fmt.Sprint("other", n)} {
			if !knows(here.Site, name) {
				t.Errorf("%s is not known", name)
			}
		}
	}
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
	if kept, err := filepath.Glob(filepath.Join(data{c.Site.Data}.damaged(), "*", "files")); err != nil || len(kept) != 1 {
		t.Errorf("of the damaged files there are %q (%v)", kept, err)
	}
	var a, b string
	here.commands.View(func(s *aggregate.State) { a = s.Digest() })
	there.commands.View(func(s *aggregate.State) { b = s.Digest() })
	if a != b {
		t.Error("the sites differ")
	}
	here.end() // and it starts again, without any doubt
	here = serveConfig(t, c)
	if again := here.ctl.Log().Origin(); again.Epoch <= old.Epoch || !knows(here.Site, "user0") || !knows(here.Site, "other39") {
		t.Errorf("after a restart it is in %s", again)
	}
}

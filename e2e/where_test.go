package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
)

// At which of several sites something happened is shown, and can be asked for.
func TestWhere(t *testing.T) {
	target := targettest.StartUnix(t)
	sites := meshOf(t, "a", "b")
	a, b := sites[0], sites[1]
	alice := targettest.Alice + "+box"
	a.do("target add box --addr "+target.Addr+" --host-key '"+target.HostKey+"'", "")
	a.do("account add "+alice+" --password-stdin", targettest.FirstPassword)
	a.do("grant add admin "+alice, "")
	b.until("grant ls", alice)
	for _, s := range sites {
		if out, err := sshAs(s.configured, "-l", alice, "gw", "echo at "+s.name); err != nil || !strings.Contains(out, "at "+s.name) {
			t.Fatal(out, err)
		}
	}
	type answer struct {
		Items []struct {
			Site   string
			SiteID string `json:"site_id"`
			ID     string
		}
	}
	sessions := func(s *meshSite, args string) (a answer) {
		if err := json.Unmarshal([]byte(s.do("session ls --json "+args, "")), &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, s := range sites {
		eventually(t, time.Minute, s.name+" knows of both sessions", func() bool { return len(sessions(s, "").Items) == 2 })
		for _, at := range []string{"a", "b"} {
			found := sessions(s, "--site "+at).Items
			if len(found) != 1 || found[0].Site != at || found[0].SiteID == "" {
				t.Fatalf("%s: sessions at %s: %+v", s.name, at, found)
			}
			if out := s.do("session show "+found[0].ID, "") + "\n"; !strings.Contains(out, "site ") || !strings.Contains(out, " "+at+"\n") {
				t.Errorf("%s: a session at %s is shown as\n%s", s.name, at, out)
			}
			if again := sessions(s, "--site "+found[0].SiteID).Items; len(again) != 1 || again[0].ID != found[0].ID {
				t.Errorf("by the site's id: %+v", again)
			}
			out := s.do("audit tail --type session.started --site "+at, "")
			if strings.Count(out, "session.started") != 1 || !strings.Contains(out, "  "+at+"  {") {
				t.Errorf("%s: sessions that began at %s: %s", s.name, at, out)
			}
		}
	}
	if table := a.do("session ls", ""); !strings.Contains(strings.Split(table, "\n")[0], "SITE") {
		t.Errorf("no column for the site: %s", table)
	}
	for _, line := range []string{"session ls --site nowhere", "audit tail --site nowhere"} {
		if out, err := a.try(line, ""); err == nil || !strings.Contains(err.Error(), "nowhere") {
			t.Errorf("%s: %s %v", line, out, err)
		}
	}
}

package e2e

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
)

// schedule is where a site sees what is scheduled at another one carried out.
func (s *meshSite) schedule(of string) string {
	s.t.Helper()
	var leases struct {
		Items []struct{ Site, Work string }
	}
	if err := json.Unmarshal([]byte(s.do("mesh lease --json", "")), &leases); err != nil {
		s.t.Fatal(err)
	}
	for _, l := range leases.Items {
		if l.Site == of {
			return l.Work
		}
	}
	s.t.Fatalf("%s does not know of %s", s.name, of)
	return ""
}

// scheduledRotations lists where rotations began that nobody asked for, in order.
func (s *meshSite) scheduledRotations() (sites []string) {
	s.t.Helper()
	names := map[string]string{}
	var status struct {
		Items []struct{ ID, Site string }
	}
	if err := json.Unmarshal([]byte(s.do("mesh status --json", "")), &status); err != nil {
		s.t.Fatal(err)
	}
	for _, m := range status.Items {
		names[m.ID] = m.Site
	}
	for dec := json.NewDecoder(strings.NewReader(s.do("audit tail -n 1000 --type rotation.planned --json", ""))); dec.More(); {
		var e struct {
			Item struct {
				Origin  struct{ Site string }
				Payload struct{ Why string }
			}
		}
		if err := dec.Decode(&e); err != nil {
			s.t.Fatal(err)
		}
		if e.Item.Payload.Why != "asked" {
			sites = append(sites, names[e.Item.Origin.Site])
		}
	}
	return sites
}

// becomesDue has a site show a secret, so that it has to be rotated, and waits until
// somebody has.
func (s *meshSite) becomesDue(account string) {
	s.t.Helper()
	n := s.rotations()
	s.do("secret reveal "+account+" --reason look", "")
	eventually(s.t, time.Minute, "the secret that "+s.name+" has shown is rotated", func() bool { return s.rotations() > n })
}

// A site that is killed, or stopped, is succeeded by the site that it named, without
// anybody doing anything, and by no other one. It yields when it comes back, while
// its people go on all the time, and gets its work back.
func TestSuccessor(t *testing.T) {
	target := targettest.StartUnix(t)
	sites := meshOf(t, "a", "b", "c")
	a, b, c := sites[0], sites[1], sites[2]
	bob, err := lab.NewKey(filepath.Join(t.TempDir(), "bob"))
	if err != nil {
		t.Fatal(err)
	}
	alice := targettest.Alice + "+box"
	a.do("user add bob --key '"+bob.Public+"'", "")
	a.do("target add box --addr "+target.Addr+" --host-key '"+target.HostKey+"'", "")
	a.do("account add "+alice+" --password-stdin", targettest.FirstPassword)
	a.do("rotate policy set "+alice+" --after-reveal 1s --lockout-threshold 20", "")

	for line, says := range map[string]string{
		"mesh successor b --yield 2s --take 3s": "at the earliest", "mesh successor a": "its own", "mesh successor": "--none",
		"mesh successor b --none": "--none", "mesh successor --none": "no successor", "mesh successor nobody": "nobody",
	} {
		if out, err := a.try(line, ""); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %s %v", line, out, err)
		}
	}
	if out, err := sshAs(a.configFor("bob", bob), "gw", "mesh successor b"); err == nil {
		t.Errorf("an operator named a successor: %s", out)
	}
	a.do("mesh successor b --yield 5s --take 8s", "")
	a.until("mesh lease", "held")
	b.until("mesh lease", "heard")
	a.becomesDue(alice)
	for _, s := range []*meshSite{b, c} {
		s.until("audit tail -n 1 --type rotation.ended --json", `"result":"verified"`)
	}

	a.crash()
	b.becomesDue(alice)
	c.until("mesh history", "duty.taken")
	for _, s := range []*meshSite{b, c} {
		if at := s.schedule("a"); at != "b" {
			t.Errorf("%s sees the schedule of a carried out at %s", s.name, at)
		}
		if at := s.works("a"); at != "a" {
			t.Errorf("%s sees the requests of a decided at %s", s.name, at)
		}
	}
	a.up()
	a.until("mesh history", "duty.yielded")
	a.do("rotate run "+alice+" --wait", "") // people's work waits for nobody
	a.becomesDue(alice)
	if got := a.scheduledRotations(); !slices.Equal(got, []string{"a", "b", "b"}) {
		t.Errorf("rotations that nobody asked for began at %v", got)
	}
	b.do("mesh handback a --reason well", "")
	a.until("mesh history", "duty.given")
	a.until("mesh lease", "held")
	a.becomesDue(alice)

	signalSite(t, a, syscall.SIGSTOP)
	b.becomesDue(alice)
	signalSite(t, a, syscall.SIGCONT)
	eventually(t, time.Minute, "a yields again", func() bool {
		return strings.Count(a.do("mesh history", ""), "duty.yielded") == 2
	})
	if got := a.scheduledRotations(); !slices.Equal(got, []string{"a", "b", "b", "a", "b"}) {
		t.Errorf("rotations that nobody asked for began at %v", got)
	}

	// Another successor: the one before is waited for until it knows.
	b.do("mesh handback a --reason well", "")
	b.crash()
	a.do("mesh successor c --yield 5s --take 8s", "")
	a.until("mesh lease", "not heard of it yet: b")
	a.until("mesh lease", "none: scheduled work waits")
	if out, err := sshAs(a.configured, "gw", "rotate status"); err != nil || !strings.Contains(out, "rotates nothing on schedule") {
		t.Errorf("it is not said that the schedule waits: %s %v", out, err)
	}
	b.up()
	a.until("mesh history", "site.succession_ended")
	a.until("mesh lease", "held")
	a.becomesDue(alice)
	for _, pair := range [][2]*meshSite{{a, b}, {b, c}, {c, a}} {
		sameDigests(t, pair[0], pair[1])
	}
}

// Nobody takes over from a site that has named nobody.
func TestNoSuccessorNoTakeover(t *testing.T) {
	sites := meshOf(t, "a", "b")
	a, b := sites[0], sites[1]
	b.do("mesh successor a --yield 1s --take 2100ms", "") // the other way round
	a.until("mesh lease", "heard")
	a.crash()
	time.Sleep(4 * time.Second)
	if at := b.schedule("a"); at != "a" {
		t.Errorf("the schedule of a is carried out at %s", at)
	}
}

// A lease is renewed by way of a third site, where the two can't hear each other; and
// a successor that hears the site so does not take over. When nobody hears it any
// more, it stops, and the successor does.
func TestLeaseByWayOfAnotherSite(t *testing.T) {
	m := newMeshNet(t)
	a, b := m.sites[0], m.sites[1]
	for _, s := range m.sites {
		s.up()
		if s != a {
			s.do("mesh join "+a.do("mesh invite "+s.name+" --addr "+a.mesh, ""), "")
		}
	}
	for _, s := range m.sites {
		m.linked(s)
	}
	a.do("mesh successor b --yield 10s --take 13s", "")
	a.until("mesh lease", "held")
	b.until("mesh lease", "heard")
	a.net.deafen(t, b.wan())
	b.net.deafen(t, a.wan())
	for range 12 { // longer than either time
		time.Sleep(2 * time.Second)
		if out := a.do("mesh lease", ""); !strings.Contains(out, "held") {
			t.Fatalf("while they hear each other by way of c: %s", out)
		}
	}
	if at := b.schedule("a"); at != "a" {
		t.Fatalf("the schedule of a is carried out at %s", at)
	}
	m.cut(a)
	a.until("mesh lease", "none: scheduled work waits")
	b.until("mesh lease", "taken over")
	m.heal()
	a.until("mesh history", "duty.yielded")
	if at := a.schedule("a"); at != "b" {
		t.Errorf("the schedule of a is carried out at %s", at)
	}
}

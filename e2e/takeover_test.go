package e2e

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
)

// meshOf brings sites up as one mesh, the first one its founder.
func meshOf(t *testing.T, names ...string) []*meshSite {
	t.Helper()
	requireOpenSSH(t)
	binary, err := exec.LookPath("holdfast")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := lab.NewKey(filepath.Join(t.TempDir(), "admin"))
	if err != nil {
		t.Fatal(err)
	}
	var sites []*meshSite
	for _, name := range names {
		s := newMeshSite(t, binary, name, admin)
		s.up()
		if len(sites) > 0 {
			s.do("mesh join "+sites[0].do("mesh invite "+name+" --addr "+sites[0].mesh, ""), "")
		}
		sites = append(sites, s)
	}
	for _, s := range sites {
		for _, other := range sites {
			if s != other {
				s.until("mesh status --json", `"site":"`+other.name+`","state":"linked"`)
			}
		}
	}
	return sites
}

// configFor is an ssh_config of a user's at the site, for this life of it.
func (s *meshSite) configFor(user string, key lab.Key) string {
	s.t.Helper()
	path := filepath.Join(s.dir, "ssh_config_"+user)
	if err := lab.WriteConfig(path, lab.Host{Alias: "gw", Addr: s.proc.Addr, HostKey: s.proc.HostKey, Key: key}); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func sshAs(config string, args ...string) (string, error) {
	out, err := exec.Command("ssh", append([]string{"-F", config}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// works is where a site sees the work of another one carried out.
func (s *meshSite) works(of string) string {
	s.t.Helper()
	var status struct {
		Items []struct{ Site, State, Work string }
	}
	if err := json.Unmarshal([]byte(s.do("mesh status --json", "")), &status); err != nil {
		s.t.Fatal(err)
	}
	for _, m := range status.Items {
		if m.Site == of {
			return m.Work
		}
	}
	s.t.Fatalf("%s does not know of %s", s.name, of)
	return ""
}

// rotations counts what the sites have verified of an account's secret.
func (s *meshSite) rotations() int {
	s.t.Helper()
	return strings.Count(s.do("audit tail -n 1000 --type rotation.ended --json", ""), `"result":"verified"`)
}

// A site is lost. Another one takes over by one command: it rotates the accounts
// of the lost one, and decides requests made there. The lost site comes back,
// learns of it, and works as a member; then it gets its work back.
func TestTakeover(t *testing.T) {
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
	a.do("grant add admin "+alice, "")
	a.do("rotate policy set "+alice+" --after-reveal 1s", "")
	made, err := sshAs(a.configFor("bob", bob), "gw", "request new "+alice+" --reason r --for 1h")
	if err != nil {
		t.Fatal(made, err)
	}
	request := strings.Fields(made)[1]
	for _, s := range []*meshSite{b, c} {
		s.until("request ls", request)
		s.until("rotate status "+alice, "ok")
	}
	a.crash()

	if out, err := b.try("mesh takeover a --reason burnt", ""); err == nil || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("taken over without --yes: %s %v", out, err)
	}
	if out, err := b.try("mesh takeover a --yes", ""); err == nil {
		t.Errorf("taken over without a reason: %s", out)
	}
	if out, err := b.try("mesh takeover nobody --yes --reason r", ""); err == nil {
		t.Errorf("taken over from nobody: %s", out)
	}
	if out, err := sshAs(b.configFor("bob", bob), "gw", "mesh takeover a --yes --reason r"); err == nil {
		t.Errorf("an operator took over: %s", out)
	}
	old := b.do("secret reveal "+alice+" --reason look", "")
	time.Sleep(3 * time.Second)
	if n := b.rotations(); n != 0 {
		t.Fatalf("%d rotations of an account whose site nobody has taken over", n)
	}
	b.do("mesh takeover a --yes --reason burnt", "")
	if out, err := b.try("mesh takeover a --yes --reason again", ""); err == nil {
		t.Errorf("taken over twice: %s", out)
	}
	c.until("mesh history", "duty.taken")
	for _, s := range []*meshSite{b, c} {
		if at := s.works("a"); at != "b" {
			t.Errorf("%s sees the work of a carried out at %s", s.name, at)
		}
	}
	b.until("audit tail --type rotation.ended", `"result":"verified"`)
	if now := b.do("secret reveal "+alice+" --reason look", ""); now == old {
		t.Error("the secret was not changed by the rotation")
	}
	b.do("request approve "+request, "")
	if out, err := sshAs(c.configFor("bob", bob), "-l", alice, "gw", "echo elsewhere"); err == nil {
		t.Errorf("a site that does not count the uses lets in: %s", out)
	}
	if out, err := sshAs(b.configFor("bob", bob), "-l", alice, "gw", "echo in by b"); err != nil || !strings.Contains(out, "in by b") {
		t.Errorf("a request of the lost site, approved after the takeover: %s %v", out, err)
	}

	a.up()
	a.until("mesh history", "duty.yielded")
	a.until("request show "+request, "used")
	if at := a.works("a"); at != "b" {
		t.Errorf("the site that came back sees its work carried out at %s", at)
	}
	sameDigests(t, a, b)
	a.do("account add "+targettest.Bob+"+box --password-stdin", targettest.FirstPassword)
	a.do("grant add admin "+targettest.Bob+"+box", "")
	a.do("rotate policy set "+targettest.Bob+"+box --after-reveal 1s", "")
	n := a.rotations()
	a.do("secret reveal "+targettest.Bob+"+box --reason look", "")
	a.until("audit tail --type rotation.ended -n 1", `"result":"verified"`)
	for deadline := time.Now().Add(time.Minute); a.rotations() == n && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
	}
	if a.rotations() == n {
		t.Error("the site that came back does not rotate what it has added since")
	}

	b.do("mesh handback a --reason 'it is well'", "")
	a.until("mesh history", "duty.given")
	if at := a.works("a"); at != "a" {
		t.Errorf("after the hand-back its work is carried out at %s", at)
	}
	for _, pair := range [][2]*meshSite{{a, b}, {b, c}, {c, a}} {
		sameDigests(t, pair[0], pair[1])
	}
}

// Two sites take over from a third while they do not hear of each other: all
// sites come to the same one, and the other says that it yields.
func TestTakeoversBeyondACut(t *testing.T) {
	sites := meshOf(t, "a", "b", "c")
	a, b, c := sites[0], sites[1], sites[2]
	a.do("group add g", "")
	b.until("group ls", "g")
	c.until("group ls", "g")
	a.crash()
	c.crash()
	b.do("mesh takeover a --yes --reason 'b thinks so'", "")
	b.crash()
	c.up()
	c.do("mesh takeover a --yes --reason 'c thinks so'", "")
	b.up()
	a.up()
	for _, s := range sites {
		s.until("mesh history --json", "b thinks so")
		s.until("mesh history --json", "c thinks so")
		s.until("mesh history", "duty.yielded")
	}
	for _, pair := range [][2]*meshSite{{a, b}, {b, c}, {c, a}} {
		sameDigests(t, pair[0], pair[1])
	}
	var at []string
	for _, s := range sites {
		at = append(at, s.works("a"))
	}
	if len(slices.Compact(at)) != 1 || at[0] == "a" {
		t.Errorf("the sites see the work carried out at %v", at)
	}
}

// Before a site goes down for a while, it gives its work away.
func TestDrain(t *testing.T) {
	sites := meshOf(t, "a", "b")
	a, b := sites[0], sites[1]
	if out, err := a.try("mesh drain --to b", ""); err == nil {
		t.Errorf("drained without a reason: %s", out)
	}
	a.do("mesh drain --to b --reason maintenance", "")
	b.until("mesh history", "duty.given")
	if at := b.works("a"); at != "b" {
		t.Errorf("after a drain the work is carried out at %s", at)
	}
	if out, err := a.try("mesh drain --to b --reason again", ""); err == nil {
		t.Errorf("drained twice: %s", out)
	}
	b.do("mesh handback a --reason 'it is back'", "")
	a.until("mesh history --json", "it is back")
	if at := a.works("a"); at != "a" {
		t.Errorf("after the hand-back the work is carried out at %s", at)
	}
}

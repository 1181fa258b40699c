package e2e

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
	"github.com/holdfast-pam/holdfast/commands/targetkind"
	"github.com/holdfast-pam/holdfast/events"
)

// cuttableMesh is two sites of one mesh in a network of their own, in which the
// test can cut the links between them and nothing else.
func cuttableMesh(t *testing.T) (a, b *meshSite) {
	t.Helper()
	requireOpenSSH(t)
	network(t)
	binary, err := exec.LookPath("holdfast")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := lab.NewKey(filepath.Join(t.TempDir(), "admin"))
	if err != nil {
		t.Fatal(err)
	}
	a, b = newMeshSite(t, binary, "a", admin), newMeshSite(t, binary, "b", admin)
	a.up()
	b.up()
	b.do("mesh join "+a.do("mesh invite b --addr "+a.mesh, ""), "")
	linked(a, b)
	return a, b
}

func linked(a, b *meshSite) {
	a.t.Helper()
	a.until("mesh status --json", `"site":"b","state":"linked"`)
	b.until("mesh status --json", `"site":"a","state":"linked"`)
}

// cut lets nothing pass between two sites until both have noticed.
func cut(a, b *meshSite) {
	a.t.Helper()
	cutOff(a.t, a.mesh)
	cutOff(a.t, b.mesh)
	a.until("mesh status --json", `"site":"b","state":"unreachable"`)
	b.until("mesh status --json", `"site":"a","state":"unreachable"`)
}

// rotated runs a rotation and gives the state that it ended in.
func (s *meshSite) rotated(account string) (state, detail string) {
	s.t.Helper()
	out, err := s.try("rotate run "+account+" --wait --json", "")
	var answer struct {
		Item struct{ State, Detail string }
	}
	if json.Unmarshal([]byte(out), &answer) != nil {
		s.t.Fatalf("rotate run %s: %q: %v", account, out, err)
	}
	return answer.Item.State, answer.Item.Detail
}

func (s *meshSite) reveal(account string) string {
	s.t.Helper()
	return s.do("secret reveal "+account+" --reason 'a test looks'", "")
}

// history lists the events of a type, the oldest first.
func (s *meshSite) history(kind string) (all []string) {
	s.t.Helper()
	for line := range strings.Lines(s.do("audit tail -n 1000 --json --type "+kind, "")) {
		all = append(all, line)
	}
	return all
}

// session runs a command in a session through the gateway.
func (s *meshSite) session(account, line string) (string, error) {
	cmd := exec.Command("ssh", "-F", s.configured, "-l", account, "gw", line)
	out, err := cmd.Output()
	return string(out), err
}

// The same secret is rotated on both sides of a cut. After the heal its owner
// asks the target which one is true, rotates once more, and both sites hold what
// the target takes; the account was never locked (rule R3).
func TestRotationOnBothSidesOfACut(t *testing.T) {
	a, b := cuttableMesh(t)
	u := targettest.StartUnix(t)
	u.Sh("sed -i s/deny=3/deny=7/ /etc/pam.d/*") // of which each of two sites may spend three
	a.do("target add box --addr "+u.Addr+" --host-key '"+u.HostKey+"'", "")
	a.do("account add root+box --private-key-stdin", u.Root)
	a.do("account add "+targettest.Bob+"+box --password-stdin --via root+box", targettest.FirstPassword)
	a.do("rotate policy set box --lockout-threshold 7", "")
	a.do("grant add admin "+targettest.Bob+"+box", "")
	const account = targettest.Bob + "+box"
	b.until("grant ls", account)
	cut(a, b)

	for _, s := range []*meshSite{a, b} {
		if state, detail := s.rotated(account); state != "verified" {
			t.Fatalf("%s, by itself: %s %s", s.name, state, detail)
		}
		if out, err := s.session(account, "echo by myself"); err != nil || out != "by myself\n" {
			t.Errorf("%s, by itself: %q, %v", s.name, out, err)
		}
	}
	atA, atB := a.reveal(account), b.reveal(account)
	if atA == atB {
		t.Fatal("both rotations made the same secret")
	}

	heal(t)
	linked(a, b)
	for _, s := range []*meshSite{a, b} {
		s.until("rotate status "+account+" --json", `"state":"ok"`)
	}
	eventually(t, time.Minute, "the owner rotates once more", func() bool {
		return len(b.history("rotation.ended")) == 3 && a.reveal(account) == b.reveal(account)
	})
	now := a.reveal(account)
	bob, _ := rotator.NewSet(nil).For(events.SSH, events.Password)
	s := &subject{
		account: account, kind: events.Password, rotator: bob, unlock: func() { u.Sh("rm -f /etc/faillock/" + targettest.Bob) },
		job: rotator.Job{Kind: events.SSH, Addr: u.Addr, HostKeys: []string{u.HostKey}, Account: targettest.Bob,
			Params: targetkind.Effective(events.SSH, u.Addr, nil, nil)},
	}
	// a locked account would not take it
	if now == atA || now == atB || !s.takes(t, now) || s.takes(t, atA) || s.takes(t, atB) {
		t.Errorf("changed %t and %t, new one taken %t, the others %t and %t", now != atA, now != atB, s.takes(t, now), s.takes(t, atA), s.takes(t, atB))
	}
	for _, s := range []*meshSite{a, b} {
		if out, err := s.session(account, "echo after the heal"); err != nil || out != "after the heal\n" {
			t.Errorf("%s: %q, %v", s.name, out, err)
		}
	}
	sameDigests(t, a, b)
}

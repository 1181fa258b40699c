package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
)

// Three sites, a password, a target that locks the account at the third wrong login,
// and no policy about it: the sites have less than one wrong login each to spend, and
// yet every one of them lets people in and rotates, since none has a reason to doubt
// the secret. So does one that is cut off from the others, until the secret is changed behind its
// back: it finds out once, and asks no more. The account is never locked.
func TestPasswordsAtThreeSites(t *testing.T) {
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
	u := targettest.StartUnix(t)
	var sites []*meshSite
	for _, name := range []string{"a", "b", "c"} {
		s := newMeshSite(t, binary, name, admin)
		s.up()
		if name != "a" {
			s.do("mesh join "+sites[0].do("mesh invite "+name+" --addr "+sites[0].mesh, ""), "")
		}
		sites = append(sites, s)
	}
	a, c := sites[0], sites[2]
	const account = targettest.Bob + "+box"
	a.do("target add box --addr "+u.Addr+" --host-key '"+u.HostKey+"'", "")
	a.do("account add root+box --private-key-stdin", u.Root)
	a.do("account add "+account+" --password-stdin --via root+box", targettest.FirstPassword)
	a.do("grant add admin "+account, "")
	works := func(s *meshSite, when string) {
		t.Helper()
		for n := range 3 {
			if out, err := s.session(account, "echo let in"); err != nil || out != "let in\n" {
				t.Errorf("%s, %s, session %d: %q, %v", s.name, when, n, out, err)
			}
		}
	}
	for _, s := range sites {
		s.until("grant ls", account)
		works(s, "linked")
	}
	for round := range 2 {
		for _, s := range sites {
			if state, detail := s.rotated(account); state != "verified" {
				t.Fatalf("%s, linked, round %d: %s %s", s.name, round, state, detail)
			}
			for _, other := range sites {
				other.until("secret versions "+account, fmt.Sprint(strings.Fields(s.do("secret versions "+account, ""))[len(versionColumns)]))
				works(other, "after a rotation at "+s.name)
			}
		}
	}

	for _, s := range sites {
		cutOff(t, s.mesh)
	}
	c.until("mesh status --json", `"site":"a","state":"unreachable"`)
	works(c, "cut off")
	if state, detail := a.rotated(account); state != "verified" {
		t.Fatalf("a, without c: %s %s", state, detail)
	}
	works(a, "after it rotated without c")
	for range 4 {
		if out, err := c.session(account, "echo let in"); err == nil {
			t.Errorf("c, with an old secret: %q", out)
		}
	}
	works(a, "after c has tried an old secret")
	heal(t)
	c.until("secret versions "+account, fmt.Sprint(strings.Fields(a.do("secret versions "+account, ""))[len(versionColumns)]))
	eventually(t, time.Minute, "c lets people in again, once the owner has asked the target", func() bool {
		out, err := c.session(account, "echo let in")
		return err == nil && out == "let in\n"
	})
	for _, s := range sites {
		works(s, "after the heal")
	}
	sameDigests(t, sites[0], sites[1])
	sameDigests(t, sites[0], c)
}

// versionColumns are the heads of what secret versions prints.
var versionColumns = []string{"VERSION", "STATE", "CURRENT", "STAGED", "APPLIED", "VERIFIED", "REJECTED", "KNOWN"}

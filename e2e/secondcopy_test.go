package e2e

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
)

// singleCopy reports whether the current secret was sent while no other site held it.
func (s *meshSite) singleCopy(account string) bool {
	s.t.Helper()
	var answer struct {
		Items []struct {
			Current    bool
			SingleCopy bool `json:"single_copy"`
		}
	}
	if err := json.Unmarshal([]byte(s.do("secret versions "+account+" --json", "")), &answer); err != nil {
		s.t.Fatal(err)
	}
	for _, v := range answer.Items {
		if v.Current {
			return v.SingleCopy
		}
	}
	s.t.Fatalf("%s: %s has no current version", s.name, account)
	return false
}

// A new secret goes to the target when a second site holds it, its data key as well
// (rule R1): so whatever disk is lost, the secret that the target takes is not. A
// site that reaches nobody goes on with what it is asked for, and says so.
func TestASecretIsHeldTwiceBeforeTheTargetHearsOfIt(t *testing.T) {
	a, b := cuttableMesh(t)
	u := targettest.StartUnix(t)
	const account = targettest.Bob + "+box"
	a.do("target add box --addr "+u.Addr+" --host-key '"+u.HostKey+"'", "")
	a.do("account add "+account+" --password-stdin", targettest.FirstPassword)
	a.do("grant add admin "+account, "")
	a.do("rotate policy set box --isolated never --lockout-threshold 10", "")
	b.until("grant ls", account)
	works := func(s *meshSite) {
		t.Helper()
		if out, err := s.session(account, "echo in"); err != nil || out != "in\n" {
			t.Fatalf("%s: %q, %v", s.name, out, err)
		}
	}

	// The link stands, but who would hold the copy hangs.
	signalSite(t, b, syscall.SIGSTOP)
	state, detail := a.rotated(account)
	signalSite(t, b, syscall.SIGCONT)
	if state != "failed" || !strings.Contains(detail, "no other site") {
		t.Fatalf("while nobody else held the new secret: %s %s", state, detail)
	}
	works(a)

	linked(a, b)
	if state, detail := a.rotated(account); state != "verified" || a.singleCopy(account) {
		t.Fatalf("with another site that holds it: %s %s, single copy %t", state, detail, a.singleCopy(account))
	}

	// The disk is lost right after the change: the other site has what the target takes.
	a.destroy()
	if state, detail := b.rotated(account); state != "failed" || !strings.Contains(detail, "no other site") {
		t.Fatalf("while nobody has said that the other site is gone: %s %s", state, detail)
	}
	works(b)
	b.do("mesh takeover a --yes --reason 'its disk is gone'", "")
	if state, detail := b.rotated(account); state != "verified" || !b.singleCopy(account) { // there is no other one to wait for
		t.Fatalf("the only site: %s %s, single copy %t", state, detail, b.singleCopy(account))
	}
	works(b)
}

package e2e

import (
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
)

// An account is removed on one side of a cut while its secret is changed on the other.
// After the heal it goes on by itself at neither, the secret that the target takes is
// not lost, and both say so until it is restored (rule R7).
func TestRemovedHereRotatedThere(t *testing.T) {
	a, b := cuttableMesh(t)
	u := targettest.StartUnix(t)
	const account = targettest.Bob + "+box"
	a.do("target add box --addr "+u.Addr+" --host-key '"+u.HostKey+"'", "")
	a.do("account add root+box --private-key-stdin", u.Root)
	a.do("account add "+account+" --password-stdin --via root+box", targettest.FirstPassword)
	a.do("grant add admin "+account, "")
	b.until("grant ls", account)
	cut(a, b)
	if state, detail := b.rotated(account); state != "verified" {
		t.Fatalf("by itself: %s %s", state, detail)
	}
	now := b.reveal(account)
	a.do("account rm "+account+" --reason 'nobody needs it'", "")
	heal(t)
	linked(a, b)
	sameDigests(t, a, b)
	sameDigests(t, b, a)
	for _, s := range []*meshSite{a, b} {
		if got := s.do("conflict ls --json", ""); !strings.Contains(got, `"removal of account"`) {
			t.Errorf("%s shows %s", s.name, got)
		}
		if out := s.do("account show "+account, ""); !strings.Contains(out, "conflict ") || !strings.Contains(out, "secret sent") {
			t.Errorf("%s shows:\n%s", s.name, out)
		}
		for _, line := range []string{"rotate run " + account, "secret checkout " + account + " --for 1h --reason fire", "grant add admin " + account, "account rm " + account} {
			if out, err := s.try(line, ""); err == nil {
				t.Errorf("%s: %s: %q", s.name, line, out)
			}
		}
		if out, err := s.session(account, "echo in"); err == nil {
			t.Errorf("%s: a session: %q", s.name, out)
		}
		if got := s.reveal(account); got != now {
			t.Errorf("%s shows another secret than the target holds", s.name)
		}
	}
	b.do("account restore "+account+" --reason 'it is needed'", "")
	b.do("grant add admin "+account, "")
	for _, s := range []*meshSite{a, b} {
		s.until("account show "+account, "state       active")
		s.until("grant ls", "active")
		if out, err := s.session(account, "echo after the heal"); err != nil || out != "after the heal\n" {
			t.Errorf("%s: %q, %v", s.name, out, err)
		}
		if got := s.do("conflict ls --json", ""); strings.Contains(got, `"removal of account"`) {
			t.Errorf("%s still shows %s", s.name, got)
		}
	}
}

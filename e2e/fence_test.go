package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
)

// never runs a line for a while: its output must not come to hold a text.
func (s *meshSite) never(line, text string) {
	s.t.Helper()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if out := s.do(line, ""); strings.Contains(out, text) {
			s.t.Fatalf("%s: %s shows %q", s.name, line, text)
		}
	}
}

// gone waits until a line shows a text no more, and sees that it stays away: the views
// take a moment to be built anew.
func (s *meshSite) gone(line, text string) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if out, err := s.try(line, ""); err == nil && !strings.Contains(out, text) {
			s.never(line, text)
			return
		}
	}
	s.t.Fatalf("%s: %s goes on to show %q", s.name, line, text)
}

// A member is not to be trusted any more: its links end, what it decides from then
// on counts nowhere, and the secrets that it could open are changed. A person can
// take that back.
func TestAFencedSiteIsCutOff(t *testing.T) {
	target := targettest.StartUnix(t)
	sites := meshOf(t, "a", "b", "c")
	a, b, c := sites[0], sites[1], sites[2]
	alice := targettest.Alice + "+box"
	a.do("target add box --addr "+target.Addr+" --host-key '"+target.HostKey+"'", "")
	a.do("account add "+alice+" --password-stdin", targettest.FirstPassword)
	a.do("grant add admin "+alice, "")
	b.do("group add before", "")
	a.until("group ls", "before")
	c.until("group ls", "before")
	old := a.do("secret reveal "+alice+" --reason look", "")

	if out, err := a.try("mesh fence b --reason stolen", ""); err == nil {
		t.Errorf("fenced without --yes: %s", out)
	}
	if out, err := c.try("mesh fence b --yes --reason stolen", ""); err == nil {
		t.Errorf("a peer fenced: %s", out)
	}
	a.do("mesh fence b --yes --reason stolen", "")
	for _, s := range []*meshSite{a, c} {
		s.until("mesh status --json", `"site":"b","state":"fenced"`)
	}
	b.until("mesh status --json", `"site":"a","state":"unreachable"`)
	b.do("group add by-the-thief", "")
	a.until("audit tail --type rotation.ended -n 1", "verified")
	if now := a.do("secret reveal "+alice+" --reason look", ""); now == old {
		t.Error("a secret that the fenced site could open was not changed")
	}
	a.until("mesh exposed", "user authority")
	for _, s := range []*meshSite{a, c} {
		s.do("ca rotate --user --overlap 0s --reason 'b was stolen'", "")
	}
	for _, s := range []*meshSite{a, c} {
		s.gone("mesh exposed", "user authority")
		s.gone("mesh exposed", "box")
	}
	a.do("group add after", "")
	c.until("group ls", "after")
	for _, s := range []*meshSite{a, c} {
		s.never("group ls", "by-the-thief")
	}
	sameDigests(t, a, c)
	a.crash()
	a.up()
	a.until("mesh status --json", `"site":"b","state":"fenced"`)

	a.do("mesh reconcile b --reason 'it was found'", "")
	a.until("mesh status --json", `"site":"b","state":"linked"`)
	for _, s := range []*meshSite{a, c} {
		s.until("group ls", "by-the-thief")
	}
	sameDigests(t, a, c)
	sameDigests(t, b, a)
	want := a.do("secret reveal "+alice+" --reason look", "")
	b.until("secret reveal "+alice+" --reason look", want) // sealed while it was cut off
}

// A site gives its work away and leaves: the others keep what it did and do its
// work, and it is spoken to no more.
func TestASiteLeaves(t *testing.T) {
	sites := meshOf(t, "a", "b", "c")
	a, b, c := sites[0], sites[1], sites[2]
	b.do("group add by-b", "")
	if out, err := b.try("mesh leave --to a --reason 'the office closes'", ""); err == nil {
		t.Errorf("left without --yes: %s", out)
	}
	b.do("mesh leave --to a --yes --reason 'the office closes'", "")
	for _, s := range []*meshSite{a, c} {
		s.until("mesh status --json", `"site":"b","state":"left"`)
		s.until("group ls", "by-b")
		if at := s.works("b"); at != "a" {
			t.Errorf("%s sees the work of b carried out at %s", s.name, at)
		}
	}
	b.do("group add alone", "")
	a.never("group ls", "alone")
	b.crash()
	b.up()
	b.do("group add alone-again", "")
	a.never("group ls", "alone")
	if out, err := b.try("mesh leave --to a --yes --reason again", ""); err == nil {
		t.Errorf("left twice: %s", out)
	}
	sameDigests(t, a, c)
}

// A disk goes back in time while nobody is in reach that could tell, and its site
// writes again what it had written: when it meets a peer both see that one log was
// written twice, and prove it. Nothing counts from where the branches part; the site
// goes on in a new epoch; a person settles it.
func TestAForkIsProvenAndSettled(t *testing.T) {
	sites := meshOf(t, "a", "b", "c")
	a, b, c := sites[0], sites[1], sites[2]
	a.do("group add before", "")
	b.until("group ls", "before")
	a.crash()
	old := filepath.Join(a.dir, "old")
	run(t, "cp", "-a", filepath.Join(a.dir, "data"), old)
	a.up()
	a.do("group add one-branch", "")
	b.until("group ls", "one-branch")
	c.until("group ls", "one-branch")
	a.crash()
	a.rollBack(old)
	b.crash()
	c.crash()
	a.up()
	a.do("group add other-branch", "")
	b.up()
	c.up()
	for _, s := range sites {
		s.until("mesh history", "fork.proved")
		s.until("mesh status", "was written twice")
	}
	for _, s := range sites {
		s.until("group ls", "before")
		s.gone("group ls", "-branch")
	}
	a.do("group add after", "")
	b.until("group ls", "after")
	c.until("group ls", "after")
	for i, s := range sites {
		sameDigests(t, s, sites[(i+1)%len(sites)])
	}
	if out, err := c.try("mesh reconcile a --reason seen", ""); err == nil {
		t.Errorf("a peer settled a fork: %s", out)
	}
	a.do("mesh reconcile a --reason 'its disk was an old one'", "")
	for _, s := range sites {
		s.until("mesh history", "fork.settled")
		s.gone("mesh status", "was written twice")
		s.never("group ls", "-branch")
	}
	for _, s := range sites {
		s.crash()
		s.up()
	}
	for i, s := range sites {
		s.until("mesh history", "fork.settled")
		sameDigests(t, s, sites[(i+1)%len(sites)])
	}
}

// A secret is rotated in a branch of a log that does not count any more: the disk of its
// site went back to before it, and its site alone would know only what the target has
// given up. The others hold that branch. What it says was sent is tested at the target,
// found to be true, and rotated once; nobody has to do anything.
func TestASecretInABranchThatDoesNotCountIsNotLost(t *testing.T) {
	target := targettest.StartUnix(t)
	sites := meshOf(t, "a", "b", "c")
	a, b, c := sites[0], sites[1], sites[2]
	alice := targettest.Alice + "+box"
	a.do("target add box --addr "+target.Addr+" --host-key '"+target.HostKey+"'", "")
	a.do("account add "+alice+" --password-stdin", targettest.FirstPassword)
	a.do("rotate policy set box --lockout-threshold 13", "")
	b.until("account ls", targettest.Alice)
	a.crash()
	old := filepath.Join(a.dir, "old")
	run(t, "cp", "-a", filepath.Join(a.dir, "data"), old)
	a.up()
	for _, s := range []*meshSite{b, c} {
		s.until("mesh status --json", `"site":"a","state":"linked"`)
	}
	a.do("rotate run "+alice+" --wait", "")
	lost := a.do("secret reveal "+alice+" --reason look", "")
	for _, s := range []*meshSite{b, c} {
		s.until("secret versions "+alice, "verified")
	}
	a.crash()
	a.rollBack(old)
	b.crash()
	c.crash()
	a.up()
	a.do("group add other-branch", "") // in the place of the rotation
	b.up()
	c.up()
	for _, s := range sites {
		s.until("mesh history", "fork.proved")
		s.until("audit tail --type secret.recovered -n 1", "secret.recovered")
	}
	for _, s := range sites {
		s.until("rotate status "+alice+" --json", `"state":"ok"`)
	}
	a.until("audit tail --type rotation.ended -n 1", "verified")
	now := a.do("secret reveal "+alice+" --reason look", "")
	if now == lost || now == targettest.FirstPassword {
		t.Error("the secret of the branch was not changed")
	}
	for _, s := range []*meshSite{b, c} {
		s.until("secret reveal "+alice+" --reason look", now)
	}
	for i, s := range sites {
		sameDigests(t, s, sites[(i+1)%len(sites)])
	}
}

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// An account, and a target, that somebody brings back who had been disabled at the other
// side of a cut stay removed (rule R9), and lists of both sites show what counts.
func TestAttackWhatTheDisabledRestoreIsNotShownAsLive(t *testing.T) {
	a, b := cuttableMesh(t)
	keys := t.TempDir()
	zoe := filepath.Join(keys, "zoe")
	a.do("user add zoe --role admin --key '"+newPublic(t, keys, "zoe")+"'", "")
	for _, name := range []string{"t1", "t2"} {
		a.do("target add "+name+" --kind postgres --addr 127.0.0.1:1", "")
		a.do("account add root+"+name+" --password-stdin", "old")
	}
	a.do("account rm root+t1", "")
	a.do("target rm t2", "")
	b.until("target ls", "removed")
	cut(a, b)
	a.do("user disable zoe --reason left", "")
	for _, line := range []string{"account restore root+t1 --reason mine", "target restore t2 --reason mine"} {
		if out, err := b.as(zoe, line); err != nil {
			t.Fatalf("nobody can know there: %s: %q, %v", line, out, err)
		}
	}
	if out := b.do("account ls", ""); strings.Count(out, "active") != 2 {
		t.Fatalf("not restored there:\n%s", out)
	}
	heal(t)
	linked(a, b)
	sameDigests(t, a, b)
	sameDigests(t, b, a)
	for _, s := range []*meshSite{a, b} {
		for line, want := range map[string]string{
			"account ls": "removed, contested", "account show root+t1": "removed, contested", "account show root+t2": "target removed, contested",
			"target ls": "removed, contested", "target show t2": "removed, contested",
		} {
			if out := s.do(line, ""); !strings.Contains(out, want) || strings.Contains(out, "active") && !strings.Contains(line, "target ls") {
				t.Errorf("%s: %s shows\n%s", s.name, line, out)
			}
		}
	}
	a.do("account restore root+t1 --reason 'she was right'", "")
	b.until("account show root+t1", "state       active")
}

// Grants and users that somebody made who had been disabled at the other side of a cut
// let nobody in (rule R9), and nobody is shown them as if they did.
func TestWhatTheDisabledGaveIsShownAsSuspended(t *testing.T) {
	a, b := cuttableMesh(t)
	keys, account := t.TempDir(), a.addsWeb1()
	zoe := filepath.Join(keys, "zoe")
	a.do("user add zoe --role admin --key '"+newPublic(t, keys, "zoe")+"'", "")
	a.do("user add olaf --key '"+newPublic(t, keys, "olaf")+"'", "")
	b.until("user ls", "olaf")
	cut(a, b)
	a.do("user disable zoe --reason left", "")
	for _, line := range []string{"user add kim --key '" + newPublic(t, keys, "kim") + "'", "grant add olaf " + account} {
		if out, err := b.as(zoe, line); err != nil {
			t.Fatalf("nobody can know there: %s: %q, %v", line, out, err)
		}
	}
	if out := b.do("grant ls --live", ""); !strings.Contains(out, "active") {
		t.Fatalf("not granted there:\n%s", out)
	}
	heal(t)
	linked(a, b)
	sameDigests(t, a, b)
	sameDigests(t, b, a)
	for _, s := range []*meshSite{a, b} {
		for _, line := range []string{"grant ls", "grant show " + grantAt(s), "user show kim"} {
			if out := s.do(line, ""); !strings.Contains(out, "suspended") || strings.Contains(out, "active") {
				t.Errorf("%s: %s shows\n%s", s.name, line, out)
			}
		}
		if out := s.do("user ls", ""); strings.Count(out, "suspended") != 1 {
			t.Errorf("%s: user ls shows\n%s", s.name, out)
		}
		if out := s.do("grant ls --live", "") + s.do("user ls --live", ""); strings.Contains(out, "suspended") || strings.Contains(out, account) {
			t.Errorf("%s: shown as live:\n%s", s.name, out)
		}
	}
	a.do("grant add olaf "+account, "") // by somebody whose word counts
	b.until("grant ls --live", account)
}

// A session that began at the other side of a cut, by a grant that went with its account,
// ends at the heal and is listed, though the account was back before it began.
func TestOvertakenThoughTheAccountIsBack(t *testing.T) {
	a, b := cuttableMesh(t)
	keys, account := t.TempDir(), a.addsWeb1()
	a.do("user add olaf --key '"+newPublic(t, keys, "olaf")+"'", "")
	a.do("grant add olaf "+account, "")
	b.until("grant ls", "olaf")
	cut(a, b)
	a.do("account rm "+account, "")
	a.do("account restore "+account+" --reason 'a mistake'", "")
	time.Sleep(1500 * time.Millisecond)
	began := b.runs(keys, "olaf", account) // b can't know
	time.Sleep(2 * time.Second)
	heal(t)
	ended := make(chan error, 1)
	go func() { ended <- began.Wait() }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the session does not end")
	}
	linked(a, b)
	sameDigests(t, b, a)
	sameDigests(t, a, b)
	for _, s := range []*meshSite{a, b} {
		if out := s.do("session overtaken", ""); strings.Count(out, "olaf") != 1 || !strings.Contains(out, "account.removed at a") {
			t.Errorf("%s lists:\n%s", s.name, out)
		}
	}
	a.do("grant add olaf "+account, "")
	b.until("account ls", account)
	b.until("grant ls", "active")
	if out, err := b.asOn(keys, "olaf", account, "sleep 2; echo new"); err != nil || out != "new\n" {
		t.Fatalf("by a new grant: %q, %v", out, err)
	}
	if out := b.do("session overtaken", ""); strings.Count(out, "olaf") != 1 {
		t.Errorf("with a session by a new grant:\n%s", out)
	}
}

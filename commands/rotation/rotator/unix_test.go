package rotator_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
	"github.com/holdfast-pam/holdfast/commands/targetkind"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// unixWorld is a machine with a root key and one with sudo.
type unixWorld struct {
	*targettest.Unix
	root, sudoer *rotator.Login
}

func newUnixWorld(t *testing.T) *unixWorld {
	if testing.Short() {
		t.Skip("many logins over SSH; not in short mode")
	}
	u := targettest.StartUnix(t)
	params := effective(events.SSH, u.Addr, nil)
	return &unixWorld{
		Unix:   u,
		root:   &rotator.Login{Account: "root", Params: params, Secret: rotator.Secret{Kind: events.PrivateKey, Bytes: seal.NewSecret([]byte(u.Root))}},
		sudoer: &rotator.Login{Account: targettest.Sudoer, Params: params, Secret: secret(targettest.FirstPassword)},
	}
}

func (u *unixWorld) job(account string, via *rotator.Login) rotator.Job {
	j := rotator.Job{
		Kind: events.SSH, Addr: u.Addr, HostKeys: []string{u.HostKey}, Params: effective(events.SSH, u.Addr, nil),
		Account: account, Verb: rotator.AsItself, Via: via, Timeout: patience,
	}
	if via != nil {
		j.Verb = rotator.ByPrivileged
	}
	return j
}

// unlock takes the lock-out of pam_faillock away.
func (u *unixWorld) unlock(account string) func() {
	return func() { u.Sh("rm -f /etc/faillock/" + account) }
}

func TestUnixPassword(t *testing.T) {
	u := newUnixWorld(t)
	for name, job := range map[string]rotator.Job{
		"itself":  u.job(targettest.Alice, nil),
		"by root": u.job(targettest.Bob, u.root),
		"by sudo": u.job(targettest.Bob, u.sudoer),
	} {
		t.Run(name, func(t *testing.T) {
			u.Sh("echo " + job.Account + ":" + targettest.FirstPassword + " | chpasswd")
			s := &subject{
				T: t, Rotator: rotatorFor(t, events.SSH, events.Password), job: job, true: secret(targettest.FirstPassword),
				fresh: password(t, events.SSH), unlock: u.unlock(job.Account),
			}
			seen := argvDuring(t, s.rotateMany)
			s.noTrace("the process list", seen)
			s.down()
			if name != "by sudo" || full() {
				s.cut()
			}
			if name == "itself" {
				s.wrongOld()
			}
			s.noTrace("the server's log", u.Log())
		})
	}
}

func TestUnixPasswordRefusals(t *testing.T) {
	u := newUnixWorld(t)
	r := rotatorFor(t, events.SSH, events.Password)
	job := u.job(targettest.Alice, nil)
	job.Current = secret(targettest.FirstPassword)
	byRoot := u.job(targettest.Alice, u.root)
	still := func(what string) {
		t.Helper()
		if a, err := r.Verify(t.Context(), job, job.Current); a != rotator.Accepted {
			t.Errorf("%s: the old password is %s now: %v", what, a, err)
		}
	}
	if outcome, err := r.Change(t.Context(), job, secret("short")); outcome != rotator.Refused || !errors.Is(err, rotator.ErrUnfit) {
		t.Errorf("a password against the target's rules: %s, %v", outcome, err)
	}
	still("unfit")
	if outcome, err := r.Change(t.Context(), job, secret("two\nlines-of-it")); outcome != rotator.Refused || !errors.Is(err, rotator.ErrUnfit) {
		t.Errorf("a password of two lines: %s, %v", outcome, err)
	}
	u.Sh("touch /etc/.pwd.lock; mount --bind /etc/shadow /etc/shadow; mount -o remount,ro,bind /etc/shadow") // can't be replaced by another file
	for name, j := range map[string]rotator.Job{"itself": job, "by root": byRoot} {
		if outcome, err := r.Change(t.Context(), j, secret("Some-new-Secret-1")); outcome == rotator.Applied {
			t.Errorf("shadow can't be written, %s: %s, %v", name, outcome, err)
		} else {
			t.Logf("shadow can't be written, %s: %s, %v", name, outcome, err)
		}
		still("read-only shadow")
	}
	u.Sh("umount /etc/shadow")
	nobody := u.job("nobody-here", u.root)
	if outcome, err := r.Change(t.Context(), nobody, secret("Some-new-Secret-1")); outcome != rotator.Refused || err == nil {
		t.Errorf("an account that is not there: %s, %v", outcome, err)
	}
	weak := u.job(targettest.Bob, &rotator.Login{Account: targettest.Alice, Params: job.Params, Secret: job.Current})
	if outcome, err := r.Change(t.Context(), weak, secret("Some-new-Secret-1")); outcome != rotator.Refused || err == nil {
		t.Errorf("by somebody who may not: %s, %v", outcome, err)
	}
	other := job
	other.HostKeys = []string{strings.TrimSpace(string(key(t)().Public))}
	if outcome, err := r.Change(t.Context(), other, secret("Some-new-Secret-1")); outcome != rotator.Refused || !errors.Is(err, rotator.ErrNotPresented) {
		t.Errorf("another host key: %s, %v", outcome, err)
	}
	if a, err := r.Verify(t.Context(), other, job.Current); a != rotator.NoAnswer || !errors.Is(err, rotator.ErrNotPresented) {
		t.Errorf("another host key: %s, %v", a, err)
	}
	u.unlock(targettest.Alice)()
	for range 3 {
		if a, _ := r.Verify(t.Context(), job, secret("wrong")); a != rotator.Rejected {
			t.Errorf("a wrong password: %s", a)
		}
	}
	// One try costs one: after three the account is locked, not before.
	if count := strings.Count(u.Sh("faillock --dir /etc/faillock --user alice"), "RHOST"); count != 3 {
		t.Errorf("three tries were counted as %d", count)
	}
	if a, err := r.Verify(t.Context(), job, job.Current); a == rotator.Accepted {
		t.Errorf("a locked account: %s, %v", a, err)
	}
}

func TestSSHKey(t *testing.T) {
	u := newUnixWorld(t)
	for name, job := range map[string]rotator.Job{
		"itself":  u.job(targettest.Alice, nil),
		"by root": u.job(targettest.Bob, u.root),
		"by sudo": u.job(targettest.Bob, u.sudoer),
	} {
		t.Run(name, func(t *testing.T) {
			first := key(t)()
			u.KeyFor(job.Account, first.Public)
			s := &subject{T: t, Rotator: rotatorFor(t, events.SSH, events.PrivateKey), job: job, true: first, fresh: key(t)}
			s.rotateMany()
			s.down()
			if name != "by sudo" || full() {
				s.cut()
			}
			if name == "itself" {
				s.wrongOld()
			}
		})
	}
}

func TestAuthorizedKeysKeepWhatElseTheyHold(t *testing.T) {
	u := newUnixWorld(t)
	r := rotatorFor(t, events.SSH, events.PrivateKey).(rotator.Retirer)
	first, second, other := key(t)(), key(t)(), key(t)()
	file := filepath.Join(u.Home(targettest.Alice), ".ssh", "authorized_keys")
	content := func() string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	setup := func(lines ...string) {
		u.KeyFor(targettest.Alice, strings.Join(lines, "\n"))
	}
	around := []string{"# the admins", "no-pty,command=\"echo hi\" " + other.Public + " other@host", "not a key at all"}
	setup(around[0], around[1], `no-agent-forwarding,environment="A=b c" `+first.Public+" alice@desk", around[2])
	u.Sh("chmod 640 " + file)
	job := u.job(targettest.Alice, nil)
	job.Current = first
	if outcome, err := r.Change(t.Context(), job, second); outcome != rotator.Applied {
		t.Fatalf("%s, %v", outcome, err)
	}
	options := `no-agent-forwarding,environment="A=b c" `
	want := strings.Join([]string{around[0], around[1], options + first.Public + " alice@desk", options + second.Public + " alice@desk", around[2], ""}, "\n")
	if got := content(); got != want {
		t.Errorf("after the change:\n%s\nwant\n%s", got, want)
	}
	if outcome, err := r.Change(t.Context(), job, second); outcome != rotator.Applied || content() != want {
		t.Errorf("the change again: %s, %v\n%s", outcome, err, content())
	}
	job.Current = second
	if outcome, err := r.Retire(t.Context(), job, []string{first.Public}); outcome != rotator.Applied {
		t.Fatalf("%s, %v", outcome, err)
	}
	want = strings.Join([]string{around[0], around[1], options + second.Public + " alice@desk", around[2], ""}, "\n")
	if got := content(); got != want {
		t.Errorf("after the old key was retired:\n%s\nwant\n%s", got, want)
	}
	if mode := u.Sh("stat -c '%a %U' " + file); mode != "640 alice\n" {
		t.Errorf("the file is %s now", mode)
	}
	if left, _ := filepath.Glob(file + "?*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// The key that stays is not in the file: then nothing goes.
	job.Verb, job.Via, job.Current = rotator.ByPrivileged, u.root, first
	if outcome, err := r.Retire(t.Context(), job, []string{second.Public}); outcome != rotator.Refused || content() != want {
		t.Errorf("the last key was retired: %s, %v", outcome, err)
	}
}

func TestAuthorizedKeysInOddPlaces(t *testing.T) {
	u := newUnixWorld(t)
	r := rotatorFor(t, events.SSH, events.PrivateKey).(rotator.Retirer)
	home := u.Home(targettest.Alice)
	first, second := key(t)(), key(t)()
	asItself := u.job(targettest.Alice, nil)
	asItself.Current = first
	byRoot := u.job(targettest.Alice, u.root)
	reset := func() {
		u.Sh("rm -rf " + home + "/.ssh " + home + "/elsewhere; chmod 755 " + home)
		u.KeyFor(targettest.Alice, first.Public)
	}
	works := func(what string, s rotator.Secret, want rotator.Answer) {
		t.Helper()
		if a, err := r.Verify(t.Context(), asItself, s); a != want {
			t.Errorf("%s: %s, %v", what, a, err)
		}
	}
	for _, c := range []struct {
		name  string
		setup string
		job   rotator.Job
		want  rotator.Outcome
		after func()
	}{
		{name: "link", setup: "cd ~alice; mkdir elsewhere; mv .ssh/authorized_keys elsewhere/keys; ln -s ../elsewhere/keys .ssh/authorized_keys; chown -R alice: elsewhere", job: asItself, want: rotator.Applied, after: func() {
			if out := u.Sh("cd ~alice; test -L .ssh/authorized_keys && wc -l < elsewhere/keys"); strings.TrimSpace(out) != "2" {
				t.Errorf("behind the link: %s", out)
			}
		}},
		{name: "no file", setup: "rm -r ~alice/.ssh", job: byRoot, want: rotator.Applied, after: func() {
			if out := u.Sh("stat -c '%a %U' ~alice/.ssh ~alice/.ssh/authorized_keys"); out != "700 alice\n600 alice\n" {
				t.Errorf("made as %s", out)
			}
		}},
		{name: "file that others may write", setup: "chmod 666 ~alice/.ssh/authorized_keys", job: byRoot, want: rotator.Refused},
		{name: "directory that others may write", setup: "chmod 777 ~alice/.ssh", job: byRoot, want: rotator.Refused},
		{name: "read-only directory", setup: "mount --bind ~alice/.ssh ~alice/.ssh; mount -o remount,ro,bind ~alice/.ssh", job: asItself, want: rotator.Refused, after: func() { u.Sh("umount ~alice/.ssh") }},
		{name: "full disk", setup: "mount -t tmpfs -o size=4k,mode=700,uid=$(id -u alice) none ~alice/.ssh; echo '" + first.Public + "' > ~alice/.ssh/authorized_keys; chown alice: ~alice/.ssh/authorized_keys", job: asItself, want: rotator.Refused, after: func() { u.Sh("umount ~alice/.ssh") }},
		{name: "link to what is root's", setup: "cd ~alice; rm .ssh/authorized_keys; ln -s /etc/shadow .ssh/authorized_keys", job: byRoot, want: rotator.Refused, after: func() {
			if !strings.Contains(u.Sh("cat /etc/shadow"), "root:") {
				t.Error("the shadow file is another one now")
			}
		}},
		{name: "no such account", job: u.job("nobody-here", u.root), want: rotator.Refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			reset()
			if c.setup != "" {
				u.Sh(c.setup)
			}
			outcome, err := r.Change(t.Context(), c.job, second)
			if outcome != c.want || (err == nil) != (c.want == rotator.Applied) {
				t.Errorf("%s, %v", outcome, err)
			}
			if c.want == rotator.Applied {
				works(c.name, second, rotator.Accepted)
			}
			if c.after != nil {
				c.after()
			}
			t.Log(err)
		})
	}
	// A file of the system's own, for each account one.
	reset()
	u.Sh("rm -r ~alice/.ssh")
	central := byRoot
	central.Params = effective(events.SSH, u.Addr, nil)
	central.Params[targetkind.AuthorizedKeys] = u.KeyDir() + "/%u"
	if outcome, err := r.Change(t.Context(), central, first); outcome != rotator.Applied {
		t.Errorf("a central file: %s, %v", outcome, err)
	}
	works("a central file", first, rotator.Accepted)
	central.Via = u.sudoer
	if outcome, err := r.Change(t.Context(), central, second); outcome != rotator.Applied {
		t.Errorf("a central file by sudo: %s, %v", outcome, err)
	}
	works("a central file by sudo", second, rotator.Accepted)
}

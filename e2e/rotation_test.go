package e2e

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/cli/localsshd"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
	"github.com/holdfast-pam/holdfast/commands/targetkind"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// vaultSite is a site without a target, for tests that rotate secrets.
func vaultSite(t *testing.T) *installation {
	t.Helper()
	requireOpenSSH(t)
	in := &installation{t: t, dir: t.TempDir(), data: filepath.Join(t.TempDir(), "site")}
	in.config = filepath.Join(in.dir, "ssh_config")
	var err error
	if in.admin, err = lab.NewKey(filepath.Join(in.dir, "admin")); err != nil {
		t.Fatal(err)
	}
	in.target = &localsshd.Server{User: "nobody"} // the host "target" of its ssh_config is used with another user
	in.up("127.0.0.1:0")
	t.Cleanup(func() { _ = in.site.Kill() })
	return in
}

// subject is an account whose secret is rotated, and what it takes to look at
// the target without the site.
type subject struct {
	account string // ACCOUNT+TARGET
	kind    events.SecretKind
	rotator rotator.Rotator
	job     rotator.Job
	unlock  func() // takes a lock-out of the target away
}

// takes asks the target itself whether it takes a secret.
func (s *subject) takes(t *testing.T, secret string) bool {
	t.Helper()
	defer s.unlock()
	answer, err := s.rotator.Verify(t.Context(), s.job, rotator.Secret{Kind: s.kind, Bytes: seal.NewSecret([]byte(secret)), Public: publicOf(t, s.kind, secret)})
	switch answer {
	case rotator.Accepted:
		return true
	case rotator.Rejected:
		return false
	}
	t.Fatalf("%s: %s: %v", s.account, answer, err)
	return false
}

// publicOf is the public half of a private key, empty for a password.
func publicOf(t *testing.T, kind events.SecretKind, secret string) string {
	t.Helper()
	if kind != events.PrivateKey {
		return ""
	}
	signer, err := ssh.ParsePrivateKey([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

func (in *installation) reveal(account string) string {
	in.t.Helper()
	secret := in.console("", "secret reveal "+account+" --reason 'a test looks'")
	if strings.Contains(secret, "PRIVATE KEY") {
		return secret
	}
	return strings.TrimSuffix(secret, "\n")
}

// rotate rotates once and gives the state that it ended in.
func (in *installation) rotate(account string) string {
	in.t.Helper()
	out, err := in.tryConsole("", "rotate run "+account+" --wait --json")
	var answer struct {
		Item struct{ State, Detail string }
	}
	if json.Unmarshal([]byte(out), &answer) != nil {
		in.t.Fatalf("rotate run %s: %q: %v", account, out, err)
	}
	return answer.Item.State
}

func (in *installation) standing(account string) (state, detail string) {
	in.t.Helper()
	var answer struct {
		Item struct{ State, Detail string }
	}
	if err := json.Unmarshal([]byte(in.console("", "rotate status "+account+" --json")), &answer); err != nil {
		in.t.Fatal(err)
	}
	return answer.Item.State, answer.Item.Detail
}

// settled waits until it is known which secret an account takes.
func (in *installation) settled(account string) {
	in.t.Helper()
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if state, _ := in.standing(account); state == "ok" || state == "failing" {
			return
		}
	}
	state, detail := in.standing(account)
	in.t.Fatalf("%s is %s (%s) and does not settle\n%s", account, state, detail, in.console("", "audit tail -n 30 --type secret --json"))
}

// unixSubjects are accounts of a real sshd: one that changes its own password,
// one that is reset through root, one with a key.
func (in *installation) unixSubjects(t *testing.T) (*targettest.Unix, []*subject) {
	t.Helper()
	u := targettest.StartUnix(t)
	in.console("", "target add box --addr "+u.Addr+" --host-key '"+u.HostKey+"'")
	key, err := rotator.NewKey(rotator.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	u.KeyFor(targettest.Sudoer, key.Public)
	in.console(u.Root, "account add root+box --private-key-stdin")
	in.console(targettest.FirstPassword, "account add "+targettest.Alice+"+box --password-stdin")
	in.console(targettest.FirstPassword, "account add "+targettest.Bob+"+box --password-stdin --via root+box")
	in.console(string(key.Bytes.Bytes()), "account add "+targettest.Sudoer+"+box --private-key-stdin")
	var all []*subject
	for account, kind := range map[string]events.SecretKind{targettest.Alice: events.Password, targettest.Bob: events.Password, targettest.Sudoer: events.PrivateKey} {
		in.console("", "grant add admin "+account+"+box")
		all = append(all, unixSubject(u, account, "box", kind))
	}
	return u, all
}

// unixSubject is an account of a real sshd that the site knows as target.
func unixSubject(u *targettest.Unix, account, target string, kind events.SecretKind) *subject {
	r, _ := rotator.NewSet(nil).For(events.SSH, kind)
	return &subject{
		account: account + "+" + target, kind: kind, rotator: r, unlock: func() { u.Sh("rm -f /etc/faillock/" + account) },
		job: rotator.Job{Kind: events.SSH, Addr: u.Addr, HostKeys: []string{u.HostKey}, Account: account,
			Params: targetkind.Effective(events.SSH, u.Addr, nil, nil)},
	}
}

func passwordSecret(text string) rotator.Secret {
	return rotator.Secret{Kind: events.Password, Bytes: seal.NewSecret([]byte(text))}
}

// session runs a command in a session through the gateway.
func (in *installation) session(t *testing.T, account string) {
	t.Helper()
	args := []string{"-F", in.config, "-o", "User=" + account, "target", "echo in a session"}
	out, err := exec.CommandContext(t.Context(), "ssh", args...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "in a session") {
		t.Fatalf("a session as %s: %v\n%s", account, err, out)
	}
}

// turns rotates subjects so often: after each one the new secret logs in, the
// old one does not.
func (in *installation) turns(t *testing.T, all []*subject, after func(s *subject)) {
	n := 2
	if full {
		n = 100
	}
	for _, s := range all {
		t.Run(s.account, func(t *testing.T) {
			before, began := in.reveal(s.account), time.Now()
			defer func() { t.Logf("%d rotations in %v", n, time.Since(began).Round(time.Second)) }()
			for i := range n {
				if state := in.rotate(s.account); state != "verified" {
					_, detail := in.standing(s.account)
					t.Fatalf("rotation %d ended %s: %s", i, state, detail)
				}
				now := in.reveal(s.account)
				if now == before || !s.takes(t, now) || s.takes(t, before) {
					t.Fatalf("rotation %d: changed %t, new taken %t, old taken %t", i, now != before, s.takes(t, now), s.takes(t, before))
				}
				after(s)
				before = now
			}
		})
	}
}

// directoryParams is how the people of an LDAP server of the tests are found.
const directoryParams = "--param starttls=yes --param user-dn=uid={account},ou=people," + targettest.Suffix

// add makes a target of a kind, and an account there with its first secret.
func (in *installation) add(t *testing.T, kind events.TargetKind, name, addr, account, secret string) *subject {
	t.Helper()
	line := "target add " + name + " --kind " + string(kind) + " --addr " + addr + " --param tls=require"
	params := map[string]string{targetkind.TLS: targetkind.TLSRequire}
	if kind == events.LDAP {
		line += " " + directoryParams
		params[targetkind.StartTLS], params[targetkind.UserDN] = "yes", targettest.DN(targetkind.Account)
	}
	in.console("", line)
	in.console(secret, "account add "+account+"+"+name+" --password-stdin")
	r, _ := rotator.NewSet(nil).For(kind, events.Password)
	return &subject{
		account: account + "+" + name, kind: events.Password, rotator: r, unlock: func() {},
		job: rotator.Job{Kind: kind, Addr: addr, Account: account, Params: targetkind.Effective(kind, addr, targetkind.Sorted(params), nil)},
	}
}

func TestRotationsOfUnixAccounts(t *testing.T) {
	in := vaultSite(t)
	_, all := in.unixSubjects(t)
	in.turns(t, all, func(s *subject) { in.session(t, s.account) })
}

func TestRotationsOfPostgres(t *testing.T) {
	in := vaultSite(t)
	db := targettest.Postgres(t)
	in.turns(t, []*subject{in.add(t, events.Postgres, "pg", db.Addr, db.Root, targettest.Admin)}, func(*subject) {})
}

func TestRotationsOfMariaDB(t *testing.T) {
	in := vaultSite(t)
	db := targettest.MariaDB(t)
	in.turns(t, []*subject{in.add(t, events.MySQL, "maria", db.Addr, db.Root, targettest.Admin)}, func(*subject) {})
}

func TestRotationsOfOpenLDAP(t *testing.T) {
	in := vaultSite(t)
	db := targettest.LDAP(t)
	db.Person(t, "ann", targettest.FirstPassword)
	s := in.add(t, events.LDAP, "dir", db.Addr, "ann", targettest.FirstPassword)
	s.unlock = func() { db.Unlock(t, "ann") }
	in.turns(t, []*subject{s}, func(*subject) {})
}

// The site is killed at the moments that the log shows: whichever it was, the
// account's secret is among the known ones and becomes known by itself.
func TestKillDuringRotations(t *testing.T) {
	in := vaultSite(t)
	_, all := in.unixSubjects(t)
	moments := []string{"rotation.planned", "secret.staged", "secret.sent", "secret.applied", "secret.tried", "secret.verified", "rotation.ended"}
	for _, moment := range moments {
		for _, s := range all {
			t.Run(moment+" "+s.account, func(t *testing.T) {
				seen := in.follow(t, moment)
				if _, err := in.tryConsole("", "rotate run "+s.account); err != nil {
					t.Fatal(err)
				}
				select {
				case <-seen:
				case <-time.After(60 * time.Second):
					t.Fatalf("no %s within a minute", moment)
				}
				if err := in.site.Kill(); err != nil {
					t.Fatal(err)
				}
				in.restart()
				in.settled(s.account)
				if !s.takes(t, in.reveal(s.account)) {
					t.Fatal("the target does not take the secret that is held to be true")
				}
				in.session(t, s.account)
			})
		}
	}
	in.console("", "log verify")
}

// follow tells when the log shows the next event of a type.
func (in *installation) follow(t *testing.T, moment string) <-chan struct{} {
	t.Helper()
	cmd := in.ssh("gw", "audit tail -f -n 0 --json --type "+moment)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := make(chan struct{})
	go func() { // ends with the follower, which ends with the site
		if n, _ := out.Read(make([]byte, 1)); n == 1 {
			close(seen)
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	time.Sleep(500 * time.Millisecond) // until it follows: it says nothing before
	return seen
}

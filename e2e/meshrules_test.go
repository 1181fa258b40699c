package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
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

// addsWeb1 has the site know an sshd of its own as web1, and gives the account there.
func (s *meshSite) addsWeb1() (account string) {
	s.t.Helper()
	sshd, err := localsshd.Start(s.t.Context(), s.t.TempDir())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = sshd.Stop() })
	account = sshd.User + "+web1"
	s.do("target add web1 --addr "+sshd.Addr+" --host-key '"+sshd.HostKey+"'", "")
	s.do("account add "+account+" --private-key-stdin", string(sshd.PrivateKey))
	return account
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
	a.do("target add box --addr "+u.Addr+" --host-key '"+u.HostKey+"'", "")
	a.do("account add root+box --private-key-stdin", u.Root)
	a.do("account add "+targettest.Bob+"+box --password-stdin --via root+box", targettest.FirstPassword)
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

// conflicts lists what a site shows as in conflict, as "WHAT NAME".
func (s *meshSite) conflicts() (all []string) {
	s.t.Helper()
	var answer struct {
		Items []struct {
			What, Name string
			Heads      []struct{ ID, Site string }
		}
	}
	if err := json.Unmarshal([]byte(s.do("conflict ls --json", "")), &answer); err != nil {
		s.t.Fatal(err)
	}
	for _, c := range answer.Items {
		all = append(all, c.What+" "+c.Name)
		if len(c.Heads) != 2 || c.Heads[0].Site == c.Heads[1].Site {
			s.t.Errorf("%s: conflict %s %s: %+v", s.name, c.What, c.Name, c.Heads)
		}
	}
	return all
}

// idOf is the id of what a site has made last under a name, by the event.
func idOf(t *testing.T, said string) string {
	t.Helper()
	words := strings.Fields(said) // TYPE  ID  event ID
	if len(words) != 4 {
		t.Fatalf("no id in %q", said)
	}
	return words[1]
}

// What both sides of a cut made under one name, and values that they set
// differently, are conflicts that everybody sees: nothing new is done by such a
// name until a command settles it.
func TestBothSidesOfACutTakeTheSameNames(t *testing.T) {
	a, b := cuttableMesh(t)
	sshd, err := localsshd.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sshd.Stop() })
	keys := t.TempDir()
	box := "--addr " + sshd.Addr + " --host-key '" + sshd.HostKey + "'"
	a.do("target add web1 "+box, "")
	a.do("account add "+sshd.User+"+web1 --private-key-stdin", string(sshd.PrivateKey))
	grant := "grant add admin " + sshd.User + "+web1"
	a.do("user add olaf --key '"+newPublic(t, keys, "olaf")+"'", "")
	b.until("user ls", "olaf")
	cut(a, b)

	shared := newPublic(t, keys, "shared")
	ids := map[string]string{}
	for _, s := range []*meshSite{a, b} {
		ids["user "+s.name] = idOf(t, s.do("user add carol --key '"+newPublic(t, keys, "carol at "+s.name)+"'", ""))
		ids["key "+s.name] = idOf(t, s.do("user add only-at-"+s.name+" --key '"+shared+"'", ""))
		ids["target "+s.name] = idOf(t, s.do("target add twice "+box, ""))
		ids["account "+s.name] = idOf(t, s.do("account add deploy+web1 --private-key-stdin", string(sshd.PrivateKey)))
		ids["group "+s.name] = idOf(t, s.do("group add ops", ""))
	}
	a.do(grant, "")
	b.do(grant+" --expires 2h", "")
	a.do("role set operator --staleness strict --within 1h", "")
	b.do("role set operator --staleness strict --within 2h", "")
	a.do("user limit olaf --max-sessions 3", "")
	b.do("user limit olaf --max-sessions 5", "")
	a.do("target label web1 env=prod", "")
	b.do("target label web1 env=test", "")
	heal(t)
	linked(a, b)
	sameDigests(t, a, b)
	sameDigests(t, b, a)

	want := []string{"account name deploy+web1", "grants of user admin for " + sshd.User + "+web1", "group name ops", "key " + fingerprintOf(t, shared),
		"label env of target web1", "session limit of user olaf", "settings of role operator", "target name twice", "user name carol"}
	for _, s := range []*meshSite{a, b} {
		if got := s.conflicts(); !slices.Equal(got, want) {
			t.Errorf("%s shows %q, want %q", s.name, got, want)
		}
		for _, line := range []string{
			"grant add carol " + sshd.User + "+web1", "group member add ops olaf", "account add x+twice --private-key-stdin", "grant add olaf deploy+web1",
			"user disable carol", "target rm twice",
		} {
			if out, err := s.try(line, string(sshd.PrivateKey)); err == nil || !strings.Contains(err.Error(), "stands for 2") {
				t.Errorf("%s: %s: %q, %v", s.name, line, out, err)
			}
		}
		if _, err := s.as(filepath.Join(keys, "shared"), "whoami"); err == nil || !strings.Contains(err.Error(), "more than one user") {
			t.Errorf("%s: a key of two users: %v", s.name, err)
		}
		for _, line := range []string{"user show olaf", "target show web1", "group show " + ids["group a"], "grant show " + grantAt(s)} {
			if out := s.do(line, ""); !strings.Contains(out, "conflict  ") {
				t.Errorf("%s: %s shows no conflict:\n%s", s.name, line, out)
			}
		}
	}

	b.do("user disable "+ids["user a"]+" --reason twice", "")
	b.do("user key rm "+ids["key a"]+" "+fingerprintOf(t, shared), "")
	b.do("target rm "+ids["target a"]+" --reason twice", "")
	b.do("account rm "+ids["account a"]+" --reason twice", "")
	b.do("group rm "+ids["group a"], "")
	b.do("role set operator --staleness strict --within 1h30m", "")
	b.do("user limit olaf --max-sessions 4", "")
	b.do("target label web1 env=prod", "")
	b.do("grant rm admin "+sshd.User+"+web1", "")
	b.do(grant, "")
	sameDigests(t, b, a)
	for _, s := range []*meshSite{a, b} {
		if got := s.conflicts(); len(got) > 0 {
			t.Errorf("%s: left after settling: %q", s.name, got)
		}
		if out, err := s.as(filepath.Join(keys, "shared"), "whoami"); err != nil || !strings.Contains(out, "only-at-b") {
			t.Errorf("%s: the key that was settled: %q, %v", s.name, out, err)
		}
		if out, err := s.session(sshd.User+"+web1", "echo settled"); err != nil || out != "settled\n" {
			t.Errorf("%s: %q, %v", s.name, out, err)
		}
	}
	a.do("group member add ops olaf", "")
	if out := a.do("user show olaf --json", ""); !strings.Contains(out, `"max_sessions":4`) {
		t.Error(out)
	}
}

// as runs a line at the site's console with another key.
func (s *meshSite) as(key, line string) (string, error) {
	cmd := exec.Command("ssh", "-F", s.config(filepath.Dir(key), filepath.Base(key)), "gw", line)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return string(out), err
}

// grantAt is the first grant that a site lists.
func grantAt(s *meshSite) string {
	s.t.Helper()
	var answer struct{ Items []struct{ ID string } }
	if err := json.Unmarshal([]byte(s.do("grant ls --json", "")), &answer); err != nil || len(answer.Items) == 0 {
		s.t.Fatalf("%v: %+v", err, answer)
	}
	return answer.Items[0].ID
}

func fingerprintOf(t *testing.T, public string) string {
	t.Helper()
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(public))
	if err != nil {
		t.Fatal(err)
	}
	return ssh.FingerprintSHA256(key)
}

// A right is taken away on one side of a cut while a session runs on the other,
// and one more begins there. Both end within a second of the heal, and a report
// lists what ran in between; what was shown before is said to have changed.
func TestRevocationAcrossACut(t *testing.T) {
	a, b := cuttableMesh(t)
	keys, account := t.TempDir(), a.addsWeb1()
	for _, name := range []string{"olaf", "gina", "kim"} {
		a.do("user add "+name+" --key '"+newPublic(t, keys, name)+"'", "")
		a.do("grant add "+name+" "+account, "")
	}
	b.until("grant ls", "kim")
	running := map[string]*exec.Cmd{"olaf": b.runs(keys, "olaf", account), "gina": b.runs(keys, "gina", account), "kim": b.runs(keys, "kim", account)}
	cut(a, b)
	a.do("user disable olaf --reason left", "")
	a.do("grant rm gina "+account, "")
	taken := time.Now()
	began := b.runs(keys, "olaf", account) // b can't know
	if out, err := b.asOn(keys, "gina", account, "echo short"); err != nil || out != "short\n" {
		t.Fatalf("%q, %v", out, err)
	}
	time.Sleep(6 * time.Second)

	heal(t)
	ends := map[string]chan time.Time{}
	for name, cmd := range map[string]*exec.Cmd{"olaf": running["olaf"], "gina": running["gina"], "olaf's second": began} {
		ended := make(chan time.Time, 1)
		go func() { _ = cmd.Wait(); ended <- time.Now() }()
		ends[name] = ended
	}
	b.until("mesh status --json", `"site":"a","state":"linked"`)
	whole := time.Now()
	for name, ended := range ends {
		select {
		case at := <-ended:
			if t.Logf("%s ended %s after the link was seen", name, at.Sub(whole)); at.Sub(whole) > time.Second {
				t.Errorf("%s went on for too long", name)
			}
		case <-time.After(time.Minute):
			t.Fatalf("the session of %s does not end", name)
		}
	}
	if out := b.do("session ls --json", ""); strings.Count(out, `"ended":null`) != 1 {
		t.Errorf("not only the session of somebody else goes on: %s", out)
	}
	_ = running["kim"].Process.Kill()
	_ = running["kim"].Wait()

	for _, s := range []*meshSite{a, b} {
		sameDigests(t, b, a)
		var answer struct {
			Items []struct {
				User, By string
				RanAt    string `json:"ran_at"`
				TakenAt  string `json:"taken_at"`
				Seconds  float64
			}
		}
		if err := json.Unmarshal([]byte(s.do("session overtaken --longer 10ms --json", "")), &answer); err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		for _, o := range answer.Items {
			count[o.User+" "+o.By]++
			if o.RanAt != "b" || o.TakenAt != "a" || o.Seconds <= 0 || o.Seconds > time.Since(taken).Seconds()+1 {
				t.Errorf("%s: %+v", s.name, o)
			}
		}
		if want := map[string]int{"olaf user.disabled": 2, "gina grant.removed": 2}; !maps.Equal(count, want) {
			t.Errorf("%s lists %v, want %v", s.name, count, want)
		}
		eventually(t, time.Minute, "it is said that the past has changed", func() bool {
			return strings.Contains(strings.Join(s.history("projection.revised"), ""), `"records":`)
		})
	}
}

// A strict role goes on for so long without news of its users' home site, starts
// nothing after that, and ends after twice as long; break-glass and others go on.
func TestStrictRolesStopWithoutNews(t *testing.T) {
	a, b := cuttableMesh(t)
	keys, account := t.TempDir(), a.addsWeb1()
	a.do("user add olaf --key '"+newPublic(t, keys, "olaf")+"'", "")
	a.do("grant add olaf "+account, "")
	a.do("grant add admin "+account, "")
	a.do("role set operator --staleness strict --within 12s", "")
	b.until("role ls", "strict")
	sameDigests(t, a, b)
	strict, other := b.runs(keys, "olaf", account), b.runs(filepath.Dir(b.admin.File), filepath.Base(b.admin.File), account)
	atHome := a.runs(keys, "olaf", account)
	time.Sleep(15 * time.Second) // linked: longer than the limit, with nothing to tell
	if out, err := b.asOn(keys, "olaf", account, "echo linked"); err != nil || out != "linked\n" {
		t.Fatalf("while all is well: %q, %v", out, err)
	}

	cutOff(t, a.mesh)
	cutOff(t, b.mesh)
	cutAt := time.Now()
	if out, err := b.asOn(keys, "olaf", account, "echo soon"); err != nil || out != "soon\n" {
		t.Errorf("just after the cut: %q, %v", out, err)
	}
	time.Sleep(time.Until(cutAt.Add(15 * time.Second)))
	if out, err := b.asOn(keys, "olaf", account, "echo late"); err == nil || !strings.Contains(err.Error(), "nothing was heard of site a") {
		t.Errorf("after the limit: %q, %v", out, err)
	}
	if out, err := b.session(account, "echo admin"); err != nil || out != "admin\n" {
		t.Errorf("another role: %q, %v", out, err)
	}
	if out, err := a.asOn(keys, "olaf", account, "echo home"); err != nil || out != "home\n" {
		t.Errorf("at the home site: %q, %v", out, err)
	}
	done := make(chan error, 1)
	go func() { done <- strict.Wait() }()
	select {
	case <-done:
		if after := time.Since(cutAt); after < 20*time.Second || after > 30*time.Second {
			t.Errorf("the session ended %s after the cut, the limit is twice 12 s", after)
		}
	case <-time.After(time.Until(cutAt.Add(40 * time.Second))):
		t.Error("the session goes on without news")
	}
	b.until("session ls --json", "nothing was heard of site a")

	heal(t)
	linked(a, b)
	eventually(t, 30*time.Second, "sessions start again", func() bool {
		out, err := b.asOn(keys, "olaf", account, "echo again")
		return err == nil && out == "again\n"
	})
	for _, cmd := range []*exec.Cmd{other, atHome} {
		if cmd.ProcessState != nil {
			t.Error("a session ended that was none of a strict role without news")
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// config is an ssh_config for a key in a directory.
func (s *meshSite) config(keys, name string) string {
	s.t.Helper()
	config := filepath.Join(s.dir, "ssh_config_of_"+name)
	if err := lab.WriteConfig(config, lab.Host{Alias: "gw", Addr: s.proc.Addr, HostKey: s.proc.HostKey, Key: lab.Key{File: filepath.Join(keys, name)}}); err != nil {
		s.t.Fatal(err)
	}
	return config
}

// asOn runs a command in a session of somebody.
func (s *meshSite) asOn(keys, name, account, line string) (string, error) {
	cmd := exec.Command("ssh", "-F", s.config(keys, name), "-l", account, "gw", line)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return string(out), err
}

// runs starts a session of somebody and waits until it runs.
func (s *meshSite) runs(keys, name, account string) *exec.Cmd {
	s.t.Helper()
	out := &firstWrite{first: make(chan struct{})}
	cmd := exec.Command("ssh", "-F", s.config(keys, name), "-l", account, "gw", "echo up; exec sleep 300")
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill() })
	select {
	case <-out.first:
	case <-time.After(30 * time.Second):
		s.t.Fatalf("%s: the session of %s does not begin: %s", s.name, name, s.proc.Stderr())
	}
	return cmd
}

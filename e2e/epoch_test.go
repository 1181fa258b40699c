package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-pam/holdfast/cli/localsshd"
)

// run runs a program and wants it to succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// destroy loses the site's disk.
func (s *meshSite) destroy() {
	s.t.Helper()
	s.crash()
	if err := os.RemoveAll(filepath.Join(s.dir, "data")); err != nil {
		s.t.Fatal(err)
	}
}

// epochs are the epochs of a site's decisions that a site shows.
func (s *meshSite) epochs(of string) map[uint32]uint64 {
	s.t.Helper()
	found := map[uint32]uint64{}
	for _, line := range strings.Split(s.do("audit tail -n 10000 --json", ""), "\n") {
		var e struct {
			Item struct {
				Origin struct {
					Site  string
					Epoch uint32
				}
				Position uint64
			}
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			s.t.Fatalf("%v: %s", err, line)
		}
		if e.Item.Origin.Site == of {
			found[e.Item.Origin.Epoch] = max(found[e.Item.Origin.Epoch], e.Item.Position)
		}
	}
	return found
}

func (s *meshSite) id() string {
	s.t.Helper()
	var status struct{ Item struct{ ID string } }
	if err := json.Unmarshal([]byte(s.do("status --json", "")), &status); err != nil {
		s.t.Fatal(err)
	}
	return status.Item.ID
}

// lastSession is the id of the newest session.
func (s *meshSite) lastSession() string {
	s.t.Helper()
	var list struct{ Items []struct{ ID string } }
	if err := json.Unmarshal([]byte(s.do("session ls --json", "")), &list); err != nil || len(list.Items) == 0 {
		s.t.Fatalf("sessions %v: %v", list, err)
	}
	return list.Items[0].ID
}

// whole checks that the sites hold the same, and that their logs are what was
// written.
func whole(t *testing.T, sites ...*meshSite) {
	t.Helper()
	for i, s := range sites {
		sameDigests(t, s, sites[(i+1)%len(sites)])
		s.do("log verify", "")
		s.do("projection rebuild", "")
		if out := s.do("mesh history", ""); strings.Contains(out, "fork.proved") {
			t.Errorf("%s: a position was used twice:\n%s", s.name, out)
		}
	}
}

// A site's disk is destroyed. Another one takes over, and work goes on; the
// machine comes back from an old backup. What it had decided and recorded since
// comes back from its peers, it goes on in new epochs, and uses no position twice.
func TestADestroyedSiteComesBackFromAnOldBackup(t *testing.T) {
	sites := meshOf(t, "a", "b", "c")
	a, b, c := sites[0], sites[1], sites[2]
	target := filepath.Join(t.TempDir(), "sshd")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	sshd, err := localsshd.Start(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer sshd.Stop()
	login := sshd.User + "+web1"
	a.do("target add web1 --addr "+sshd.Addr+" --host-key '"+sshd.HostKey+"'", "")
	a.do("account add "+login+" --private-key-stdin", string(sshd.PrivateKey))
	a.do("grant add admin "+login, "")
	a.do("group add before", "")
	backup := filepath.Join(a.dir, "backup")
	run(t, "sh", "-c", "ssh -F "+a.configured+" gw 'backup create' >"+backup+" 2>/dev/null")
	run(t, "cp", filepath.Join(a.dir, "data", "keys", "site.key"), filepath.Join(a.dir, "site.key"))

	a.do("group add since", "")
	if out, err := sshAs(a.configured, "-l", login, "gw", "echo what is recorded"); err != nil || !strings.Contains(out, "what is recorded") {
		t.Fatal(out, err)
	}
	a.do("account add other+web1 --password-stdin", "a secret of before")
	for _, s := range []*meshSite{b, c} {
		s.until("session ls", "client closed")
		s.until("session export last --format raw", "what is recorded")
		s.until("account ls", "other")
	}
	id, session := a.id(), b.lastSession()
	held := b.epochs(id)
	a.destroy()

	b.do("mesh takeover a --yes --reason 'its disk is gone'", "")
	b.do("group add meanwhile", "")
	if out, err := sshAs(b.configured, "-l", login, "gw", "echo goes on"); err != nil || !strings.Contains(out, "goes on") {
		t.Fatalf("work does not go on at b: %s %v", out, err)
	}

	run(t, "holdfast", "backup", "restore", backup, "--data", filepath.Join(a.dir, "data"), "--identity", a.admin.File)
	run(t, "cp", filepath.Join(a.dir, "site.key"), filepath.Join(a.dir, "data", "keys", "site.key"))
	a.up()
	a.until("group ls", "since")
	a.until("group ls", "meanwhile")
	a.until("mesh history", "site.doubted")
	a.until("mesh history", "duty.yielded")
	a.until("session export "+session+" --format raw", "what is recorded")
	a.do("grant add admin other+web1", "")
	a.until("secret reveal other+web1 --reason look", "a secret of before")
	a.do("group add after", "")
	b.until("group ls", "after")
	whole(t, a, b, c)
	now := b.epochs(id)
	for epoch, size := range held {
		if now[epoch] != size {
			t.Errorf("epoch %d of a has %d records, it had %d", epoch, now[epoch], size)
		}
	}
	if len(now) != len(held)+1 {
		t.Errorf("epochs %v after %v", now, held)
	}
	b.do("mesh handback a --reason 'it is back'", "")
	a.until("mesh status --json", `"site":"a","state":"self","role":"steward"`)
	a.crash()
	a.up()
	a.until("mesh status --json", `"site":"b","state":"linked"`)
	if again := a.epochs(id); len(again) != len(now) {
		t.Errorf("another start begins another epoch: %v after %v", again, now)
	}
	whole(t, a, b, c)
}

// A copy of a site's disk that runs beside it goes on in logs of its own: two
// machines that take themselves for one site write no position twice.
func TestACopiedDiskIsAnotherEpoch(t *testing.T) {
	sites := meshOf(t, "a", "b")
	a, b := sites[0], sites[1]
	a.do("group add before", "")
	b.until("group ls", "before")
	id := a.id()
	a.crash()
	twin := newMeshSite(t, a.binary, "a", a.admin)
	run(t, "cp", "-a", filepath.Join(a.dir, "data"), filepath.Join(twin.dir, "data"))
	a.up()
	twin.up()
	a.do("group add by-a", "")
	twin.do("group add by-the-twin", "")
	b.until("group ls", "by-a")
	b.until("group ls", "by-the-twin")
	a.until("group ls", "by-the-twin")
	twin.until("group ls", "by-a")
	if n := len(b.epochs(id)); n != 2 {
		t.Errorf("%d epochs of a site and its twin", n)
	}
	whole(t, a, b)
}

// rollBack puts an old state of the data directory back in place, so that no file
// looks as if it had been copied.
func (s *meshSite) rollBack(old string) {
	s.t.Helper()
	run(s.t, "sh", "-c", `cd "$1" && cp instance "$2/instance.kept" && find . -type f ! -name instance -delete && cd "$2" &&
		tar -C "$3" --exclude=./instance -cf - . | tar -C "$1" -xf -`, "sh", filepath.Join(s.dir, "data"), s.dir, old)
}

// A disk that went back in time, and shows nothing of it: the peers know better,
// before the site writes anything.
func TestADiskThatWentBackInTime(t *testing.T) {
	sites := meshOf(t, "a", "b")
	a, b := sites[0], sites[1]
	a.do("group add before", "")
	id := a.id()
	a.crash()
	old := filepath.Join(a.dir, "old")
	run(t, "cp", "-a", filepath.Join(a.dir, "data"), old)
	a.up()
	a.do("group add since", "")
	b.until("group ls", "since")
	held := b.epochs(id)
	a.crash()
	a.rollBack(old)
	a.up()
	a.until("group ls", "since")
	a.do("group add after", "")
	b.until("group ls", "after")
	now := b.epochs(id)
	if len(now) != len(held)+1 {
		t.Errorf("epochs %v after %v", now, held)
	}
	whole(t, a, b)
}

// A site starts, within the time that it gives the others to answer, while one of
// them takes connections and says nothing.
func TestASiteStartsWhileAnotherHangs(t *testing.T) {
	a, b := cuttableMesh(t)
	c := newMeshSite(t, a.binary, "c", a.admin)
	c.up()
	c.do("mesh join "+a.do("mesh invite c --addr "+a.mesh, ""), "")
	for _, s := range []*meshSite{a, b, c} {
		for _, other := range []string{"a", "b", "c"} {
			if other != s.name {
				s.until("mesh status --json", `"site":"`+other+`","state":"linked"`)
			}
		}
	}
	signalSite(t, c, syscall.SIGSTOP)
	defer signalSite(t, c, syscall.SIGCONT)
	b.crash()
	a.do("group add made-meanwhile", "")
	b.up()
	b.until("group ls", "made-meanwhile")
}

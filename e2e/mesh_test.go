package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/cli/localsshd"
)

// meshSite is one site of a mesh, as a process that comes and goes.
type meshSite struct {
	t          *testing.T
	binary     string
	name, dir  string
	ssh, mesh  string     // addresses of its ports; that of the mesh is the same in every life
	net        *namespace // where it is
	person     *namespace // where its users are
	args       []string   // of up, besides
	admin      lab.Key
	proc       *lab.Site
	configured string // ssh_config with a host "gw"
}

func newMeshSite(t *testing.T, binary, name string, admin lab.Key) *meshSite {
	t.Helper()
	s := &meshSite{t: t, binary: binary, name: name, dir: t.TempDir(), ssh: "127.0.0.1:0", mesh: steadyAddr(t), admin: admin}
	s.configured = filepath.Join(s.dir, "ssh_config")
	t.Cleanup(func() {
		if s.proc != nil {
			_ = s.proc.Kill()
		}
	})
	return s
}

// steady counts the ports that steadyAddr gave.
var steady atomic.Int32

// steadyAddr is a loopback address of a port that is free, and stays so until it is
// used: the system gives out others to those who ask for any.
func steadyAddr(t interface{ Fatal(...any) }) string {
	const first, ports = 12_000, 18_000 // below what systems give out
	for range ports {
		n := (os.Getpid()*97 + int(steady.Add(1))) % ports
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first+n)))
		if err != nil {
			continue // in use
		}
		addr := l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return addr
	}
	t.Fatal("no port is free")
	return ""
}

func (s *meshSite) up() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	args := append([]string{"--site-name", s.name, "--ssh-listen", s.ssh, "--mesh-listen", s.mesh,
		"--admin-name", "admin", "--admin-key", s.admin.File + ".pub"}, s.args...)
	var err error
	s.net.do(s.t, func() { s.proc, err = lab.Up(ctx, s.binary, s.data(), args...) })
	if proc := s.proc; err == nil {
		s.t.Cleanup(func() {
			if s.t.Failed() {
				said := proc.Stderr()
				s.t.Logf("%s said at last: %s", s.name, said[max(0, len(said)-4000):])
			}
		})
		err = lab.WriteConfig(s.configured, lab.Host{Alias: "gw", Addr: s.proc.Addr, HostKey: s.proc.HostKey, Key: s.admin})
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *meshSite) data() string { return filepath.Join(s.dir, "data") }

func (s *meshSite) crash() {
	s.t.Helper()
	if err := s.proc.Kill(); err != nil {
		s.t.Fatal(err)
	}
	s.proc = nil
}

// try runs a line at the site's console.
func (s *meshSite) try(line, stdin string) (string, error) {
	cmd := s.person.command("ssh", "-F", s.configured, "gw", line)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", s.name, line, err, stderr.String())
	}
	return strings.TrimSpace(string(out)), err
}

func (s *meshSite) do(line, stdin string) string {
	s.t.Helper()
	out, err := s.try(line, stdin)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// until runs a line until its output holds a text.
func (s *meshSite) until(line, text string) {
	s.t.Helper()
	last := ""
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		out, err := s.try(line, "")
		if last = fmt.Sprint(out, err); err == nil && strings.Contains(out, text) {
			return
		}
	}
	s.t.Fatalf("%s: %s never showed %q; at last %s", s.name, line, text, last)
}

type shownDigest struct {
	Item struct{ Clock, Digest string }
}

func (s *meshSite) digest(at string) (d shownDigest, err error) {
	out, err := s.try("projection digest --json --at '"+at+"'", "")
	if err == nil {
		err = json.Unmarshal([]byte(out), &d)
	}
	return d, err
}

// sameDigests waits until both sites hold what one of them has decided, and
// compares what it comes to.
func sameDigests(t *testing.T, a, b *meshSite) {
	t.Helper()
	var now shownDigest
	if err := json.Unmarshal([]byte(a.do("projection digest --json", "")), &now); err != nil {
		t.Fatal(err)
	}
	var err error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var there, here shownDigest
		if there, err = b.digest(now.Item.Clock); err != nil {
			continue // it lacks something yet
		}
		if here, err = a.digest(now.Item.Clock); err != nil {
			t.Fatal(err)
		}
		if here.Item.Digest != there.Item.Digest || here.Item.Digest != now.Item.Digest {
			t.Fatalf("at %s: %s and %s at a, %s at b", now.Item.Clock, now.Item.Digest, here.Item.Digest, there.Item.Digest)
		}
		return
	}
	t.Fatalf("b never held what a had decided: %v", err)
}

// Two sites work as one, then each by itself, and then as one again: what is
// made at one is good at the other, secrets and recordings included.
func TestMeshOfTwoSites(t *testing.T) {
	requireOpenSSH(t)
	binary, err := exec.LookPath("holdfast")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	admin, err := lab.NewKey(filepath.Join(dir, "admin"))
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "sshd")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	sshd, err := localsshd.Start(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer sshd.Stop()
	a, b, c := newMeshSite(t, binary, "a", admin), newMeshSite(t, binary, "b", admin), newMeshSite(t, binary, "c", admin)
	a.up()
	b.up()
	b.do("user add mallory --role admin --key '"+newPublic(t, dir, "mallory")+"'", "")

	for _, bad := range []string{"nonsense", "holdfast-join-1.AAAA"} {
		if out, err := b.try("mesh join "+bad, ""); err == nil {
			t.Errorf("joined by %q: %s", bad, out)
		}
	}
	other := a.do("mesh invite z --addr "+a.mesh, "")
	if out, err := b.try("mesh join "+other, ""); err == nil {
		t.Errorf("b joined by an invitation for z: %s", out)
	}
	short := a.do("mesh invite b --valid 1ms --addr "+a.mesh, "")
	if out, err := b.try("mesh join "+short, ""); err == nil {
		t.Errorf("joined by an invitation that is over: %s", out)
	}
	token := a.do("mesh invite b --addr "+a.mesh, "")
	b.do("mesh join "+token, "")
	a.until("mesh status --json", `"site":"b","state":"linked"`)
	b.until("mesh status --json", `"site":"a","state":"linked"`)
	c.up()
	if out, err := c.try("mesh join "+token, ""); err == nil {
		t.Errorf("a second site joined by the same invitation: %s", out)
	}
	c.crash()
	if out := b.do("user ls", ""); strings.Contains(out, "mallory") {
		t.Error("a user that the newcomer had made counts after it joined")
	}

	a.do("target add web1 --addr "+sshd.Addr+" --host-key '"+sshd.HostKey+"'", "")
	a.do("account add "+sshd.User+"+web1 --private-key-stdin", string(sshd.PrivateKey))
	a.do("grant add admin "+sshd.User+"+web1", "")
	b.until("grant ls", "web1")
	cmd := exec.Command("ssh", "-F", b.configured, "-l", sshd.User+"+web1", "gw", "echo through b")
	if out, err := cmd.Output(); err != nil || string(out) != "through b\n" {
		t.Fatalf("a session at b to a target made at a: %q, %v", out, err)
	}
	a.until("session ls", "client closed")
	a.until("session export last --format raw", "through b")
	sameDigests(t, a, b)

	b.crash() // each side by itself, the other one out of reach
	a.do("group add left", "")
	a.do("target add twice --addr "+sshd.Addr+" --host-key '"+sshd.HostKey+"'", "")
	a.until("mesh status --json", `"site":"b","state":"unreachable"`)
	a.crash()
	b.up()
	b.do("group add right", "")
	b.do("target add twice --addr "+sshd.Addr+" --host-key '"+sshd.HostKey+"'", "")
	a.up()
	b.until("group ls", "left")
	a.until("group ls", "right")
	a.until("target ls", "conflict")
	sameDigests(t, a, b)
	sameDigests(t, b, a)
}

func newPublic(t *testing.T, dir, name string) string {
	t.Helper()
	k, err := lab.NewKey(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return k.Public
}

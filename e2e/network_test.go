package e2e

import (
	"bytes"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pam/holdfast/cli/localsshd"
)

// network puts the test, and all that it starts from then on, into a network
// of its own, where nothing but loopback is.
func network(t *testing.T) {
	t.Helper()
	requirePrograms(t, "/usr/sbin/nft", "ip")
	runtime.LockOSThread() // for good: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs a network namespace, as root: %v", err)
	}
	shell(t, "ip link set lo up")
	shell(t, "nft add table inet cut")
	shell(t, "nft 'add chain inet cut in { type filter hook input priority 0; }'")
}

// cutOff drops whatever comes from or goes to a port of loopback, without a
// word to either side.
func cutOff(t *testing.T, addr string) {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	shell(t, "nft add rule inet cut in tcp sport "+port+" drop; nft add rule inet cut in tcp dport "+port+" drop")
}

func heal(t *testing.T) {
	t.Helper()
	shell(t, "nft flush chain inet cut in")
}

func shell(t *testing.T, line string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", line)
	cmd.Env = append(cmd.Environ(), "PATH=/usr/sbin:/sbin:/usr/bin:/bin")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
}

// Connections of which one side has gone without a word, with and without data
// under way: the session ends, says which side is gone, and nothing stays open.
// A target that does not answer at all is told as such.
func TestHalfOpenConnections(t *testing.T) {
	network(t)
	t.Setenv("HOLDFAST_SSH_PEER_TIMEOUT", "8s")
	t.Setenv("HOLDFAST_SSH_DIAL_TIMEOUT", "2s")
	in := install(t)
	far, err := localsshd.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Stop() })
	in.console("", "target add far --addr "+far.Addr+" --host-key '"+far.HostKey+"'")
	in.console(string(far.PrivateKey), "account add "+far.User+"+far --private-key-stdin")
	in.console("", "grant add admin "+far.User+"+far")
	before := in.resources()

	const stream = "while head -c 500 /dev/urandom; do sleep 0.05; done"
	toFar := []string{"-l", far.User + "+far", "target"}
	idle, busy := in.cuttable("target", "echo up; sleep 100"), in.cuttable("target", stream)
	farIdle, farBusy := in.cuttable(append(toFar, "echo up; sleep 100")...), in.cuttable(append(toFar, stream)...)
	kept := in.cuttable("target", "echo up; sleep 100") // says nothing either, and is not cut off
	cutOff(t, idle.source)
	cutOff(t, busy.source)
	cutOff(t, far.Addr)

	if out, err := in.ssh(append(toFar, "true")...).CombinedOutput(); exitCode(err) != 255 || !strings.Contains(string(out), "did not answer in time") {
		t.Errorf("a session to a target that is cut off: %v, %s", err, out)
	}
	in.endedAs("target login failed", "i/o timeout")
	for _, c := range []*client{farIdle, farBusy} {
		if err := c.cmd.Wait(); exitCode(err) != 255 || !strings.Contains(c.stderr.String(), "target can't be reached any more") {
			t.Errorf("a client whose target is gone ended with %v and was told %q", err, c.stderr)
		}
	}
	for _, c := range []*client{idle, busy, farIdle, farBusy} {
		eventually(t, 30*time.Second, "the session of "+c.source+" ends", func() bool { return in.sessionOf(c.source).Ended != nil })
		want, detail := "client closed", "client is gone: its network acknowledges nothing"
		if c == farIdle || c == farBusy {
			want, detail = "target closed", "target is gone: its network acknowledges nothing"
		}
		if s := in.sessionOf(c.source); s.Reason != want || s.Detail != detail || !s.Complete {
			t.Errorf("it ended as %+v, want %s, %s", s, want, detail)
		}
	}
	if s := in.sessionOf(kept.source); s.Ended != nil {
		t.Errorf("a session that was only silent ended: %+v", s)
	}
	heal(t)
	for _, c := range []*client{idle, busy, kept} {
		_ = c.cmd.Process.Kill() // it may have found out by itself
		_ = c.cmd.Wait()
	}
	in.settles(before)
	in.console("", "log verify")
}

// client is a running ssh whose session goes by the client's address.
type client struct {
	cmd    *exec.Cmd
	source string
	stderr *bytes.Buffer
}

// cuttable starts a client and waits for its first output.
func (in *installation) cuttable(args ...string) *client {
	in.t.Helper()
	known := map[string]bool{}
	for _, s := range in.sessions() {
		known[s.Source] = true
	}
	out := &firstWrite{first: make(chan struct{})}
	c := &client{cmd: in.ssh(args...), stderr: &bytes.Buffer{}}
	c.cmd.Stdout, c.cmd.Stderr = out, c.stderr
	if err := c.cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	select {
	case <-out.first:
	case <-time.After(20 * time.Second):
		in.t.Fatalf("no output within 20 s; site: %s", in.site.Stderr())
	}
	eventually(in.t, 10*time.Second, "the session is listed", func() bool {
		for _, s := range in.sessions() {
			if !known[s.Source] {
				c.source = s.Source
			}
		}
		return c.source != ""
	})
	return c
}

func (in *installation) sessionOf(source string) (found listedSession) {
	in.t.Helper()
	for _, s := range in.sessions() {
		if s.Source == source {
			found = s
		}
	}
	return found
}

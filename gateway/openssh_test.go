package gateway

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/events"
)

func TestCommandsAndExitStatus(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	out, errs, exit := run(t, s.ssh(d.User+"+web1", "printf out; printf err >&2; exit 3"))
	if out != "out" || !strings.Contains(errs, "err") || exit != 3 {
		t.Errorf("stdout %q, stderr %q, exit %d", out, errs, exit)
	}
	if !strings.Contains(errs, "this session is recorded") {
		t.Errorf("nobody said that the session is recorded: %q", errs)
	}
	e := s.ended(1)
	if e.Reason != events.EndedByClient || !e.Complete || e.Out.Delivered != e.Out.Received || e.Out.Bytes != 6 {
		t.Errorf("ended %+v", e)
	}
	if c := eventsOf[events.SessionConnected](t, s.ctl); len(c) != 1 || !strings.HasPrefix(c[0].Server, "SSH-2.0-OpenSSH") || !strings.HasPrefix(c[0].HostKey, "SHA256:") {
		t.Errorf("connected %+v", c)
	}
	if v := eventsOf[events.SecretVerified](t, s.ctl); len(v) != 1 {
		t.Errorf("verified %+v", v)
	}
	out, _, exit = run(t, s.ssh(d.User+"+web1", "kill -TERM $$"))
	if exit != 255 && exit != 143 {
		t.Errorf("killed by a signal: exit %d, %q", exit, out)
	}
}

// A command whose stdin is at its end still delivers all of its output, and the exit status after it.
func TestStdinEndIsOnlyThat(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	out, _, exit := run(t, s.ssh(d.User+"+web1", "cat; head -c 20000000 /dev/zero; exit 5")) // stdin is the null device
	if len(out) != 20_000_000 || exit != 5 {
		t.Errorf("%d bytes, exit %d", len(out), exit)
	}
	if e := s.ended(1); e.Out.Bytes != 20_000_000 || !e.Complete {
		t.Errorf("ended %+v", e)
	}
}

func TestTerminal(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	c := s.ssh(d.User+"+web1", "-tt", "--", "stty size; tty >/dev/null && echo tty; exit 4")
	c.Stdin = strings.NewReader("")
	out, _, exit := run(t, c)
	if !strings.Contains(out, "tty") || exit != 4 {
		t.Errorf("stdout %q, exit %d", out, exit)
	}
}

func sum(r io.Reader) string {
	h := sha256.New()
	_, _ = io.Copy(h, r)
	return fmt.Sprintf("%x", h.Sum(nil))
}

// bulkSize is what bulk tests move one way.
func bulkSize() int64 {
	if os.Getenv("HOLDFAST_TEST_FULL") == "1" {
		return 1 << 30
	}
	return 64 << 20
}

func randomFile(t *testing.T, size int64) (path, hash string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "data")
	f, err := os.Create(path)
	must(t, err)
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, h), io.LimitReader(rand.Reader, size))
	must(t, err)
	must(t, f.Close())
	return path, fmt.Sprintf("%x", h.Sum(nil))
}

// Both legs rekey many times, by the client's wish and by ours, while bytes flow both ways.
func TestBulkBothWaysAcrossRekeys(t *testing.T) {
	s := newSite(t, onDisk(t), func(c *Config) { c.SSH.RekeyBytes = 3 << 20 })
	d := s.sshd("RekeyLimit 2M")
	path, hash := randomFile(t, bulkSize())
	in, err := os.Open(path)
	must(t, err)
	defer in.Close()
	c := s.ssh(d.User+"+web1", "-o", "RekeyLimit=1M", "--", "cat")
	c.Stdin = in
	h := sha256.New()
	var errs bytes.Buffer
	c.Stdout, c.Stderr = h, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != hash {
		t.Errorf("what came back is not what was sent")
	}
	if e := s.ended(1); e.In.Bytes != uint64(bulkSize()) || e.Out.Bytes != uint64(bulkSize()) || !e.Complete || e.Reason != events.EndedByClient {
		t.Errorf("ended %+v", e)
	}
}

func TestScpAndSftp(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	path, hash := randomFile(t, 5<<20)
	there, back := filepath.Join(t.TempDir(), "there"), filepath.Join(t.TempDir(), "back")
	for _, tool := range [][]string{{"scp"}, {"scp", "-O"}} {
		for _, files := range [][2]string{{path, s.remote(d.User, there)}, {s.remote(d.User, there), back}} {
			args := append(append([]string{}, tool[1:]...), append(s.options("ada"), "-P", s.port(), files[0], files[1])...)
			if out, errs, exit := run(t, s.command(tool[0], args...)); exit != 0 {
				t.Fatalf("%v: %s%s", tool, out, errs)
			}
		}
		f, err := os.Open(back)
		must(t, err)
		if sum(f) != hash {
			t.Errorf("%v: another file came back", tool)
		}
		f.Close()
	}
	batch := filepath.Join(t.TempDir(), "batch")
	must(t, os.WriteFile(batch, fmt.Appendf(nil, "put %s %s2\nget %s2 %s2\n", path, there, there, back), 0o600))
	c := s.command("sftp", append(s.options("ada"), "-P", s.port(), "-b", batch, d.User+"+web1@127.0.0.1")...)
	if out, errs, exit := run(t, c); exit != 0 {
		t.Fatalf("sftp: %s%s", out, errs)
	}
	f, err := os.Open(back + "2")
	must(t, err)
	defer f.Close()
	if sum(f) != hash {
		t.Error("sftp: another file came back")
	}
}

// Several channels of one connection at once, as Ansible and others use them.
func TestControlMaster(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	socket := filepath.Join(s.dir, "m")
	master := s.ssh(d.User+"+web1", "-M", "-N", "-S", socket, "--")
	must(t, master.Start())
	waitFor(t, func() bool { _, err := os.Stat(socket); return err == nil })
	type result struct {
		out  string
		exit int
	}
	results := make(chan result, 8)
	for i := range 8 {
		go func() {
			out, _, exit := run(t, s.ssh(d.User+"+web1", "-S", socket, "--", fmt.Sprintf("sleep 0.1; echo %d; exit %d", i, i)))
			results <- result{strings.TrimSpace(out), exit}
		}()
	}
	for range 8 {
		if r := <-results; r.out != fmt.Sprint(r.exit) {
			t.Errorf("channel printed %q, exit %d", r.out, r.exit)
		}
	}
	if n := len(eventsOf[events.SessionStarted](t, s.ctl)); n != 1 {
		t.Errorf("%d sessions were started", n)
	}
	_, _, _ = run(t, s.ssh(d.User+"+web1", "-S", socket, "-O", "exit", "--"))
	_ = master.Wait()
	if e := s.ended(1); !e.Complete {
		t.Errorf("ended %+v", e)
	}
}

// A forwarding is refused between keepalives, and the session goes on.
func TestRefusedForwardings(t *testing.T) {
	s := newSite(t)
	d := s.sshd("ClientAliveInterval 1")
	c := s.ssh(d.User+"+web1", "-R", "0:127.0.0.1:1", "-A", "-X", "-o", "ServerAliveInterval=1", "--", "sleep 2.5; echo alive")
	out, errs, exit := run(t, c)
	if out != "alive\n" || exit != 0 {
		t.Errorf("stdout %q, stderr %q, exit %d", out, errs, exit)
	}
	if !strings.Contains(errs, "remote port forwarding failed") {
		t.Errorf("the client was not told of the refusal: %q", errs)
	}
	s.ended(1)
	var what []string
	for _, r := range eventsOf[events.SessionRefused](t, s.ctl) {
		what = append(what, r.What+" "+r.Detail)
	}
	if !strings.Contains(strings.Join(what, ","), "request tcpip-forward localhost:0") {
		t.Errorf("refused %q", what)
	}
}

// With ExitOnForwardFailure and -W the client depends on the refusal's answer.
func TestRefusedDirectForward(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	_, errs, exit := run(t, s.ssh(d.User+"+web1", "-W", "127.0.0.1:1", "--"))
	if exit == 0 || !strings.Contains(errs, "not allowed by the gateway") {
		t.Errorf("exit %d: %q", exit, errs)
	}
	s.ended(1)
	if r := eventsOf[events.SessionRefused](t, s.ctl); len(r) != 1 || r[0].What != "channel direct-tcpip" || r[0].Detail != "127.0.0.1:1" {
		t.Errorf("refused %+v", r)
	}
}

func TestConsole(t *testing.T) {
	s := newSite(t)
	c := s.ssh("anything", "session ls --json")
	c.Stdin = strings.NewReader("typed")
	out, errs, exit := run(t, c)
	if out != `ada (admin) runs "session ls --json" with "typed"` || errs != "terminal false" || exit != 7 {
		t.Errorf("stdout %q, stderr %q, exit %d", out, errs, exit)
	}
	c = s.ssh("anything", "-tt", "--", "x")
	c.Stdin = strings.NewReader("")
	if _, errs, _ := run(t, c); !strings.Contains(errs, "terminal true") {
		t.Errorf("with a terminal: %q", errs)
	}
	if _, errs, exit := run(t, s.ssh("anything", "-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1", "--")); exit == 0 {
		t.Errorf("the console granted a forwarding: %q", errs)
	}
}

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/cli/lab"
	"github.com/holdfast-pam/holdfast/cli/localsshd"
)

// pairOfSites is two sites that are a pair, and the account at which sessions
// through a are.
func pairOfSites(t *testing.T, detect time.Duration) (a, b *meshSite, account string) {
	t.Helper()
	requireOpenSSH(t)
	t.Setenv("HOLDFAST_MESH_PAIR_DETECT", detect.String())
	binary, err := exec.LookPath("holdfast")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := lab.NewKey(filepath.Join(t.TempDir(), "admin"))
	if err != nil {
		t.Fatal(err)
	}
	sshd, err := localsshd.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sshd.Stop() })
	a, b = newMeshSite(t, binary, "a", admin), newMeshSite(t, binary, "b", admin)
	a.args, b.args = []string{"--mesh-pair", "b"}, []string{"--mesh-pair", "a"}
	a.up()
	b.up()
	b.do("mesh join "+a.do("mesh invite b --addr "+a.mesh, ""), "")
	account = sshd.User + "+web1"
	a.do("target add web1 --addr "+sshd.Addr+" --host-key '"+sshd.HostKey+"'", "")
	a.do("account add "+account+" --private-key-stdin", string(sshd.PrivateKey))
	a.do("grant add admin "+account, "")
	b.until("grant ls", "web1")
	a.until("mesh status --json", `"pair":"in step"`)
	b.until("mesh status --json", `"pair":"in step"`)
	return a, b, account
}

// typist is somebody in a session with cat.
type typist struct {
	t      *testing.T
	stdin  io.Writer
	stdout *bufio.Reader
	lines  int
}

func (s *meshSite) typist(account string) *typist {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "ssh", "-F", s.configured, "-l", account, "gw", "cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &typist{t: s.t, stdin: stdin, stdout: bufio.NewReader(stdout)}
}

// echo types a line and tells how long it took to come back.
func (p *typist) echo() time.Duration {
	p.t.Helper()
	p.lines++
	line := fmt.Sprintf("line %d\n", p.lines)
	began := time.Now()
	_, err := io.WriteString(p.stdin, line)
	got := ""
	if err == nil {
		got, err = p.stdout.ReadString('\n')
	}
	if err != nil || got != line {
		p.t.Fatalf("typed %q, read %q: %v", line, got, err)
	}
	return time.Since(began)
}

// degradations are the intervals in which a site went on alone, as its log has
// them: each begins, and all but the last one end.
func (s *meshSite) degradations() (begun, ended int) {
	s.t.Helper()
	for line := range strings.Lines(s.do("audit tail -n 1000 --json --type sync", "")) {
		var event struct {
			Item struct {
				Type    string
				Payload struct{ From, To []json.RawMessage }
			}
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			s.t.Fatal(err)
		}
		switch e := event.Item; {
		case e.Type == "sync.degraded" && len(e.Payload.From) > 0:
			begun++
		case e.Type == "sync.restored" && len(e.Payload.From) > 0 && len(e.Payload.To) > 0:
			ended++
		default:
			s.t.Errorf("an event of a pair: %s", line)
		}
	}
	return begun, ended
}

// A pair whose other half is silent: what is typed waits for it as long as the
// configuration says, then goes on, with the interval in the log. The same when
// the other half is killed. It recovers by itself.
func TestPairDegradesAndRecovers(t *testing.T) {
	const detect = 3 * time.Second
	a, b, account := pairOfSites(t, detect)
	p := a.typist(account)
	p.echo()
	begun, _ := a.degradations()
	if took := p.echo(); took > detect {
		t.Errorf("a line took %s in a pair that is well", took)
	}
	for i, silence := range []struct{ begin, end func() }{
		{func() { signalSite(t, b, syscall.SIGSTOP) }, func() { signalSite(t, b, syscall.SIGCONT) }},
		{b.crash, b.up},
	} {
		silence.begin()
		if took := p.echo(); took < detect/2 || took > 5*detect {
			t.Errorf("silence %d: a line took %s, the other half is waited for %s", i, took, detect)
		}
		if took := p.echo(); took > detect {
			t.Errorf("silence %d: the pair is degraded, and a line took %s", i, took)
		}
		a.until("mesh status --json", `"pair":"degraded"`)
		if now, ended := a.degradations(); now != begun+i+1 || ended >= now {
			t.Errorf("silence %d: %d intervals begun before, now %d, and %d ended", i, begun, now, ended)
		}
		p.echo()
		silence.end()
		a.until("mesh status --json", `"pair":"in step"`)
		eventually(t, 10*time.Second, "the interval ends in the log", func() bool { now, ended := a.degradations(); return now == ended })
		p.echo()
	}
}

// What a client has seen of a session is at the other half when a machine is
// lost with its disk, at whatever moment.
func TestPairLosesNothingThatWasSeen(t *testing.T) {
	a, b, account := pairOfSites(t, 5*time.Second)
	out := &firstWrite{first: make(chan struct{})}
	cmd := exec.Command("ssh", "-F", a.configured, "-l", account, "gw", "seq 100000000")
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-out.first
	time.Sleep(300 * time.Millisecond)
	signalSite(t, b, syscall.SIGSTOP) // far more is written now than the way to it holds
	time.Sleep(1500 * time.Millisecond)
	a.crash()
	_ = cmd.Wait() // its gateway is gone
	signalSite(t, b, syscall.SIGCONT)
	if err := os.RemoveAll(a.data()); err != nil {
		t.Fatal(err)
	}
	seen, raw := out.b.String(), b.do("session export last --format raw", "")
	if len(seen) < 1000 || !strings.HasPrefix(raw+"\n", seen) { // the console ends what it prints with a newline
		at := 0
		for at < min(len(raw), len(seen)) && raw[at] == seen[at] {
			at++
		}
		t.Errorf("the client saw %d bytes, the other half has %d, and they are the same for %d", len(seen), len(raw), at)
	}
}

func signalSite(t *testing.T, s *meshSite, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(s.proc.Pid(), sig); err != nil {
		t.Fatal(err)
	}
}

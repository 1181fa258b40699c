package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stuckMemory is how much a session may add to the site's resident set while
// one side sends and the other takes nothing.
const stuckMemory = 16 << 20

// A client that stops reading holds up nobody else, costs a bounded amount of
// memory, and gets every byte when it goes on.
func TestClientStopsReading(t *testing.T) {
	in := install(t)
	before := in.resources()
	const size = 96 << 20
	noise := in.noise(size)
	h := sha256.New()
	out := &firstBytes{w: h, first: make(chan struct{})}
	cmd := in.ssh("target", "cat "+noise)
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-out.first
	signalTo(t, cmd.Process.Pid, syscall.SIGSTOP)
	in.comesToRest("the stopped client's session")
	stuck := in.resources()
	if stuck.memory > before.memory+stuckMemory {
		t.Errorf("a stuck session takes %d MiB", (stuck.memory-before.memory)>>20)
	}
	in.unaffected()
	signalTo(t, cmd.Process.Pid, syscall.SIGCONT)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	want := sha256.New()
	if _, err := io.Copy(want, stream(size)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(h.Sum(nil), want.Sum(nil)) {
		t.Error("the client did not get what the target sent")
	}
	in.settles(before)
}

// A target that stops reading is the same the other way. An administrator ends
// its session at once.
func TestTargetStopsReading(t *testing.T) {
	in := install(t)
	before := in.resources()
	out := &firstWrite{first: make(chan struct{})}
	var stderr bytes.Buffer
	cmd := in.ssh("target", "echo $PPID; exec cat >/dev/null")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stream(1<<40), out, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-out.first
	sshd, err := strconv.Atoi(strings.TrimSpace(out.b.String()))
	if err != nil {
		t.Fatal(err)
	}
	signalTo(t, sshd, syscall.SIGSTOP)
	t.Cleanup(func() { _ = syscall.Kill(sshd, syscall.SIGKILL) }) // it has usually gone
	in.comesToRest("the stopped target's session")
	var list struct{ Items []struct{ ID string } }
	if err := json.Unmarshal([]byte(in.console("", "session ls --json")), &list); err != nil || len(list.Items) != 1 {
		t.Fatalf("%d sessions, %v", len(list.Items), err)
	}
	if stuck := in.resources(); stuck.memory > before.memory+stuckMemory {
		t.Errorf("a stuck session takes %d MiB", (stuck.memory-before.memory)>>20)
	}
	in.unaffected()
	in.console("", "session kill "+list.Items[0].ID+" --reason 'the target hangs'")
	if err := cmd.Wait(); exitCode(err) != 255 || !strings.Contains(stderr.String(), "the target hangs") {
		t.Errorf("the client ended with %v and was told %q", err, stderr.String())
	}
	in.endedAs("killed", "the target hangs")
	signalTo(t, sshd, syscall.SIGCONT)
	in.settles(before)
}

// firstBytes passes on what is written to it and tells of the first.
type firstBytes struct {
	w     io.Writer
	first chan struct{}
	done  bool
}

func (b *firstBytes) Write(p []byte) (int, error) {
	if !b.done {
		b.done = true
		close(b.first)
	}
	return b.w.Write(p)
}

func signalTo(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

// comesToRest waits until the site reads and writes no more than its own
// upkeep: back-pressure has reached whoever sends.
func (in *installation) comesToRest(what string) {
	in.t.Helper()
	last := in.moved()
	eventually(in.t, 30*time.Second, what+" comes to rest", func() bool {
		time.Sleep(200 * time.Millisecond)
		now := in.moved()
		quiet := now-last < 256<<10
		last = now
		return quiet
	})
}

// moved is how many bytes the site's process has read and written.
func (in *installation) moved() (n int64) {
	in.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", in.site.Pid()))
	if err != nil {
		in.t.Fatal(err)
	}
	var read, written int64
	if _, err := fmt.Sscanf(string(b), "rchar: %d\nwchar: %d\n", &read, &written); err != nil {
		in.t.Fatal(err)
	}
	return read + written
}

// unaffected checks that somebody else's session works as ever.
func (in *installation) unaffected() {
	in.t.Helper()
	start := time.Now()
	if out, err := in.ssh("target", "echo fine").CombinedOutput(); err != nil || !strings.Contains(string(out), "fine") {
		in.t.Errorf("a session beside it: %v, %s", err, out)
	}
	if took := time.Since(start); took > 10*time.Second {
		in.t.Errorf("a session beside it took %v", took)
	}
}

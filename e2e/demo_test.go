package e2e

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// demoCommand is the demo with a place of its own for what it keeps.
func demoCommand(t *testing.T, tmp string, args ...string) *exec.Cmd {
	t.Helper()
	binary, err := exec.LookPath("holdfast")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"demo"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	return cmd
}

func leftIn(t *testing.T, dir string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// The demo goes through all of its steps, the cut between two sites among them,
// and leaves nothing behind.
func TestDemoScript(t *testing.T) {
	requireOpenSSH(t)
	for args, steps := range map[string][]string{
		"--script": {"hello through south", "unreachable", "alone at north", "alone at south", "still here after the cut",
			"takes none of the secrets", "by the secret that is true now", "192.0.2.2",
			"name in conflict", "damaged at position", "done:"},
		"--script --sites 1": {"hello from", "damaged at position", "done:"},
	} {
		tmp := t.TempDir()
		out, err := demoCommand(t, tmp, strings.Fields(args)...).CombinedOutput()
		if err != nil {
			t.Fatalf("demo %s: %v\n%s", args, err, out)
		}
		for _, want := range steps {
			if !bytes.Contains(out, []byte(want)) {
				t.Errorf("demo %s never showed %q", args, want)
			}
		}
		if left := leftIn(t, tmp); len(left) > 0 {
			t.Errorf("demo %s left %v", args, left)
		}
	}
}

// The words of a running demo cut its sites off from each other and join them
// again. A directory of somebody else's is never taken for a demo.
func TestDemoPartition(t *testing.T) {
	requireOpenSSH(t)
	tmp := t.TempDir()
	word := func(args ...string) (string, error) {
		out, err := demoCommand(t, tmp, args...).CombinedOutput()
		return string(out), err
	}
	if out, err := word("partition"); err == nil || !strings.Contains(out, "holdfast demo --sites 2") {
		t.Errorf("without a demo: %v, %s", err, out)
	}
	if out, err := word("--sites", "3"); exitCode(err) != 2 {
		t.Errorf("three sites: %v, %s", err, out)
	}
	running := demoCommand(t, tmp, "--sites", "2")
	running.Cancel = func() error { return running.Process.Signal(syscall.SIGTERM) }
	stdout, err := running.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.Contains(lines.Text(), "Ctrl-C ends it") {
	}
	dirs := leftIn(t, tmp)
	if len(dirs) != 1 {
		t.Fatalf("the demo is in %v", dirs)
	}
	if os.Getuid() == 0 {
		foreign := filepath.Join(tmp, "holdfast-demo-1")
		if err := os.CopyFS(foreign, os.DirFS(filepath.Join(dirs[0], "sshd"))); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(foreign, "control"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(foreign, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(foreign)
	}
	states := func(host, state string) {
		t.Helper()
		eventually(t, time.Minute, host+" sees the other site "+state, func() bool {
			b, err := exec.Command("ssh", "-F", filepath.Join(dirs[0], "ssh_config"), host, "mesh status --json").Output()
			return err == nil && strings.Contains(string(b), `"state":"`+state+`"`)
		})
	}
	for _, step := range []struct{ word, state string }{{"partition", "unreachable"}, {"heal", "linked"}} {
		if out, err := word(step.word); err != nil {
			t.Fatalf("demo %s: %v, %s", step.word, err, out)
		}
		states("gw-ada", step.state)
		states("south-ada", step.state)
	}
	if err := running.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := running.Wait(); err != nil {
		t.Fatalf("the demo ended with %v", err)
	}
	if _, err := os.Stat(dirs[0]); !os.IsNotExist(err) {
		t.Errorf("the demo left %s", dirs[0])
	}
}

// A demo whose site somebody stops says which one, and how it ended.
func TestDemoWithoutItsSite(t *testing.T) {
	requireOpenSSH(t)
	tmp := t.TempDir()
	running := demoCommand(t, tmp)
	stdout, err := running.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	running.Stderr = &stderr
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.Contains(lines.Text(), "Ctrl-C ends it") {
	}
	sites, err := exec.Command("pgrep", "-P", strconv.Itoa(running.Process.Pid), "-f", " up --data ").Output()
	if err != nil {
		t.Fatal(err)
	}
	site, err := strconv.Atoi(strings.Fields(string(sites))[0])
	if err == nil {
		err = syscall.Kill(site, syscall.SIGTERM)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := running.Wait(); exitCode(err) == 0 {
		t.Error("the demo ended as if nothing had happened")
	}
	if out := stderr.String(); !strings.Contains(out, "ended by itself, exit status 0") {
		t.Errorf("it said %q", out)
	}
}

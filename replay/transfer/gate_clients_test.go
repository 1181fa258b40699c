package transfer

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestGateHoldsClients lets each client try both directions through every gate: what is allowed works and is
// whole, what is not has no effect, ends at once and is told.
func TestGateHoldsClients(t *testing.T) {
	for _, gate := range []Gate{{}, {Upload: true}, {Download: true}} {
		for _, c := range sampled() {
			t.Run(fmt.Sprintf("%s/up=%v,down=%v", c.name, gate.Upload, gate.Download), func(t *testing.T) {
				t.Parallel()
				m := newMiddle(t, gate)
				dir := t.TempDir()
				local, content := file(t, dir, "local", 200_000)
				remote, back := filepath.Join(dir, "remote"), filepath.Join(dir, "back")

				out, exit := c.put(m, local, remote)
				checkGate(t, "put", gate.Upload, out, exit, m.refused(), remote, content)
				before := len(m.refused())
				there, content := file(t, dir, "there", 200_000)
				out, exit = c.get(m, back, there)
				checkGate(t, "get", gate.Download, out, exit, m.refused()[before:], back, content)
				if ops := m.operations(); slices.ContainsFunc(ops, func(o Operation) bool { return o.Kind == KindUndecoded }) {
					t.Errorf("not decoded: %+v", ops)
				}
			})
		}
	}
}

func checkGate(t *testing.T, what string, allowed bool, out string, exit int, refused []Refusal, path string, content []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if allowed {
		if exit != 0 || len(refused) > 0 || err != nil || string(got) != string(content) {
			t.Errorf("%s is allowed: exit %d, refused %+v, %v: %s", what, exit, refused, err, out)
		}
		return
	}
	if exit == 0 || len(refused) == 0 || len(got) > 0 {
		t.Errorf("%s is not allowed: exit %d, refused %+v, %d bytes: %s", what, exit, refused, len(got), out)
	}
	t.Logf("%s: exit %d, %q, refused %+v", what, exit, strings.TrimSpace(out), refused)
}

// TestGateRefusesChanges tries what changes something without moving content, through a gate for downloads: none has an
// effect, and what was asked for before on the same channel is answered.
func TestGateRefusesChanges(t *testing.T) {
	for _, command := range []string{"rm f", "rename f g", "mkdir d", "rmdir e", "chmod 600 f", "ln -s f l", "ln f l", "put f g"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			m := newMiddle(t, Gate{Download: true})
			dir := t.TempDir()
			local, content := file(t, dir, "f", 10)
			if err := os.Mkdir(filepath.Join(dir, "e"), 0o755); err != nil {
				t.Fatal(err)
			}
			script := fmt.Sprintf("lcd %s\ncd %s\nget f %s\n%s\n", dir, dir, filepath.Join(dir, "back"), command)
			out, exit := m.run(script, "sftp", m.opts("-b", "-", "127.0.0.1")...)
			if exit == 0 || len(m.refused()) != 1 || !strings.Contains(out, "ermission denied") {
				t.Errorf("exit %d, refused %+v: %s", exit, m.refused(), out)
			}
			back, err := os.ReadFile(filepath.Join(dir, "back"))
			if err != nil || string(back) != string(content) {
				t.Errorf("what came before is not whole: %v", err)
			}
			entries, _ := os.ReadDir(dir)
			info, err := os.Stat(local)
			if len(entries) != 3 || err != nil || info.Mode() != 0o640 {
				t.Errorf("it had an effect: %v %v", entries, info.Mode())
			}
		})
	}
}

// TestGateLeavesOtherChannels ends one channel of a shared connection; another goes on, and new ones open.
func TestGateLeavesOtherChannels(t *testing.T) {
	m := newMiddle(t, Gate{Download: true})
	dir := t.TempDir()
	local, _ := file(t, dir, "f", 10)
	socket := filepath.Join(dir, "c")
	shared := m.opts("-o", "ControlPath="+socket)
	master := exec.Command("ssh", append(shared, "-M", "-N", "127.0.0.1")...)
	if err := master.Start(); err != nil {
		t.Skip(err)
	}
	defer func() {
		master.Process.Kill()
		master.Wait()
	}()
	for i := 0; ; i++ {
		if _, err := os.Stat(socket); err == nil {
			break
		} else if i == 100 {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if out, exit := m.run("", "scp", append(shared, local, "127.0.0.1:"+filepath.Join(dir, "g"))...); exit == 0 || len(m.refused()) != 1 {
		t.Errorf("exit %d, refused %+v: %s", exit, m.refused(), out)
	}
	out, exit := m.run("", "ssh", append(shared, "127.0.0.1", "echo", "still here")...)
	if exit != 0 || out != "still here\n" {
		t.Errorf("exit %d: %s", exit, out)
	}
}

// TestGateRefusesRsync: its command line has the direction.
func TestGateRefusesRsync(t *testing.T) {
	m := newMiddle(t, Gate{Upload: true})
	dir := t.TempDir()
	local, content := file(t, dir, "f", 100_000)
	shell := "ssh " + strings.Join(m.opts(), " ")
	remote := filepath.Join(dir, "g")
	out, exit := m.run("", "rsync", "-e", shell, local, "127.0.0.1:"+remote)
	checkGate(t, "put", true, out, exit, m.refused(), remote, content)
	out, exit = m.run("", "rsync", "-e", shell, "127.0.0.1:"+remote, filepath.Join(dir, "h"))
	checkGate(t, "get", false, out, exit, m.refused(), filepath.Join(dir, "h"), nil)
	ops := m.operations()
	if len(ops) != 1 || ops[0].Kind != KindRsync || ops[0].Direction != Upload || ops[0].Bytes < uint64(len(content)) || ops[0].Target != remote {
		t.Errorf("%+v", ops)
	}
}

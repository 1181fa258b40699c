package e2e

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// eventually fails the test unless ok becomes true within d.
func eventually(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %v: %s", d, what)
}

// smallDisk mounts a file system of so many MiB where the site's data goes.
func smallDisk(t *testing.T, mib string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+mib+"m", "holdfast-test", dir).CombinedOutput()
	if err != nil {
		t.Skipf("needs to mount a small file system, as root: %v: %s", err, out)
	}
	t.Cleanup(func() {
		eventually(t, 10*time.Second, "unmount "+dir, func() bool { return exec.Command("umount", dir).Run() == nil })
	})
	return dir
}

// A full disk pauses sessions and then ends them with a clear message; the
// console stays, what must still be written is, and everything goes on by
// itself when there is room again.
func TestDiskFull(t *testing.T) {
	disk := smallDisk(t, "96")
	t.Setenv("HOLDFAST_LOG_SEGMENT_SIZE", "8388608")
	t.Setenv("HOLDFAST_LOG_HEADROOM", "1048576")
	t.Setenv("HOLDFAST_SSH_STORAGE_PAUSE", "2s")
	in := installAt(t, disk)
	before := in.resources()
	var stdout firstWrite
	var stderr bytes.Buffer
	stdout.first = make(chan struct{})
	cmd := in.ssh("target", "while head -c 3000 /dev/urandom; do :; done")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-stdout.first
	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	if err := cmd.Wait(); exitCode(err) != 255 || !strings.Contains(stderr.String(), "can't be recorded") {
		t.Errorf("the session ended with %v and said %q", err, stderr.String())
	}
	if shown, err := in.tryConsole("", "session ls"); exitCode(err) != 0 && exitCode(err) != 8 || !strings.Contains(shown, "web1") {
		t.Errorf("the console on a full disk, which may show what is behind: %v\n%s", err, shown)
	}
	if out, err := in.ssh("target", "true").CombinedOutput(); err == nil || !strings.Contains(string(out), "no space") {
		t.Errorf("a session on a full disk: %v, %s", err, out)
	}
	in.console("", "user disable nobody", 3) // decisions go on: this one is only refused
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "sessions start again", func() bool { return in.ssh("target", "true").Run() == nil })
	in.console("", "group add after") // the views go on as soon as somebody asks for them
	in.console("", "group show after")
	eventually(t, 20*time.Second, "the full log and its recovery are events", func() bool {
		audit := in.console("", "audit tail -n 50")
		return strings.Contains(audit, "site.storage_full") && strings.Contains(audit, "site.storage_recovered")
	})
	shown := in.console("", "session ls --json")
	if !strings.Contains(shown, "recording failed") {
		t.Errorf("no session ended for want of space: %s", shown)
	}
	in.settles(before)
	in.console("", "log verify")
}

// fill takes all space that is left, again and again while the site takes what
// it has prepared.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 20 {
		if _, err := io.Copy(f, stream(1<<30)); err == nil || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("fill the disk: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Either side may vanish: the session ends, says so, and nothing stays open.
func TestSidesVanish(t *testing.T) {
	in := install(t)
	before := in.resources()
	for name, vanish := range map[string]func(client *exec.Cmd){
		"client closed": func(client *exec.Cmd) { _ = client.Process.Kill() },
		"target closed": func(*exec.Cmd) {
			// the sshd that serves the session, not the one that listens
			if err := exec.Command("pkill", "-KILL", "-P", pid(in.target.Pid())).Run(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		out := &firstWrite{first: make(chan struct{})}
		cmd := in.ssh("target", "echo up; sleep 100")
		cmd.Stdout = out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-out.first
		vanish(cmd)
		_ = cmd.Wait() // it fails, one way or another
		eventually(t, 5*time.Second, "the session ends with "+name, func() bool {
			return strings.Contains(in.console("", "session show last --json"), `"reason":"`+name+`"`)
		})
	}
	in.settles(before)
}

// A damaged log is not served: the start names the file and the position, and
// changes nothing.
func TestDamagedLogIsRefused(t *testing.T) {
	in := install(t)
	if out, err := in.ssh("target", "seq 20000").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := in.site.Stop(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(in.data, "log/ctl/1/00000000000000000001.seg")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(content)
	damaged[len(bytes.TrimRight(content, "\x00"))/2] ^= 0x10
	if err := os.WriteFile(file, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	binary, err := exec.LookPath("holdfast")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), binary, "up", "--data", in.data, "--ssh-listen", "127.0.0.1:0").CombinedOutput()
	if exitCode(err) != 7 || !strings.Contains(string(out), "damaged at position") || !strings.Contains(string(out), ".seg") {
		t.Errorf("start on a damaged log: exit %d, %s", exitCode(err), out)
	}
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, damaged) {
		t.Errorf("the refused start changed the file (%v)", err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	in.restart()
	in.console("", "log verify")
}

// A damaged recording does not keep a site from starting again after a crash
// in the middle of it: the session ends as not complete, and verification
// names the place.
func TestDamagedRecordingOfALostSession(t *testing.T) {
	t.Setenv("HOLDFAST_LOG_SEGMENT_SIZE", "8388608")
	t.Setenv("HOLDFAST_LOG_HEADROOM", "1048576")
	in := install(t)
	const size = 12 << 20 // more than a segment
	out := &counted{}
	cmd := in.ssh("target", "head -c 12582912 /dev/urandom; sleep 100")
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "all output came", func() bool { return out.n.Load() == size })
	if err := in.site.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the gateway is gone
	file := filepath.Join(in.data, "log/rec/1/00000000000000000001.seg")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	in.restart()
	if shown := in.console("", "session show last --json"); !strings.Contains(shown, `"reason":"site lost"`) || !strings.Contains(shown, `"complete":false`) {
		t.Errorf("the session ended as %s", shown)
	}
	if out, err := in.tryConsole("", "log verify"); exitCode(err) != 7 || !strings.Contains(out, "damaged at position") {
		t.Errorf("log verify: %v, %s", err, out)
	}
}

// A recording that is damaged while the site runs: who reads it is told where,
// and once there is an event; sessions go on, and so does everything else.
func TestDamageWhileRunning(t *testing.T) {
	t.Setenv("HOLDFAST_LOG_SEGMENT_SIZE", "8388608")
	t.Setenv("HOLDFAST_LOG_HEADROOM", "1048576")
	in := install(t)
	before := in.resources()
	if out, err := in.ssh("target", "head -c 12582912 /dev/urandom").Output(); err != nil || len(out) != 12<<20 {
		t.Fatalf("%d bytes, %v", len(out), err)
	}
	damaged := in.sessions()[0].ID
	kept := in.cuttable("target", "echo up; exec sleep 100")
	flip(t, filepath.Join(in.data, "log/rec/1/00000000000000000001.seg"), 3<<20)
	for range 2 {
		raw, err := in.tryConsole("", "session export "+damaged+" --format raw")
		if exitCode(err) != 7 || !strings.Contains(err.Error(), "damaged at position") {
			t.Errorf("export of a damaged recording: %v", err)
		}
		if len(raw) == 0 || len(raw) >= 12<<20 {
			t.Errorf("%d bytes came before the damage", len(raw))
		}
		if out, err := in.tryConsole("", "log verify"); exitCode(err) != 7 || !strings.Contains(out, "damaged at position") {
			t.Errorf("log verify: %v, %s", err, out)
		}
	}
	in.happened("log.damage_found", "00000000000000000001.seg")
	if found := in.console("", "audit tail -n 20 --json --type log.damage_found"); strings.Count(found, `"log.damage_found"`) != 1 {
		t.Errorf("one place that is damaged makes these events: %s", found)
	}
	in.unaffected()
	if s := in.sessionOf(kept.source); s.Ended != nil {
		t.Errorf("a session ended with the damage: %+v", s)
	}
	_ = kept.cmd.Process.Kill()
	_ = kept.cmd.Wait()
	in.settles(before)
	if err := in.site.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	in.restart() // what is damaged is in the middle of the log
	in.unaffected()
}

// flip turns over one bit of a file in place.
func flip(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// counted counts what is written to it.
type counted struct{ n atomic.Int64 }

func (c *counted) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// Once the administrator exists, the options that made them do nothing: the
// key file may be gone.
func TestAdminOptionsDoNothingLater(t *testing.T) {
	in := install(t)
	if err := errors.Join(in.site.Stop(), os.Remove(in.admin.File+".pub")); err != nil {
		t.Fatal(err)
	}
	in.restart()
	in.console("", "whoami")
}

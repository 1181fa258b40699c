package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a file system on a block device of memory that can be made to fail.
type disk struct {
	t      *testing.T
	memory *os.File
	device string
	dir    string
}

const diskSize = 160 << 20

// newDisk mounts one, as root. It becomes read-only when its own structures
// turn out to be wrong, as most machines have it.
func newDisk(t *testing.T) *disk {
	t.Helper()
	requirePrograms(t, "/usr/sbin/mkfs.ext4", "/usr/sbin/losetup")
	if os.Getuid() != 0 {
		t.Skip("needs to mount a file system, as root")
	}
	fd, err := unix.MemfdCreate("disk", unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
	if err != nil {
		t.Skipf("needs a disk in memory: %v", err)
	}
	d := &disk{t: t, memory: os.NewFile(uintptr(fd), "disk"), dir: t.TempDir()}
	t.Cleanup(func() { _ = d.memory.Close() })
	if err := d.memory.Truncate(diskSize); err != nil {
		t.Fatal(err)
	}
	d.attach(d.memory)
	d.run("mkfs.ext4", "-q", d.device)
	d.mount()
	return d
}

func (d *disk) run(program string, args ...string) string {
	d.t.Helper()
	cmd := exec.Command("/usr/bin/env", append([]string{"PATH=/usr/sbin:/sbin:/usr/bin:/bin", program}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// attach makes a block device of memory.
func (d *disk) attach(memory *os.File) {
	d.t.Helper()
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		d.t.Skipf("needs loop devices: %v", err)
	}
	d.device = d.run("losetup", "-f", "--show", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), memory.Fd()))
	device := d.device
	d.t.Cleanup(func() { _ = exec.Command("/usr/sbin/losetup", "-d", device).Run() }) // detached with the mount already
}

func (d *disk) mount() {
	d.t.Helper()
	d.run("mount", "-o", "errors=remount-ro", d.device, d.dir)
	d.t.Cleanup(func() { _ = exec.Command("umount", d.dir).Run() }) // where a replacement was not made
}

func (d *disk) unmount() {
	d.t.Helper()
	eventually(d.t, 10*time.Second, "unmount "+d.dir, func() bool { return exec.Command("umount", d.dir).Run() == nil })
}

// fail makes every write to the device fail from now on: what is written goes
// into the page cache, and fsync tells.
func (d *disk) fail() {
	d.t.Helper()
	if _, err := unix.FcntlInt(d.memory.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err != nil {
		d.t.Fatalf("make the disk fail: %v", err)
	}
}

// lock makes the file system find itself damaged, and so read-only.
func (d *disk) lock() {
	d.t.Helper()
	err := os.WriteFile("/sys/fs/ext4/"+filepath.Base(d.device)+"/trigger_fs_error", []byte("the disk is to be read-only"), 0o200)
	if errors.Is(err, os.ErrNotExist) {
		d.t.Skipf("needs a kernel that lets ext4 report an error: %v", err)
	} else if err != nil {
		d.t.Fatal(err)
	}
}

// replace unmounts the disk and mounts in its place one with what had reached
// it, and nothing of what only the page cache held.
func (d *disk) replace() {
	d.t.Helper()
	d.unmount()
	fd, err := unix.MemfdCreate("replacement", unix.MFD_CLOEXEC)
	if err != nil {
		d.t.Fatal(err)
	}
	replacement := os.NewFile(uintptr(fd), "replacement")
	d.t.Cleanup(func() { _ = replacement.Close() })
	if _, err := io.Copy(replacement, io.NewSectionReader(d.memory, 0, diskSize)); err != nil {
		d.t.Fatal(err)
	}
	d.attach(replacement)
	check := exec.Command("/usr/sbin/fsck.ext4", "-y", d.device)
	if out, err := check.CombinedOutput(); exitCode(err) > 2 { // 1 and 2: errors were corrected
		d.t.Fatalf("check the disk: %v: %s", err, out)
	}
	d.mount()
}

// A disk that fails, in either of two ways, under streaming output: the client
// is told, the site ends with an error rather than go on without a record, and
// on what really reached the disk everything that the client got is recorded.
func TestDiskFails(t *testing.T) {
	for _, fault := range []struct {
		name  string
		begin func(*disk)
		says  []string
	}{
		// the kernel makes a file system read-only once it has met enough errors
		{"fsync", (*disk).fail, []string{"input/output error", "read-only file system"}},
		{"read-only", (*disk).lock, []string{"read-only file system"}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			d := newDisk(t)
			t.Setenv("HOLDFAST_LOG_SEGMENT_SIZE", "8388608")
			t.Setenv("HOLDFAST_LOG_HEADROOM", "1048576")
			in := installAt(t, d.dir)
			var stderr bytes.Buffer
			out := &firstWrite{first: make(chan struct{})}
			cmd := in.ssh("target", "while head -c 3000 /dev/urandom | od -x; do :; done")
			cmd.Stdout, cmd.Stderr = out, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-out.first
			time.Sleep(300 * time.Millisecond)
			fault.begin(d)
			if err := cmd.Wait(); exitCode(err) != 255 || !strings.Contains(stderr.String(), "can't be recorded") {
				t.Errorf("the session ended with %v and said %q", err, stderr.String())
			}
			select {
			case <-in.site.Done():
			case <-time.After(20 * time.Second):
				t.Fatal("the site goes on without a log")
			}
			if said := in.site.Stderr(); !strings.Contains(said, "nothing can be decided any more") {
				t.Errorf("the site said %s", said)
			}
			if in.site.Stop() == nil {
				t.Error("the site ended as if all were well")
			}
			in.wontStart(fault.says...)
			d.replace()
			in.restart()
			t.Cleanup(func() { _ = in.site.Kill() })
			if raw := in.console("", "session export last --format raw"); !bytes.HasPrefix([]byte(raw), out.b.Bytes()) {
				t.Errorf("the client received %d bytes that do not begin the %d recorded ones", out.b.Len(), len(raw))
			}
			in.endedAs("site lost", "")
			in.console("", "log verify")
			if out, err := in.ssh("target", "echo goes on").CombinedOutput(); err != nil {
				t.Errorf("a session on the replaced disk: %v, %s", err, out)
			}
			if err := in.site.Stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
			d.unmount()
		})
	}
}

// wontStart wants the site to refuse to start on the disk as it is, with one of
// some reasons.
func (in *installation) wontStart(says ...string) {
	in.t.Helper()
	binary, err := exec.LookPath("holdfast")
	if err != nil {
		in.t.Fatal(err)
	}
	out, err := exec.CommandContext(in.t.Context(), binary, "up", "--data", in.data, "--ssh-listen", "127.0.0.1:0").CombinedOutput()
	said := func(reason string) bool { return strings.Contains(string(out), reason) }
	if exitCode(err) != 1 || !slices.ContainsFunc(says, said) {
		in.t.Errorf("start on a disk that fails: %v, %s", err, out)
	}
}

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// namespace is a network of its own, for as long as a process lives that waits
// in it for the end of the test's. A nil one is the machine's.
type namespace struct{ pid int }

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	cmd := exec.Command("unshare", "-n", "cat")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		noNamespace(t, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	n := &namespace{pid: cmd.Process.Pid}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for range 100 { // until it is in its own
		if there, err := os.Readlink(n.file()); err == nil && there != own {
			n.shell(t, "ip link set lo up")
			return n
		}
		time.Sleep(20 * time.Millisecond)
	}
	noNamespace(t, errors.New("unshare -n does not make one"))
	return nil
}

// noNamespace skips a test that needs network namespaces, and fails it where they
// have to be there.
func noNamespace(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("HOLDFAST_REQUIRE_NAMESPACES") != "" {
		t.Fatalf("no network namespace can be made, and HOLDFAST_REQUIRE_NAMESPACES is set: %v", err)
	}
	t.Skipf("needs network namespaces, as root: %v", err)
}

func (n *namespace) file() string { return fmt.Sprintf("/proc/%d/ns/net", n.pid) }

// do runs f on a thread in the namespace; processes that it starts are there too.
func (n *namespace) do(t *testing.T, f func()) {
	t.Helper()
	if n == nil {
		f()
		return
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := n.enter()
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("enter a network namespace: %v", err)
	}
}

func (n *namespace) enter() error {
	fd, err := os.Open(n.file())
	if err != nil {
		return err
	}
	defer fd.Close()
	return unix.Setns(int(fd.Fd()), unix.CLONE_NEWNET)
}

// command is a program that will run in the namespace.
func (n *namespace) command(name string, args ...string) *exec.Cmd {
	if n == nil {
		return exec.Command(name, args...)
	}
	return exec.Command("nsenter", append([]string{"--net=" + n.file(), name}, args...)...)
}

func (n *namespace) shell(t *testing.T, line string) {
	t.Helper()
	cmd := n.command("sh", "-c", line)
	cmd.Env = append(cmd.Environ(), "PATH=/usr/sbin:/sbin:/usr/bin:/bin")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
}

// plug connects a namespace to the switch that is in another one, as interface
// name with an address.
func (n *namespace) plug(t *testing.T, hub *namespace, bridge, name, addr string) {
	t.Helper()
	port := bridge + "p" + strconv.Itoa(n.pid)
	hub.shell(t, fmt.Sprintf("ip link add %s type veth peer name %s netns %d && ip link set %[1]s master %[4]s up", port, name, n.pid, bridge))
	n.shell(t, fmt.Sprintf("ip addr add %s/24 dev %s && ip link set %s up", addr, name, name))
}

// firewall makes the place for what deafen drops.
func (n *namespace) firewall(t *testing.T) {
	t.Helper()
	n.shell(t, "nft add table inet cut; nft 'add chain inet cut in { type filter hook input priority 0; }'")
}

// deafen drops, without a word, whatever comes from an address.
func (n *namespace) deafen(t *testing.T, from ...string) {
	t.Helper()
	n.shell(t, "nft add rule inet cut in ip saddr '{ "+strings.Join(from, ", ")+" }' drop")
}

// hear takes all of deafen back.
func (n *namespace) hear(t *testing.T) {
	t.Helper()
	n.shell(t, "nft flush chain inet cut in")
}

//go:build linux

package cli

import (
	"io"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pam/holdfast/cli/console"
)

// A verb that draws gets this end's terminal, raw and with its size; Ctrl-C
// goes to the site; the terminal is put back as it was.
func TestPlayOnATerminal(t *testing.T) {
	g, p := startGateway(t), newPerson(t)
	p.trust(g)
	p.env["HOLDFAST_GATEWAY"], p.env["HOLDFAST_IDENTITY"], p.env["TERM"] = g.addr, g.known.save(t, p.home("key"), ""), "vt100"
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	go func() { _, _ = io.Copy(io.Discard, master) }()
	if err := pty.Setsize(master, &pty.Winsize{Rows: 30, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	p.stdin, p.stdout = slave, slave
	done := make(chan ran, 1)
	go func() { done <- p.run("session", "play", "last") }()
	waitFor(t, "the line", func() bool { return len(g.noted(&g.lines)) == 1 })
	if during, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); err != nil || during.Lflag&unix.ISIG != 0 || during.Lflag&unix.ECHO != 0 {
		t.Errorf("the terminal is not raw: %v", err)
	}
	if err := pty.Setsize(master, &pty.Winsize{Rows: 31, Cols: 101}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the new size", func() bool { return slices.Equal(g.noted(&g.ptys), []string{"vt100 100x30", " 101x31"}) })
	if _, err := master.Write([]byte("x\x03")); err != nil {
		t.Fatal(err)
	}
	p.want(<-done, console.Done, "", "")
	after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal was not put back: %+v, was %+v, %v", after, before, err)
	}
	p.want(p.run("user", "ls"), console.Done, "", "")
	if got := g.noted(&g.ptys); len(got) != 2 {
		t.Errorf("user ls asked for a terminal: %q", got)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s did not come", what)
}

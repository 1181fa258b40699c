package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// closedLine is what ssh itself says at the end.
var closedLine = regexp.MustCompile(`Connection to \S+ closed\.\r+\n$`)

// testTerminal works at a terminal as a person does: with a window that changes
// its size and with Ctrl-C.
func testTerminal(t *testing.T, p *person) {
	term := openTerminal(t, exec.CommandContext(t.Context(), "ssh", "-F", p.config, "-tt", "web1", "exec sh -i"))
	// What is waited for is put together by the target, so that an echo is no answer.
	term.enter("stty -echo; PS1=; echo rea''dy")
	term.wait("ready")
	for _, size := range []pty.Winsize{{Rows: 24, Cols: 80}, {Rows: 50, Cols: 132}, {Rows: 7, Cols: 40}} {
		if err := pty.Setsize(term.screen, &size); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%d %d", size.Rows, size.Cols)
		term.enter("until test \"$(stty size)\" = '" + want + "'; do sleep 0.05; done; echo size''-is " + want)
		term.wait("size-is " + want)
	}

	began := time.Now()
	term.enter("trap 'echo interr''upted' INT; echo sleep''ing; sleep 60")
	term.wait("sleeping")
	term.enter("\x03")
	term.wait("interrupted")
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("Ctrl-C took %s: it was the sleep that ended", took)
	}
	term.enter("exit 42")
	if code := term.exit(); code != 42 {
		t.Errorf("exit status %d, want 42", code)
	}
	term.checkRecording(p)
}

// checkRecording compares the recording with what was on the screen.
func (term *terminal) checkRecording(p *person) {
	t := term.t
	t.Helper()
	if _, err := p.recorded(1, 1); err != nil {
		t.Fatal(err)
	}
	raw, err := console(p.config, "", "session export last --format raw")
	if err != nil {
		t.Fatal(err)
	}
	// The screen had the gateway's banner before it, and the client's last words after it.
	if seen := closedLine.ReplaceAllString(term.text(), ""); raw == "" || !strings.HasSuffix(seen, raw) {
		t.Errorf("the screen had %q, the recording %q", seen, raw)
	}
	cast, err := console(p.config, "", "session export last --format cast")
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []string{"132x50", "40x7"} {
		if !regexp.MustCompile(`"r", ?"` + size + `"`).MatchString(cast) {
			t.Errorf("the cast has no change to %s:\n%s", size, cast)
		}
	}
}

// terminal is a program at a terminal of our own.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	screen *os.File
	done   chan struct{} // closed when the program has closed the terminal

	mu  sync.Mutex
	out bytes.Buffer
}

func openTerminal(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	screen, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 100})
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, cmd: cmd, screen: screen, done: make(chan struct{})}
	t.Cleanup(func() { screen.Close() })
	go func() {
		defer close(term.done)
		buf := make([]byte, 4096)
		for {
			n, err := screen.Read(buf)
			term.mu.Lock()
			term.out.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return // EIO: nobody has the terminal open any more
			}
		}
	}()
	return term
}

func (term *terminal) text() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.out.String()
}

// enter types a line.
func (term *terminal) enter(line string) {
	term.t.Helper()
	if _, err := term.screen.WriteString(line + "\n"); err != nil {
		term.t.Fatal(err)
	}
}

// wait waits for text to be on the screen.
func (term *terminal) wait(text string) {
	term.t.Helper()
	term.waitTimes(1, text)
}

// waitTimes waits for text to be there so many times.
func (term *terminal) waitTimes(n int, text string) {
	term.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); strings.Count(term.text(), text) < n; {
		select {
		case <-term.done:
			if strings.Count(term.text(), text) >= n {
				return
			}
			term.t.Fatalf("ended without %q; screen: %q", text, term.text())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			term.t.Fatalf("no %q within 40 s; screen: %q", text, term.text())
		}
	}
}

// exit waits for the program's end and gives its status.
func (term *terminal) exit() int {
	term.t.Helper()
	<-term.done
	var exit *exec.ExitError
	if err := term.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		term.t.Fatal(err)
	}
	return term.cmd.ProcessState.ExitCode()
}

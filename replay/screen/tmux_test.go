package screen

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files from what tmux shows")

const cols, rows = 80, 24

// recorded is the byte streams in testdata: real programs at 80x24. They are cut inside full-screen programs.
func recorded(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/*.bytes")
	if err != nil || len(names) == 0 {
		t.Fatalf("no recorded streams in testdata (%v)", err)
	}
	streams := map[string][]byte{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		streams[strings.TrimSuffix(filepath.Base(name), ".bytes")] = b
	}
	return streams
}

// The golden files hold what tmux shows for the recorded streams.
func TestRecordedPrograms(t *testing.T) {
	for name, stream := range recorded(t) {
		want, err := os.ReadFile("testdata/" + name + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		if got := show(stream); got != string(want) {
			t.Errorf("%s: shown differently from tmux\n%s", name, diff(got, string(want)))
		}
	}
}

// TestAgainstTmux compares with a running tmux: the recorded programs and hand-written sequences.
func TestAgainstTmux(t *testing.T) {
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("SKIPPED: tmux is not installed, so the screen is not compared with another terminal; install tmux")
	}
	streams := recorded(t)
	for name, s := range handWritten {
		streams[name] = []byte(s)
	}
	server := startTmux(t, streams)
	for name, stream := range streams {
		got := show(stream)
		want := server.capture(t, name, got)
		if got != want {
			t.Errorf("%s: shown differently from tmux\n%s", name, diff(got, want))
		}
		if file := "testdata/" + name + ".txt"; *update && handWritten[name] == "" {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func show(stream []byte) string {
	s := New(Options{Cols: cols, Rows: rows})
	s.Write(stream)
	return s.Text()
}

func diff(got, want string) string {
	var b strings.Builder
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		var gl, wl string
		if i < len(g) {
			gl = g[i]
		}
		if i < len(w) {
			wl = w[i]
		}
		if gl != wl {
			fmt.Fprintf(&b, "row %d\n  got  %q\n  want %q\n", i, gl, wl)
		}
	}
	return b.String()
}

// tmux is a server of its own with one pane for each stream, which prints the stream and waits.
type tmux struct{ socket string }

func startTmux(t *testing.T, streams map[string][]byte) tmux {
	t.Helper()
	dir := t.TempDir()
	s := tmux{socket: filepath.Join(dir, "s")}
	t.Cleanup(func() { s.run("kill-server") })
	for name, stream := range streams {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, stream, 0o600); err != nil {
			t.Fatal(err)
		}
		show := fmt.Sprintf("stty raw -echo; cat %q; tmux -S %q wait-for -S %q; sleep 100", file, s.socket, name)
		args := []string{"new-session", "-d", "-s", name, "-x", fmt.Sprint(cols), "-y", fmt.Sprint(rows), show}
		if out, err := s.run(args...); err != nil {
			t.Fatalf("start tmux: %v: %s", err, out)
		}
	}
	return s
}

func (s tmux) run(args ...string) ([]byte, error) {
	base := []string{"-S", s.socket, "-f", "/dev/null", "-u"}
	if args[0] == "new-session" { // without a status line, a pane has as many rows as its window
		base = append(base, "set-option", "-g", "status", "off", ";")
	}
	return exec.Command("tmux", append(base, args...)...).CombinedOutput()
}

// capture is what the pane of a stream shows: expected as soon as it does, else whatever it shows three seconds after
// the stream was written (tmux may still be reading it until then).
func (s tmux) capture(t *testing.T, name, expected string) string {
	t.Helper()
	if out, err := s.run("wait-for", name); err != nil {
		t.Fatalf("tmux wait-for: %v: %s", err, out)
	}
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, err := s.run("capture-pane", "-p", "-t", "="+name+":")
		if err != nil {
			t.Fatalf("tmux capture-pane: %v: %s", err, out)
		}
		if string(out) == expected || time.Now().After(deadline) {
			return string(out)
		}
	}
}

// handWritten is sequences that the recorded programs don't use, or not at the edges.
var handWritten = map[string]string{
	"wrap":            strings.Repeat("0123456789", 17) + "\r\nx",
	"wrap-exact":      strings.Repeat("y", 80) + "\r\nz",
	"wrap-wide":       strings.Repeat("y", 79) + "漢字",
	"no-wrap":         "\x1b[?7l" + strings.Repeat("y", 79) + "abc\x1b[?7h\r\nnext",
	"scroll-region":   numbers(24) + "\x1b[5;10r\x1b[10;1H\n\n\nA\x1b[5;1H\x1bM\x1bMB\x1b[r\x1b[24;1Hend",
	"scroll-up-down":  numbers(24) + "\x1b[3S\x1b[5T\x1b[4;20r\x1b[2S\x1b[1T",
	"scroll-huge":     numbers(24) + "\x1b[5;10r\x1b[9999S",
	"insert-lines":    numbers(24) + "\x1b[5;1H\x1b[3LA\x1b[12;1H\x1b[2MB\r\x1b[999LC",
	"insert-chars":    "abcdefghij\x1b[1;4H\x1b[3@XY\x1b[1;2H\x1b[2P\x1b[20G12345\x1b[22G\x1b[2X",
	"insert-mode":     "abcdef\x1b[1;3H\x1b[4hXYZ\x1b[4lQ",
	"delete-wide":     "漢字漢字漢字ab\x1b[1;5H\x1b[2P\x1b[1;9H\x1b[2X",
	"overwrite-wide":  "漢字漢字\x1b[1;5HB\x1b[1;7HC",
	"erase-line":      "abcdefgh\x1b[1;4H\x1b[K\r\nabcdefgh\x1b[2;4H\x1b[1K\r\nabcdefgh\x1b[2Kx",
	"erase-below":     numbers(24) + "\x1b[10;2H\x1b[J",
	"erase-above":     numbers(24) + "\x1b[10;2H\x1b[1J",
	"erase-all":       numbers(24) + "\x1b[10;5H\x1b[2JX",
	"tabs":            "a\tb\tc\x1b[3g\r\n\x1b[5G\x1bH\x1b[12G\x1bH\ra\tb\tc\r\nx\t\ty\x1b[2Zz",
	"tabs-at-edge":    "\x1b[78Ga\t\tb\tc",
	"save-restore":    "ab\x1b7\x1b[10;10Hcd\x1b8ef\x1b[s\x1b[20;1Hgh\x1b[uij",
	"origin":          "\x1b[5;10r\x1b[?6h\x1b[1;1HA\x1b[99;99HB\x1b[?6l\x1b[1;1HC",
	"alternate":       "primary\x1b[?1049h\x1b[5;5Halternate",
	"alternate-back":  numbers(10) + "\x1b[?1049h\x1b[5;5Halternate\x1b[?1049lback",
	"moves":           "\x1b[10;10HA\x1b[3AB\x1b[2BC\x1b[5CD\x1b[20DE\x1b[2EF\x1b[3FG\x1b[5dH\x1b[30GI",
	"moves-huge":      "\x1b[999;999HA\x1b[999AB\x1b[999DC",
	"moves-in-region": "\x1b[5;10r\x1b[7;1H\x1b[99AA\x1b[99BB\x1b[r\x1b[2;1H\x1b[5;10r\x1b[12;1H\x1b[99AC",
	"next-line":       numbers(24) + "\x1bEA\x1bDB\x1bMC",
	"combining":       "e\u0301a\u0308o\u0302x\r\n漢\u0301字",
	"repeat":          "ab\x1b[5bc",
	"full-reset":      numbers(24) + "\x1b[5;10r\x1bcX",
	"sgr":             "\x1b[1;31;48;5;20;38;2;1;2;3mA\x1b[38:2::1:2:3mB\x1b[4:3mC\x1b[;mD\x1b[mE",
	"title":           "\x1b]0;a title\x07A\x1b]2;another ✜ one\x1b\\B",
	"strings-dropped": "A\x1bP1$qm\x1b\\B\x1b_apc\x1b\\C\x1b^pm\x1b\\D",
	"cancelled":       "A\x1b[31\x18B\x1b[3\x1a1mC",
	"controls-inside": "abc\x1b[2\bDX\x1b[1\r\nCY",
	"line-feed-only":  "one\ntwo\n\vthree\ffour",
	"emoji":           "🙂ok🚀\r\n한국어 かな",
}

// numbers prints the lines 1 to n without a line feed after the last.
func numbers(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		if i > 1 {
			b.WriteString("\r\n")
		}
		fmt.Fprintf(&b, "line %d", i)
	}
	return b.String()
}

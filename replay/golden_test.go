package replay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func describeTo(w io.Writer, src Source) error {
	r, err := Describe(src)
	if err != nil {
		return err
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func TestGoldenExports(t *testing.T) {
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	formats := map[string]func(io.Writer, Source) error{
		"v3.cast": func(w io.Writer, s Source) error {
			return Cast(w, s, CastOptions{Channel: FirstSession, Started: started, Title: "alice on root+web1"})
		},
		"v2.cast": func(w io.Writer, s Source) error {
			return Cast(w, s, CastOptions{Version: 2, Channel: FirstSession, Started: started})
		},
		"txt":  func(w io.Writer, s Source) error { return Transcript(w, s, TranscriptOptions{Channel: FirstSession}) },
		"json": describeTo,
	}
	for name, p := range map[string]*tape{"shell": shell(), "command": command()} {
		for ext, export := range formats {
			var got bytes.Buffer
			if err := export(&got, p.source()); err != nil {
				t.Fatalf("%s.%s: %v", name, ext, err)
			}
			file := filepath.Join("testdata", name+"."+ext)
			if *update {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%s differs:\n%s\nwant\n%s", file, got.Bytes(), want)
			}
		}
	}
}

// cast is an asciicast as a player reads it.
type cast struct {
	header map[string]any
	lines  []castLine
}

type castLine struct {
	at   float64 // seconds from the start
	code string
	data string
}

// readCast checks what the format's page asks for.
func readCast(t fataler, b []byte) cast {
	t.Helper()
	var c cast
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 1<<24)
	if !lines.Scan() {
		t.Fatal("empty cast")
	}
	if err := json.Unmarshal(lines.Bytes(), &c.header); err != nil {
		t.Fatalf("header: %v", err)
	}
	version := c.header["version"].(float64)
	at := 0.0
	for lines.Scan() {
		if !utf8.Valid(lines.Bytes()) {
			t.Fatalf("not UTF-8: %q", lines.Bytes())
		}
		var row [3]any
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		when := row[0].(float64)
		if version == 3 {
			when += at
		}
		if when < at {
			t.Fatalf("time goes back at %s", lines.Bytes())
		}
		at = when
		l := castLine{at: when, code: row[1].(string), data: row[2].(string)}
		if !strings.Contains("oimr", l.code) && !(version == 3 && l.code == "x") {
			t.Fatalf("version %v has no code %q", version, l.code)
		}
		c.lines = append(c.lines, l)
	}
	if version == 3 {
		term := c.header["term"].(map[string]any)
		if term["cols"].(float64) < 1 || term["rows"].(float64) < 1 {
			t.Fatalf("term %v", term)
		}
	} else if c.header["width"].(float64) < 1 || c.header["height"].(float64) < 1 {
		t.Fatalf("header %v", c.header)
	}
	return c
}

func (c cast) joined(code string) string {
	var b strings.Builder
	for _, l := range c.lines {
		if l.code == code {
			b.WriteString(l.data)
		}
	}
	return b.String()
}

// A character that packets cut is whole in the cast; times of both versions agree to the microsecond.
func TestCast(t *testing.T) {
	var v2, v3 bytes.Buffer
	p := shell()
	if err := Cast(&v3, p.source(), CastOptions{Channel: FirstSession}); err != nil {
		t.Fatal(err)
	}
	if err := Cast(&v2, p.source(), CastOptions{Version: 2, Channel: 0}); err != nil {
		t.Fatal(err)
	}
	c3, c2 := readCast(t, v3.Bytes()), readCast(t, v2.Bytes())
	out := rawOf(t, p.source(), FirstSession, Out)
	want := strings.ReplaceAll(out, "\xff", "\ufffd")
	if c3.joined("o") != want || c2.joined("o") != want {
		t.Errorf("output\n%q\nwant\n%q", c3.joined("o"), want)
	}
	if c3.joined("i") != "ls\r\x1b[A\x04" || c3.joined("r") != "60x8" || c3.joined("x") != "3" {
		t.Errorf("input %q, resizes %q, exit %q", c3.joined("i"), c3.joined("r"), c3.joined("x"))
	}
	for i, l := range c2.lines {
		if d := l.at - c3.lines[i].at; d > 1e-9 || d < -1e-9 {
			t.Errorf("line %d at %v in version 2, at %v in version 3", i, l.at, c3.lines[i].at)
		}
	}
}

// asciinema 2 plays version 2.
func TestCastPlaysInAsciinema(t *testing.T) {
	for _, program := range []string{"asciinema", "script"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: %s is not installed, so casts are not played by another player; install asciinema and script", program)
		}
	}
	p := shell()
	file := filepath.Join(t.TempDir(), "shell.cast")
	var b bytes.Buffer
	if err := Cast(&b, p.source(), CastOptions{Version: 2, Channel: FirstSession}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(rawOf(t, p.source(), FirstSession, Out), "\xff", "\ufffd")
	for _, verb := range []string{"cat", "play -s 100 -i 0.1"} {
		// asciinema wants a terminal; script gives it one
		play := exec.Command("script", "-qec", fmt.Sprintf("asciinema %s %q", verb, file), "/dev/null")
		play.Env = append(os.Environ(), "ASCIINEMA_CONFIG_HOME="+t.TempDir(), "LC_ALL=C.UTF-8", "TERM=xterm")
		out, err := play.Output()
		if err != nil {
			t.Fatalf("asciinema %s: %v: %s", verb, err, out)
		}
		if string(out) != want {
			t.Errorf("asciinema %s shows\n%q\nwant\n%q", verb, out, want)
		}
	}
}

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.000000", time.Microsecond: "0.000001", 90*time.Minute + 5*time.Millisecond: "5400.005000", 999: "0.000000",
	} {
		if got := Seconds(d).String(); got != want {
			t.Errorf("%d: %s, want %s", d, got, want)
		}
		if _, err := strconv.ParseFloat(Seconds(d).String(), 64); err != nil {
			t.Error(err)
		}
	}
}

// fataler is what the tests of testing and of rapid have in common.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// harmless fails if a terminal would run something in b.
func harmless(t fataler, b []byte) {
	t.Helper()
	if !utf8.Valid(b) {
		t.Fatalf("not UTF-8: %q", b)
	}
	for _, r := range string(b) {
		if r != '\n' && r != '\t' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			t.Fatalf("%q holds %q", b, r)
		}
	}
}

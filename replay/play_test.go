package replay

import (
	"bytes"
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
	"github.com/holdfast-pam/holdfast/replay/screen"
)

// timed notes when what was written.
type timed struct {
	start time.Time
	at    []time.Duration
	text  []string
}

func (w *timed) Write(p []byte) (int, error) {
	w.at = append(w.at, time.Since(w.start))
	w.text = append(w.text, string(p))
	return len(p), nil
}

func TestPlayKeepsTime(t *testing.T) {
	p := (&tape{}).wait(time.Hour).open(0, "session")
	p.ask(0, "pty-req", sshwire.PtyRequest{Columns: 80, Rows: 24}.Append(nil))
	p.wait(time.Second).stdout(0, "one")
	p.wait(time.Second).stdin(0, "not shown")
	p.wait(time.Minute).stderr(0, "two")
	p.wait(250*time.Millisecond).stdout(0, "three")
	p.exit(0, 0)
	for name, c := range map[string]struct {
		o    PlayOptions
		want []time.Duration
	}{
		"as it was":  {PlayOptions{}, []time.Duration{time.Second, 62 * time.Second, 62250 * time.Millisecond}},
		"twice":      {PlayOptions{Speed: 2}, []time.Duration{500 * time.Millisecond, 31 * time.Second, 31125 * time.Millisecond}},
		"idle limit": {PlayOptions{IdleLimit: 2 * time.Second}, []time.Duration{time.Second, 3 * time.Second, 3250 * time.Millisecond}},
		"at once":    {PlayOptions{Speed: math.Inf(1)}, []time.Duration{0, 0, 0}},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &timed{start: time.Now()}
			if err := Play(t.Context(), w, p.source(), c.o); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(w.text[:3], "|"); got != "one|two|three" {
				t.Errorf("%s: shown %q", name, got)
			}
			for i, at := range c.want {
				if w.at[i] != at {
					t.Errorf("%s: write %d at %v, want %v", name, i, w.at[i], at)
				}
			}
		})
	}
	if err := Play(t.Context(), &timed{}, p.source(), PlayOptions{Speed: -1}); err == nil {
		t.Error("a negative speed is taken")
	}
	if err := Play(t.Context(), &timed{}, p.source(), PlayOptions{Speed: math.NaN()}); err == nil {
		t.Error("no number is taken for a speed")
	}
}

// However it ends, the terminal is as before.
func TestPlayResetsTheTerminal(t *testing.T) {
	p := (&tape{}).open(0, "session")
	p.stdout(0, "\x1b[?1049h\x1b[3;5r\x1b[?6h\x1b[?25l\x1b[4h\x1b[31m\x1b(0")
	p.wait(time.Hour).stdout(0, "never shown")
	p.commit()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s := screen.New(screen.Options{Cols: 20, Rows: 6})
		s.Write([]byte("$ play\r\n"))
		if err := Play(ctx, s, p.source(), PlayOptions{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		s.Write([]byte("$ q"))
		if _, _, visible := s.Cursor(); !visible || s.Alternate() || s.Text() != "\n\n\n\n\n$ q\n" && s.Text() != "$ play\n\n\n\n\n$ q\n" {
			t.Errorf("after the film: cursor %v, alternate %v, %q", visible, s.Alternate(), s.Text())
		}
		y := 5
		if c := s.Line(y).Cells()[0]; c.FG != 0 || c.Attr != 0 {
			t.Errorf("the prompt is %+v", c)
		}
	})
}

// Without a terminal of its own, a channel's line feeds start a new line in the viewer's.
func TestPlayWithoutPty(t *testing.T) {
	p := (&tape{}).open(0, "session")
	p.stdout(0, "one\ntwo\r")
	p.stdout(0, "\nthree\n")
	p.exit(0, 0)
	var b bytes.Buffer
	if err := Play(t.Context(), &b, p.source(), PlayOptions{Speed: math.Inf(1)}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.String(), "one\r\ntwo\r\nthree\r\n") {
		t.Errorf("shown %q", b.String())
	}
	b.Reset()
	if err := Play(t.Context(), &b, p.source(), PlayOptions{Speed: math.Inf(1), Plain: true}); err != nil || b.String() != "one\ntwo\r\nthree\n" {
		t.Errorf("without a terminal: %q, %v", b.String(), err)
	}
}

func filtered(s string) string {
	var b bytes.Buffer
	f := NewFilter(&b)
	f.Write([]byte(s))
	f.Close()
	return b.String()
}

func TestFilterDropsAttacks(t *testing.T) {
	for name, in := range map[string]string{
		"clipboard":                   "\x1b]52;c;cm0gLXJmIC8=\x07",
		"clipboard, ST":               "\x1b]52;c;cm0gLXJmIC8=\x1b\\",
		"clipboard read":              "\x1b]52;c;?\x07",
		"title":                       "\x1b]0;sudo su\x07\x1b]2;x\x07",
		"title report":                "\x1b[21t\x1b[20t",
		"title stack":                 "\x1b[22;0t\x1b[23;0t",
		"window size report":          "\x1b[18t\x1b[14t\x1b[19t",
		"window moves":                "\x1b[3;0;0t\x1b[8;1;1t\x1b[2t",
		"link":                        "\x1b]8;;file:///etc/passwd\x07\x1b]8;;\x07",
		"working directory":           "\x1b]7;file://evil/\x07",
		"palette query":               "\x1b]4;0;?\x07\x1b]10;?\x07\x1b]11;?\x1b\\",
		"notification":                "\x1b]9;hello\x07\x1b]777;notify;a;b\x07",
		"file download":               "\x1b]1337;File=name=eA==:AAAA\x07",
		"device attributes":           "\x1b[c\x1b[0c\x1b[>c\x1b[=c\x1b[>0q",
		"identify":                    "\x1bZ",
		"status":                      "\x1b[5n\x1b[6n\x1b[?6n\x1b[?15n\x1b[?996n",
		"mode request":                "\x1b[?2004$p\x1b[4$p",
		"state request":               "\x1b[1$w\x1b[2$w\x1b[?26n",
		"terminal parameters":         "\x1b[x\x1b[1x",
		"checksum":                    "\x1b[1;1;1;1;1;1*y",
		"DECRQSS":                     "\x1bP$q\"p\x1b\\",
		"XTGETTCAP":                   "\x1bP+q544e\x1b\\",
		"DECUDK":                      "\x1bP0;1|17/6c730d\x1b\\",
		"sixel":                       "\x1bPq#0;2;0;0;0\x1b\\\x1b[?2;1S",
		"APC, PM, SOS":                "\x1b_Gi=1,a=q;AAAA\x1b\\\x1b^x\x1b\\\x1bXx\x1b\\",
		"tmux passthrough":            "\x1bPtmux;\x1b\x1b]52;c;eA==\x07\x1b\\",
		"answerback":                  "\x05",
		"XON, XOFF, NUL, DEL":         "\x11\x13\x00\x7f",
		"print the screen":            "\x1b[i\x1b[5i\x1b[?5i\x1b[4i",
		"mouse and focus reports":     "\x1b[?1000h\x1b[?1003h\x1b[?1006h\x1b[?1004h\x1b[?9h",
		"bracketed paste":             "\x1b[?2004h\x1b[?2004l",
		"key modes":                   "\x1b[?1h\x1b[?66h\x1b=\x1b>\x1b[>1u\x1b[<u\x1b[=1u\x1b[?u\x1b[>4;2m\x1b[?4m\x1b[2h",
		"highlight tracking":          "\x1b[1;2;3;4;5T",
		"columns":                     "\x1b[?40h\x1b[?3h",
		"leave UTF-8":                 "\x1b%@\x1b%G",
		"8-bit controls":              "\x1b F\x1b G",
		"load lights":                 "\x1b[1q",
		"C1 in UTF-8":                 "\u009d52;c;eA==\u009c"[:2] + "\u009b6n"[:2] + "\u0090\u0085",
		"other character sets":        "\x1b(A\x1b)%6\x1b-A\x1bn\x1bo\x1b~",
		"save and restore modes":      "\x1b[?1000s\x1b[?1000r",
		"synchronized update":         "\x1b[?2026h",
		"an attack inside an attack":  "\x1b]0;\x1b]52;c;eA==\x07",
		"an attack cut by a control":  "\x1b[6\x00n\x1b]5\x002;c;eA==\x07",
		"an attack after a cancel":    "\x1b]0;x\x18\x1b[6n",
		"an escape in a cut sequence": "\x1b[\x1b[6n\x1b\x1b[c",
		"huge parameters":             "\x1b[?4294968296h\x1b[4294967302n",
	} {
		if got := strings.TrimRight(filtered(in), "\x00"); got != "" {
			t.Errorf("%s: %q lets through %q", name, in, got)
		}
	}
}

func TestFilterPassesWhatDraws(t *testing.T) {
	for in, want := range map[string]string{
		"text é 漢字 🙂\r\n\t\b\a":                        "text é 漢字 🙂\r\n\t\b\a",
		"\x1b[1;31;48;5;20mx\x1b[m":                    "\x1b[1;31;48;5;20mx\x1b[m",
		"\x1b[38:2::1:2:3mx\x1b[4:3m":                  "\x1b[38:2::1:2:3mx\x1b[4:3m",
		"\x1b[2J\x1b[;5H\x1b[10;20r\x1b[K":             "\x1b[2J\x1b[;5H\x1b[10;20r\x1b[K",
		"\x1b[?1049h\x1b[?25l\x1b[?7;25h":              "\x1b[?1049h\x1b[?25l\x1b[?7h\x1b[?25h",
		"\x1b[?1049;2004;1h":                           "\x1b[?1049h",
		"\x1b7\x1b8\x1bM\x1bc\x1b(0\x0eq\x0f\x1b(B":    "\x1b7\x1b8\x1bM\x1bc\x1b(0\x0eq\x0f\x1b(B",
		"\x1b[99999999b":                               "\x1b[9999b",
		"\x1b[3@\x1b[P\x1b[L\x1b[2M\x1b[X\x1b[S\x1b[T": "\x1b[3@\x1b[P\x1b[L\x1b[2M\x1b[X\x1b[S\x1b[T",
		"\x1b[2 q\x1b[!p\x1b[?J\x1b[4h\x1b[s\x1b[u":    "\x1b[2 q\x1b[!p\x1b[?J\x1b[4h\x1b[s\x1b[u",
		"a\xffb\xe6\xbc":                               "a\ufffdb\ufffd\ufffd",
		"before\x1b]0;title\x07after":                  "beforeafter",
	} {
		if got := filtered(in); got != want {
			t.Errorf("%q passes as %q, want %q", in, got, want)
		}
	}
}

// Whatever comes, what passes is made only of what the filter allows, and passes again unchanged.
func TestFilterIsAnAllowList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.OneOf(
			rapid.SampledFrom([]string{"\x1b[", "\x1b]52;c;", "\x1bP", "\x1b_", "\x1b\\", "\x1b", "\x07", "\x9b", "\u009b6n", "6n", "c", "\x18"}),
			rapid.StringMatching(`\x1b[\[\]P_X^][<=>?]?[0-9;:]{0,12}[ -/]{0,2}[@-~]`),
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 12), func(b []byte) string { return string(b) }),
		)
		in := strings.Join(rapid.SliceOfN(part, 0, 30).Draw(t, "stream"), "")
		out := filtered(in)
		if again := filtered(out); again != out {
			t.Fatalf("%q passes as %q, and that as %q", in, out, again)
		}
		for _, bad := range []string{"\x1b]", "\x1bP", "\x1b_", "\x1b^", "\x1bX", "\x05", "\u009b", "\u009d", "\u0090"} {
			if strings.Contains(out, bad) {
				t.Fatalf("%q lets %q through: %q", in, bad, out)
			}
		}
		for rest := out; ; {
			_, after, found := strings.Cut(rest, "\x1b[")
			if !found {
				break
			}
			final := strings.IndexFunc(after, func(r rune) bool { return r >= '@' && r <= '~' })
			if final < 0 || strings.IndexByte("cntxiyw", after[final]) >= 0 {
				t.Fatalf("%q lets a query through: %q", in, out)
			}
			rest = after[final:]
		}
	})
}

// What passes draws the same picture.
func TestFilterKeepsThePicture(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.OneOf(
			rapid.StringMatching(`\x1b\[[0-9]{0,3}(;[0-9]{1,2})?[ABCDEFGHIJKLMPSXZ@dm]`),
			rapid.SampledFrom([]string{"\r\n", "漢", "e\u0301", "\x1b[?7l", "\x1b[?7h", "\x1b7", "\x1b8", "\x1bM", "\x1b[3;9r", "\x1b[?1049h"}),
			rapid.StringMatching(`[ -~]{0,30}`),
		)
		in := strings.Join(rapid.SliceOfN(part, 0, 40).Draw(t, "stream"), "")
		a, b := screen.New(screen.Options{Cols: 40, Rows: 12}), screen.New(screen.Options{Cols: 40, Rows: 12})
		a.Write([]byte(in))
		b.Write([]byte(filtered(in)))
		if a.Text() != b.Text() {
			t.Fatalf("%q shows\n%sfiltered\n%s", in, a.Text(), b.Text())
		}
	})
}

package screen

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// Where terminals differ, these follow xterm.
func TestLikeXterm(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"backspace at the edge leaves the last column": {strings.Repeat("y", 10) + "\b\bA", "yyyyyyyAyy"},
		"half a wide character becomes a blank":        {"漢字漢字\x1b[1;2HA\x1b[1;5HB", " A字B 字"},
		"deleting half a wide character":               {"漢字ab\x1b[1;1H\x1b[P", " 字ab"},
		"inserting before half a wide character":       {"ab漢字\x1b[1;4H\x1b[@", "ab   字"},
		"a wide character pushed over the edge":        {"12345678漢\x1b[1;1H\x1b[@", " 12345678"},
		"line drawing in G0":                           {"\x1b(0lqk\x1b(Bq", "┌─┐q"},
		"line drawing in G1":                           {"\x1b)0a\x0eq\x0fq", "a─q"},
		"relative moves":                               {"\x1b[3aA\x1b[2`B", " B A"},
		"a huge parameter is clamped":                  {"\x1b[4294967297CA", "         A"},
		"forward tabs":                                 {"\x1b[IA", "        A"},
		"C1 controls are characters, dropped":          {"a\u009b31mb", "a31mb"},
		"bytes of C1 controls are not UTF-8":           {"a\x9b31mb", "a\ufffd31mb"},
		"cut UTF-8 before an escape":                   {"a\xe6\xbc\x1b[2Gb", "ab\ufffd"},
		"a control inside a sequence runs at once":     {"abc\x1b[2\bDX", "Xbc"},
		"an unknown sequence shows nothing":            {"a\x1b[>4;2mb\x1b[?2004hc\x1b%Gd", "abcd"},
		"order-changing characters are dropped":        {"a\u202eb\u2066c\u200fd", "abcd"},
		"an endless string shows nothing":              {"a\x1b]0;" + strings.Repeat("x", 10000), "a"},
	} {
		s := New(Options{Cols: 10, Rows: 1})
		s.Write([]byte(c.in))
		if got := strings.TrimRight(s.Text(), "\n"); got != c.want {
			t.Errorf("%s: %q shows %q, want %q", name, c.in, got, c.want)
		}
	}
}

func TestInsertLineOutsideTheRegion(t *testing.T) {
	s := New(Options{Cols: 80, Rows: 24})
	s.Write([]byte(numbers(24)))
	want := s.Text()
	s.Write([]byte("\x1b[5;10r\x1b[2;1H\x1b[3L\x1b[15;1H\x1b[3M"))
	if got := s.Text(); got != want {
		t.Errorf("lines outside the scroll region moved\n%s", diff(got, want))
	}
}

func TestGrowingKeepsAWideCharacterAtTheEdge(t *testing.T) {
	s := New(Options{Cols: 2, Rows: 1})
	s.Write([]byte("漢"))
	s.Resize(5, 1)
	check(t, s)
	if got := s.Line(0).Full(); got != "漢   " {
		t.Errorf("the line reads %q", got)
	}
}

func TestStyle(t *testing.T) {
	for in, want := range map[string]Cell{
		"\x1b[1;31mx":                     {Attr: Bold, FG: Palette(1)},
		"\x1b[1;2;3;4;5;7;8;9;22;24mx":    {Attr: Italic | Blink | Reverse | Hidden | Struck},
		"\x1b[38;5;200;48;2;1;2;3mx":      {FG: Palette(200), BG: RGB(1, 2, 3)},
		"\x1b[38:2::1:2:3;48:5:7mx":       {FG: RGB(1, 2, 3), BG: Palette(7)},
		"\x1b[38:2:1:2:3mx":               {FG: RGB(1, 2, 3)},
		"\x1b[4:3mx":                      {Attr: Underlined},
		"\x1b[4m\x1b[4:0mx":               {},
		"\x1b[94;103mx":                   {FG: Palette(12), BG: Palette(11)},
		"\x1b[31m\x1b[mx":                 {},
		"\x1b[31;0mx":                     {},
		"\x1b[38;5mx":                     {},
		"\x1b[58;2;1;2;3;1mx":             {Attr: Bold},
		"\x1b[31m\x1b7\x1b[32m\x1b8x":     {FG: Palette(1)},
		"\x1b[31m\x1b[39;41m\x1b[49;35mx": {FG: Palette(5)},
	} {
		s := New(Options{Cols: 10, Rows: 2})
		s.Write([]byte(in))
		want.Rune, want.Width = 'x', 1
		if got := s.Line(0).Cells()[0]; got != want {
			t.Errorf("%q: cell %+v, want %+v", in, got, want)
		}
	}
}

func TestErasedCellsKeepTheBackground(t *testing.T) {
	s := New(Options{Cols: 4, Rows: 2})
	s.Write([]byte("\x1b[44mab\x1b[K"))
	if bg := s.Line(0).Cells()[3].BG; bg != Palette(4) {
		t.Errorf("erased to the end of line: background %v", bg)
	}
	s.Write([]byte("\r\n\n"))
	if bg := s.Line(1).Cells()[0].BG; bg != Palette(4) {
		t.Errorf("scrolled in: background %v", bg)
	}
}

func TestScrollback(t *testing.T) {
	var gone []string
	s := New(Options{Cols: 20, Rows: 3, Scrollback: 4, OnScroll: func(l *Line) { gone = append(gone, l.Text()) }})
	s.Write([]byte(numbers(10)))
	if got := strings.Join(gone, ","); got != "line 1,line 2,line 3,line 4,line 5,line 6,line 7" {
		t.Errorf("scrolled off: %s", got)
	}
	var kept []string
	for i := range s.Scrollback() {
		kept = append(kept, s.ScrollbackLine(i).Text())
	}
	if got := strings.Join(kept, ","); got != "line 4,line 5,line 6,line 7" {
		t.Errorf("scrollback: %s", got)
	}
	gone = nil
	s.Write([]byte("\x1b[2J\x1b[?1049h" + numbers(9) + "\x1b[2J\x1b[?1049l"))
	if got := strings.Join(gone, ","); got != "line 8,line 9,line 10" {
		t.Errorf("clearing the screen kept %q; the alternate buffer has no scrollback", got)
	}
	s.Write([]byte("\x1b[3J"))
	if s.Scrollback() != 0 {
		t.Error("erasing the scrollback left lines in it")
	}
}

func TestResize(t *testing.T) {
	s := New(Options{Cols: 10, Rows: 5, Scrollback: 10})
	s.Write([]byte("one\r\ntwo\r\nthree\r\nfour\r\nfive"))
	s.Resize(4, 2)
	if got := s.Text(); got != "four\nfive\n" {
		t.Errorf("smaller: %q", got)
	}
	if x, y, _ := s.Cursor(); x != 3 || y != 1 {
		t.Errorf("cursor at %d,%d", x, y)
	}
	s.Resize(6, 4)
	s.Write([]byte("\r\nsix"))
	if got := s.Text(); got != "four\nfive\nsix\n\n" {
		t.Errorf("larger: %q", got)
	}
	s.Resize(-1, 1<<30)
	if c, r := s.Size(); c != 1 || r != MaxRows {
		t.Errorf("size %dx%d is not clamped", c, r)
	}
}

func TestResizeUnderFullScreenProgram(t *testing.T) {
	s := New(Options{Cols: 10, Rows: 5})
	s.Write([]byte("one\r\ntwo\r\nthree\r\nfour$\x1b[?1049h\x1b[5;1Hstatus"))
	s.Resize(10, 3)
	s.Write([]byte("\x1b[?1049l back"))
	if got := s.Text(); got != "two\nthree\nfour$ back\n" {
		t.Errorf("after the program: %q", got)
	}
}

func TestTitleIsBoundedText(t *testing.T) {
	s := New(Options{Cols: 10, Rows: 1})
	s.Write([]byte("\x1b]0;a ✜\u009b\u202e\xff title\x07"))
	if s.Title() != "a ✜\ufffd title" {
		t.Errorf("title %q", s.Title())
	}
	s.Write([]byte("\x1b]2;" + strings.Repeat("✜", 5000) + "\x1b\\"))
	if n := len(s.Title()); n > maxString+3 || !utf8.ValidString(s.Title()) {
		t.Errorf("title of %d bytes", n)
	}
}

// How the stream is cut into writes changes nothing.
func TestCutsDoNotMatter(t *testing.T) {
	streams := recorded(t)
	rapid.Check(t, func(t *rapid.T) {
		stream := hostile(t)
		if rapid.Bool().Draw(t, "recorded") {
			stream = streams[rapid.SampledFrom([]string{"vim", "less", "bash", "top", "tmux"}).Draw(t, "program")]
		}
		want := show(stream)
		s := New(Options{Cols: cols, Rows: rows})
		for rest := stream; len(rest) > 0; {
			n := rapid.IntRange(1, min(len(rest), 40)).Draw(t, "cut")
			s.Write(rest[:n])
			rest = rest[n:]
		}
		if got := s.Text(); got != want {
			t.Fatalf("cut stream %q shows\n%swhole\n%s", stream, got, want)
		}
	})
}

// hostile draws a stream of sequences, text and bytes with extreme parameters.
func hostile(t *rapid.T) []byte {
	part := rapid.OneOf(
		rapid.SampledFrom([]string{
			"\x1b[", "\x1b]0;", "\x1bP", "\x1b_", "\x1b\\", "\x1b", "\x07", "\r\n", "\b", "\t", "漢", "🙂", "e\u0301",
			"\x1b[999999999999S", "\x1b[-10@", "\x1b[0;0r", "\x1b[?1049h", "\x1b[?1049l", "\x1b[?7l", "\x1b[4h",
			"\x1b[?6h", "\x1b[99;99H", "\x1b[2J", "\x1b7", "\x1b8", "\x1bc", "\x1b#8", "\x1bM", "\x1b[3;5r", "\x1b(0",
		}),
		rapid.StringMatching(`\x1b\[[?>]?[0-9]{0,12}([;:][0-9]{0,5}){0,4}[@A-Za-z]`),
		rapid.StringN(0, 20, 100),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 20), func(b []byte) string { return string(b) }),
	)
	return []byte(strings.Join(rapid.SliceOfN(part, 0, 60).Draw(t, "stream"), ""))
}

// check fails if the picture isn't consistent.
func check(t testing.TB, s *Screen) {
	t.Helper()
	c, r := s.Size()
	if x, y, _ := s.Cursor(); x < 0 || x >= c || y < 0 || y >= r {
		t.Fatalf("cursor %d,%d outside of %dx%d", x, y, c, r)
	}
	if len(s.primary) != r || len(s.alternate) != r || s.top < 0 || s.bottom >= r || s.top > s.bottom {
		t.Fatalf("%d and %d rows, region %d to %d, of %d", len(s.primary), len(s.alternate), s.top, s.bottom, r)
	}
	for _, lines := range [][]*Line{s.primary, s.alternate} {
		seen := map[*Line]bool{}
		for y, l := range lines {
			if len(l.Cells()) != c || seen[l] {
				t.Fatalf("row %d has %d cells, shared %v", y, len(l.Cells()), seen[l])
			}
			seen[l] = true
			for x, cell := range l.Cells() {
				next := x+1 < c && l.Cells()[x+1].Width == 0
				if (cell.Width == 2) != next || cell.Width > 2 || cell.Width == 0 && x == 0 {
					t.Fatalf("row %d column %d: half a wide character", y, x)
				}
			}
		}
	}
	if !utf8.ValidString(s.Text()) {
		t.Fatal("text is not UTF-8")
	}
}

func TestHostileStreams(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := New(Options{
			Cols: rapid.IntRange(-1, 90).Draw(rt, "cols"), Rows: rapid.IntRange(-1, 30).Draw(rt, "rows"),
			Scrollback: rapid.IntRange(0, 20).Draw(rt, "scrollback"),
		})
		for range rapid.IntRange(1, 4).Draw(rt, "writes") {
			s.Write(hostile(rt))
			check(t, s)
			s.Resize(rapid.IntRange(-5, 120).Draw(rt, "cols"), rapid.IntRange(-5, 40).Draw(rt, "rows"))
			check(t, s)
		}
		if s.Scrollback() > 20 {
			rt.Fatalf("%d lines of scrollback", s.Scrollback())
		}
	})
}

func FuzzScreen(f *testing.F) {
	for _, stream := range recorded(f) {
		f.Add(stream, uint16(80), uint16(24))
	}
	for _, stream := range handWritten {
		f.Add([]byte(stream), uint16(40), uint16(10))
	}
	f.Fuzz(func(t *testing.T, stream []byte, c, r uint16) {
		s := New(Options{Cols: int(c % 200), Rows: int(r % 60), Scrollback: 10})
		s.Write(stream[:len(stream)/2])
		s.Resize(int(r%200), int(c%60))
		s.Write(stream[len(stream)/2:])
		s.Flush()
		check(t, s)
	})
}

func BenchmarkScreen(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	var log bytes.Buffer
	for log.Len() < 1<<20 {
		log.WriteString(strings.Repeat("some plain text of a log ", 1+random.IntN(4)) + "\r\n")
	}
	var coloured bytes.Buffer
	for coloured.Len() < 1<<20 {
		coloured.WriteString("\x1b[01;34mdirectory\x1b[0m  \x1b[32mfile.txt\x1b[0m\r\n")
	}
	streams := map[string][]byte{
		"text": log.Bytes(), "colour": coloured.Bytes(), "cjk": bytes.Repeat([]byte("漢字かな混じり文\r\n"), 1<<15),
		"vim": bytes.Repeat(recorded(b)["vim"], 100),
	}
	for name, stream := range streams {
		b.Run(name, func(b *testing.B) {
			s := New(Options{Cols: 80, Rows: 24, Scrollback: 1000})
			b.SetBytes(int64(len(stream)))
			for b.Loop() {
				s.Write(stream)
			}
		})
	}
}

// BenchmarkHostile shows that no short sequence costs a screenful of work, on the largest screen.
func BenchmarkHostile(b *testing.B) {
	for name, unit := range map[string]string{
		"reset": "\x1bc", "erase": "\x1b[2J", "scroll": "\x1b[999S", "alternate": "\x1b[?47h\x1b[?47l", "repeat": "x\x1b[9999b",
		"insert": "e\u0301\r\x1b[@", "dirty": "x\n\x1b[2J", "lines": "\x1b[L", "colours": "\x1b[41m\x1b[2J\x1b[42m\x1b[2J",
	} {
		b.Run(name, func(b *testing.B) {
			s := New(Options{Cols: MaxCols, Rows: MaxRows, Scrollback: 1000})
			stream := bytes.Repeat([]byte(unit), 1000)
			b.SetBytes(int64(len(stream)))
			for b.Loop() {
				s.Write(stream)
			}
		})
	}
}

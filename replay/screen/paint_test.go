package screen

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// alike fails unless the window of s that p shows looks the same on the terminal.
func alike(t interface{ Fatalf(string, ...any) }, p *Painter, s, terminal *Screen, history string) {
	cols, rows := s.Size()
	for y := range p.rows {
		// What combines with the last column is the terminal's to judge: the cursor stands on it or beyond it.
		atEdge := y+p.top < rows && p.left+p.cols <= cols && s.Line(y + p.top).Cells()[p.left+p.cols-1].mark != 0
		for x := range p.cols {
			got := terminal.Line(y).Cells()[x]
			want := Cell{Rune: ' ', Width: 1}
			if x+p.left < cols && y+p.top < rows {
				want = s.Line(y + p.top).Cells()[x+p.left]
			}
			if x == 0 && want.Width == 0 || x == p.cols-1 && want.Width == 2 { // half a wide character
				want.Rune, want.Width, want.mark = ' ', 1, 0
			}
			marks := want.mark == 0 && got.mark == 0 ||
				want.mark != 0 && got.mark != 0 && s.marks.text[want.mark] == terminal.marks.text[got.mark]
			if !marks && !atEdge {
				t.Fatalf("%q: marks at %d,%d are %q, want %q", history, x, y, terminal.marks.text[got.mark], s.marks.text[want.mark])
			}
			got.mark, want.mark = 0, 0
			if want.unseen() && got.unseen() {
				continue
			}
			if got != want {
				t.Fatalf("%q: cell %d,%d is %+v, want %+v", history, x, y, got, want)
			}
		}
	}
	x, y, visible := s.Cursor()
	gotX, gotY, gotVisible := terminal.Cursor()
	if gotX != x-p.left || gotY != y-p.top || gotVisible != visible || terminal.Reversed() != s.Reversed() {
		t.Fatalf("%q: cursor %d,%d %t, want %d,%d %t", history, gotX, gotY, gotVisible, x-p.left, y-p.top, visible)
	}
}

// Whatever a program draws, a terminal of whatever size shows what its screen shows, and painting once more is for
// nothing.
func TestPaintShowsTheScreen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 24)
		s := New(Options{Cols: size.Draw(t, "cols"), Rows: size.Draw(t, "rows")})
		p := NewPainter(size.Draw(t, "terminal cols"), size.Draw(t, "terminal rows"))
		terminal := New(Options{Cols: p.cols, Rows: p.rows})
		terminal.Write([]byte("$ watch\r\n"))
		before := terminal.Text()
		history := ""
		for range rapid.IntRange(1, 6).Draw(t, "rounds") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				s.Resize(size.Draw(t, "cols"), size.Draw(t, "rows"))
			case 1:
				p.Resize(size.Draw(t, "terminal cols"), size.Draw(t, "terminal rows"))
				terminal.Resize(p.cols, p.rows)
				before = ""
			default:
				stream := hostile(t)
				history += string(stream)
				s.Write(stream)
			}
			terminal.Write([]byte(p.Paint(s)))
			alike(t, p, s, terminal, history)
			if again := p.Paint(s); again != "" {
				t.Fatalf("%q: nothing changed, and %q is painted", history, again)
			}
		}
		terminal.Write([]byte(p.End()))
		if got := terminal.Text(); terminal.Alternate() || before != "" && got != before {
			t.Fatalf("afterwards the terminal shows\n%s", got)
		}
	})
}

// A change costs about what it changes.
func TestPaintDrawsOnlyWhatChanged(t *testing.T) {
	s, p := New(Options{Cols: 80, Rows: 24}), NewPainter(80, 24)
	if got := p.End(); got != "" {
		t.Errorf("nothing was painted, and %q ends it", got)
	}
	s.Write([]byte(strings.Repeat("a line that stays\r\n", 20)))
	p.Paint(s)
	s.Write([]byte("\x1b[1;31mls\x1b[m"))
	if got, want := p.Paint(s), "\x1b[?25l\x1b[21;1H\x1b[0;1;31mls\x1b[m\x1b[K\x1b[?5l\x1b[21;3H\x1b[?25h"; got != want {
		t.Errorf("painted %q, want %q", got, want)
	}
	s.Write([]byte("\r"))
	if got, want := p.Paint(s), "\x1b[?5l\x1b[21;1H\x1b[?25h"; got != want {
		t.Errorf("painted %q, want %q", got, want)
	}
}

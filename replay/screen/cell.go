package screen

import (
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// Color is a terminal colour: 0 is the default, [Palette] and [RGB] make the others.
type Color uint32

const (
	palette Color = 1 << 24
	rgb     Color = 2 << 24
)

// Palette is colour i of the 256-colour palette.
func Palette(i uint8) Color { return palette | Color(i) }

// RGB is a direct colour.
func RGB(r, g, b uint8) Color { return rgb | Color(r)<<16 | Color(g)<<8 | Color(b) }

// Index returns the palette index of c, if it has one.
func (c Color) Index() (uint8, bool) { return uint8(c), c&^0xff == palette }

// RGB returns the parts of a direct colour.
func (c Color) RGB() (r, g, b uint8, ok bool) {
	return uint8(c >> 16), uint8(c >> 8), uint8(c), c&^0xffffff == rgb
}

// Attr is a set of character attributes.
type Attr uint8

// The attributes that SGR sets.
const (
	Bold Attr = 1 << iota
	Faint
	Italic
	Underlined
	Blink
	Reverse
	Hidden
	Struck
)

// Cell is one character cell.
type Cell struct {
	Rune  rune // ' ' where nothing was written
	FG    Color
	BG    Color
	Attr  Attr
	Width uint8 // cells that the character takes: 2 for a wide one, whose right half is a cell of width 0
	mark  mark  // combining characters on it
}

// Line is one row of cells.
type Line struct {
	Wrapped bool // the text goes on in the next line without a line break
	cells   []Cell
	marks   *marks // of the screen
	wide    bool   // may hold wide characters
	clean   bool   // every cell is blank, whatever cells holds: see settle
	blank   Cell
}

func newLine(cols int, blank Cell, m *marks) *Line {
	l := &Line{cells: make([]Cell, cols), marks: m}
	l.clear(blank)
	return l
}

// clear makes l an empty line again. The cells are written only when one of them is used, so that erasing the same
// lines over and over costs next to nothing.
func (l *Line) clear(blank Cell) {
	l.Wrapped, l.wide, l.clean, l.blank = false, false, true, blank
}

// settle writes what clear left out.
func (l *Line) settle() {
	if !l.clean {
		return
	}
	for i := range l.cells {
		l.cells[i] = l.blank
	}
	l.clean = false
}

// Cells is the cells of the line; don't change them.
func (l *Line) Cells() []Cell {
	l.settle()
	return l.cells
}

// fill sets the cells from x to before end, and blanks the wide characters that it halves.
func (l *Line) fill(x, end int, c Cell) {
	if x >= end {
		return
	}
	if x == 0 && end == len(l.cells) {
		l.clear(c)
		return
	}
	l.change(x, end)
	for i := x; i < end; i++ {
		l.cells[i] = c
	}
	if end == len(l.cells) {
		l.Wrapped = false
	}
}

// change is called before the cells from x to before end are written.
func (l *Line) change(x, end int) {
	l.settle()
	l.split(x)
	l.split(end)
}

// split blanks a wide character that a change beginning or ending at x would cut in two.
func (l *Line) split(x int) {
	if !l.wide || x <= 0 || x >= len(l.cells) || l.cells[x].Width != 0 {
		return
	}
	for i := x - 1; i <= x; i++ {
		l.cells[i].Rune, l.cells[i].Width, l.cells[i].mark = ' ', 1, 0
	}
}

// insert moves the cells from x to the right by n, which drops those at the end.
func (l *Line) insert(x, n int, blank Cell) {
	l.change(x, len(l.cells)-n)
	copy(l.cells[x+n:], l.cells[x:])
	l.fill(x, x+n, blank)
	l.Wrapped = false
}

// remove takes n cells out at x and moves the rest to the left.
func (l *Line) remove(x, n int, blank Cell) {
	l.change(x, x+n)
	copy(l.cells[x:], l.cells[x+n:])
	for i := len(l.cells) - n; i < len(l.cells); i++ { // not fill: the copy may have left half a wide character here
		l.cells[i] = blank
	}
	l.Wrapped = false
}

// resize gives the line cols cells.
func (l *Line) resize(cols int, blank Cell) {
	if old := len(l.cells); cols > old {
		l.settle()
		for range cols - old { // not fill: no cell of the new ones halves a wide character
			l.cells = append(l.cells, blank)
		}
		l.Wrapped = false
		return
	}
	if !l.clean {
		l.split(cols)
	}
	l.cells = l.cells[:cols]
}

// Blank reports whether the line reads as nothing.
func (l *Line) Blank() bool {
	if l.clean {
		return true
	}
	for _, c := range l.cells {
		if c.Rune != ' ' || c.mark != 0 {
			return false
		}
	}
	return true
}

// Text is what the line reads, without the blanks at its end.
func (l *Line) Text() string {
	if l.clean {
		return ""
	}
	return strings.TrimRight(l.Full(), " ")
}

// Full is what the line reads, with the blanks at its end.
func (l *Line) Full() string {
	l.settle()
	var b strings.Builder
	b.Grow(len(l.cells))
	for _, c := range l.cells {
		if c.Width == 0 {
			continue
		}
		b.WriteRune(c.Rune)
		if c.mark != 0 {
			b.WriteString(l.marks.text[c.mark])
		}
	}
	return b.String()
}

// Marks returns the combining characters on the cell at x.
func (l *Line) Marks(x int) string { return l.marks.text[l.Cells()[x].mark] }

// mark stands for a string of combining characters in a table of the screen; 0 for none.
type mark uint16

// maxMark is the longest string of combining characters that one cell keeps, in bytes.
const maxMark = 32

// marks is the table. It is bounded by the range of mark: a screen that has met 65,535 different strings (no writing
// system comes near) drops new ones.
type marks struct {
	text  []string
	known map[string]mark
}

func newMarks() *marks { return &marks{text: []string{""}, known: map[string]mark{"": 0}} }

// add returns the mark for r on top of m.
func (t *marks) add(m mark, r rune) mark {
	s := t.text[m] + string(r)
	if k, ok := t.known[s]; ok {
		return k
	}
	if len(s) > maxMark || len(t.text) > math.MaxUint16 {
		return m
	}
	t.text = append(t.text, s)
	t.known[s] = mark(len(t.text) - 1)
	return t.known[s]
}

// width is how many cells r takes: wcwidth(3).
func width(r rune) int {
	switch {
	case r < 0x300 || r == utf8.RuneError:
		return 1
	case r >= 0x4e00 && r <= 0x9fff: // the common ideographs
		return 2
	}
	return min(ansi.StringWidthWc(string(r)), 2)
}

// reorders reports whether r changes the order in which text around it is shown: a picture made of cells has no use
// for it, and text copied out of it would read differently from what was seen.
func reorders(r rune) bool { return r >= 0x61c && unicode.Is(unicode.Bidi_Control, r) }

package screen

import (
	"strings"
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
type Attr uint16

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
}

// Line is one row of cells.
type Line struct {
	Cells   []Cell
	Wrapped bool // the text goes on in the next line without a line break
	special bool // holds wide characters or marks
	marks   map[int]string
}

const (
	maxMarks     = 32   // bytes of combining characters that one cell keeps
	maxLineMarks = 4096 // cells of a line that may have some
)

func newLine(cols int, blank Cell) *Line {
	l := &Line{Cells: make([]Cell, cols)}
	l.fill(0, cols, blank)
	return l
}

// clear makes l an empty line again.
func (l *Line) clear(blank Cell) {
	l.Wrapped, l.special = false, false
	clear(l.marks)
	l.fill(0, len(l.Cells), blank)
}

// fill sets the cells from x to before end, and blanks the wide characters that it halves.
func (l *Line) fill(x, end int, c Cell) {
	if x >= end {
		return
	}
	l.split(x)
	l.split(end)
	for i := x; i < end; i++ {
		l.Cells[i] = c
	}
	if len(l.marks) > 0 {
		for i := x; i < end; i++ {
			delete(l.marks, i)
		}
	}
	if end == len(l.Cells) {
		l.Wrapped = false
	}
}

// split blanks a wide character that a change beginning or ending at x would cut in two.
func (l *Line) split(x int) {
	if !l.special || x <= 0 || x >= len(l.Cells) || l.Cells[x].Width != 0 {
		return
	}
	l.Cells[x-1].Rune, l.Cells[x-1].Width = ' ', 1
	l.Cells[x].Rune, l.Cells[x].Width = ' ', 1
	delete(l.marks, x-1)
}

// insert moves the cells from x to the right by n, which drops those at the end.
func (l *Line) insert(x, n int, blank Cell) {
	l.split(x)
	l.split(len(l.Cells) - n)
	copy(l.Cells[x+n:], l.Cells[x:])
	l.moveMarks(x, n)
	l.fill(x, x+n, blank)
	l.Wrapped = false
}

// remove takes n cells out at x and moves the rest to the left.
func (l *Line) remove(x, n int, blank Cell) {
	l.split(x)
	l.split(x + n)
	copy(l.Cells[x:], l.Cells[x+n:])
	l.moveMarks(x+n, -n)
	for i := len(l.Cells) - n; i < len(l.Cells); i++ { // not fill: the copy may have left half a wide character here
		l.Cells[i] = blank
	}
	l.Wrapped = false
}

func (l *Line) moveMarks(from, by int) {
	if len(l.marks) == 0 {
		return
	}
	moved := make(map[int]string, len(l.marks))
	for x, m := range l.marks {
		switch {
		case x < from && (by > 0 || x < from+by):
			moved[x] = m
		case x >= from && x+by < len(l.Cells):
			moved[x+by] = m
		}
	}
	l.marks = moved
}

// mark adds a combining character to the cell at x.
func (l *Line) mark(x int, r rune) {
	if l.marks == nil {
		l.marks = map[int]string{}
	}
	if m, ok := l.marks[x]; len(m) < maxMarks && (ok || len(l.marks) < maxLineMarks) {
		l.marks[x] = m + string(r)
		l.special = true
	}
}

// resize gives the line cols cells.
func (l *Line) resize(cols int, blank Cell) {
	if old := len(l.Cells); cols > old {
		l.Cells = append(l.Cells, make([]Cell, cols-old)...)
		l.fill(old, cols, blank)
		return
	}
	l.split(cols)
	l.Cells = l.Cells[:cols]
	for x := range l.marks {
		if x >= cols {
			delete(l.marks, x)
		}
	}
}

// Text is what the line reads, without the blanks at its end.
func (l *Line) Text() string {
	var b strings.Builder
	l.appendText(&b, 0, len(l.Cells))
	return strings.TrimRight(b.String(), " ")
}

// appendText writes the characters of the cells from x to before end.
func (l *Line) appendText(b *strings.Builder, x, end int) {
	for i, c := range l.Cells[x:end] {
		if c.Width == 0 {
			continue
		}
		b.WriteRune(c.Rune)
		if l.special {
			b.WriteString(l.marks[x+i])
		}
	}
}

// Marks returns the combining characters on the cell at x.
func (l *Line) Marks(x int) string { return l.marks[x] }

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
func reorders(r rune) bool {
	switch {
	case r == 0x61c, r == 0x200e, r == 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return true
	}
	return false
}

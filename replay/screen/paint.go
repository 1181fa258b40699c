package screen

import (
	"fmt"
	"strconv"
	"strings"
)

// Painter draws a [Screen] on a person's terminal, and afterwards what has changed since. What it writes is made from
// cells, so nothing that a program sent reaches that terminal as it was sent. It uses the alternate buffer.
//
// Where the terminal is smaller than the screen, it shows the part around the cursor.
type Painter struct {
	cols, rows int      // of the terminal
	left, top  int      // which cell of the screen stands in the terminal's upper left corner
	shown      []string // what each row was last given; "" if that is not known
	tail       string   // what the cursor and the modes were last given
	begun      bool
}

// NewPainter returns a painter for a terminal of a size, clamped as that of a screen is.
func NewPainter(cols, rows int) *Painter {
	p := &Painter{}
	p.Resize(cols, rows)
	return p
}

// Resize tells the terminal's new size. The next [Painter.Paint] draws everything.
func (p *Painter) Resize(cols, rows int) {
	p.cols, p.rows = clamp(cols, 1, MaxCols), clamp(rows, 1, MaxRows)
	p.shown, p.tail = nil, ""
}

// Paint is what the terminal must be given to show s: nothing if it does already.
func (p *Painter) Paint(s *Screen) string {
	var b strings.Builder
	if !p.begun {
		b.WriteString("\x1b[?1049h\x1b[?7l\x1b[?6l\x1b[r\x1b[4l\x1b(B\x0f")
		p.begun = true
	}
	if p.shown == nil {
		b.WriteString("\x1b[m\x1b[2J")
		p.shown = make([]string, p.rows)
	}
	x, y, visible := s.Cursor()
	p.left, p.top = around(p.left, x, p.cols, s.cols), around(p.top, y, p.rows, s.rows)
	for i := range p.shown {
		row := p.row(s, p.top+i)
		if row == p.shown[i] {
			continue
		}
		fmt.Fprintf(&b, "\x1b[?25l\x1b[%d;1H%s", i+1, row)
		p.shown[i] = row
	}
	tail := fmt.Sprintf("\x1b[?5%c\x1b[%d;%dH\x1b[?25%c", mode(s.reverse), y-p.top+1, x-p.left+1, mode(visible))
	if b.Len() == 0 && tail == p.tail {
		return ""
	}
	p.tail = tail
	return b.String() + tail
}

// End is what puts the terminal back to what it showed before the first Paint.
func (p *Painter) End() string {
	if !p.begun {
		return ""
	}
	*p = Painter{cols: p.cols, rows: p.rows}
	return "\x1b[m\x1b[?5l\x1b[?7h\x1b[?25h\x1b[?1049l"
}

// mode is the final that sets a mode or resets it.
func mode(on bool) byte {
	if on {
		return 'h'
	}
	return 'l'
}

// around moves a window of room cells, which begins at from, no further than it takes to hold the cursor.
func around(from, cursor, room, size int) int {
	return clamp(clamp(from, cursor-room+1, cursor), 0, max(0, size-room))
}

// row is what draws row y of the screen on a line of the terminal, whatever that shows. It is never empty.
func (p *Painter) row(s *Screen, y int) string {
	if y >= s.rows {
		return "\x1b[K"
	}
	l := s.Line(y)
	cells := l.Cells()[p.left:]
	cells = cells[:min(len(cells), p.cols)]
	end := len(cells)
	for end > 0 && cells[end-1].unseen() {
		end--
	}
	var b strings.Builder
	var pen Cell
	for i, c := range cells[:end] {
		cut := c.Width == 0 && i == 0 || c.Width == 2 && i+1 == len(cells)
		if c.Width == 0 && !cut {
			continue
		}
		if c.FG != pen.FG || c.BG != pen.BG || c.Attr != pen.Attr {
			b.WriteString(c.style())
			pen = c
		}
		if cut { // half of a wide character
			b.WriteByte(' ')
			continue
		}
		b.WriteRune(c.Rune)
		if c.mark != 0 {
			b.WriteString(l.marks.text[c.mark])
		}
	}
	if pen.FG != 0 || pen.BG != 0 || pen.Attr != 0 {
		b.WriteString("\x1b[m")
	}
	if end < p.cols { // at the end of a full row the cursor still stands on its last cell
		b.WriteString("\x1b[K")
	}
	return b.String()
}

// unseen reports whether the cell looks like one that was never written.
func (c *Cell) unseen() bool {
	return c.Rune == ' ' && c.Width == 1 && c.mark == 0 && c.BG == 0 && c.Attr == 0
}

// style is the SGR sequence for the cell's colours and attributes, from whatever came before.
func (c *Cell) style() string {
	b := []byte("\x1b[0")
	for i, code := range [...]string{";1", ";2", ";3", ";4", ";5", ";7", ";8", ";9"} {
		if c.Attr&(1<<i) != 0 {
			b = append(b, code...)
		}
	}
	b = c.FG.appendTo(b, 30)
	b = c.BG.appendTo(b, 40)
	return string(append(b, 'm'))
}

// appendTo appends the SGR parameters that set the colour; base is 30 for the foreground, 40 for the background.
func (c Color) appendTo(b []byte, base int) []byte {
	if i, ok := c.Index(); ok {
		switch {
		case i < 8:
			return strconv.AppendInt(append(b, ';'), int64(base)+int64(i), 10)
		case i < 16:
			return strconv.AppendInt(append(b, ';'), int64(base)+60+int64(i-8), 10)
		}
		return fmt.Appendf(b, ";%d;5;%d", base+8, i)
	}
	if red, green, blue, ok := c.RGB(); ok {
		return fmt.Appendf(b, ";%d;2;%d;%d;%d", base+8, red, green, blue)
	}
	return b
}

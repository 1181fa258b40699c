package screen

import (
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// sink takes what a screen's Scanner finds.
type sink Screen

// Text draws printable US-ASCII.
func (k *sink) Text(ascii []byte) { (*Screen)(k).text(ascii) }

// Rune draws any other character.
func (k *sink) Rune(r rune) { (*Screen)(k).rune(r) }

// Control runs a C0 control.
func (k *sink) Control(b byte) { (*Screen)(k).c0(b) }

// Escape runs ESC and its final.
func (k *sink) Escape(cmd ansi.Cmd) { (*Screen)(k).escape(cmd) }

// CSI runs a control sequence.
func (k *sink) CSI(cmd ansi.Cmd, p ansi.Params) { (*Screen)(k).csi(cmd, p) }

// OSC takes the title.
func (k *sink) OSC(number int, data []byte, _ bool) { (*Screen)(k).osc(number, data) }

// text draws printable US-ASCII.
func (s *Screen) text(ascii []byte) {
	if s.insert || s.charsets[s.shift] == '0' || s.noWrap {
		for _, b := range ascii {
			s.draw(s.translate(rune(b)), 1)
		}
		return
	}
	s.lastRune = rune(ascii[len(ascii)-1])
	for len(ascii) > 0 {
		if s.wrapNext {
			s.wrap()
		}
		l := s.lines[s.y]
		n := min(s.cols-s.x, len(ascii))
		l.change(s.x, s.x+n)
		c := s.pen
		c.Width = 1
		for i, b := range ascii[:n] {
			c.Rune = rune(b)
			l.cells[s.x+i] = c
		}
		s.advance(n)
		ascii = ascii[n:]
	}
}

// rune draws a character outside US-ASCII.
func (s *Screen) rune(r rune) {
	if reorders(r) {
		return
	}
	w := width(r)
	if w == 0 {
		s.combine(r)
		return
	}
	s.draw(r, w)
}

// draw puts one character at the cursor.
func (s *Screen) draw(r rune, w int) {
	if w > s.cols {
		return
	}
	s.lastRune = r
	if s.wrapNext || s.x+w > s.cols {
		if s.noWrap {
			s.x = s.cols - w
		} else {
			s.wrap()
		}
	}
	l := s.lines[s.y]
	if s.insert && s.x+w < s.cols {
		l.insert(s.x, w, s.blank())
	}
	l.change(s.x, s.x+w)
	c := s.pen
	c.Rune, c.Width = r, uint8(w)
	l.cells[s.x] = c
	if w == 2 {
		l.wide = true
		c.Rune, c.Width = ' ', 0
		l.cells[s.x+1] = c
	}
	s.advance(w)
}

// advance moves the cursor past n cells that were written; in the last column it stays, and the next character wraps.
func (s *Screen) advance(n int) {
	s.x += n
	if s.x >= s.cols {
		s.x = s.cols - 1
		s.wrapNext = !s.noWrap
	}
}

// wrap goes on in the next line.
func (s *Screen) wrap() {
	s.lines[s.y].Wrapped = true
	s.x, s.wrapNext = 0, false
	s.index()
}

// combine adds a character of no width to the one before the cursor.
func (s *Screen) combine(r rune) {
	l, x := s.lines[s.y], s.x
	if !s.wrapNext {
		x--
	}
	if x > 0 && l.Cells()[x].Width == 0 {
		x--
	}
	if x >= 0 {
		l.settle()
		l.cells[x].mark = s.marks.add(l.cells[x].mark, r)
	}
}

// translate maps a US-ASCII character by the character set in use.
func (s *Screen) translate(r rune) rune {
	if s.charsets[s.shift] == '0' && r >= '_' && r <= '~' {
		g, _ := utf8.DecodeRuneInString(lineDrawing[r-'_'])
		return g
	}
	return r
}

// lineDrawing is the DEC Special Graphics set, from '_' to '~'.
var lineDrawing = [...]string{
	" ", "◆", "▒", "␉", "␌", "␍", "␊", "°", "±", "␤", "␋", "┘", "┐", "┌", "└", "┼",
	"⎺", "⎻", "─", "⎼", "⎽", "├", "┤", "┴", "┬", "│", "≤", "≥", "π", "≠", "£", "·",
}

// c0 runs a C0 control.
func (s *Screen) c0(b byte) {
	switch b {
	case '\b':
		s.x, s.wrapNext = max(0, s.x-1), false
	case '\t':
		s.tab(1)
	case '\n', '\v', '\f':
		s.index()
		s.wrapNext = false
		if s.newLine {
			s.x = 0
		}
	case '\r':
		s.x, s.wrapNext = 0, false
	case 0x0e:
		s.shift = 1
	case 0x0f:
		s.shift = 0
	}
}

// tab moves n stops to the right, or to the left if n is negative.
func (s *Screen) tab(n int) {
	for ; n > 0 && s.x < s.cols-1; n-- {
		for s.x++; s.x < s.cols-1 && !s.tabs[s.x]; s.x++ {
		}
	}
	for ; n < 0 && s.x > 0; n++ {
		for s.x--; s.x > 0 && !s.tabs[s.x]; s.x-- {
		}
		s.wrapNext = false
	}
}

// index moves down one line, and scrolls at the bottom of the region.
func (s *Screen) index() {
	switch {
	case s.y == s.bottom:
		s.scrollUp(s.top, 1, true)
	case s.y < s.rows-1:
		s.y++
	}
}

// reverseIndex moves up one line, and scrolls at the top of the region.
func (s *Screen) reverseIndex() {
	switch {
	case s.y == s.top:
		s.scrollDown(s.top, 1)
	case s.y > 0:
		s.y--
	}
}

// scrollUp moves the lines from top to the bottom of the region up by n. Those that leave the primary buffer at its
// first row go to the scrollback if keep is set.
func (s *Screen) scrollUp(top, n int, keep bool) {
	n = min(n, s.bottom-top+1)
	keep = keep && top == 0 && !s.onAlternate
	region := s.lines[top : s.bottom+1]
	gone := append(s.moved[:0], region[:n]...)
	copy(region, region[n:])
	for i, l := range gone {
		if keep {
			l = s.keep(l)
		}
		region[len(region)-n+i] = s.renew(l)
	}
}

// scrollDown moves the lines from top to the bottom of the region down by n.
func (s *Screen) scrollDown(top, n int) {
	n = min(n, s.bottom-top+1)
	region := s.lines[top : s.bottom+1]
	gone := append(s.moved[:0], region[len(region)-n:]...)
	copy(region[n:], region)
	for i, l := range gone {
		region[i] = s.renew(l)
	}
}

// renew makes an empty line, out of l if there is one.
func (s *Screen) renew(l *Line) *Line {
	if l == nil || cap(l.cells) < s.cols {
		return newLine(s.cols, s.blank(), s.marks)
	}
	l.cells = l.cells[:s.cols]
	l.clear(s.blank())
	return l
}

// erase blanks the rows from y to before end.
func (s *Screen) erase(y, end int) {
	for ; y < end; y++ {
		s.lines[y].clear(s.blank())
	}
}

// keepAll puts what the primary buffer shows into the scrollback before it is erased as a whole.
func (s *Screen) keepAll() {
	if s.onAlternate {
		return
	}
	last := len(s.lines)
	for last > 0 && s.lines[last-1].Blank() {
		last--
	}
	for i, l := range s.lines[:last] {
		s.lines[i] = s.renew(s.keep(l))
	}
}

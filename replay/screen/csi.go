package screen

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// csi runs a control sequence. Unknown ones are ignored, and so is every query.
func (s *Screen) csi(cmd ansi.Cmd, params ansi.Params) {
	switch {
	case cmd.Intermediate() == 0 && cmd.Prefix() == 0:
		s.control(cmd.Final(), params)
	case cmd.Intermediate() == 0 && cmd.Prefix() == '?':
		s.private(cmd.Final(), params)
	case cmd.Intermediate() == '!' && cmd.Prefix() == 0 && cmd.Final() == 'p':
		s.softReset()
	}
}

// count is parameter i as a number of times: at least 1, at most as large as a screen can be.
func count(p ansi.Params, i int) int {
	v, _, _ := p.Param(i, 1)
	return clamp(v, 1, MaxCols)
}

// value is parameter i as a number that may be 0.
func value(p ansi.Params, i int) int {
	v, _, _ := p.Param(i, 0)
	return max(0, v)
}

func (s *Screen) control(final byte, p ansi.Params) {
	n := count(p, 0)
	switch final {
	case 'A':
		s.moveVertical(-n)
	case 'B', 'e':
		s.moveVertical(n)
	case 'C', 'a':
		s.moveTo(s.x+n, s.y)
	case 'D':
		s.moveTo(s.x-n, s.y)
	case 'E':
		s.moveVertical(n)
		s.moveTo(0, s.y)
	case 'F':
		s.moveVertical(-n)
		s.moveTo(0, s.y)
	case 'G', '`':
		s.moveTo(n-1, s.y)
	case 'd':
		s.address(s.x, n-1)
	case 'H', 'f':
		s.address(count(p, 1)-1, n-1)
	case 'I':
		s.tab(n)
	case 'Z':
		s.tab(-n)
	case 'b':
		s.repeat(n)
	case 'h', 'l':
		s.setModes(p, final == 'h')
	case 'm':
		s.style(p)
	case 'r':
		s.setRegion(p)
	case 's':
		s.save()
	case 'u':
		s.restore()
	case 'g':
		s.clearTabs(value(p, 0))
	default:
		s.edit(final, p, n)
	}
}

// edit runs the sequences that insert, delete, erase and scroll.
func (s *Screen) edit(final byte, p ansi.Params, n int) {
	l, room := s.lines[s.y], s.cols-s.x
	switch final {
	case '@':
		l.insert(s.x, min(n, room), s.blank())
	case 'P':
		l.remove(s.x, min(n, room), s.blank())
	case 'X':
		l.fill(s.x, s.x+min(n, room), s.blank())
	case 'J':
		s.eraseDisplay(value(p, 0))
		return
	case 'K':
		s.eraseLine(value(p, 0))
		return
	case 'L', 'M':
		if s.y < s.top || s.y > s.bottom {
			return
		}
		if final == 'L' {
			s.scrollDown(s.y, n)
		} else {
			s.scrollUp(s.y, n, false)
		}
		s.x = 0
	case 'S':
		s.scrollUp(s.top, n, true)
	case 'T':
		if len(p) <= 1 { // with five it starts highlight tracking
			s.scrollDown(s.top, n)
		}
	default:
		return
	}
	s.wrapNext = false
}

func (s *Screen) eraseLine(what int) {
	l := s.lines[s.y]
	switch what {
	case 0:
		l.fill(s.x, s.cols, s.blank())
	case 1:
		l.fill(0, s.x+1, s.blank())
	case 2:
		l.fill(0, s.cols, s.blank())
	}
	s.wrapNext = false
}

func (s *Screen) eraseDisplay(what int) {
	switch what {
	case 0:
		if s.x == 0 && s.y == 0 {
			s.keepAll()
		}
		s.eraseLine(0)
		s.erase(s.y+1, s.rows)
	case 1:
		s.erase(0, s.y)
		s.eraseLine(1)
	case 2:
		s.keepAll()
		s.erase(0, s.rows)
	case 3:
		s.history, s.first = nil, 0
	}
}

// moveTo goes to a column and a row of the screen.
func (s *Screen) moveTo(x, y int) {
	s.x, s.y, s.wrapNext = clamp(x, 0, s.cols-1), clamp(y, 0, s.rows-1), false
}

// moveVertical goes up or down, and not out of the scroll region if it begins inside.
func (s *Screen) moveVertical(n int) {
	lo, hi := 0, s.rows-1
	if s.y >= s.top && n < 0 {
		lo = s.top
	}
	if s.y <= s.bottom && n > 0 {
		hi = s.bottom
	}
	s.moveTo(s.x, clamp(s.y+n, lo, hi))
}

// address goes to a column and a row that counts as DECOM says.
func (s *Screen) address(x, y int) {
	if s.origin {
		s.moveTo(x, clamp(s.top+y, s.top, s.bottom))
		return
	}
	s.moveTo(x, y)
}

// repeat draws the last character again.
func (s *Screen) repeat(n int) {
	if s.lastRune == 0 {
		return
	}
	for range n {
		s.draw(s.lastRune, width(s.lastRune))
	}
}

func (s *Screen) setRegion(p ansi.Params) {
	top, bottom := count(p, 0)-1, s.rows-1
	if v := value(p, 1); v > 0 {
		bottom = min(v, s.rows) - 1
	}
	if top >= bottom {
		return
	}
	s.top, s.bottom = top, bottom
	s.address(0, 0)
}

func (s *Screen) clearTabs(what int) {
	switch what {
	case 0:
		s.tabs[s.x] = false
	case 3:
		s.tabs = [MaxCols]bool{}
	}
}

func (s *Screen) setModes(p ansi.Params, on bool) {
	for i := range p {
		switch value(p, i) {
		case 4:
			s.insert = on
		case 20:
			s.newLine = on
		}
	}
}

// private runs the sequences with "?": DEC's and xterm's own.
func (s *Screen) private(final byte, p ansi.Params) {
	switch final {
	case 'J':
		s.eraseDisplay(value(p, 0))
	case 'K':
		s.eraseLine(value(p, 0))
	case 'h', 'l':
		for i := range p {
			s.setPrivate(value(p, i), final == 'h')
		}
	}
}

func (s *Screen) setPrivate(mode int, on bool) {
	switch mode {
	case 5:
		s.reverse = on
	case 6:
		s.origin = on
		s.address(0, 0)
	case 7:
		s.noWrap = !on
		s.wrapNext = s.wrapNext && on
	case 25:
		s.cursorHidden = !on
	case 47, 1047:
		s.setAlternate(on, mode == 1047 && !on)
	case 1048:
		if on {
			s.save()
		} else {
			s.restore()
		}
	case 1049:
		s.fullScreen(on)
	}
}

// fullScreen enters or leaves the alternate buffer with the cursor saved, as terminfo's smcup and rmcup do.
func (s *Screen) fullScreen(on bool) {
	switch {
	case on && !s.onAlternate:
		s.save()
		s.setAlternate(true, true)
	case !on && s.onAlternate:
		s.setAlternate(false, false)
		s.restore()
	}
}

// setAlternate shows one of the two buffers; wipe empties the alternate one.
func (s *Screen) setAlternate(on, wipe bool) {
	if wipe && (on || s.onAlternate) {
		for _, l := range s.alternate {
			l.clear(s.blank())
		}
	}
	s.onAlternate = on
	if s.lines = s.primary; on {
		s.lines = s.alternate
	}
}

func (s *Screen) slot() *cursor {
	if s.onAlternate {
		return &s.saved[1]
	}
	return &s.saved[0]
}

func (s *Screen) save() { *s.slot() = s.cursor }

func (s *Screen) restore() { s.cursor = *s.slot() }

func (s *Screen) softReset() {
	s.insert, s.origin, s.noWrap, s.cursorHidden = false, false, false, false
	s.top, s.bottom = 0, s.rows-1
	s.pen, s.charsets, s.shift = Cell{}, [4]byte{}, 0
	*s.slot() = cursor{}
}

// escape runs a sequence of ESC and a final.
func (s *Screen) escape(cmd ansi.Cmd) {
	switch in, final := cmd.Intermediate(), cmd.Final(); {
	case in >= '(' && in <= '+':
		s.charsets[in-'('] = final
	case in != 0:
	case final == '7':
		s.save()
	case final == '8':
		s.restore()
	case final == 'D':
		s.index()
		s.wrapNext = false
	case final == 'E':
		s.index()
		s.moveTo(0, s.y)
	case final == 'H':
		s.tabs[s.x] = true
	case final == 'M':
		s.reverseIndex()
		s.wrapNext = false
	case final == 'c':
		s.lines, s.onAlternate = s.primary, false
		s.keepAll()
		s.reset()
	case final == 'n':
		s.shift = 2
	case final == 'o':
		s.shift = 3
	}
}

// osc takes the window title; other commands are ignored.
func (s *Screen) osc(number int, data []byte) {
	if number != 0 && number != 2 {
		return
	}
	_, title, _ := strings.Cut(string(data), ";")
	s.title = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || reorders(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(title, "\uFFFD"))
}

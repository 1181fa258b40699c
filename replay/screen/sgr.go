package screen

import "github.com/charmbracelet/x/ansi"

// style runs SGR: ECMA-48 section 8.3.117, with the colours of ISO 8613-6 in both spellings (38;5;n and 38:5:n).
func (s *Screen) style(p ansi.Params) {
	if len(p) == 0 {
		s.resetPen()
		return
	}
	for i := 0; i < len(p); {
		n := 1
		switch v := value(p, i); {
		case v == 38 || v == 48 || v == 58:
			var c Color
			var ok bool
			if c, n, ok = color(p[i:]); ok {
				s.setColor(v, c)
			}
		case p[i].HasMore():
			n = group(p[i:])
			if v == 4 { // underline with a style; 4:0 is none
				s.setAttr(Underlined, value(p, i+1) != 0)
			}
		default:
			s.attribute(v)
		}
		i += n
	}
}

func (s *Screen) resetPen() { s.pen = Cell{} }

func (s *Screen) setColor(v int, c Color) {
	switch v {
	case 38:
		s.pen.FG = c
	case 48:
		s.pen.BG = c
	}
}

func (s *Screen) setAttr(a Attr, on bool) {
	if s.pen.Attr &^= a; on {
		s.pen.Attr |= a
	}
}

func (s *Screen) attribute(v int) {
	switch {
	case v == 0:
		s.resetPen()
	case v <= 9:
		s.setAttr([...]Attr{1: Bold, Faint, Italic, Underlined, Blink, Blink, Reverse, Hidden, Struck}[v], true)
	case v == 21:
		s.setAttr(Underlined, true)
	case v == 22:
		s.setAttr(Bold|Faint, false)
	case v >= 23 && v <= 29 && v != 26:
		s.setAttr([...]Attr{Italic, Underlined, Blink, 0, Reverse, Hidden, Struck}[v-23], false)
	case v >= 30 && v <= 37:
		s.pen.FG = Palette(uint8(v - 30))
	case v == 39:
		s.pen.FG = 0
	case v >= 40 && v <= 47:
		s.pen.BG = Palette(uint8(v - 40))
	case v == 49:
		s.pen.BG = 0
	case v >= 90 && v <= 97:
		s.pen.FG = Palette(uint8(v - 90 + 8))
	case v >= 100 && v <= 107:
		s.pen.BG = Palette(uint8(v - 100 + 8))
	}
}

// group counts the parameters that colons join at the start of p.
func group(p ansi.Params) int {
	for i := range p {
		if !p[i].HasMore() {
			return i + 1
		}
	}
	return len(p)
}

// color reads a colour that begins with 38, 48 or 58, and counts the parameters that it takes.
func color(p ansi.Params) (c Color, n int, ok bool) {
	args := p[1:]
	if p[0].HasMore() {
		n = group(p)
		args = p[1:n]
		if len(args) >= 5 && value(args, 0) == 2 { // 38:2:space:r:g:b
			args = append(ansi.Params{args[0]}, args[2:]...)
		}
	}
	byteAt := func(i int) uint8 { return uint8(clamp(value(args, i), 0, 255)) }
	switch kind := value(args, 0); {
	case kind == 5 && len(args) >= 2:
		return Palette(byteAt(1)), max(n, 3), true
	case kind == 2 && len(args) >= 4:
		return RGB(byteAt(1), byteAt(2), byteAt(3)), max(n, 5), true
	}
	return 0, max(n, len(p)), false
}

package screen

import "strings"

// Bounds of a screen's size: what is asked for beyond them is clamped.
const (
	MaxCols = 1000
	MaxRows = 500
)

// maxHistoryCells bounds the memory of the scrollback (16 bytes a cell), whatever number of lines was asked for.
const maxHistoryCells = 2 << 20

// Options of a new screen.
type Options struct {
	Cols, Rows int // clamped to 1 … [MaxCols], 1 … [MaxRows]
	Scrollback int // lines kept of what scrolled off the top of the primary buffer
	// OnScroll, if set, is given each line that leaves the primary buffer at the top: scrolled off, erased with the
	// whole display, or pushed out by a resize. The line is valid only during the call.
	OnScroll func(*Line)
}

// Screen is a terminal's picture. It is not safe for concurrent use.
type Screen struct {
	opts       Options
	cols, rows int
	scanner    *Scanner

	primary, alternate []*Line
	lines              []*Line // the active one of the two
	onAlternate        bool
	history            []*Line // ring; the oldest is at first
	marks              *marks
	moved              [MaxRows]*Line // scratch of a scroll
	first              int

	cursor
	saved       [2]cursor // of the primary and of the alternate buffer
	top, bottom int       // scroll region, bottom included
	tabs        [MaxCols]bool
	modes
	title    string
	lastRune rune // for REP; 0 if there is none
}

// cursor is what DECSC saves.
type cursor struct {
	x, y     int
	wrapNext bool // the last column was written: the next character goes to the next line
	pen      Cell // its Rune and Width are not used
	origin   bool // DECOM: rows count from the top of the scroll region
	charsets [4]byte
	shift    int // which of charsets is in use
}

type modes struct {
	noWrap       bool // DECAWM off
	insert       bool // IRM
	newLine      bool // LNM
	cursorHidden bool // DECTCEM off
	reverse      bool // DECSCNM
}

// New returns an empty screen.
func New(o Options) *Screen {
	s := &Screen{opts: o, marks: newMarks()}
	s.cols, s.rows = clamp(o.Cols, 1, MaxCols), clamp(o.Rows, 1, MaxRows)
	s.opts.Scrollback = max(0, o.Scrollback)
	s.primary, s.alternate = s.newBuffer(), s.newBuffer()
	s.scanner = NewScanner((*sink)(s))
	s.reset()
	return s
}

func (s *Screen) newBuffer() []*Line {
	b := make([]*Line, s.rows)
	for i := range b {
		b[i] = newLine(s.cols, Cell{Rune: ' ', Width: 1}, s.marks)
	}
	return b
}

// reset is RIS, but keeps what is in the scrollback.
func (s *Screen) reset() {
	s.lines, s.onAlternate = s.primary, false
	s.cursor = cursor{}
	s.saved = [2]cursor{}
	s.modes = modes{}
	s.top, s.bottom = 0, s.rows-1
	s.title, s.lastRune = "", 0
	for i := range s.tabs {
		s.tabs[i] = i%8 == 0
	}
	for _, b := range [][]*Line{s.primary, s.alternate} {
		for _, l := range b {
			l.clear(s.blank())
		}
	}
}

// Write shows p. It never fails.
func (s *Screen) Write(p []byte) (int, error) { return s.scanner.Write(p) }

// Flush shows a character that the end of input cut as U+FFFD.
func (s *Screen) Flush() { s.scanner.Flush() }

// Size is the number of columns and rows.
func (s *Screen) Size() (cols, rows int) { return s.cols, s.rows }

// Cursor is the place of the cursor, from 0, and whether it is shown.
func (s *Screen) Cursor() (x, y int, visible bool) { return s.x, s.y, !s.cursorHidden }

// Alternate reports whether the alternate buffer is shown, as full-screen programs do.
func (s *Screen) Alternate() bool { return s.onAlternate }

// Reversed reports whether foreground and background are exchanged on the whole screen.
func (s *Screen) Reversed() bool { return s.reverse }

// Title is the window title that a program set: at most 4096 bytes, valid UTF-8 without controls.
func (s *Screen) Title() string { return s.title }

// Line is row y of what is shown. It is valid until the next write.
func (s *Screen) Line(y int) *Line { return s.lines[y] }

// Text is what is shown: one line for each row, blanks at the end of a row left out.
func (s *Screen) Text() string {
	var b strings.Builder
	for _, l := range s.lines {
		b.WriteString(l.Text())
		b.WriteByte('\n')
	}
	return b.String()
}

// Primary is the lines of the primary buffer, shown or not. They are valid until the next write.
func (s *Screen) Primary() []*Line { return s.primary }

// Scrollback is the number of lines kept above the primary buffer.
func (s *Screen) Scrollback() int { return len(s.history) }

// ScrollbackLine is line i of the scrollback, 0 the oldest. It is valid until the next write.
func (s *Screen) ScrollbackLine(i int) *Line { return s.history[(s.first+i)%len(s.history)] }

// Resize changes the size. Lines are cut or filled with blanks; rows that no longer fit above the cursor's row go to
// the scrollback, rows below it are dropped.
func (s *Screen) Resize(cols, rows int) {
	cols, rows = clamp(cols, 1, MaxCols), clamp(rows, 1, MaxRows)
	row := s.y
	if s.onAlternate {
		row = s.saved[0].y
	}
	gone := max(0, row-rows+1)
	for _, l := range s.primary[:gone] {
		s.keep(l)
	}
	s.primary = s.resizeBuffer(s.primary[gone:], cols, rows)
	s.alternate = s.resizeBuffer(s.alternate, cols, rows)
	s.saved[0].y = max(0, s.saved[0].y-gone)
	if s.lines = s.alternate; !s.onAlternate {
		s.lines = s.primary
		s.y -= gone
	}
	s.trimHistory(cols)
	s.cols, s.rows = cols, rows
	s.top, s.bottom = 0, rows-1
	for _, c := range []*cursor{&s.cursor, &s.saved[0], &s.saved[1]} {
		c.x, c.y, c.wrapNext = min(c.x, cols-1), min(c.y, rows-1), false
	}
}

func (s *Screen) resizeBuffer(b []*Line, cols, rows int) []*Line {
	b = append([]*Line(nil), b[:min(len(b), rows)]...)
	blank := Cell{Rune: ' ', Width: 1}
	for _, l := range b {
		l.resize(cols, blank)
	}
	for len(b) < rows {
		b = append(b, newLine(cols, blank, s.marks))
	}
	return b
}

// keep puts l at the end of the scrollback and returns a line that may be used again, if there is one.
func (s *Screen) keep(l *Line) *Line {
	if s.opts.OnScroll != nil {
		s.opts.OnScroll(l)
	}
	switch limit := s.historyLimit(s.cols); {
	case limit == 0:
		return l
	case len(s.history) < limit:
		s.history = append(s.history, l)
		return nil
	}
	oldest := s.history[s.first]
	s.history[s.first] = l
	s.first = (s.first + 1) % len(s.history)
	return oldest
}

func (s *Screen) historyLimit(cols int) int {
	return min(s.opts.Scrollback, maxHistoryCells/cols)
}

// trimHistory puts the ring in order for a new width and drops the oldest lines that it has no room for.
func (s *Screen) trimHistory(cols int) {
	ordered := append(append([]*Line(nil), s.history[s.first:]...), s.history[:s.first]...)
	s.history, s.first = ordered[max(0, len(ordered)-s.historyLimit(max(cols, s.cols))):], 0
}

// blank is an erased cell: the pen's background and nothing else.
func (s *Screen) blank() Cell { return Cell{Rune: ' ', BG: s.pen.BG, Width: 1} }

func clamp(v, lo, hi int) int { return min(max(v, lo), hi) }

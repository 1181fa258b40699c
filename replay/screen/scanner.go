package screen

import (
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/ansi/parser"
)

const (
	maxString = 4096 // bytes kept of an OSC; the rest is dropped
	maxDigits = 5    // digits read of a numeric parameter; more don't change what a clamped parameter does
	esc       = 0x1b
	can       = 0x18
	sub       = 0x1a
	st        = 0x9c
	hiddenST  = 0xff // stands in the parser for a byte 0x9c inside a string, see Scanner.sequence
)

// Handler takes what a [Scanner] finds. Slices are valid only during the call.
type Handler interface {
	Text(ascii []byte)                          // printable US-ASCII, 0x20 to 0x7e, at least one byte
	Rune(r rune)                                // any other printable character; U+FFFD for each byte that isn't UTF-8
	Control(b byte)                             // a C0 control or DEL
	Escape(cmd ansi.Cmd)                        // ESC, intermediate, final
	CSI(cmd ansi.Cmd, params ansi.Params)       // a control sequence
	OSC(number int, data []byte, complete bool) // an operating system command; complete unless its data was cut to fit
}

// Scanner splits what a program writes to a UTF-8 terminal into text, controls and sequences. How the bytes are cut
// into writes makes no difference. As in UTF-8 terminals, C1 controls exist only in their ESC form: bytes 0x80 to 0x9f
// are parts of characters, and the characters U+0080 to U+009F are dropped. DCS, SOS, PM and APC strings are dropped.
type Scanner struct {
	handler Handler
	parser  *ansi.Parser
	tail    [utf8.UTFMax]byte // beginning of a character whose rest is still to come
	tailLen int
	digits  int // of the parameter being read
}

// NewScanner returns a Scanner that reports to h.
func NewScanner(h Handler) *Scanner {
	s := &Scanner{handler: h, parser: new(ansi.Parser)}
	s.parser.SetParamsSize(parser.MaxParamsSize)
	s.parser.SetDataSize(maxString)
	s.parser.SetHandler(ansi.Handler{
		HandleCsi: h.CSI,
		HandleEsc: h.Escape,
		HandleOsc: s.osc,
	})
	return s
}

// Write scans p. It never fails.
func (s *Scanner) Write(p []byte) (int, error) {
	size := len(p)
	for len(p) > 0 {
		switch {
		case s.parser.State() != parser.GroundState:
			p = s.sequence(p)
		case s.tailLen > 0:
			p = s.finishRune(p)
		case p[0] >= utf8.RuneSelf:
			p = s.rune(p)
		case p[0] >= ' ' && p[0] != 0x7f:
			n := printable(p)
			s.handler.Text(p[:n])
			p = p[n:]
		case p[0] == esc:
			s.parser.Advance(esc)
			p = p[1:]
		default:
			s.handler.Control(p[0])
			p = p[1:]
		}
	}
	return size, nil
}

// Flush reports a character that was cut by the end of input as U+FFFD for each of its bytes.
func (s *Scanner) Flush() {
	for ; s.tailLen > 0; s.tailLen-- {
		s.handler.Rune(utf8.RuneError)
	}
}

// printable counts the printable US-ASCII bytes at the start of p.
func printable(p []byte) int {
	for i, b := range p {
		if b < ' ' || b >= 0x7f {
			return i
		}
	}
	return len(p)
}

// rune takes one character off p, which begins with a byte of 0x80 or above, or keeps its bytes if it is cut.
func (s *Scanner) rune(p []byte) []byte {
	if !utf8.FullRune(p) {
		s.tailLen = copy(s.tail[:], p)
		return nil
	}
	r, size := utf8.DecodeRune(p)
	s.emit(r)
	return p[size:]
}

// finishRune goes on with a character that an earlier write began.
func (s *Scanner) finishRune(p []byte) []byte {
	if p[0] < 0x80 || p[0] >= 0xc0 {
		s.Flush()
		return p
	}
	s.tail[s.tailLen] = p[0]
	s.tailLen++
	if !utf8.FullRune(s.tail[:s.tailLen]) {
		return p[1:]
	}
	if r, size := utf8.DecodeRune(s.tail[:s.tailLen]); size == s.tailLen {
		s.tailLen = 0
		s.emit(r)
		return p[1:]
	}
	s.Flush()
	return p[1:]
}

func (s *Scanner) emit(r rune) {
	if r >= 0xa0 {
		s.handler.Rune(r)
	}
}

// sequence feeds one byte of an escape sequence to the parser. Three kinds never reach it as they are:
//   - 8-bit C1 controls, which don't exist in UTF-8: in an OSC, 0x9c travels as 0xff (neither is UTF-8 by itself) and
//     is turned back when the string is complete; elsewhere bytes from 0x80 carry nothing that is kept;
//   - controls in the middle of a sequence, which it would mix into the sequence's final byte;
//   - digits that would make a parameter overflow.
func (s *Scanner) sequence(p []byte) []byte {
	b := p[0]
	switch state := s.parser.State(); {
	case state == parser.OscStringState:
		if b == st {
			b = hiddenST
		}
	case b >= 0x80:
		return p[1:]
	case state >= parser.DcsEntryState && state <= parser.DcsStringState:
	case state >= parser.SosStringState:
	case b < ' ' && b != esc && b != can && b != sub:
		s.handler.Control(b)
		return p[1:]
	case b >= '0' && b <= '9' && state != parser.EscapeState:
		if s.digits++; s.digits > maxDigits {
			return p[1:]
		}
	default:
		s.digits = 0
	}
	s.parser.Advance(b)
	return p[1:]
}

func (s *Scanner) osc(number int, data []byte) {
	for i, b := range data {
		if b == hiddenST {
			data[i] = st
		}
	}
	s.handler.OSC(number, data, len(data) < maxString)
}

package replay

import (
	"bytes"
	"io"
	"strconv"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/holdfast-pam/holdfast/replay/screen"
)

// Filter lets through to a person's terminal what draws, and nothing else. A recording is written by others, who may
// have meant it for the terminal of whoever watches it: to fill the clipboard, to make the terminal type an answer into
// the viewer's shell, to change keys, titles or character sets for the time after.
//
// It knows what is allowed, not what is forbidden, and passes on what it has understood, written anew, not the bytes
// it was given: so a terminal that reads some bytes otherwise than this parser gets no chance to.
type Filter struct {
	w       io.Writer
	scanner *screen.Scanner
	out     bytes.Buffer

	alternate bool // the alternate buffer may be shown
	region    bool // a scroll region or origin mode may be set
}

// NewFilter returns a Filter that writes to w.
func NewFilter(w io.Writer) *Filter {
	f := &Filter{w: w}
	f.scanner = screen.NewScanner((*sieve)(f))
	return f
}

// Write passes on what p draws. The error is that of the underlying writer.
func (f *Filter) Write(p []byte) (int, error) {
	f.scanner.Write(p)
	return len(p), f.flush()
}

// Close passes on a character that the end of input cut. It doesn't close the underlying writer.
func (f *Filter) Close() error {
	f.scanner.Flush()
	return f.flush()
}

// Reset puts the terminal back to what it was, as far as what was let through could change it, and the cursor to a
// place where a prompt may come.
func (f *Filter) Reset() error {
	if f.alternate {
		f.out.WriteString("\x1b[?1049l")
	}
	if f.region {
		f.out.WriteString("\x1b[?6l\x1b[r\x1b[999;1H\r\n")
	}
	f.alternate, f.region = false, false
	f.out.WriteString("\x1b[m\x1b[?25h\x1b[?7h\x1b[?5l\x1b[4l\x1b[20l\x1b(B\x1b)B\x1b*B\x1b+B\x0f\x1b[0 q")
	return f.flush()
}

func (f *Filter) flush() error {
	defer f.out.Reset()
	if f.out.Len() == 0 {
		return nil
	}
	_, err := f.w.Write(f.out.Bytes())
	return err
}

// sieve takes what a Filter's scanner finds.
type sieve Filter

// Text passes.
func (s *sieve) Text(ascii []byte) { s.out.Write(ascii) }

// Rune passes.
func (s *sieve) Rune(r rune) { s.out.WriteRune(r) }

// Control passes the format effectors, the bell and the shifts. ENQ would be answered; XON and XOFF stop terminals.
func (s *sieve) Control(b byte) {
	if b >= '\a' && b <= 0x0f {
		s.out.WriteByte(b)
	}
}

// Escape passes cursor movement, save and restore, reset, and the two character sets in use.
func (s *sieve) Escape(cmd ansi.Cmd) {
	in, final := cmd.Intermediate(), cmd.Final()
	switch {
	case in == 0 && strings.IndexByte("78DEHMc", final) >= 0:
		s.out.Write([]byte{esc, final})
	case in >= '(' && in <= '+' && (final == 'B' || final == '0'):
		s.out.Write([]byte{esc, in, final})
	}
}

// esc begins sequences.
const esc = 0x1b

// drawing is the finals of control sequences, without prefix or intermediate, that draw or move.
const drawing = "@ABCDEFGHIJKLMPSTXZ`abdefgmrsu"

// maxParam bounds parameters: no screen needs more, and some terminals repeat as often as they are told.
const maxParam = 9999

// CSI passes the sequences that draw. Reports (c, n, t, x, $p), printing (i), key and pointer modes, and all that is
// not known are dropped.
func (s *sieve) CSI(cmd ansi.Cmd, p ansi.Params) {
	prefix, in, final := cmd.Prefix(), cmd.Intermediate(), cmd.Final()
	switch {
	case prefix == 0 && in == 0 && final == 'T' && len(p) > 1: // highlight tracking
	case prefix == 0 && in == 0 && (final == 's' || final == 'u') && len(p) > 0: // margins
	case prefix == 0 && in == 0 && strings.IndexByte(drawing, final) >= 0:
		s.region = s.region || final == 'r'
		s.sequence("", p, "", final)
	case prefix == '?' && in == 0 && (final == 'J' || final == 'K'):
		s.sequence("?", p, "", final)
	case prefix == 0 && in == ' ' && final == 'q': // cursor shape
		s.sequence("", p, " ", final)
	case prefix == 0 && in == '!' && final == 'p': // soft reset
		s.sequence("", nil, "!", final)
	case in == 0 && (final == 'h' || final == 'l'):
		s.modes(prefix, p, final)
	}
}

// modes passes those that change how a terminal draws: insert, line feed; reverse, origin, wrap, blink, cursor shown,
// alternate buffer.
func (s *sieve) modes(prefix byte, p ansi.Params, final byte) {
	for i := range p {
		mode, _, _ := p.Param(i, 0)
		switch {
		case prefix == 0 && (mode == 4 || mode == 20):
			s.sequence("", p[i:i+1], "", final)
		case prefix == '?':
			switch mode {
			case 5, 6, 7, 12, 25, 47, 1047, 1048, 1049:
				s.region = s.region || mode == 6
				s.alternate = (s.alternate || mode == 47 || mode == 1047 || mode == 1049) && (final == 'h' || mode < 47)
				s.sequence("?", ansi.Params{ansi.Param(mode)}, "", final)
			}
		}
	}
}

// sequence writes a control sequence.
func (s *sieve) sequence(prefix string, p ansi.Params, in string, final byte) {
	s.out.WriteString("\x1b[" + prefix)
	for i := range p {
		v, more, _ := p.Param(i, -1)
		if v >= 0 {
			s.out.WriteString(strconv.Itoa(min(v, maxParam)))
		}
		switch {
		case i == len(p)-1:
		case more:
			s.out.WriteByte(':')
		default:
			s.out.WriteByte(';')
		}
	}
	s.out.WriteString(in)
	s.out.WriteByte(final)
}

// OSC passes none: titles, links, colours, clipboard, notifications.
func (s *sieve) OSC(int, []byte, bool) {}

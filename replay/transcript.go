package replay

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-pam/holdfast/replay/screen"
)

// TranscriptOptions says what to transcribe.
type TranscriptOptions struct {
	Channel int // as in RawOptions
}

// Transcript writes what a person would have read on a channel, as plain text that no terminal can be harmed by.
//
// With a terminal it is the lines that the screen showed, in the order in which they left it at the top; a line that
// was written over and over stands there as it was in the end, lines that a full-screen program drew do only if the
// recording ends in it, and the screen is not erased without its text being kept. Without a terminal it is stdout and
// stderr as they came, bytes and characters that don't print written as \xNN and \uNNNN. The errors are those of [Raw].
func Transcript(w io.Writer, src Source, o TranscriptOptions) error {
	buffered := bufio.NewWriterSize(w, 64<<10)
	t := transcript{w: buffered}
	err := forEach(onChannel(src, o.Channel), t.event)
	t.finish()
	if e := buffered.Flush(); err == nil {
		err = e
	}
	return err
}

type transcript struct {
	w      *bufio.Writer // its errors come with the flush
	screen *screen.Screen
	plain  plain
	blanks int  // empty lines that were not written yet
	joined bool // the last line goes on
}

func (t *transcript) event(e *Event) error {
	switch {
	case e.Kind == KindGap:
		t.note("[" + e.Detail + "]")
	case e.Kind == KindRequest && e.Request == "pty-req" && t.screen == nil:
		t.screen = screen.New(screen.Options{Cols: size(e.Cols, 80), Rows: size(e.Rows, 24), OnScroll: t.line})
	case e.Kind == KindRequest && e.Request == "window-change" && t.screen != nil:
		t.screen.Resize(size(e.Cols, 80), size(e.Rows, 24))
	case e.Kind == KindReply && e.Request == "pty-req" && !e.OK:
		t.screen = nil
	case e.Kind != KindData || e.Stream == In:
	case t.screen != nil:
		t.screen.Write(e.Data)
	default:
		t.plain.write(t.w, e.Stream, e.Data)
	}
	return nil
}

func (t *transcript) note(text string) {
	if t.screen != nil {
		fmt.Fprintf(t.screen, "\r\n%s\r\n", text)
		return
	}
	fmt.Fprintf(t.w, "\n%s\n", text)
}

// size is a number of columns or rows that a screen can have; clients without one say 0.
func size(n uint32, unknown int) int {
	if n == 0 {
		return unknown
	}
	return int(min(n, screen.MaxCols))
}

// line writes one line of the screen; blank ones only once another follows.
func (t *transcript) line(l *screen.Line) {
	text := l.Text()
	if text == "" && !l.Wrapped && !t.joined {
		t.blanks++
		return
	}
	for ; t.blanks > 0; t.blanks-- {
		t.w.WriteByte('\n')
	}
	if l.Wrapped {
		text = l.Full()
	}
	t.w.WriteString(text)
	if t.joined = l.Wrapped; !t.joined {
		t.w.WriteByte('\n')
	}
}

func (t *transcript) finish() {
	t.plain.flush(t.w)
	if t.screen == nil {
		return
	}
	t.screen.Flush()
	for _, l := range t.screen.Primary() {
		t.line(l)
	}
	if t.screen.Alternate() {
		_, rows := t.screen.Size()
		for y := range rows {
			t.line(t.screen.Line(y))
		}
	}
	if t.joined {
		t.w.WriteByte('\n')
	}
}

// plain writes bytes as text. Carriage returns before line feeds are left out.
type plain struct {
	stream Stream // of rest
	rest   []byte // a character or CR LF whose end is still to come
}

func (p *plain) write(w *bufio.Writer, s Stream, data []byte) {
	if p.stream != s {
		p.flush(w)
		p.stream = s
	}
	data, rest := wholeRunes(append(p.rest, data...))
	if n := len(data); n > 0 && len(rest) == 0 && data[n-1] == '\r' {
		data, rest = data[:n-1], data[n-1:]
	}
	p.print(w, data)
	p.rest = append([]byte(nil), rest...)
}

func (p *plain) flush(w *bufio.Writer) {
	p.print(w, p.rest)
	p.rest = nil
}

func (p *plain) print(w *bufio.Writer, data []byte) {
	var b strings.Builder
	escape(&b, strings.ReplaceAll(string(data), "\r\n", "\n"))
	w.WriteString(b.String())
}

package replay

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"
)

// CastOptions says what an asciicast holds.
type CastOptions struct {
	Version int       // 3, also if 0, or 2 for older players
	Channel int       // as in RawOptions
	Started time.Time // of the session; left out of the file if zero
	Title   string
}

// Cast writes a channel as an asciicast (docs.asciinema.org/manual/asciicast): output with stderr, input, resizes and
// exit status, times to the microsecond from the opening of the channel. A gap of the recording is a marker.
//
// A cast is UTF-8 text: bytes that are not are replaced by U+FFFD, and a character that packets cut comes with its last
// byte. For the exact bytes use [Raw], whose errors Cast also gives.
func Cast(w io.Writer, src Source, o CastOptions) error {
	if o.Version == 0 {
		o.Version = 3
	}
	if o.Version != 2 && o.Version != 3 {
		return fmt.Errorf("asciicast version %d is neither 2 nor 3", o.Version)
	}
	buffered := bufio.NewWriterSize(w, 64<<10)
	c := &castWriter{w: buffered, opts: o, cols: 80, rows: 24, carry: map[Stream][]byte{}}
	err := forEach(ByTime(onChannel(src, o.Channel)), c.event)
	if err == nil && c.channel == nil {
		c.channel = &Channel{} // it was asked for in a packet that was dropped, and nothing came of it
	}
	if c.channel != nil {
		if e := c.finish(); err == nil {
			err = e
		}
	}
	if e := buffered.Flush(); err == nil {
		err = e
	}
	return err
}

type castWriter struct {
	w       *bufio.Writer
	opts    CastOptions
	channel *Channel

	cols, rows int
	term       string
	command    string
	begun      bool          // the header is written
	last       time.Duration // time of the last line written, since session start
	exit       string        // status, written as the last line
	carry      map[Stream][]byte
	buf        []byte
}

func (c *castWriter) event(e *Event) error {
	if e.Kind == KindGap {
		if c.channel == nil {
			return nil
		}
		return c.line(e.At, "m", e.Detail)
	}
	if c.channel == nil {
		c.channel, c.last = e.Channel, e.Channel.OpenedAt
	}
	switch e.Kind {
	case KindData:
		return c.data(e)
	case KindRequest:
		return c.request(e)
	}
	return nil
}

func (c *castWriter) data(e *Event) error {
	code := "o"
	if e.Stream == In {
		code = "i"
	}
	text, rest := wholeRunes(append(c.carry[e.Stream], e.Data...))
	c.carry[e.Stream] = append([]byte(nil), rest...)
	if len(text) == 0 {
		return nil
	}
	return c.line(e.At, code, string(text))
}

func (c *castWriter) request(e *Event) error {
	switch e.Request {
	case "pty-req", "window-change":
		cols, rows := castSize(e.Cols, 80), castSize(e.Rows, 24)
		changed := cols != c.cols || rows != c.rows
		c.cols, c.rows = cols, rows
		if e.Term != "" {
			c.term = e.Term
		}
		if c.begun && changed {
			return c.line(e.At, "r", fmt.Sprintf("%dx%d", cols, rows))
		}
	case "exec":
		c.command = e.Command
	case "exit-status":
		c.exit = strconv.FormatUint(uint64(e.Status), 10)
	case "exit-signal":
		c.exit = strconv.Itoa(128 + signalNumber(e.Signal))
	}
	return nil
}

// castSize is a terminal's size as players read it, in 16 bits.
func castSize(n uint32, unknown int) int {
	if n == 0 {
		return unknown
	}
	return int(min(n, 1<<16-1))
}

// signalNumber is Linux's number of the signals that RFC 4254 section 6.10 names; 127 for others.
func signalNumber(name string) int {
	numbers := map[string]int{
		"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11, "USR2": 12,
		"PIPE": 13, "ALRM": 14, "TERM": 15,
	}
	if n, ok := numbers[name]; ok {
		return n
	}
	return 127
}

// finish writes what is left at the end.
func (c *castWriter) finish() error {
	if !c.begun {
		if err := c.header(); err != nil {
			return err
		}
	}
	for _, s := range []Stream{In, Out, Err, Other} {
		if rest := c.carry[s]; len(rest) > 0 {
			code := "o"
			if s == In {
				code = "i"
			}
			if err := c.line(c.last, code, string(rest)); err != nil {
				return err
			}
		}
	}
	if c.exit == "" || c.opts.Version == 2 { // version 2 has no exit event
		return nil
	}
	return c.line(c.last, "x", c.exit)
}

// castHeader is the first line of both versions.
type castHeader struct {
	Version   int             `json:"version"`
	Width     int             `json:"width,omitempty"`  // version 2
	Height    int             `json:"height,omitempty"` // version 2
	Term      *castTerm       `json:"term,omitempty"`   // version 3
	Timestamp int64           `json:"timestamp,omitempty"`
	Command   Text            `json:"command,omitempty"`
	Title     Text            `json:"title,omitempty"`
	Env       map[string]Text `json:"env,omitempty"`
}

type castTerm struct {
	Cols int  `json:"cols"`
	Rows int  `json:"rows"`
	Type Text `json:"type,omitempty"`
}

func (c *castWriter) header() error {
	c.begun = true
	h := castHeader{Version: c.opts.Version, Command: Text(c.command), Title: Text(c.opts.Title), Env: map[string]Text{}}
	for _, v := range c.channel.Env {
		h.Env[v.Name.String()] = v.Value
	}
	if !c.opts.Started.IsZero() {
		h.Timestamp = c.opts.Started.Add(c.channel.OpenedAt).Unix()
	}
	if h.Version == 2 {
		h.Width, h.Height = c.cols, c.rows
		if c.term != "" {
			h.Env["TERM"] = Text(c.term)
		}
	} else {
		h.Term = &castTerm{Cols: c.cols, Rows: c.rows, Type: Text(c.term)}
	}
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	_, err = c.w.Write(append(line, '\n'))
	return err
}

// line writes one event. Its time is not before that of the line before it.
func (c *castWriter) line(at time.Duration, code, data string) error {
	if !c.begun {
		if err := c.header(); err != nil {
			return err
		}
	}
	at = max(at, c.last)
	from := c.last
	if c.opts.Version == 2 {
		from = c.channel.OpenedAt
	}
	c.last = at
	fmt.Fprintf(c.w, "[%s, %q, ", Seconds(at-from), code)
	c.buf = append(appendQuoted(c.buf[:0], data), "]\n"...)
	_, err := c.w.Write(c.buf)
	return err
}

// wholeRunes splits b before a character that its end cuts.
func wholeRunes(b []byte) (whole, rest []byte) {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		at := len(b) - n
		if utf8.RuneStart(b[at]) {
			if !utf8.FullRune(b[at:]) {
				return b[:at], b[at:]
			}
			break
		}
	}
	return b, nil
}

// Seconds is a duration that reads, also in JSON, as seconds with microseconds.
type Seconds time.Duration

// String is the seconds with six decimals.
func (s Seconds) String() string {
	us := time.Duration(s).Microseconds()
	return fmt.Sprintf("%d.%06d", us/1e6, us%1e6)
}

// MarshalJSON writes a number.
func (s Seconds) MarshalJSON() ([]byte, error) { return []byte(s.String()), nil }

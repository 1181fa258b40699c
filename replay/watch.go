package replay

import (
	"io"
	"iter"
	"sync"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/replay/screen"
)

// Watched is the events of the channel that is worth looking at in a session which runs: with [FirstSession] the first
// session channel, and once that is closed the next one to open; else one channel by its place. That there is none yet
// is no error, and neither is a gap: what follows is still to be seen. Errors are those of src.
func Watched(src Source, channel int) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		var now *Channel
		for e, err := range Events(src) {
			if err != nil {
				yield(Event{}, err)
				return
			}
			if e.Channel == nil || e.Dropped {
				continue
			}
			if e.Kind == KindOpened && (now == nil || now.State == Closed) {
				if c := e.Channel; c.Index == channel || channel == FirstSession && c.Type == "session" {
					now = c
				}
			}
			if e.Channel == now && !yield(e, nil) {
				return
			}
		}
	}
}

// Picture shows on a person's terminal what the person on a watched channel sees on theirs, as it is at the moment: it
// takes any number of events at no cost to the terminal, and draws what came of them when it is asked to. So a slow
// terminal sees fewer pictures and never an old one. Like a terminal, it keeps nothing of what scrolled away.
//
// It is safe for concurrent use.
type Picture struct {
	mu         sync.Mutex // held while w is written
	w          io.Writer
	painter    *screen.Painter
	cols, rows int // of the terminal
	channel    *Channel
	screen     *screen.Screen
	pty        bool // the channel has a terminal of its own, and screen its size
	answered   bool // whether it has one is settled
}

// NewPicture returns an empty picture for a terminal of a size in characters (0: the usual one) that w writes to.
func NewPicture(w io.Writer, cols, rows int) *Picture {
	p := &Picture{w: w}
	p.cols, p.rows = usual(cols, 80), usual(rows, 24)
	p.painter = screen.NewPainter(p.cols, p.rows)
	p.blank()
	return p
}

func usual(n, unknown int) int {
	if n <= 0 {
		return unknown
	}
	return n
}

// blank begins with an empty screen of the terminal's size, for a program that knows of no terminal: a line feed alone
// begins a new line.
func (p *Picture) blank() {
	p.screen, p.pty, p.answered = screen.New(screen.Options{Cols: p.cols, Rows: p.rows}), false, false
	p.screen.Write([]byte("\x1b[20h"))
}

// Take draws an event of [Watched] on the screen that is not shown yet.
func (p *Picture) Take(e *Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Channel != p.channel {
		p.channel = e.Channel
		p.blank()
	}
	switch {
	case e.Kind == KindRequest && e.Direction == events.In:
		p.request(e)
	case e.Kind == KindReply && e.Direction == events.Out && e.Request == "pty-req" && !p.answered:
		if !e.OK {
			p.blank()
		}
		p.answered = true
	case e.Kind == KindData && e.Stream != In:
		p.screen.Write(e.Data)
	}
}

// request takes the size of the channel's own terminal.
func (p *Picture) request(e *Event) {
	cols, rows := size(e.Cols, 80), size(e.Rows, 24)
	switch {
	case e.Request == "pty-req" && !p.pty && !p.answered:
		p.screen, p.pty = screen.New(screen.Options{Cols: cols, Rows: rows}), true
	case e.Request == "window-change" && p.pty:
		p.screen.Resize(cols, rows)
	}
}

// Show draws what has changed since it was last called.
func (p *Picture) Show() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.write(p.painter.Paint(p.screen))
}

// Resize tells the terminal's new size and draws everything.
func (p *Picture) Resize(cols, rows int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cols, p.rows = usual(cols, 80), usual(rows, 24)
	p.painter.Resize(p.cols, p.rows)
	if !p.pty {
		p.screen.Resize(p.cols, p.rows)
	}
	return p.write(p.painter.Paint(p.screen))
}

// Close puts the terminal back to what it showed before.
func (p *Picture) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.write(p.painter.End())
}

func (p *Picture) write(s string) error {
	if s == "" {
		return nil
	}
	_, err := io.WriteString(p.w, s)
	return err
}

package replay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"
)

// PlayOptions says how to play.
type PlayOptions struct {
	Channel   int           // as in RawOptions
	Speed     float64       // times as fast; 1 if 0; math.Inf(1) doesn't wait at all
	IdleLimit time.Duration // longest wait, in recorded time; 0 for none
	Plain     bool          // w is no terminal: it is not reset, and gets no carriage returns that were not recorded
}

// Play writes what the program of a channel wrote, stdout and stderr, to a terminal and at the pace at which it was
// written. It passes a [Filter]; at the end, also one by an error or ctx, the terminal is reset. A channel without a
// terminal of its own gets a carriage return with each line feed. The errors are those of [Raw] and of ctx.
func Play(ctx context.Context, w io.Writer, src Source, o PlayOptions) error {
	if o.Speed == 0 {
		o.Speed = 1
	}
	if !(o.Speed > 0) {
		return fmt.Errorf("speed %v is not above 0", o.Speed)
	}
	p := &player{opts: o, filter: NewFilter(w), start: time.Now()}
	err := forEach(onChannel(src, o.Channel), func(e *Event) error {
		if e.Kind != KindData || e.Stream == In {
			return nil
		}
		if err := p.wait(ctx, e); err != nil {
			return err
		}
		return p.show(e)
	})
	if e := p.filter.Close(); err == nil {
		err = e
	}
	if o.Plain {
		return err
	}
	if e := p.filter.Reset(); err == nil {
		err = e
	}
	return err
}

type player struct {
	opts   PlayOptions
	filter *Filter
	start  time.Time
	played time.Duration // time from start at which the last event was due
	last   time.Duration // of the last event, since session start; -1 before the first
	begun  bool
	cr     bool // the last byte shown was a carriage return
}

// wait returns when the event is due. It counts from the start, so that waits don't add up to drift.
func (p *player) wait(ctx context.Context, e *Event) error {
	if !p.begun {
		p.begun, p.last = true, e.Channel.OpenedAt
	}
	idle := max(0, e.At-p.last)
	if p.opts.IdleLimit > 0 {
		idle = min(idle, p.opts.IdleLimit)
	}
	p.played += time.Duration(float64(idle) / p.opts.Speed)
	p.last = max(p.last, e.At)
	due := time.Until(p.start.Add(p.played))
	if due <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(due)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (p *player) show(e *Event) error {
	data := e.Data
	if e.Channel.Pty == nil && !p.opts.Plain {
		data = p.returns(data)
	}
	_, err := p.filter.Write(data)
	return err
}

// returns puts a carriage return before each line feed that has none.
func (p *player) returns(data []byte) []byte {
	var b bytes.Buffer
	for _, c := range data {
		if c == '\n' && !p.cr {
			b.WriteByte('\r')
		}
		b.WriteByte(c)
		p.cr = c == '\r'
	}
	return b.Bytes()
}

package console

import (
	"bytes"
	"context"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway"
	"github.com/holdfast-pam/holdfast/projections"
	"github.com/holdfast-pam/holdfast/replay"
)

func (c *call) sessionWatch() *cobra.Command {
	channel := channelFlag(replay.FirstSession)
	cmd := c.verb("watch ID", "Watch a running session; q or Ctrl-C leaves it", read, func(args []string) error {
		s, err := c.session("session watch", args[0])
		if err != nil {
			return err
		}
		if s.Ended != nil {
			return hasEnded(s)
		}
		// That it is watched is an event, durable before the first byte is given.
		if _, err := c.do(commands.ReadSession{Session: s.ID, Owner: s.UserID, How: "watch"}); err != nil {
			return err
		}
		return c.watch(s, int(channel))
	})
	cmd.Long = cmd.Short + `.

It can't be typed into. With a terminal you see the session's screen as it is at
each moment; without one what its program writes from now on, and with --json
also what is typed, one line for each piece. Of several channels you see the
first session, and when that closes the next one to open.

Administrators and auditors may watch, an operator not even their own session.
That somebody watches is an event. The person in the session is not told: they
were told at its start that it is recorded, and nothing is ever written into a
session.`
	cmd.Annotations[DrawsOnTerminal] = "yes"
	cmd.Flags().Var(&channel, "channel", "place of the channel in the order of opening, from 0")
	return cmd
}

func hasEnded(s projections.Session) *Fault {
	message := "session " + s.ID.String() + " has ended"
	if s.Ended != nil { // the views may not know yet
		message += ": " + string(s.Reason)
	}
	return &Fault{Exit: Conflict, Message: message,
		Hint: "session play " + s.ID.String() + " shows it as it went"}
}

// onlooker is a form in which a running session is shown.
type onlooker interface {
	take(*replay.Event) error // what happened, also before the watching began
	caughtUp() error          // all that has happened so far was given
	close() error
}

// watch shows a session until it ends or the caller leaves. The session does
// not wait: what can't be written here yet is in the log.
func (c *call) watch(s projections.Session, channel int) (err error) {
	ctx, leave := context.WithCancel(c.ctx)
	var resizing sync.WaitGroup
	defer resizing.Wait()
	defer leave()
	c.note("watching session %s: %s on %s", s.ID, Printable(s.User), Printable(s.Account+"+"+s.Target))
	var shown onlooker
	switch {
	case c.json:
		shown = &pieces{c: c, s: s}
	case c.terminal == nil:
		out := &gate{w: c.stdout}
		shown = &output{out, replay.NewFilter(out)}
	default:
		p := &picture{replay.NewPicture(c.raw, c.terminal.Size.Columns, c.terminal.Size.Rows)}
		resizing.Go(func() { p.follow(ctx, c.terminal) })
		go leaveOnQ(c.stdin, leave)
		shown = p
	}
	for e, e2 := range replay.Watched(c.cfg.Site.Watch(ctx, s.ID, shown.caughtUp), channel) {
		if err = e2; err == nil {
			err = shown.take(&e)
		}
		if err != nil {
			break
		}
	}
	left := ctx.Err() != nil
	if e := shown.close(); err == nil {
		err = e
	}
	switch {
	case left:
		return nil
	case err == nil:
		c.note("session %s has ended", s.ID)
	}
	return err
}

// leaveOnQ ends the watching at the key q. It returns with the call's input.
func leaveOnQ(keys io.Reader, leave func()) {
	typed := make([]byte, 64)
	for {
		n, err := keys.Read(typed)
		if bytes.ContainsAny(typed[:n], "qQ") {
			leave()
			return
		}
		if err != nil {
			return
		}
	}
}

// picture shows the screen of the session on a terminal.
type picture struct{ *replay.Picture }

func (p *picture) take(e *replay.Event) error { p.Take(e); return nil }
func (p *picture) caughtUp() error            { return p.Show() }
func (p *picture) close() error               { return p.Close() }

// follow keeps the picture to the size of its terminal until ctx ends.
func (p *picture) follow(ctx context.Context, t *Terminal) {
	for {
		select {
		case <-ctx.Done():
			return
		case size := <-t.Resized:
			if p.Resize(int(size.Columns), int(size.Rows)) != nil {
				return // who shows the next picture hears of it too
			}
		}
	}
}

// gate writes once it is open.
type gate struct {
	w    io.Writer
	open bool
}

func (g *gate) Write(p []byte) (int, error) {
	if !g.open {
		return len(p), nil
	}
	return g.w.Write(p)
}

// output passes on what the program writes from now on, as session play does.
// The filter sees what came before too, which may end within a sequence.
type output struct {
	gate   *gate
	filter *replay.Filter
}

func (o *output) take(e *replay.Event) error {
	if e.Kind != replay.KindData || e.Stream == replay.In {
		return nil
	}
	_, err := o.filter.Write(e.Data)
	return err
}

func (o *output) caughtUp() error { o.gate.open = true; return nil }
func (o *output) close() error    { return o.filter.Close() }

// pieces gives each piece of data from now on as JSON, a line each.
type pieces struct {
	c    *call
	s    projections.Session
	live bool
}

// piece is some bytes of a channel.
type piece struct {
	Time    time.Time     `json:"time"`
	Channel int           `json:"channel"`
	Stream  replay.Stream `json:"stream"` // in, out or err
	Data    []byte        `json:"data"`   // base64
}

func (j *pieces) take(e *replay.Event) error {
	if !j.live || e.Kind != replay.KindData {
		return nil
	}
	item := piece{j.s.Started.Add(e.At), e.Channel.Index, e.Stream, e.Data}
	return writeJSON(j.c.stdout, j.c.answer("session.data", item))
}

func (j *pieces) caughtUp() error { j.live = true; return nil }
func (j *pieces) close() error    { return nil }

// withLive fills in how far running sessions are, which the projections learn
// only at the end.
func (c *call) withLive(all []projections.Session) {
	var live map[events.SessionID]gateway.LiveSession
	for i := range all {
		s := &all[i]
		if s.Ended != nil {
			continue
		}
		if live == nil {
			live = map[events.SessionID]gateway.LiveSession{}
			for _, l := range c.cfg.Site.Live() {
				live[l.ID] = l
			}
		}
		if l, ok := live[s.ID]; ok {
			s.BytesIn, s.BytesOut, s.PacketsIn, s.PacketsOut = l.In.Bytes, l.Out.Bytes, l.In.Committed, l.Out.Committed
		}
	}
}

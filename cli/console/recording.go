package console

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/projections"
	"github.com/holdfast-pam/holdfast/replay"
)

// recording opens a session's recording for reading. That it is read is an
// event, durable before the first byte is given.
func (c *call) recording(verb, ref, how string) (projections.Session, replay.Source, error) {
	s, err := c.session(verb, ref)
	if err != nil {
		return s, nil, err
	}
	if _, err := c.do(commands.ReadSession{Session: s.ID, Owner: s.UserID, How: how}); err != nil {
		return s, nil, err
	}
	return s, c.cfg.Site.Recording(c.ctx, s.ID), nil
}

func (c *call) sessionPlay() *cobra.Command {
	var speed, idle string
	channel := channelFlag(replay.FirstSession)
	cmd := c.verb("play ID", "Show a session as it went; Ctrl-C ends it", own, func(args []string) error {
		o := replay.PlayOptions{Channel: int(channel), Plain: c.terminal == nil}
		var err error
		if o.Speed, err = playSpeed(speed); err != nil {
			return err
		}
		if o.IdleLimit, err = duration(idle); err != nil {
			return err
		}
		_, source, err := c.recording("session play", args[0], "play")
		if err != nil {
			return err
		}
		w := c.stdout
		if c.terminal != nil {
			w = c.raw
		}
		return c.ended(replay.Play(c.ctx, w, source, o))
	})
	cmd.Annotations[DrawsOnTerminal] = "yes"
	cmd.Flags().StringVar(&speed, "speed", "1", "how many times as fast, or max")
	cmd.Flags().StringVar(&idle, "idle", "0s", "wait no longer than this where nothing happened (0s: as long as it was)")
	cmd.Flags().Var(&channel, "channel", "place of the channel in the order of opening, from 0")
	return cmd
}

func playSpeed(s string) (float64, error) {
	if s == "max" {
		return math.Inf(1), nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v > 0) || math.IsInf(v, 0) {
		return 0, usageError("--speed takes a number above 0, or max")
	}
	return v, nil
}

// channelFlag is a channel's place in a recording.
type channelFlag int

// String shows the default as the word that it stands for.
func (f *channelFlag) String() string {
	if *f == replay.FirstSession {
		return "first session"
	}
	return strconv.Itoa(int(*f))
}

// Set takes a number from 0.
func (f *channelFlag) Set(s string) error {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return fmt.Errorf("a channel is a number from 0")
	}
	*f = channelFlag(n)
	return nil
}

// Type names the value in help texts.
func (f *channelFlag) Type() string { return "N" }

// export is the options of session export.
type export struct {
	format    string
	direction string
	channel   channelFlag
}

func (c *call) sessionExport() *cobra.Command {
	x := export{channel: replay.FirstSession}
	cmd := c.verb("export ID", "Write a recording to standard output", own, func(args []string) error {
		if err := x.check(c); err != nil {
			return err
		}
		s, source, err := c.recording("session export", args[0], "export "+x.format)
		if err != nil {
			return err
		}
		out := bufio.NewWriterSize(c.stdout, 32<<10)
		err = x.write(c, out, s, source)
		if e := out.Flush(); err == nil {
			err = e
		}
		return err
	})
	cmd.Flags().StringVar(&x.format, "format", "raw", "raw (bytes as delivered), cast (asciicast v3), cast2, text or json")
	cmd.Flags().StringVar(&x.direction, "direction", "out", "of raw: in, out or err")
	cmd.Flags().Var(&x.channel, "channel", "place of the channel in the order of opening, from 0")
	return cmd
}

// check refuses options before the reading is on record.
func (x *export) check(c *call) error {
	switch x.format {
	case "raw":
		if c.terminal != nil {
			return &Fault{Exit: Usage, Message: "raw bytes of a recording are not written to a terminal, which would obey them",
				Hint: "send them to a file, or use session play"}
		}
	case "cast", "cast2", "text", "json":
		if x.direction != "out" {
			return &Fault{Exit: Usage, Message: "--direction is for --format raw: text, cast and cast2 show what was to be seen, json tells of both directions",
				Hint: "leave --direction out, or write the bytes themselves with --format raw"}
		}
	default:
		return usageError("there is no format %q: raw, cast, cast2, text or json", x.format)
	}
	if s := replay.Stream(x.direction); s != replay.In && s != replay.Out && s != replay.Err {
		return usageError("there is no direction %q: in, out or err", x.direction)
	}
	return nil
}

func (x *export) write(c *call, w io.Writer, s projections.Session, source replay.Source) error {
	channel := int(x.channel)
	switch x.format {
	case "raw":
		return replay.Raw(w, source, replay.RawOptions{Channel: channel, Stream: replay.Stream(x.direction)})
	case "text":
		return replay.Transcript(w, source, replay.TranscriptOptions{Channel: channel})
	case "json":
		return c.describe(w, s, source)
	}
	o := replay.CastOptions{Version: 3, Channel: channel, Started: s.Started, Title: s.User + " on " + s.Account + "+" + s.Target}
	if x.format == "cast2" {
		o.Version = 2
	}
	return replay.Cast(w, source, o)
}

// recorded is the JSON form of a recording.
type recorded struct {
	Session   projections.Session `json:"session"`
	Recording *replay.Recording   `json:"recording"`
}

// describe writes what a recording holds as JSON. After an error it writes
// what was read before it, and gives the error.
func (c *call) describe(w io.Writer, s projections.Session, source replay.Source) error {
	r, err := replay.Describe(source)
	if r == nil {
		return err
	}
	if e := writeJSON(w, c.answer("recording", recorded{s, r})); err == nil {
		err = e
	}
	return err
}

package transfer

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
	"github.com/holdfast-pam/holdfast/replay"
)

// Operations gives the file operations of a session, each when its outcome is known. It goes as fast as src gives items:
// over a source that waits for those to come, it follows a running session. The errors are those of src; the operations
// that were under way come before one.
func Operations(src replay.Source) iter.Seq2[Operation, error] {
	return func(yield func(Operation, error) bool) {
		var told []Operation
		f := NewFollower(func(o Operation) { told = append(told, o) })
		give := func() bool {
			for i, o := range told {
				if told[i] = (Operation{}); !yield(o, nil) {
					return false
				}
			}
			told = told[:0]
			return true
		}
		var last time.Duration
		for e, err := range replay.Events(src) {
			if err != nil {
				if f.End(last); give() {
					yield(Operation{}, err)
				}
				return
			}
			last = max(last, e.At)
			if f.Event(&e); len(told) > 0 && !give() {
				return
			}
		}
		f.End(last)
		give()
	}
}

// Follower finds the channels of a session that move files and decodes them. Not safe for concurrent use.
type Follower struct {
	observe  func(Operation)
	channels []*followed // by Index
}

// maxFollowed bounds the channels that are followed at a time. A gateway lets fewer be open; one more ends the oldest.
const maxFollowed = 1 << 10

// followed is a session channel on which a program was asked for.
type followed struct {
	channel *replay.Channel
	asked   []asking // in the order of the requests
	decoder *Decoder // of the program that runs, from the first byte on; nil before
	early   bool     // bytes went to it before the target confirmed it
}

// asking is a request for a program. The target runs the first that it can.
type asking struct {
	program   Program
	wantReply bool
	refused   bool // by the gateway
}

// NewFollower gives each operation to observe as soon as its outcome is known.
func NewFollower(observe func(Operation)) *Follower { return &Follower{observe: observe} }

// Event takes the next event of the session.
func (f *Follower) Event(e *replay.Event) {
	c := f.find(e.Channel)
	switch {
	case e.Kind == replay.KindGap:
		for _, c := range f.channels {
			c.lose(e.At, fmt.Sprintf("the recording lacks %d packets", e.Missing))
		}
	case e.Kind == replay.KindRequest && e.Direction == events.In:
		f.request(c, e)
	case c == nil:
	case e.Kind == replay.KindReply && e.Direction == events.Out && !e.Dropped && starts(e.Request):
		c.answer(e.At, e.OK, f.observe)
	case e.Kind == replay.KindData && !e.Dropped:
		c.data(e, f.observe)
	case e.Channel.State == replay.Closed:
		f.forget(c, e.At)
	}
}

// End says that the session is over.
func (f *Follower) End(at time.Duration) {
	for _, c := range f.channels {
		c.end(at)
	}
	f.channels = nil
}

func (f *Follower) find(channel *replay.Channel) *followed {
	if channel == nil {
		return nil
	}
	for _, c := range f.channels {
		if c.channel == channel {
			return c
		}
	}
	return nil
}

func (f *Follower) forget(c *followed, at time.Duration) {
	c.end(at)
	f.channels = slices.DeleteFunc(f.channels, func(k *followed) bool { return k == c })
}

// starts says whether a request starts a program (RFC 4254 section 6.5).
func starts(request string) bool {
	return request == "exec" || request == "subsystem" || request == "shell"
}

// maxAsked bounds the programs that a channel asks for before one runs.
const maxAsked = 64

func (f *Follower) request(c *followed, e *replay.Event) {
	if !starts(e.Request) || e.Channel == nil {
		return
	}
	m, err := sshwire.ParseChannelRequest(e.Packet)
	if err != nil || e.Dropped && !m.WantReply {
		return
	}
	if c == nil {
		if len(f.channels) == maxFollowed {
			f.forget(f.channels[0], e.At)
		}
		c = &followed{channel: e.Channel}
		f.channels = append(f.channels, c)
	}
	if len(c.asked) == maxAsked {
		c.lose(e.At, "too many programs were asked for")
		return
	}
	c.asked = append(c.asked, asking{ProgramOf(e.Request, e.Command), m.WantReply, e.Dropped})
}

// answer takes the reply to the oldest request for a program that wants one.
func (c *followed) answer(at time.Duration, ok bool, observe func(Operation)) {
	i := slices.IndexFunc(c.asked, func(a asking) bool { return a.wantReply })
	if i < 0 {
		return
	}
	running := c.first() == i
	switch {
	case !ok:
		c.asked = slices.Delete(c.asked, i, i+1)
		if running && c.decoder != nil {
			c.end(at)
			c.decoder = nil
		}
	case running:
		c.early = false
		c.asked[i].wantReply = false
	default:
		c.asked = []asking{{program: c.asked[i].program}}
		c.end(at)
		if c.decoder = nil; c.early {
			c.start(observe)
			c.lose(at, "bytes were sent before it was certain what runs")
		}
	}
}

// first is the place of the oldest request that may have started a program, or -1.
func (c *followed) first() int {
	return slices.IndexFunc(c.asked, func(a asking) bool { return !a.refused })
}

func (c *followed) data(e *replay.Event, observe func(Operation)) {
	i := c.first()
	if i < 0 {
		return
	}
	if c.decoder == nil {
		c.start(observe)
	}
	c.early = c.early || c.asked[i].wantReply
	switch e.Stream {
	case replay.In:
		c.decoder.FromClient(e.At, e.Data)
	case replay.Out:
		c.decoder.FromTarget(e.At, e.Data)
	}
}

func (c *followed) start(observe func(Operation)) {
	c.decoder = NewDecoder(c.asked[c.first()].program, c.channel.Index, observe)
}

func (c *followed) lose(at time.Duration, why string) {
	if c.decoder != nil {
		c.decoder.Lose(at, why)
	}
}

func (c *followed) end(at time.Duration) {
	if c.decoder != nil {
		c.decoder.End(at)
	}
}

package replay

import (
	"math"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// Stream is one of the byte streams of a channel.
type Stream string

const (
	// In is what the client sent: stdin.
	In Stream = "in"
	// Out is what the target sent: stdout.
	Out Stream = "out"
	// Err is the target's extended data of type 1: stderr.
	Err Stream = "err"
	// Other is any other extended data; RFC 4254 defines none.
	Other Stream = "other"
)

// Program is what runs at the target end of a session channel.
type Program struct {
	Kind    string `json:"kind"`              // "shell", "exec" or "subsystem"
	Command Text   `json:"command,omitempty"` // of exec, or the subsystem's name
	Refused bool   `json:"refused,omitempty"` // the target said no
}

// Pty is a channel's terminal. Sizes are as sent: any number.
type Pty struct {
	Term Text   `json:"term"`
	Cols uint32 `json:"cols"`
	Rows uint32 `json:"rows"`
}

// Env is one variable that the client asked for; the target may not have taken it.
type Env struct {
	Name  Text `json:"name"`
	Value Text `json:"value"`
}

// Bounds on what a [Channel] remembers; the events have all of it.
const (
	maxEnv     = 32
	maxFact    = 64 << 10 // bytes of a command
	maxName    = 1 << 10  // bytes of TERM, of a variable's name or value, of a refusal
	maxPending = 1024     // requests whose replies are awaited, per channel and direction
)

// ChannelState is how far a channel has come.
type ChannelState string

// The states of a channel.
const (
	Opening ChannelState = "opening" // no answer to the open yet
	Open    ChannelState = "open"
	Refused ChannelState = "refused"
	Closed  ChannelState = "closed" // by both sides
)

// Channel is what is known of one channel at some point of a recording. [Events] goes on changing it until the
// channel is closed: a consumer that looks ahead takes what it needs from the events instead.
type Channel struct {
	Index  int // place in the order of opening, from 0; channels whose opening was refused count too
	Type   string
	Opener events.Direction // that the CHANNEL_OPEN travelled in
	State  ChannelState

	OpenedAt time.Duration // since session start
	ClosedAt time.Duration // or when it was refused; 0 before
	Refusal  Text          // why it was not opened

	Program    *Program
	Pty        *Pty // with the size as last changed
	Env        []Env
	ExitStatus *uint32
	ExitSignal Text

	Bytes map[Stream]uint64 // delivered

	ids     [2]uint32 // recipient number in packets of a direction
	closed  [2]bool   // a CLOSE travelled in that direction
	pending [2]pending
}

// pending is the requests of one direction that await a reply, oldest first.
type pending struct {
	types []string
	lost  int // requests after those, which were too many to keep
}

func (p *pending) push(request string) {
	if len(p.types) == maxPending || p.lost > 0 {
		p.lost++
		return
	}
	p.types = append(p.types, request)
}

// pop is the oldest request, "" if it isn't known.
func (p *pending) pop() string {
	switch {
	case len(p.types) > 0:
		request := p.types[0]
		p.types = p.types[1:]
		return request
	case p.lost > 0:
		p.lost--
	}
	return ""
}

// microseconds is n as a duration, at most as long as one can be.
func microseconds(n uint64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/1000)) * time.Microsecond
}

// cut is s in at most n bytes.
func cut(s string, n int) string { return s[:min(len(s), n)] }

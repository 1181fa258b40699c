package replay

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// Bounds on what a [Recording] lists; what is beyond them is counted.
const (
	maxListedChannels = 1024
	maxListedEvents   = 10000
	maxListedText     = 1 << 10 // bytes of a text in an event
)

// Recording is what a session's recording holds, for people and programs to read as JSON.
type Recording struct {
	Complete  bool          `json:"complete"` // no packet is missing before the last one
	Duration  Seconds       `json:"duration"` // from session start to the last packet
	In        DirectionInfo `json:"in"`
	Out       DirectionInfo `json:"out"`
	Stray     uint64        `json:"stray"`     // packets for channels that are not open
	Unknown   uint64        `json:"unknown"`   // packets that RFC 4254 doesn't define
	Malformed uint64        `json:"malformed"` // packets not laid out as it says

	Channels        []ChannelInfo `json:"channels"`
	ChannelsOmitted uint64        `json:"channels_omitted,omitempty"`
	Events          []EventInfo   `json:"events"`
	EventsOmitted   uint64        `json:"events_omitted,omitempty"`
}

// DirectionInfo counts the packets of one direction.
type DirectionInfo struct {
	Packets uint64 `json:"packets"`           // received from that side, in the recording
	Dropped uint64 `json:"dropped,omitempty"` // of those, by the gateway
	Made    uint64 `json:"made,omitempty"`    // by the gateway
	Missing uint64 `json:"missing,omitempty"` // that the recording lacks
	Bytes   uint64 `json:"bytes"`             // channel data delivered
}

// ChannelInfo describes one channel.
type ChannelInfo struct {
	Index      int              `json:"index"` // for RawOptions.Channel
	Type       string           `json:"type"`
	Opener     events.Direction `json:"opener"` // "in": the client
	State      ChannelState     `json:"state"`
	Opened     Seconds          `json:"opened"` // since session start
	Closed     *Seconds         `json:"closed,omitempty"`
	Refusal    Text             `json:"refusal,omitempty"`
	Program    *Program         `json:"program,omitempty"`
	Pty        *Pty             `json:"pty,omitempty"`
	Env        []Env            `json:"env,omitempty"`
	ExitStatus *uint32          `json:"exit_status,omitempty"`
	ExitSignal Text             `json:"exit_signal,omitempty"`
	Streams    []StreamInfo     `json:"streams"` // those that carried bytes
}

// StreamInfo describes one byte stream as delivered.
type StreamInfo struct {
	Stream Stream `json:"stream"`
	Bytes  uint64 `json:"bytes"`
	SHA256 string `json:"sha256"` // of what Raw writes
}

// EventInfo is one event other than data and windows.
type EventInfo struct {
	At        Seconds          `json:"at"` // since session start
	Direction events.Direction `json:"direction"`
	Packet    uint64           `json:"packet"`
	Kind      Kind             `json:"kind"`
	Channel   *int             `json:"channel,omitempty"`
	Request   string           `json:"request,omitempty"`
	OK        *bool            `json:"ok,omitempty"` // of replies
	Term      Text             `json:"term,omitempty"`
	Cols      uint32           `json:"cols,omitempty"`
	Rows      uint32           `json:"rows,omitempty"`
	Command   Text             `json:"command,omitempty"`
	Status    *uint32          `json:"status,omitempty"`
	Signal    Text             `json:"signal,omitempty"`
	Missing   uint64           `json:"missing,omitempty"`
	Detail    Text             `json:"detail,omitempty"`
	Made      bool             `json:"made,omitempty"`
	Dropped   bool             `json:"dropped,omitempty"`
}

// Describe reads a whole recording. A gap is no error here:
// the recording says so. With an error comes what was read before it.
func Describe(src Source) (*Recording, error) {
	d := describer{
		recording: &Recording{Complete: true, Channels: []ChannelInfo{}, Events: []EventInfo{}},
		sums:      map[*Channel]map[Stream]hash.Hash{},
	}
	var failed error
	for e, err := range Events(src) {
		if err != nil {
			failed = err
			break
		}
		d.count(&e)
		d.list(&e)
		d.follow(&e)
	}
	for _, c := range d.live {
		d.store(c)
	}
	if failed != nil {
		d.recording.Complete = false
	}
	return d.recording, failed
}

type describer struct {
	recording *Recording
	live      []*Channel // listed and not closed
	sums      map[*Channel]map[Stream]hash.Hash
}

func (d *describer) count(e *Event) {
	r := d.recording
	r.Duration = max(r.Duration, Seconds(e.At))
	side := &r.In
	if e.Direction == events.Out {
		side = &r.Out
	}
	switch {
	case e.Kind == KindGap:
		r.Complete = false
		side.Missing += e.Missing
		return
	case e.Made:
		side.Made++
	default:
		side.Packets++
	}
	switch {
	case e.Dropped:
		side.Dropped++
	case e.Kind == KindData:
		side.Bytes += uint64(len(e.Data))
	}
	switch e.Kind {
	case KindStray:
		r.Stray++
	case KindUnknown:
		r.Unknown++
	case KindMalformed:
		r.Malformed++
	}
}

// list adds the event to the list.
func (d *describer) list(e *Event) {
	if e.Kind == KindWindow || e.Kind == KindData && !e.Dropped {
		return
	}
	r := d.recording
	if len(r.Events) == maxListedEvents {
		r.EventsOmitted++
		return
	}
	info := EventInfo{
		At: Seconds(e.At), Direction: e.Direction, Packet: e.Number, Kind: e.Kind, Request: e.Request,
		Term: listed(e.Term), Cols: e.Cols, Rows: e.Rows, Command: listed(e.Command), Signal: listed(e.Signal),
		Missing: e.Missing, Detail: listed(e.Detail), Made: e.Made, Dropped: e.Dropped,
	}
	if e.Channel != nil {
		n := e.Channel.Index
		info.Channel = &n
	}
	if e.Kind == KindReply || e.Kind == KindGlobalReply {
		ok := e.OK
		info.OK = &ok
	}
	if e.Request == "exit-status" {
		status := e.Status
		info.Status = &status
	}
	r.Events = append(r.Events, info)
}

func listed(s string) Text { return Text(cut(s, maxListedText)) }

// follow keeps the list of channels and the sums of their streams.
func (d *describer) follow(e *Event) {
	c := e.Channel
	if c == nil {
		return
	}
	if e.Kind == KindOpen {
		if len(d.recording.Channels) == maxListedChannels {
			d.recording.ChannelsOmitted++
			return
		}
		d.recording.Channels = append(d.recording.Channels, ChannelInfo{})
		d.live = append(d.live, c)
		d.sums[c] = map[Stream]hash.Hash{}
	}
	sums, known := d.sums[c]
	if !known {
		return
	}
	if e.Kind == KindData && !e.Dropped {
		if sums[e.Stream] == nil {
			sums[e.Stream] = sha256.New()
		}
		sums[e.Stream].Write(e.Data)
	}
	if c.State == Closed || c.State == Refused {
		d.store(c)
		delete(d.sums, c)
		for i := range d.live {
			if d.live[i] == c {
				d.live = append(d.live[:i], d.live[i+1:]...)
				break
			}
		}
	}
}

// store writes a channel's facts into its place in the list.
func (d *describer) store(c *Channel) {
	info := ChannelInfo{
		Index: c.Index, Type: c.Type, Opener: c.Opener, State: c.State, Opened: Seconds(c.OpenedAt),
		Refusal: c.Refusal, ExitStatus: c.ExitStatus, ExitSignal: c.ExitSignal,
		Streams: []StreamInfo{},
	}
	if c.State == Closed || c.State == Refused {
		at := Seconds(c.ClosedAt)
		info.Closed = &at
	}
	info.Program, info.Pty, info.Env = c.Program, c.Pty, c.Env
	for _, s := range []Stream{In, Out, Err, Other} {
		if sum := d.sums[c][s]; sum != nil {
			info.Streams = append(info.Streams, StreamInfo{Stream: s, Bytes: c.Bytes[s], SHA256: hex.EncodeToString(sum.Sum(nil))})
		}
	}
	d.recording.Channels[c.Index] = info
}

// Summary is the little that lists of sessions show.
type Summary struct {
	Duration   time.Duration // from session start to the last packet
	BytesIn    uint64        // channel data delivered to the target
	BytesOut   uint64        // channel data delivered to the client, stderr included
	Channels   int           // that were asked for
	Program    *Program      // the first that was not refused, else nil
	ExitStatus *uint32       // of that program
	ExitSignal Text
	Missing    uint64 // packets that the recording lacks
}

// Summarize reads a whole recording. With an error comes what was read before it.
func Summarize(src Source) (Summary, error) {
	var s Summary
	var first *Channel
	var failed error
	for e, err := range Events(src) {
		if err != nil {
			failed = err
			break
		}
		s.Duration = max(s.Duration, e.At)
		s.Missing += e.Missing
		switch {
		case e.Kind == KindOpen:
			s.Channels++
		case e.Dropped:
		case e.Kind == KindData && e.Direction == events.In:
			s.BytesIn += uint64(len(e.Data))
		case e.Kind == KindData:
			s.BytesOut += uint64(len(e.Data))
		case e.Kind == KindRequest && e.Channel.Program != nil && (first == nil || first.Program.Refused):
			first = e.Channel
		}
	}
	if first != nil && !first.Program.Refused {
		s.Program, s.ExitStatus, s.ExitSignal = first.Program, first.ExitStatus, first.ExitSignal
	}
	return s, failed
}

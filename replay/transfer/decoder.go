package transfer

import (
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/replay"
)

// Decoder follows the bytes of one channel. Feed it both directions in the order in which the relay had them; it never
// fails, waits or keeps the bytes that it is given. Not safe for concurrent use.
type Decoder struct {
	channel  int
	observe  func(Operation)
	protocol protocol // nil: nothing to follow, or no more
}

// protocol decodes one kind of program. An error ends it: it says why nothing is understood any more.
type protocol interface {
	fromClient(at time.Duration, data []byte) error
	fromTarget(at time.Duration, data []byte) error
	end(at time.Duration) // tells what is unfinished
}

// NewDecoder follows a channel that runs p. observe is given each operation as soon as its outcome is known, by the call
// that brought it; channel is what they are marked with.
func NewDecoder(p Program, channel int, observe func(Operation)) *Decoder {
	d := &Decoder{channel: channel, observe: observe}
	switch p.Protocol {
	case SFTP:
		d.protocol = newSFTP(d.emit)
	case SCP:
		d.protocol = newSCP(d.emit, p)
	case Rsync, Git:
		d.protocol = &opaque{emit: d.emit, program: p}
	}
	return d
}

func (d *Decoder) emit(o Operation) {
	o.Channel = d.channel
	d.observe(o)
}

// FromClient takes stdin of the program, at a time since session start.
func (d *Decoder) FromClient(at time.Duration, data []byte) {
	if d.protocol == nil {
		return
	}
	if err := d.protocol.fromClient(at, data); err != nil {
		d.fail(at, events.In, err.Error())
	}
}

// FromTarget takes its stdout.
func (d *Decoder) FromTarget(at time.Duration, data []byte) {
	if d.protocol == nil {
		return
	}
	if err := d.protocol.fromTarget(at, data); err != nil {
		d.fail(at, events.Out, err.Error())
	}
}

// Lose says that bytes are missing here: nothing after them can be understood.
func (d *Decoder) Lose(at time.Duration, why string) {
	if d.protocol != nil {
		d.fail(at, "", why)
	}
}

// End says that the channel is closed. What is unfinished is told as such; more calls do nothing.
func (d *Decoder) End(at time.Duration) {
	if d.protocol != nil {
		d.protocol.end(at)
		d.protocol = nil
	}
}

func (d *Decoder) fail(at time.Duration, direction events.Direction, why string) {
	d.End(at)
	switch direction {
	case events.In:
		why = "from the client: " + why
	case events.Out:
		why = "from the target: " + why
	}
	d.emit(Operation{Kind: KindUndecoded, Note: why, Started: replay.Seconds(at), Ended: replay.Seconds(at)})
}

// opaque counts the bytes of a program whose protocol is not decoded.
type opaque struct {
	emit    func(Operation)
	program Program
	begun   bool
	started time.Duration
	bytes   map[Direction]uint64
}

func (r *opaque) fromClient(at time.Duration, data []byte) error { return r.count(at, Upload, data) }
func (r *opaque) fromTarget(at time.Duration, data []byte) error { return r.count(at, Download, data) }

func (r *opaque) count(at time.Duration, d Direction, data []byte) error {
	if !r.begun {
		r.begun, r.started, r.bytes = true, at, map[Direction]uint64{}
	}
	r.bytes[d] += uint64(len(data))
	return nil
}

func (r *opaque) end(at time.Duration) {
	if !r.begun {
		return
	}
	o := Operation{
		Kind: Kind(r.program.Protocol), Direction: r.program.Direction, Bytes: r.bytes[r.program.Direction],
		Note:    string(r.program.Protocol) + " is not decoded: the bytes are opaque, those of its protocol",
		Started: replay.Seconds(r.started), Ended: replay.Seconds(at),
	}
	o.setTarget(r.program.Paths)
	r.emit(o)
}

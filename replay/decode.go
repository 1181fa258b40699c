package replay

import (
	"fmt"
	"iter"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// maxChannels is how many channels may be open at a time: more than any SSH server allows. Opens beyond it are stray.
const maxChannels = 1 << 10

// Events decodes the connection layer (RFC 4254) of a session. Nothing that the packets hold is an error: what doesn't
// fit is an event of kind [KindStray], [KindUnknown] or [KindMalformed]. The errors are those of src.
//
// Dropped packets change nothing, and give events that say so; a channel that was asked for in one is known, because
// the refusal that follows is about it.
func Events(src Source) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		d := decoder{byID: [2]map[uint32]*Channel{{}, {}}}
		for item, err := range src {
			if err != nil {
				yield(Event{}, err)
				return
			}
			i, err := index(item.Direction)
			if err != nil {
				yield(Event{}, err)
				return
			}
			if item.Missing > 0 && !yield(gap(item), nil) {
				return
			}
			if !yield(d.decode(i, item), nil) {
				return
			}
		}
	}
}

func gap(item Item) Event {
	return Event{
		Kind: KindGap, At: item.Packet.At, Direction: item.Direction, Missing: item.Missing,
		Number: item.Packet.Number - item.Missing,
		Detail: fmt.Sprintf("the recording lacks %d packets", item.Missing),
	}
}

// decoder is the state of the connection layer.
type decoder struct {
	byID   [2]map[uint32]*Channel // by direction and recipient number of its packets
	opened int
	global [2]pending // global requests of a direction
}

// decode reads one packet that travelled in direction i.
func (d *decoder) decode(i int, item Item) Event {
	e := Event{
		At: item.Packet.At, Direction: item.Direction, Number: item.Packet.Number,
		Made: item.Made, Dropped: item.Dropped, Altered: len(item.Altered) > 0, Packet: item.Packet.Bytes, Detail: item.Why,
	}
	if len(e.Packet) == 0 {
		e.Kind, e.Detail = KindMalformed, "empty packet"
		return e
	}
	if err := d.message(i, &e); err != nil {
		e.Kind, e.Detail = KindMalformed, err.Error()
	}
	return e
}

func (d *decoder) message(i int, e *Event) error {
	switch e.Packet[0] {
	case sshwire.MsgChannelData:
		m, err := sshwire.ParseChannelData(e.Packet)
		d.data(i, e, m.Recipient, streamOf(i), m.Data, err)
		return err
	case sshwire.MsgChannelExtendedData:
		m, err := sshwire.ParseChannelExtendedData(e.Packet)
		d.data(i, e, m.Recipient, extended(i, m.Type), m.Data, err)
		return err
	case sshwire.MsgChannelWindowAdjust:
		m, err := sshwire.ParseChannelWindowAdjust(e.Packet)
		d.simple(i, e, KindWindow, m.Recipient, err)
		return err
	case sshwire.MsgChannelOpen:
		return d.open(i, e)
	case sshwire.MsgChannelOpenConfirmation:
		return d.confirm(i, e)
	case sshwire.MsgChannelOpenFailure:
		return d.refuse(i, e)
	case sshwire.MsgChannelEOF:
		m, err := sshwire.ParseChannelEOF(e.Packet)
		d.simple(i, e, KindEOF, m.Recipient, err)
		return err
	case sshwire.MsgChannelClose:
		return d.close(i, e)
	case sshwire.MsgChannelRequest:
		return d.request(i, e)
	case sshwire.MsgChannelSuccess, sshwire.MsgChannelFailure:
		return d.reply(i, e)
	case sshwire.MsgGlobalRequest, sshwire.MsgRequestSuccess, sshwire.MsgRequestFailure:
		return d.globalMessage(i, e)
	}
	e.Kind, e.Detail = KindUnknown, fmt.Sprintf("message %d", e.Packet[0])
	return nil
}

// find looks up the open channel that a packet in direction i is about; if there is none, the event is stray.
func (d *decoder) find(i int, e *Event, recipient uint32) *Channel {
	c := d.byID[i][recipient]
	if c == nil || c.State != Open || c.closed[i] {
		e.Kind, e.Detail = KindStray, fmt.Sprintf("no open channel %d", recipient)
		return nil
	}
	e.Channel = c
	return c
}

// simple is a message that says nothing but its channel.
func (d *decoder) simple(i int, e *Event, kind Kind, recipient uint32, err error) {
	if err == nil && d.find(i, e, recipient) != nil {
		e.Kind = kind
	}
}

func streamOf(i int) Stream {
	if i == 0 {
		return In
	}
	return Out
}

func extended(i int, code uint32) Stream {
	if i == 1 && code == sshwire.ExtendedDataStderr {
		return Err
	}
	return Other
}

func (d *decoder) data(i int, e *Event, recipient uint32, s Stream, data []byte, err error) {
	if err != nil {
		return
	}
	c := d.find(i, e, recipient)
	if c == nil {
		return
	}
	e.Kind, e.Stream, e.Data = KindData, s, data
	if !e.Dropped {
		c.Bytes[s] += uint64(len(data))
	}
}

func (d *decoder) open(i int, e *Event) error {
	m, err := sshwire.ParseChannelOpen(e.Packet)
	if err != nil {
		return err
	}
	if len(d.byID[0])+len(d.byID[1]) >= 2*maxChannels {
		e.Kind, e.Detail = KindStray, "too many open channels"
		return nil
	}
	c := &Channel{
		Index: d.opened, Type: m.Type, Opener: e.Direction, State: Opening, OpenedAt: e.At, Bytes: map[Stream]uint64{},
	}
	d.opened++
	c.ids[1-i] = m.Sender
	d.register(1-i, m.Sender, c)
	e.Kind, e.Channel, e.Payload = KindOpen, c, m.Payload
	return nil
}

// register makes c what packets of direction i mean by id. A live channel that had the number is given up: the side
// that owns the number says so.
func (d *decoder) register(i int, id uint32, c *Channel) {
	if old := d.byID[i][id]; old != nil {
		d.forget(old)
	}
	d.byID[i][id] = c
}

func (d *decoder) forget(c *Channel) {
	for i := range d.byID {
		if d.byID[i][c.ids[i]] == c {
			delete(d.byID[i], c.ids[i])
		}
	}
}

// answer finds the channel whose open a packet in direction i answers.
func (d *decoder) answer(i int, e *Event, recipient uint32) *Channel {
	c := d.byID[i][recipient]
	if c == nil || c.State != Opening || c.Opener == e.Direction {
		e.Kind, e.Detail = KindStray, fmt.Sprintf("no channel %d is being opened", recipient)
		return nil
	}
	e.Channel = c
	return c
}

func (d *decoder) confirm(i int, e *Event) error {
	m, err := sshwire.ParseChannelOpenConfirmation(e.Packet)
	if err != nil {
		return err
	}
	c := d.answer(i, e, m.Recipient)
	if c == nil {
		return nil
	}
	e.Kind = KindOpened
	if e.Dropped {
		return nil
	}
	c.State = Open
	c.ids[1-i] = m.Sender
	d.register(1-i, m.Sender, c)
	return nil
}

func (d *decoder) refuse(i int, e *Event) error {
	m, err := sshwire.ParseChannelOpenFailure(e.Packet)
	if err != nil {
		return err
	}
	c := d.answer(i, e, m.Recipient)
	if c == nil {
		return nil
	}
	e.Kind, e.Detail = KindRefused, cut(m.Text, maxName)
	if e.Dropped {
		return nil
	}
	c.State, c.ClosedAt, c.Refusal = Refused, e.At, Text(e.Detail)
	d.forget(c)
	return nil
}

func (d *decoder) close(i int, e *Event) error {
	m, err := sshwire.ParseChannelClose(e.Packet)
	if err != nil {
		return err
	}
	c := d.find(i, e, m.Recipient)
	if c == nil {
		return nil
	}
	e.Kind = KindClose
	if e.Dropped {
		return nil
	}
	if c.closed[i] = true; c.closed[1-i] {
		c.State, c.ClosedAt = Closed, e.At
		c.pending = [2]pending{}
		d.forget(c)
	}
	return nil
}

func (d *decoder) globalMessage(i int, e *Event) error {
	switch e.Packet[0] {
	case sshwire.MsgGlobalRequest:
		m, err := sshwire.ParseGlobalRequest(e.Packet)
		if err != nil {
			return err
		}
		e.Kind, e.Request, e.Payload = KindGlobal, m.Type, m.Payload
		if m.WantReply {
			d.global[i].push(m.Type)
		}
		return nil
	case sshwire.MsgRequestSuccess:
		m, err := sshwire.ParseRequestSuccess(e.Packet)
		if err != nil {
			return err
		}
		e.OK, e.Payload = true, m.Payload
	default:
		if _, err := sshwire.ParseRequestFailure(e.Packet); err != nil {
			return err
		}
	}
	e.Kind = KindGlobalReply
	if !e.Dropped {
		e.Request = d.global[1-i].pop()
	}
	return nil
}

package gateway

import (
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/gateway/relay"
)

const (
	// recordSize is how many bytes of packets one session.packets record holds; a longer packet has one of its own.
	recordSize = 64 << 10
	// burstSize is how many bytes a reader gathers before it hands them on.
	burstSize = 64 << 10
	// burstPackets is the same in packets: what a burst of refusals adds to the log must fit one commit.
	burstPackets = 2048
	// keptBlock is the largest buffer that goes back to the pool.
	keptBlock = 256 << 10
)

// batch is a burst of packets that one leg delivered in one go, and what the relay made of them. Its block is shared:
// it is what gets sealed, and the packets to be sent point into it.
type batch struct {
	d     relay.Direction // that its packets were received in
	at    time.Duration   // since session start
	block []byte          // as events.AppendPacket lays it out
	spans []span          // the packets
	outs  [2][][]byte     // packets to send, by the direction they travel in

	drops    []events.Draft // go into the log before the packets that they are about
	drafts   []events.Draft // records and made packets, in the relay's order
	refused  []events.SessionRefused
	sealed   []byte           // what the records hold; free again once they are prepared
	prepared []store.Prepared // all of it, ready for the log

	through uint64 // packets received in d, this batch included
	bytes   uint64 // channel data received in d, this batch included

	// guarded by session.mu
	committed bool
	users     int // deliveries that still need block
}

// span is where a packet stands in the block.
type span struct{ start, body, end int }

var batches = sync.Pool{New: func() any { return new(batch) }}

func newBatch(d relay.Direction, at time.Duration) *batch {
	b := batches.Get().(*batch)
	b.d, b.at = d, at
	return b
}

// release gives the batch back; nothing refers to its memory any more.
func (b *batch) release() {
	if cap(b.block) > keptBlock || cap(b.sealed) > keptBlock {
		return
	}
	clear(b.drops)
	clear(b.drafts)
	for d := range b.outs {
		clear(b.outs[d])
	}
	*b = batch{
		block: b.block[:0], spans: b.spans[:0], sealed: b.sealed[:0], drops: b.drops[:0], drafts: b.drafts[:0],
		outs: [2][][]byte{b.outs[0][:0], b.outs[1][:0]},
	}
	batches.Put(b)
}

// add copies a packet into the block.
func (b *batch) add(packet []byte) {
	start := len(b.block)
	b.block = events.AppendPacket(b.block, b.at, b.at, packet)
	b.spans = append(b.spans, span{start, len(b.block) - len(packet), len(b.block)})
}

func (b *batch) packet(i int) []byte {
	s := b.spans[i]
	return b.block[s.body:s.end:s.end]
}

// scribe turns what a relay says into the drafts of a session.
type scribe struct {
	session events.SessionID
	actor   events.Actor
	key     *seal.DataKey
}

// PacketsPurpose is the purpose that a block of packets is sealed for (see seal.Binding): its ID is the session, its
// Number that of the first packet.
func PacketsPurpose(d events.Direction) string { return "session.packets/" + string(d) }

func eventDirection(d relay.Direction) events.Direction {
	if d == relay.In {
		return events.In
	}
	return events.Out
}

// step runs the relay over the batch and collects its outputs. After a protocol error the batch ends with the packet
// that broke the protocol.
func (c *scribe) step(r *relay.Relay, b *batch) (broken, err error) {
	first := r.Counts(b.d).Received
	var room [4]relay.Output
	from := 0 // of the record being gathered
	for i := range b.spans {
		var outputs []relay.Output
		outputs, broken = r.Step(b.d, b.packet(i), room[:0])
		for _, o := range outputs {
			if o.Kind == relay.Make && o.Direction == b.d && from <= i {
				if err := c.record(b, first, from, i+1); err != nil {
					return broken, err
				}
				from = i + 1
			}
			if err := c.take(b, o); err != nil {
				return broken, err
			}
		}
		full := i+1 < len(b.spans) && b.spans[i+1].end-b.spans[min(from, i)].start > recordSize
		if last := broken != nil || i+1 == len(b.spans); (last || full) && from <= i {
			if err := c.record(b, first, from, i+1); err != nil {
				return broken, err
			}
			from = i + 1
		}
		if broken != nil {
			b.spans = b.spans[:i+1]
			break
		}
	}
	n := r.Counts(b.d)
	b.through, b.bytes = n.Received, n.Bytes
	b.prepared, err = store.Prepare(append(b.drops, b.drafts...)...)
	return broken, err
}

// size is about how many bytes the batch takes in the log.
func (b *batch) size() (n int) {
	for i := range b.prepared {
		n += b.prepared[i].Size()
	}
	return n
}

// record seals the packets from..to of the batch into one session.packets.
func (c *scribe) record(b *batch, first uint64, from, to int) error {
	e := events.SessionPackets{
		Direction: eventDirection(b.d),
		First:     first + uint64(from),
		Count:     uint64(to - from),
		At:        uint64(b.at.Microseconds()),
	}
	at := seal.Binding{Purpose: PacketsPurpose(e.Direction), ID: c.session.UUID, Number: e.First}
	before := len(b.sealed)
	sealed, err := c.key.Seal(b.sealed, b.block[b.spans[from].start:b.spans[to-1].end], at)
	if err != nil {
		return fmt.Errorf("seal packets of session %s: %w", c.session, err)
	}
	b.sealed = sealed
	e.Sealed = sealed[before:len(sealed):len(sealed)]
	return c.draft(&b.drafts, e)
}

// take notes one output of the relay.
func (c *scribe) take(b *batch, o relay.Output) error {
	switch o.Kind {
	case relay.Forward:
		b.outs[o.Direction] = append(b.outs[o.Direction], o.Packet)
	case relay.Make:
		b.outs[o.Direction] = append(b.outs[o.Direction], o.Packet)
		return c.draft(&b.drafts, events.SessionPacketMade{
			Direction: eventDirection(o.Direction), Output: o.Number, At: uint64(b.at.Microseconds()),
			Packet: o.Packet, Refuses: o.Refuses,
		})
	case relay.Drop:
		return c.draft(&b.drops, events.SessionPacketDropped{Direction: eventDirection(o.Direction), Number: o.Number, Why: o.What})
	case relay.Refused:
		b.refused = append(b.refused, events.SessionRefused{
			Direction: eventDirection(o.Direction), Number: o.Number, What: o.What, Detail: o.Detail,
		})
	}
	return nil
}

func (c *scribe) draft(to *[]events.Draft, e events.Event) error {
	d, err := events.NewDraft(c.session.UUID, c.actor, "", e)
	if err != nil {
		return err
	}
	*to = append(*to, d)
	return nil
}

package gateway

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/gateway/relay"
	"github.com/holdfast-pam/holdfast/replay"
)

const (
	// recordSize is how many bytes of packets one session.packets record holds; a longer packet has one of its own.
	recordSize = 256 << 10
	// burstSize is how many bytes a reader gathers before it hands them on.
	burstSize = 128 << 10
	// burstPackets is the same in packets: what a burst of refusals adds to the log must fit one commit.
	burstPackets = 2048
	// keptBlock is the largest buffer that goes back to the pool.
	keptBlock = 512 << 10
	// smallBurst is up to how many bytes a burst is taken for somebody's typing: its reader sees to the commit and to the
	// delivery itself, which saves two changes of goroutine.
	smallBurst = 4 << 10
)

// batch is a burst of packets that one leg delivered in one go, and what the relay made of them. Its memory is shared:
// block is what gets sealed, and the packets to be sent point into it; payloads is what the log gets. Both are free again
// when everything is delivered, since that comes after the commit.
type batch struct {
	d     relay.Direction // that its packets were received in
	at    time.Duration   // since session start
	block []byte          // as events.AppendPacket lays it out
	spans []span          // the packets
	outs  [2][][]byte     // packets to send, by the direction they travel in

	drops    []store.Prepared // what was dropped or altered: goes into the log before the packets that it is about
	prepared []store.Prepared // for the log: drops, then records and made packets in the relay's order
	refused  []events.SessionRefused
	forwards []relay.Output  // what happened to channels of forwardings
	payloads []byte          // of the records
	opened   []replay.Record // copies of the records before they were sealed, for who keeps them (see [scribe]); not all need be here

	through uint64 // packets received in d, this batch included
	bytes   uint64 // channel data received in d, this batch included

	// guarded by session.mu
	committed bool
	users     int // deliveries that still need block
	weight    int // bytes that it counts for while they do
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
	if cap(b.block) > keptBlock || cap(b.payloads) > keptBlock {
		return
	}
	clear(b.drops)
	clear(b.prepared)
	for d := range b.outs {
		clear(b.outs[d])
	}
	*b = batch{
		block: b.block[:0], spans: b.spans[:0], payloads: b.payloads[:0], drops: b.drops[:0], prepared: b.prepared[:0],
		outs: [2][][]byte{b.outs[0][:0], b.outs[1][:0]},
	}
	batches.Put(b)
}

// isFor says that the lane of d has to do with the batch: its own one also where nothing is forwarded, since the cursor
// moves.
func (b *batch) isFor(d relay.Direction) bool { return d == b.d || len(b.outs[d]) > 0 }

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
	keep    func(n int) bool // somebody keeps the packets of the next n bytes; nil for nobody
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
	b.payloads = slices.Grow(b.payloads, len(b.block)+1024)
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
	if len(b.drops) > 0 {
		b.prepared = slices.Insert(b.prepared, 0, b.drops...)
	}
	return broken, nil
}

// isSmall says that the batch is what somebody typed or its echo.
func (b *batch) isSmall() bool { return len(b.block) <= smallBurst }

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
	plain := b.block[b.spans[from].start:b.spans[to-1].end]
	before := len(b.payloads)
	payloads, err := events.AppendPackets(b.payloads, e, len(plain)+seal.Overhead, func(dst []byte) ([]byte, error) {
		return c.key.Seal(dst, plain, at)
	})
	if err != nil {
		return fmt.Errorf("seal packets of session %s: %w", c.session, err)
	}
	b.payloads = payloads
	d, err := c.draft(e)
	if err != nil {
		return err
	}
	p, err := store.PrepareEncoded(d, payloads[before:len(payloads):len(payloads)])
	b.prepared = append(b.prepared, p)
	if c.keep != nil && c.keep(len(plain)) {
		b.opened = append(b.opened, replay.Record{Packets: &e, Block: bytes.Clone(plain)})
	}
	return err
}

// take notes one output of the relay.
func (c *scribe) take(b *batch, o relay.Output) error {
	switch o.Kind {
	case relay.Forward:
		b.outs[o.Direction] = append(b.outs[o.Direction], o.Packet)
	case relay.Make:
		b.outs[o.Direction] = append(b.outs[o.Direction], o.Packet)
		return c.prepare(&b.prepared, events.SessionPacketMade{
			Direction: eventDirection(o.Direction), Output: o.Number, At: uint64(b.at.Microseconds()),
			Packet: o.Packet, Refuses: o.Refuses, Instead: o.Instead,
		})
	case relay.Drop:
		return c.prepare(&b.drops, events.SessionPacketDropped{Direction: eventDirection(o.Direction), Number: o.Number, Why: o.What})
	case relay.Altered:
		return c.prepare(&b.drops, events.SessionPacketAltered{Direction: eventDirection(o.Direction), Number: o.Number, Edits: o.Edits})
	case relay.Opened, relay.Closed:
		b.forwards = append(b.forwards, o)
	case relay.Refused:
		b.refused = append(b.refused, events.SessionRefused{
			Direction: eventDirection(o.Direction), Number: o.Number, What: o.What, Detail: o.Detail,
		})
	}
	return nil
}

func (c *scribe) draft(e events.Event) (events.Draft, error) {
	return events.NewDraft(c.session.UUID, c.actor, "", e)
}

func (c *scribe) prepare(to *[]store.Prepared, e events.Event) error {
	d, err := c.draft(e)
	if err != nil {
		return err
	}
	prepared, err := store.Prepare(d)
	*to = append(*to, prepared...)
	return err
}

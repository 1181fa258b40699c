package gateway

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/relay"
)

// read is the goroutine that owns the reading side of one leg.
func (s *session) read(ctx context.Context, d relay.Direction) {
	err := s.readAll(ctx, d)
	s.mu.Lock()
	s.lanes[d].read = true
	s.checkEmpty(d)
	s.mu.Unlock()
	s.end(readEnded(d, err))
}

func (s *session) readAll(ctx context.Context, d relay.Direction) error {
	for {
		packet, err := s.legs[d].ReadPacket()
		if err != nil {
			return err
		}
		b := newBatch(d, time.Since(s.started))
		b.add(packet)
		for len(b.block) < burstSize && len(b.spans) < burstPackets && s.legs[d].ReadReady() {
			if packet, err = s.legs[d].ReadPacket(); err != nil {
				break
			}
			b.add(packet)
		}
		if broken := s.handle(ctx, b); broken != nil {
			return broken
		}
		if err != nil {
			return err
		}
		if err := s.waitRoom(d); err != nil {
			s.End(events.EndedByProtocol, err.Error(), "a key exchange took too long")
			return err
		}
	}
}

// handle steps the relay through a batch and passes on what comes of it. A refusal's event is durable before any effect
// of it. The error says that the sender broke the protocol, or that the session can't go on.
func (s *session) handle(ctx context.Context, b *batch) error {
	s.order.Lock()
	defer s.order.Unlock()
	broken, err := s.step(s.relay, b)
	if err != nil {
		s.storageFailed(err)
		return err
	}
	for _, r := range b.refused {
		if s.denied++; s.denied > refusedEvents {
			break
		}
		if err := s.refuse(ctx, r); err != nil {
			s.storageFailed(err)
			return err
		}
	}
	s.enqueue(b)
	s.rec.add(b)
	return broken
}

// enqueue gives the batch to the deliverers, who wait for its commit.
func (s *session) enqueue(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range []relay.Direction{relay.In, relay.Out} {
		if d == b.d || len(b.outs[d]) > 0 { // its own lane also where nothing is forwarded: the cursor moves
			s.lanes[d].queue = append(s.lanes[d].queue, delivery{b, b.outs[d]})
			b.users++
		}
	}
	l := &s.lanes[b.d]
	l.inflight += len(b.block)
	l.cursors.Received = b.through
}

// waitRoom holds a reader back while too much of its direction is under way, but never during a key exchange of its
// own leg, which needs it.
func (s *session) waitRoom(d relay.Direction) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.lanes[d]
	for l.inflight >= inflightSoft && !s.over && !s.legs[d].rekey.isHeld() {
		l.room.Wait()
	}
	if l.inflight < inflightHard {
		return nil
	}
	return fmt.Errorf("%w: %d bytes wait for delivery and a key exchange does not end", relay.ErrProtocol, l.inflight)
}

// wrote moves the committed cursors; it runs in the log writer's goroutine.
func (s *session) wrote(out []*batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range out {
		b.committed = true
		l := &s.lanes[b.d]
		l.cursors.Committed, l.cursors.Bytes = b.through, b.bytes
	}
	for d := range s.lanes {
		s.lanes[d].ready.Signal()
	}
}

// deliver is the goroutine that owns the writing side of the leg that d leads to. Nothing passes the commit.
func (s *session) deliver(d relay.Direction) {
	to := s.legs[d.Other()]
	var taken []delivery
	for {
		var open, deaf bool
		if taken, open, deaf = s.takeCommitted(d, taken[:0]); !open {
			return
		}
		sent := !deaf
		if sent && write(to, taken) != nil {
			sent = false
			to.Close() // its reader finds out and ends the session
			s.hush(d)
		}
		s.delivered(d, taken, sent)
	}
}

func write(to *leg, taken []delivery) error {
	for _, t := range taken {
		for _, p := range t.packets {
			if err := to.WritePacket(p); err != nil {
				return err
			}
		}
	}
	return to.Flush()
}

// takeCommitted waits for committed deliveries. What is not committed when the lane closes is never sent.
func (s *session) takeCommitted(d relay.Direction, taken []delivery) (_ []delivery, open, deaf bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.lanes[d]
	for {
		n := 0
		for n < len(l.queue) && l.queue[n].batch.committed {
			n++
		}
		if n > 0 {
			taken = append(taken, l.queue[:n]...)
			l.queue = append(l.queue[:0], l.queue[n:]...)
			return taken, true, l.deaf
		}
		if l.closed {
			return nil, false, false
		}
		l.ready.Wait()
	}
}

// delivered moves the delivered cursor and lets the reader go on.
func (s *session) delivered(d relay.Direction, taken []delivery, sent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.lanes[d]
	for i, t := range taken {
		if t.batch.d == d {
			l.inflight -= len(t.batch.block)
			if sent {
				l.cursors.Delivered = t.batch.through
			}
		}
		if t.batch.users--; t.batch.users == 0 {
			t.batch.release()
		}
		taken[i] = delivery{}
	}
	l.room.Broadcast()
	s.checkEmpty(d)
}

// checkEmpty tells drain when nothing of d is left; mu is held.
func (s *session) checkEmpty(d relay.Direction) {
	l := &s.lanes[d]
	if l.read && l.inflight == 0 && !l.isEmpty {
		l.isEmpty = true
		close(l.empty)
	}
}

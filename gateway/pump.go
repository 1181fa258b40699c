package gateway

import (
	"fmt"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/gateway/relay"
)

// read is the goroutine that owns the reading side of one leg.
func (s *session) read(d relay.Direction) {
	err := s.readAll(d)
	s.mu.Lock()
	s.lanes[d].read = true
	s.checkEmpty(d)
	s.mu.Unlock()
	s.end(readEnded(d, err))
}

func (s *session) readAll(d relay.Direction) error {
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
		if broken := s.handle(b); broken != nil {
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

// handle steps the relay through a batch and passes on what comes of it. The error says that the sender broke the
// protocol, or that the session can't go on.
func (s *session) handle(b *batch) error {
	d, alone := b.d, b.isSmall() && !s.legs[b.d].ReadReady()
	group, m, err := s.relayed(b, alone)
	if alone && m == plainly {
		m = here
	}
	if group != nil {
		s.rec.submit(group, m, s.rec.done)
	}
	if alone {
		s.deliverHere(d)
	}
	return err
}

// relayed steps the relay through a batch and queues what comes of it for the log, and behind that for the legs. The
// event of a refusal or of a forwarding is durable before any effect of it. It returns what is to be submitted now.
func (s *session) relayed(b *batch, alone bool) ([]store.Prepared, manner, error) {
	s.order.Lock()
	defer s.order.Unlock()
	broken, err := s.step(s.relay, b)
	if err != nil {
		s.storageFailed(err)
		return nil, plainly, err
	}
	if b.d == relay.In {
		s.allowance.hear(b.bytes, b.at)
		if s.files != nil {
			s.files.see(b)
		}
	}
	for _, r := range b.refused {
		if s.denied++; s.denied > refusedEvents {
			break
		}
		if err := s.refuse(s.noting, r); err != nil {
			s.storageFailed(err)
			return nil, plainly, err
		}
	}
	if changes := s.forwardings(b); len(changes) > 0 {
		if err := s.note(s.noting, changes); err != nil {
			s.storageFailed(err)
			return nil, plainly, err
		}
	}
	s.enqueue(b, alone)
	if s.files != nil {
		s.files.expect(b)
	}
	group, m := s.rec.add(b)
	return group, m, broken
}

// enqueue gives the batch to the deliverers, who wait for its commit. With attended its own reader is going to look
// after its lane.
func (s *session) enqueue(b *batch, attended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.lanes {
		if b.isFor(relay.Direction(d)) {
			s.lanes[d].queue = append(s.lanes[d].queue, delivery{b, b.outs[d]})
			b.users++
		}
	}
	l := &s.lanes[b.d]
	l.attended = attended
	b.weight = max(len(b.block), b.size())
	l.inflight += b.weight
	l.cursors.Received = b.through
}

// waitRoom holds a reader back while too much of its direction is under way, but never during a key exchange of its
// own leg, which needs it.
func (s *session) waitRoom(d relay.Direction) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.lanes[d]
	if l.inflight >= inflightSoft {
		s.mu.Unlock()
		s.rec.hurry()
		s.mu.Lock()
	}
	for l.inflight >= inflightSoft && !s.over && !s.legs[d].rekey.isHeld() {
		l.room.Wait()
	}
	if l.inflight < inflightHard {
		return nil
	}
	return fmt.Errorf("%w: %d bytes wait for delivery and a key exchange does not end", relay.ErrProtocol, l.inflight)
}

// wrote moves the committed cursors; it runs in the goroutine that made the commit.
func (s *session) wrote(out []*batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range out {
		b.committed = true
		l := &s.lanes[b.d]
		l.cursors.Committed, l.cursors.Bytes = b.through, b.bytes
		for d := range s.lanes {
			if b.isFor(relay.Direction(d)) && !s.lanes[d].attended {
				s.wake(relay.Direction(d))
			}
		}
	}
}

// wake lets the deliverer of d run if there is something for it; mu is held. Whoever is busy with the lane wakes it again.
func (s *session) wake(d relay.Direction) {
	l := &s.lanes[d]
	if l.running || l.busy || len(l.taken) == 0 && (len(l.queue) == 0 || !l.queue[0].batch.committed) {
		return
	}
	l.running = true
	s.delivering.Go(func() { s.deliver(d) })
}

// deliver is the goroutine that owns the writing side of the leg that d leads to, except while a reader delivers what
// it has just committed itself. It ends when there is nothing more to deliver for now. Nothing passes the commit.
func (s *session) deliver(d relay.Direction) {
	to := s.legs[d.Other()]
	for {
		taken, how := s.take(d)
		if how == laneEmpty {
			return
		}
		sent := how != laneDeaf
		if sent && write(to, taken, how == laneBuffered) != nil {
			sent = false
			to.Close() // its reader finds out and ends the session
			s.hush(d)
		}
		s.delivered(d, sent)
	}
}

func write(to *leg, taken []delivery, buffered bool) error {
	if !buffered {
		for _, t := range taken {
			for _, p := range t.packets {
				if err := to.WritePacket(p); err != nil {
					return err
				}
			}
		}
	}
	return to.Flush()
}

// take gives the deliverer what is committed and makes it the one who writes, or lets it end. What is never committed is
// never sent.
func (s *session) take(d relay.Direction) ([]delivery, laneState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.lanes[d]
	if l.busy || !l.takeCommitted() {
		l.running = false
		return nil, laneEmpty
	}
	l.busy = true
	switch {
	case l.deaf:
		return l.taken, laneDeaf
	case l.buffered:
		return l.taken, laneBuffered
	}
	return l.taken, laneOpen
}

// takeCommitted copies the deliveries at the head of the queue that are committed, unless some are taken already; mu is
// held.
func (l *lane) takeCommitted() bool {
	for n := len(l.taken); n < len(l.queue) && l.queue[n].batch.committed && !l.buffered; n++ {
		l.taken = append(l.taken, l.queue[n])
	}
	return len(l.taken) > 0
}

// deliverHere is for a reader that has just seen to a commit: it delivers what is committed, if that needs no waiting. It
// must not wait, since a key exchange of its own leg may need it. What is left is the deliverer's.
func (s *session) deliverHere(d relay.Direction) {
	s.mu.Lock()
	l := &s.lanes[d]
	l.attended = false
	if l.busy || !l.takeCommitted() {
		s.mu.Unlock()
		return // whoever is busy looks again
	}
	if l.deaf || l.buffered {
		s.wake(d)
		s.mu.Unlock()
		return
	}
	l.busy = true
	taken := l.taken
	s.mu.Unlock()
	took, sent := tryWrite(s.legs[d.Other()], taken)
	if sent {
		s.delivered(d, true)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.busy, l.buffered = false, took
	s.wake(d)
}

// tryWrite passes on one delivery, which is all that there is after a keystroke.
func tryWrite(to *leg, taken []delivery) (took, sent bool) {
	if len(taken) > 1 {
		return false, false
	}
	return to.TryWrite(taken[0].packets)
}

// delivered moves the delivered cursor and lets the reader go on.
func (s *session) delivered(d relay.Direction, sent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.lanes[d]
	for i, t := range l.taken {
		b := t.batch
		if b.d == d && sent {
			l.cursors.Delivered = b.through
		}
		if b.users--; b.users == 0 { // what it made for its own sender is delivered as well
			from := &s.lanes[b.d]
			from.inflight -= b.weight
			from.room.Broadcast()
			s.checkEmpty(b.d)
			b.release()
		}
		l.taken[i] = delivery{}
	}
	n := copy(l.queue, l.queue[len(l.taken):])
	clear(l.queue[n:])
	l.queue, l.taken = l.queue[:n], l.taken[:0]
	l.busy, l.buffered = false, false
	s.wake(d)
}

// checkEmpty tells drain when nothing of d is left; mu is held.
func (s *session) checkEmpty(d relay.Direction) {
	l := &s.lanes[d]
	if l.read && l.inflight == 0 && !l.isEmpty {
		l.isEmpty = true
		close(l.empty)
	}
}

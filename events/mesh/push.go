package mesh

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// gotSubscribe begins, restarts or ends the pushing of a log to a peer.
func (c *Core) gotSubscribe(l *link, m Subscribe) {
	lane := laneOf(m.Origin)
	i, known := slices.BinarySearchFunc(l.wanted[lane], m.Origin, events.Origin.Compare)
	if m.Stop {
		delete(l.subs, m.Origin)
		if known {
			l.wanted[lane] = slices.Delete(l.wanted[lane], i, i+1)
		}
		return
	}
	if lg := c.logs[m.Origin]; lg == nil {
		c.emit(Refused{Link: l.id, Site: l.site, Origin: m.Origin, What: "was asked for and is not held here"})
		return
	}
	if !known {
		l.wanted[lane] = slices.Insert(l.wanted[lane], i, m.Origin)
	}
	reading := l.subs[m.Origin] != nil && l.subs[m.Origin].reading // what comes of it is passed over
	l.subs[m.Origin] = &sub{from: m.From, sent: m.From, acked: m.From, to: cmp.Or(m.To, math.MaxUint64), payloads: m.Payloads, reading: reading}
}

// gotAck frees what was under way. A sync peer holds what was pushed to it and it
// acknowledged: it has held that against the head over it.
func (c *Core) gotAck(l *link, o events.Origin, size uint64) {
	s := l.subs[o]
	if s == nil {
		return
	}
	if s.from < size && size <= s.pushed {
		c.pairHas(l.site, o, size)
	}
	s.acked = max(s.acked, size)
	s.inflight = slices.DeleteFunc(s.inflight, func(f chunk) bool { return f.end <= s.acked })
	if s.acked > s.sent && !s.reading { // it got them from somebody else
		s.sent = s.acked
	}
}

// push reads what a peer wants, as far as its windows and the rate allow. Logs
// take turns.
func (c *Core) push(l *link) {
	if !l.ready {
		return
	}
	for lane := range Lane(lanes) {
		for _, o := range c.inTurn(l, lane) {
			room := l.room(lane, uint64(c.cfg.BatchSize))
			if room == 0 || lane == RecLane && !c.mayPush(l) {
				break
			}
			lg, s := c.logs[o], l.subs[o]
			s.reading = true
			l.last[lane] = o
			c.emit(Read{Link: l.id, Origin: o, From: s.sent, To: min(lg.size, s.to, c.end(o)), Bytes: int(min(room, uint64(c.cfg.BatchSize))), Payloads: s.payloads, Own: lg.own})
		}
	}
}

// inTurn gives the logs that a peer wants on a lane and that have more for it,
// beginning after the one that was pushed last.
func (c *Core) inTurn(l *link, lane Lane) []events.Origin {
	var after, before []events.Origin
	for _, o := range l.wanted[lane] {
		lg, s := c.logs[o], l.subs[o]
		switch {
		case lg == nil || s.reading || s.failed || s.sent >= min(lg.size, s.to, c.end(o)) || l.other[o]:
		case o.Compare(l.last[lane]) > 0:
			after = append(after, o)
		default:
			before = append(before, o)
		}
	}
	return append(after, before...)
}

// room is how many more bytes may be under way on a lane. What is being read
// counts as a batch. A peer with a window smaller than a batch gets one at a
// time.
func (l *link) room(lane Lane, batch uint64) uint64 {
	used := uint64(0)
	for _, o := range l.wanted[lane] {
		s := l.subs[o]
		if s.reading {
			used += batch
		}
		for _, f := range s.inflight {
			used += f.bytes
		}
	}
	window := l.hello.Windows[lane]
	if used == 0 {
		return max(window, 1)
	}
	return window - min(used, window)
}

// mayPush fills and asks the token bucket of the rec lane.
func (c *Core) mayPush(l *link) bool {
	if c.cfg.RecRate == 0 {
		return true
	}
	rate := float64(c.cfg.RecRate)
	l.tokens = min(rate, l.tokens+rate*(c.now-l.filled).Seconds())
	l.filled = c.now
	if l.tokens > 0 {
		return true
	}
	l.resume = c.now + time.Duration((1-l.tokens)/rate*float64(time.Second))
	return false
}

// readDone sends what was read, if it still fits what the peer wants.
func (c *Core) readDone(in ReadDone) {
	l := c.links[in.Link]
	if l == nil {
		return
	}
	s, lg := l.subs[in.Origin], c.logs[in.Origin]
	if s == nil || lg == nil {
		return
	}
	s.reading = false
	if in.Err != nil {
		s.failed = true
		c.emit(Refused{Link: l.id, Site: l.site, Origin: in.Origin, What: "could not be read for a peer", Err: in.Err})
		return
	}
	if in.From != s.sent || len(in.Entries) == 0 || !lg.own && len(in.Head) == 0 {
		return // it was asked anew meanwhile, or the epoch ended here
	}
	b := Batch{Origin: in.Origin, First: in.From + 1, Records: wireRecords(in.Entries), Head: in.Head}
	if lg.own {
		head, err := c.cfg.Crypto.Sign(in.Origin, b.last(), in.Root)
		if err != nil {
			s.failed = true
			c.emit(Refused{Link: l.id, Site: l.site, Origin: in.Origin, What: "could not be signed", Err: err})
			return
		}
		b.Head = head.Note
	}
	lane, size := laneOf(in.Origin), uint64(b.size())
	s.sent, s.pushed = b.last(), b.last()
	s.inflight = append(s.inflight, chunk{b.last(), size})
	if lane == RecLane {
		l.tokens -= float64(size)
	}
	c.send(l, lane, b)
}

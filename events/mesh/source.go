package mesh

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
)

// chooseSources asks, for each log written elsewhere, one peer to push it, so
// that each record enters a site once: the site that writes it, while there is
// a link to it, else the one that was asked last, as long as it gives what
// others say they have.
func (c *Core) chooseSources() {
	for _, lg := range c.logsInOrder() {
		if lg.own {
			continue
		}
		old := c.links[lg.source]
		if lg.ahead.Size() >= c.end(lg.origin) {
			if old != nil {
				c.unsubscribe(old, lg)
			}
			continue
		}
		stalled := old != nil && c.stalled(lg)
		if stalled {
			lg.avoided[lg.source] = c.now + silent*c.cfg.HaveEvery
		}
		best := c.bestSource(lg)
		if best == nil || best == old && !stalled {
			continue
		}
		if old != nil && old != best {
			c.unsubscribe(old, lg)
		}
		lg.source, lg.asked = best.id, c.now
		best.fed[lg.origin] = true
		c.subscribe(best, lg)
	}
}

func (c *Core) unsubscribe(l *link, lg *log) {
	delete(l.fed, lg.origin)
	lg.source = 0
	c.send(l, CtlLane, Subscribe{Origin: lg.origin, Stop: true})
}

func (c *Core) subscribe(l *link, lg *log) {
	lg.payloads, lg.end = c.cfg.Payloads(lg.origin), c.end(lg.origin)
	m := Subscribe{Origin: lg.origin, From: lg.ahead.Size(), Payloads: lg.payloads}
	if lg.end < math.MaxUint64 {
		m.To = lg.end
	}
	c.send(l, CtlLane, m)
}

// reconsider asks anew for logs of which this site wants more than before, or less:
// of their payloads, or since their site has left.
func (c *Core) reconsider() {
	for _, lg := range c.logsInOrder() {
		if l := c.links[lg.source]; l != nil && !lg.own && (lg.payloads != c.cfg.Payloads(lg.origin) || lg.end != c.end(lg.origin)) && lg.ahead.Size() < c.end(lg.origin) {
			c.subscribe(l, lg)
		}
	}
}

// bestSource picks the peer to push a log. Of those that were silent the one comes
// first that was so the longest time ago, so that each gets its turn.
func (c *Core) bestSource(lg *log) *link {
	var best *link
	score, silentUntil := -1, time.Duration(0)
	for _, l := range c.linksInOrder() {
		h, knows := l.have[lg.origin]
		if !l.ready || !knows || l.other[lg.origin] {
			continue
		}
		s := 0
		if h.Size > lg.ahead.Size() {
			s++
		}
		if l.id == lg.source {
			s += 2
		}
		if l.site == lg.origin.Site {
			s += 4
		}
		until := lg.avoided[l.id] // 0 for who never was
		if c.now < until {
			s = 0
		}
		if s > score || s == score && until < silentUntil {
			best, score, silentUntil = l, s, until
		}
	}
	return best
}

// stalled reports whether somebody has said for a while that they have more than
// what the source gave.
func (c *Core) stalled(lg *log) bool {
	end := c.end(lg.origin)
	behind := slices.ContainsFunc(c.peers, func(l *link) bool {
		return l.ready && !l.other[lg.origin] && min(l.have[lg.origin].Size, end) > lg.ahead.Size()
	})
	switch {
	case !behind || lg.storing > 0:
		lg.behind = 0
	case lg.behind == 0:
		lg.behind = c.now
	}
	return lg.behind > 0 && c.now >= max(lg.behind, lg.asked)+c.cfg.HaveEvery
}

// gotBatch verifies records and hands them to the disk.
func (c *Core) gotBatch(l *link, lane Lane, b Batch) {
	lg := c.logs[b.Origin]
	size := uint64(b.size())
	switch {
	case lane != laneOf(b.Origin):
		c.violation(l, b.Origin, fmt.Errorf("records of %s on the wrong lane", b.Origin))
		return
	case lg == nil || lg.own:
		c.useless(l, b.Origin, "was not asked for")
		return
	case l.held[lane]+size > c.cfg.Windows[lane]+maxBatch:
		c.violation(l, b.Origin, fmt.Errorf("more than %d bytes that are not acknowledged", c.cfg.Windows[lane]))
		return
	case l.other[b.Origin]:
		c.useless(l, b.Origin, "")
		return
	case lg.ahead.Size() >= c.end(b.Origin):
		c.useless(l, b.Origin, "is beyond where its site has left")
		return
	case b.First > lg.ahead.Size()+1:
		c.useless(l, b.Origin, fmt.Sprintf("begins at position %d, the next one is %d", b.First, lg.ahead.Size()+1))
		return
	case b.last() <= lg.ahead.Size():
		if c.useless(l, b.Origin, ""); b.last() <= lg.size {
			c.send(l, CtlLane, Ack{lg.origin, lg.size})
		}
		return
	}
	head, err := c.cfg.Crypto.Open(b.Head, lg.key.Key)
	if err == nil && (head.Origin != b.Origin || head.Size != b.last()) {
		err = fmt.Errorf("it is of log %s at %d, the records end at %s position %d", head.Origin, head.Size, b.Origin, b.last())
	}
	if err != nil {
		c.violation(l, b.Origin, fmt.Errorf("head of a batch: %w", err))
		return
	}
	b.Records = b.Records[lg.ahead.Size()+1-b.First:]
	b.First = lg.ahead.Size() + 1
	if err := checkRecords(b); err != nil {
		c.violation(l, b.Origin, err)
		return
	}
	tree := lg.ahead.Clone()
	for _, r := range b.Records {
		tree.Append(evidence.LeafHash(r.Header))
	}
	if tree.Root() != head.Root {
		c.useless(l, b.Origin, "")
		c.startSearch(l, lg)
		return
	}
	if h := l.have[lg.origin]; h.Size < head.Size {
		l.have[lg.origin] = Holding{lg.origin, head.Size, head.Root}
	}
	b.from = l.id
	l.held[lane] += size
	delete(lg.avoided, l.id)
	lg.ahead, lg.waiting, lg.asked = tree, append(lg.waiting, b), c.now
	c.startStoring(lg)
}

// checkRecords holds every record of a batch against its place, and payloads
// that are there against their headers.
func checkRecords(b Batch) error {
	for i, e := range b.entries() {
		r, err := events.DecodeEntry(e)
		if err != nil {
			return err
		}
		if at := b.First + uint64(i); r.Header.Origin() != b.Origin || r.Header.Position != at {
			return fmt.Errorf("a record of %s position %d in the place of %s position %d",
				r.Header.Origin(), r.Header.Position, b.Origin, at)
		}
	}
	return nil
}

func (b Batch) last() uint64 { return b.First - 1 + uint64(len(b.Records)) }

// size is what a batch counts against a window.
func (b Batch) size() int {
	n := 0
	for _, r := range b.Records {
		n += len(r.Header) + len(r.Payload)
	}
	return n
}

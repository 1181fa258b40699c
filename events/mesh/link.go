package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// link is one link to a peer while it is up. Nothing of it outlives the link.
type link struct {
	id    LinkID
	site  events.SiteID
	hello Hello // theirs, once ready
	ready bool

	have     map[events.Origin]Holding // what they say they hold
	unpinned map[events.Origin]Key     // of sites that are no members as far as is known here
	fed      map[events.Origin]bool    // we asked them to push it
	other    map[events.Origin]bool    // they hold another branch of it
	held     [lanes]uint64             // bytes received and not durable yet

	subs   map[events.Origin]*sub // what they asked us to push
	wanted [lanes][]events.Origin // the logs in subs, by lane, in order
	last   [lanes]events.Origin   // pushed last, for turns
	tokens float64                // bytes that may be sent on the rec lane
	filled time.Duration          // when tokens were counted
	resume time.Duration          // when the rec lane may send again

	search *search // for where their branch of a log leaves ours
	probed time.Duration
	heard  time.Duration
	told   time.Duration // when they last got all that we hold
	pinged time.Duration
	echo   time.Duration // At of their last Ping, to be sent back
	echoed time.Duration // when that came
	budget float64       // messages that they may send now
	counts time.Duration

	proving, fetching bool    // what they asked for is being read
	proofs            []Prove // that they asked for besides
	asked             []Fetch // likewise
}

// sub is a log that a peer wants pushed.
type sub struct {
	from     uint64 // records that the peer had when it asked
	pushed   uint64 // position of the last record pushed
	sent     uint64 // what they have with it: they may have got more from others
	acked    uint64
	to       uint64 // the peer wants nothing beyond
	payloads bool
	reading  bool
	failed   bool // reading failed; the next Subscribe tries again
	inflight []chunk
}

// chunk is a batch under way.
type chunk struct {
	end   uint64
	bytes uint64
}

const (
	// messageRate and messageBurst bound the messages that a peer may send,
	// besides batches, which the windows bound.
	messageRate  = 500
	messageBurst = 4000
	// Some count for more than one message, or for less: what has to be read from
	// disk, checked or looked at log by log, and records that nothing is done with, which
	// are on their way as well when a log is asked for elsewhere.
	proveCounts, holdingCounts, uselessCounts = 40, 1.0 / 128, 1.0 / 8
	// maxAsked bounds the payloads and proofs that a peer may wait for at once.
	maxAsked = 1024
	// maxWindow bounds what is under way to a peer, whatever it says.
	maxWindow = 64 << 20
	// silent is how many times HaveEvery a link may be silent before it ends.
	silent = 8
	// refresh is how many times HaveEvery pass between two complete Haves.
	refresh = 8
)

// quiet is how long a link may be silent before another one is made beside it: the
// network may have been cut and mended, and what was sent on it may wait much
// longer for being sent again.
func (c *Core) quiet() time.Duration { return c.cfg.HaveEvery * 3 / 2 }

func (c *Core) linkUp(in LinkUp) {
	if m, member := c.members[in.Site]; !member || m.Gone || in.Site == c.cfg.Self {
		c.emit(Close{in.Link, in.Site, "the site is no member of the mesh"})
		return
	}
	l := &link{
		id: in.Link, site: in.Site,
		have: map[events.Origin]Holding{}, unpinned: map[events.Origin]Key{}, fed: map[events.Origin]bool{},
		other: map[events.Origin]bool{}, subs: map[events.Origin]*sub{},
		heard: c.now, filled: c.now, counts: c.now, budget: messageBurst, tokens: float64(c.cfg.RecRate),
	}
	c.links[in.Link] = l
	c.peers = append(slices.Clone(c.peers), l)
	slices.SortFunc(c.peers, func(a, b *link) int { return cmp.Compare(a.id, b.id) })
	c.send(l, CtlLane, Hello{Level: c.cfg.Level, Site: c.cfg.Self, Wall: in.Wall, Windows: c.cfg.Windows, Mesh: c.cfg.Mesh})
}

func (c *Core) linkDown(id LinkID) {
	l := c.links[id]
	if l == nil {
		return
	}
	delete(c.links, id)
	c.peers = slices.DeleteFunc(slices.Clone(c.peers), func(l *link) bool { return l.id == id })
	c.stale = true
	for _, lg := range c.logs {
		delete(lg.avoided, id)
		if lg.source == id {
			lg.source = 0
		}
	}
	c.lostFetches(id)
}

// closeLink ends a link for a reason.
func (c *Core) closeLink(l *link, reason string) {
	if c.links[l.id] == nil {
		return
	}
	c.emit(Close{l.id, l.site, reason})
	c.linkDown(l.id)
}

// violation refuses what a peer sent and ends its link: an honest peer of any
// level does not send it.
func (c *Core) violation(l *link, o events.Origin, err error) {
	c.emit(Refused{Link: l.id, Site: l.site, Origin: o, What: "broke the protocol", Err: err})
	c.closeLink(l, err.Error())
}

func (c *Core) send(l *link, lane Lane, m Message) {
	c.emit(Send{l.id, lane, m})
}

// received is one message from a peer.
func (c *Core) received(in Received) {
	l := c.links[in.Link]
	if l == nil {
		return
	}
	l.heard = c.now
	known := c.met(l.site)
	hello, isHello := in.Message.(Hello)
	if !l.ready {
		if isHello && in.Lane == CtlLane {
			c.gotHello(l, hello)
		} else if in.Lane == CtlLane {
			c.violation(l, events.Origin{}, fmt.Errorf("%T before the hello", in.Message))
		}
		return
	}
	if batch, ok := in.Message.(Batch); ok {
		c.gotBatch(l, in.Lane, batch)
		return
	}
	if !c.mayTalk(l, cost(in.Message)) {
		return
	}
	switch m := in.Message.(type) {
	case Key:
		c.gotKey(l, m)
	case Have:
		for _, h := range m.Logs {
			if c.logs[h.Origin] != nil {
				known.has[h.Origin] = h.Size
				c.pairSays(l.site, h)
			}
		}
		c.gotHave(l, m)
	case Subscribe:
		c.gotSubscribe(l, m)
	case Ack:
		if c.logs[m.Origin] != nil {
			known.has[m.Origin] = max(known.has[m.Origin], m.Size)
		}
		c.gotAck(l, m.Origin, m.Size)
	case Prove:
		c.gotProve(l, m)
	case Proof:
		c.gotProof(l, m)
	case Forked:
		c.gotFork(l, m.Fork)
	case Fetch:
		c.gotFetch(l, m)
	case Payload:
		c.gotPayload(l, m)
	case Ping:
		c.gotPing(l, known, m)
	case Wraps:
		c.emit(GotWraps{l.site, m})
	case Kept:
		c.emit(GotKept{l.site, m})
	case Lease:
		c.emit(GotLease{l.site, m})
	}
}

// mayTalk counts a message against what the peer may send; more ends the link.
func (c *Core) mayTalk(l *link, cost float64) bool {
	l.budget = min(messageBurst, l.budget+messageRate*(c.now-l.counts).Seconds())
	l.counts = c.now
	l.budget -= cost
	if l.budget < 0 {
		c.violation(l, events.Origin{}, fmt.Errorf("more than %d messages a second", messageRate))
	}
	return l.budget >= 0
}

func cost(m Message) float64 {
	switch m := m.(type) {
	case Have:
		return 1 + float64(len(m.Logs))*holdingCounts
	case Prove:
		return proveCounts
	}
	return 1
}

// useless counts records that nothing is done with, and notes why.
func (c *Core) useless(l *link, o events.Origin, why string) {
	if c.mayTalk(l, uselessCounts) && why != "" {
		c.emit(Refused{Link: l.id, Site: l.site, Origin: o, What: why})
	}
}

func (c *Core) gotHello(l *link, h Hello) {
	switch {
	case h.Site != l.site:
		c.violation(l, events.Origin{}, fmt.Errorf("its key is that of site %s, its hello says %s", l.site, h.Site))
		return
	case h.Mesh != c.cfg.Mesh:
		c.violation(l, events.Origin{}, fmt.Errorf("it is in the mesh of site %s, this one in that of %s", h.Mesh, c.cfg.Mesh))
		return
	}
	for lane := range h.Windows {
		h.Windows[lane] = min(h.Windows[lane], maxWindow)
	}
	l.hello, l.ready, l.told = h, true, c.now
	c.stale = true
	for _, old := range c.linksInOrder() {
		if old.site == l.site && c.now >= old.heard+c.quiet() {
			c.closeLink(old, "nothing was heard on it, and there is another one")
		}
	}
	for _, lg := range c.logsInOrder() {
		c.introduce(l, lg)
	}
	c.tellAll(l)
	c.emit(Met{l.site})
}

// sendTo sends a message to a site, on one link.
func (c *Core) sendTo(site events.SiteID, m Message) {
	var best *link
	for _, l := range c.linksInOrder() {
		if l.site == site && l.ready && (best == nil || l.heard > best.heard) {
			best = l
		}
	}
	if best != nil {
		c.send(best, CtlLane, m)
	}
}

// introduce tells a peer of a log.
func (c *Core) introduce(l *link, lg *log) {
	c.send(l, CtlLane, lg.key)
	c.send(l, CtlLane, Have{Logs: []Holding{lg.holding()}})
}

func (lg *log) holding() Holding { return Holding{lg.origin, lg.size, lg.root} }

// tellAll tells a peer everything that is held, and every known fork.
func (c *Core) tellAll(l *link) {
	l.told = c.now
	var have Have
	for _, lg := range c.logsInOrder() {
		have.Logs = append(have.Logs, lg.holding())
		if len(have.Logs) == maxHoldings {
			c.send(l, CtlLane, have)
			have = Have{}
		}
	}
	if len(have.Logs) > 0 {
		c.send(l, CtlLane, have)
	}
	for _, f := range c.forksInOrder() {
		c.send(l, CtlLane, Forked{f})
	}
}

// tellHoldings tells all peers what moved, not more often than HaveEvery; and
// keeps links known to be alive.
func (c *Core) tellHoldings() {
	var moved Have
	for _, lg := range c.logsInOrder() {
		if lg.size > lg.told && c.now >= lg.toldAt+c.cfg.HaveEvery && len(moved.Logs) < maxHoldings {
			lg.told, lg.toldAt = lg.size, c.now
			moved.Logs = append(moved.Logs, lg.holding())
		}
	}
	for _, l := range c.linksInOrder() {
		switch {
		case c.now > l.heard+silent*c.cfg.HaveEvery:
			c.closeLink(l, "nothing was heard on it")
		case !l.ready:
		case c.now >= l.told+refresh*c.cfg.HaveEvery:
			for _, lg := range c.logsInOrder() {
				c.send(l, CtlLane, lg.key)
			}
			c.tellAll(l)
		case len(moved.Logs) > 0:
			c.send(l, CtlLane, moved)
		}
		if c.links[l.id] != nil && l.ready && c.now >= l.pinged+c.cfg.HaveEvery {
			c.ping(l)
		}
	}
}

// gotKey takes in the key of a log if its site vouches for it.
func (c *Core) gotKey(l *link, k Key) {
	o := k.Origin
	m, pinned := c.members[o.Site]
	if !pinned {
		if len(l.unpinned) < maxHoldings {
			l.unpinned[o] = k
		}
		return
	}
	delete(l.unpinned, o)
	lg := c.logs[o]
	if lg != nil && lg.key.Key == k.Key {
		return
	}
	if err := c.cfg.Crypto.Vouched(m.Identity, k); err != nil {
		c.violation(l, o, fmt.Errorf("key of log %s: %w", o, err))
		return
	}
	if lg != nil {
		l.other[o] = true
		c.foundFork(Fork{Origin: o, Keys: sortedKeys(lg.key, k)}, l)
		return
	}
	if c.logsOf(o.Site) >= maxLogs {
		c.emit(Refused{Link: l.id, Site: l.site, Origin: o, What: "is one log too many of that site"})
		return
	}
	lg = &log{origin: o, key: k, avoided: map[LinkID]time.Duration{}, asked: c.now - c.cfg.HaveEvery}
	lg.root = lg.tree.Root()
	c.addLog(lg)
	c.emit(NewLog{k})
	for _, peer := range c.linksInOrder() {
		if peer.ready && peer != l {
			c.introduce(peer, lg)
		}
	}
}

func (c *Core) logsOf(site events.SiteID) (n int) {
	for o := range c.logs {
		if o.Site == site {
			n++
		}
	}
	return n
}

// gotHave notes what a peer says it holds.
func (c *Core) gotHave(l *link, m Have) {
	for _, h := range m.Logs {
		lg := c.logs[h.Origin]
		if lg == nil {
			if _, waits := l.unpinned[h.Origin]; waits {
				l.have[h.Origin] = h
			}
			continue // its key has not been accepted
		}
		c.stale = c.stale || l.have[h.Origin] != h
		l.have[h.Origin] = h
		differs := h.Size == lg.size && h.Root != lg.root
		if (lg.own && h.Size > lg.size || differs) && !l.other[h.Origin] {
			c.startSearch(l, lg)
		}
	}
}

package mesh

import (
	"maps"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// pair is a site with which this one delivers only what both hold.
type pair struct {
	site     events.SiteID
	has      map[events.Origin]uint64 // of this site's logs, durable there
	heard    time.Duration            // when it last acknowledged something new
	degraded bool
	from     []Holding                // what it had when it degraded
	goal     map[events.Origin]uint64 // degraded: what there was at `asked`
	asked    time.Duration
}

func newPair(site events.SiteID) *pair {
	return &pair{site: site, has: map[events.Origin]uint64{}}
}

// setPairs replaces who the sync peers are. What a new one holds its next
// acknowledgement tells.
func (c *Core) setPairs(in Pairs) {
	for site := range c.pairs {
		if !slices.Contains(in.Sites, site) {
			delete(c.pairs, site)
		}
	}
	for _, site := range in.Sites {
		if c.pairs[site] == nil {
			c.pairs[site] = newPair(site)
		}
	}
}

// pairSays notes what a sync peer says to hold, where its root shows that it is this
// very history: if this disk is an old one, the peer holds another, and more of it.
func (c *Core) pairSays(site events.SiteID, h Holding) {
	if lg := c.logs[h.Origin]; lg != nil && h.Size == lg.size && h.Root == lg.root {
		c.pairHas(site, h.Origin, h.Size)
	}
}

// pairHas notes what a sync peer holds durably.
func (c *Core) pairHas(site events.SiteID, o events.Origin, size uint64) {
	if lg := c.logs[o]; lg == nil || !lg.own {
		return
	}
	if p := c.pairs[site]; p != nil && size > p.has[o] {
		p.has[o], p.heard = size, c.now
	}
}

func (c *Core) pairsInOrder() []*pair {
	var all []*pair
	for _, site := range slices.SortedFunc(maps.Keys(c.pairs), func(a, b events.SiteID) int {
		return slices.Compare(a.UUID[:], b.UUID[:])
	}) {
		all = append(all, c.pairs[site])
	}
	return all
}

// checkPairs degrades and restores sync peers, and releases what may be acted
// on. It never waits longer than Detect.
func (c *Core) checkPairs() {
	for _, p := range c.pairsInOrder() {
		at, waits := c.pairDue(p)
		switch {
		case !p.degraded && waits && c.now >= at:
			p.degraded, p.from = true, c.pairHoldings(p)
			c.emit(Degraded{p.site, p.from})
			c.setGoal(p)
		case p.degraded && c.pairReached(p):
			if c.now > p.asked+c.cfg.Detect {
				c.setGoal(p) // it took too long: see how it does now
				continue
			}
			p.degraded = false
			c.emit(Restored{p.site, p.from, c.ownHoldings()})
			p.from, p.goal = nil, nil
		}
	}
	for _, lg := range c.logsInOrder() {
		if !lg.own {
			continue
		}
		size := lg.size
		for _, p := range c.pairs {
			if !p.degraded {
				size = min(size, max(p.has[lg.origin], lg.release))
			}
		}
		if size > lg.release {
			c.releaseTo(lg, size)
		}
	}
}

func (c *Core) releaseTo(lg *log, size uint64) {
	lg.release = size
	lg.grown = slices.DeleteFunc(lg.grown, func(g growth) bool { return g.size <= size })
	c.emit(Release{lg.origin, size})
}

// pairDue is when a sync peer has been silent for too long on something that
// waits for it. One that is behind and goes on acknowledging is waited for.
func (c *Core) pairDue(p *pair) (at time.Duration, waits bool) {
	if p.degraded {
		return 0, false
	}
	for _, lg := range c.logs {
		if !lg.own {
			continue
		}
		for _, g := range lg.grown {
			if due := max(g.at, p.heard) + c.cfg.Detect; g.size > p.has[lg.origin] && (!waits || due < at) {
				at, waits = due, true
			}
		}
	}
	return at, waits
}

// setGoal notes what a degraded peer has to have for the pair to be restored. What
// is written meanwhile is not part of it: a busy site would never reach it.
func (c *Core) setGoal(p *pair) {
	p.goal, p.asked = map[events.Origin]uint64{}, c.now
	for _, lg := range c.logs {
		if lg.own {
			p.goal[lg.origin] = lg.size
		}
	}
}

func (c *Core) pairReached(p *pair) bool {
	for o, size := range p.goal {
		if p.has[o] < size {
			return false
		}
	}
	return true
}

// ownHoldings is what this site has written.
func (c *Core) ownHoldings() []Holding {
	var all []Holding
	for _, lg := range c.logsInOrder() {
		if lg.own {
			all = append(all, Holding{Origin: lg.origin, Size: lg.size})
		}
	}
	return all
}

func (c *Core) pairHoldings(p *pair) []Holding {
	var all []Holding
	for _, lg := range c.logsInOrder() {
		if lg.own {
			all = append(all, Holding{Origin: lg.origin, Size: p.has[lg.origin]})
		}
	}
	return all
}

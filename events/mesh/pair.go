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
	degraded bool
	has      map[events.Origin]uint64 // of this site's logs, durable there
	from     []Holding                // what it had when it degraded
}

func newPair(site events.SiteID) *pair {
	return &pair{site: site, has: map[events.Origin]uint64{}}
}

// pairHas notes what a sync peer holds durably.
func (c *Core) pairHas(site events.SiteID, o events.Origin, size uint64) {
	if p := c.pairs[site]; p != nil && size > p.has[o] {
		p.has[o] = size
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
		case p.degraded && c.pairHasAll(p):
			p.degraded = false
			c.emit(Restored{p.site, p.from, c.pairHoldings(p)})
			p.from = nil
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
// waits for it.
func (c *Core) pairDue(p *pair) (at time.Duration, waits bool) {
	if p.degraded {
		return 0, false
	}
	for _, lg := range c.logs {
		if !lg.own {
			continue
		}
		for _, g := range lg.grown {
			if g.size > p.has[lg.origin] && (!waits || g.at+c.cfg.Detect < at) {
				at, waits = g.at+c.cfg.Detect, true
			}
		}
	}
	return at, waits
}

func (c *Core) pairHasAll(p *pair) bool {
	for _, lg := range c.logs {
		if lg.own && p.has[lg.origin] < lg.size {
			return false
		}
	}
	return true
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

package mesh

import (
	"context"
	"errors"
	"slices"

	"github.com/holdfast-pam/holdfast/events"
)

// Holders tells which peers in reach say that they hold a log up to a position,
// durable, and as it is here (rule R1).
func (c *Core) Holders(o events.Origin, position uint64) []events.SiteID {
	var sites []events.SiteID
	for _, l := range c.linksInOrder() {
		has := l.have[o].Size
		if s := l.subs[o]; s != nil && s.from < s.acked && s.acked <= s.pushed { // it held what it acknowledged against its head
			has = max(has, s.acked)
		}
		if l.ready && !l.other[o] && has >= position && !slices.Contains(sites, l.site) {
			sites = append(sites, l.site)
		}
	}
	return sites
}

// Holders is [Core.Holders].
func (n *Node) Holders(ctx context.Context, o events.Origin, position uint64) ([]events.SiteID, error) {
	answer := make(chan []events.SiteID, 1)
	select {
	case n.calls <- func() { answer <- n.core.Holders(o, position) }:
		return <-answer, nil
	case <-n.ctx.Done():
		return nil, errors.New("the mesh is closing")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Linked reports whether there is a link to a site.
func (n *Node) Linked(site events.SiteID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.lanes {
		if l.site == site {
			return true
		}
	}
	return false
}

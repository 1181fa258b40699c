package mesh

import (
	"slices"

	"github.com/holdfast-pam/holdfast/events"
)

// delivery is something that waits for a record of an own log to be released.
type delivery struct {
	position uint64
	then     func()
}

// SetPairs replaces the sites with which this one is a pair.
func (n *Node) SetPairs(sites []events.SiteID) { n.hand(Pairs{sites}) }

// release notes up to where an own log may be acted on.
func (n *Node) release(r Release) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.released[r.Origin] = max(n.released[r.Origin], r.Size)
	close(n.moved)
	n.moved = make(chan struct{})
}

// Released is up to where one of the site's own logs may be acted on: it is
// durable here and, in a pair, there. The channel is closed once more is.
func (n *Node) Released(o events.Origin) (uint64, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.awaited = true
	return n.released[o], n.moved
}

// WhenReleased calls then once an own log is released up to a position: at once,
// or later from another goroutine, which then must not hold up. What waits when
// the node closes is released by that.
func (n *Node) WhenReleased(o events.Origin, position uint64, then func()) {
	n.mu.Lock()
	n.awaited = true
	if n.ctx.Err() == nil && n.released[o] < position {
		n.waiting[o] = append(n.waiting[o], delivery{position, then})
		n.mu.Unlock()
		return
	}
	n.mu.Unlock()
	then()
}

// deliver calls what waits for releases.
func (n *Node) deliver() {
	for {
		n.mu.Lock()
		moved, closing := n.moved, n.ctx.Err() != nil
		var ready []delivery
		for o, all := range n.waiting {
			n.waiting[o] = slices.DeleteFunc(all, func(d delivery) bool {
				due := closing || d.position <= n.released[o]
				if due {
					ready = append(ready, d)
				}
				return due
			})
		}
		n.mu.Unlock()
		for _, d := range ready {
			d.then()
		}
		switch {
		case len(ready) > 0: // while they were called more may have come
		case closing:
			return
		default:
			select {
			case <-moved:
			case <-n.ctx.Done():
			}
		}
	}
}

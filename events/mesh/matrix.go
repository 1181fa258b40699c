package mesh

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/holdfast-pam/holdfast/events"
)

// LogStanding is how much of a log is held where, as far as is known here.
type LogStanding struct {
	Log    events.Origin
	Here   uint64
	There  map[events.SiteID]uint64 // by member that has told
	Forked bool
}

// Matrix tells of every log how much of it is held where, by log.
func (c *Core) Matrix() []LogStanding {
	var all []LogStanding
	for _, lg := range c.inOrder {
		l := LogStanding{Log: lg.origin, Here: lg.size, There: map[events.SiteID]uint64{}}
		_, l.Forked = c.forks[lg.origin]
		for _, site := range slices.SortedFunc(maps.Keys(c.knows), func(a, b events.SiteID) int { return slices.Compare(a.UUID[:], b.UUID[:]) }) {
			if _, member := c.members[site]; member && site != c.cfg.Self {
				l.There[site] = c.knows[site].has[lg.origin]
			}
		}
		all = append(all, l)
	}
	return all
}

// Matrix tells of every log how much of it is held where.
func (n *Node) Matrix(ctx context.Context) ([]LogStanding, error) {
	answer := make(chan []LogStanding, 1)
	select {
	case n.calls <- func() { answer <- n.core.Matrix() }:
		return <-answer, nil
	case <-n.ctx.Done():
		return nil, errors.New("the mesh is closing")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

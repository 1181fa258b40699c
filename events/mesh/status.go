package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// SiteStatus is how things stand with another site.
type SiteStatus struct {
	Site  events.SiteID
	Links int
	Heard time.Duration // when something last came from it, on the core's clock; 0 for never
	// Lag is how many records of ctl logs this site holds that the other one is
	// not known to hold, and Behind how many it is the other way round.
	Lag, Behind uint64
	Degraded    bool // a pair that waits for nothing
	Pair        bool
	RoundTrip   time.Duration // of the newest measurement; 0 for none
	Wall        int64         // its wall clock, microseconds since 1970 UTC; 0 where it was not told
	WallAt      time.Duration // when that was told, on the core's clock
}

// acquaintance is what is known of a site, beyond the life of links.
type acquaintance struct {
	heard     time.Duration
	has       map[events.Origin]uint64
	roundTrip time.Duration
	wall      int64
	wallAt    time.Duration
}

// ping tells a peer the time, and what it takes to know how long that took.
func (c *Core) ping(l *link) {
	l.pinged = c.now
	p := Ping{At: c.now, Echo: l.echo}
	if l.echo > 0 {
		p.Held = c.now - l.echoed
	}
	c.send(l, CtlLane, p)
}

// gotPing measures the link. What a peer says of its clock is shown to people,
// and nothing is decided by it.
func (c *Core) gotPing(l *link, known *acquaintance, p Ping) {
	l.echo, l.echoed = p.At, c.now
	known.wall, known.wallAt = p.Wall, c.now
	if took := c.now - p.Echo - p.Held; p.Echo > 0 && p.Held >= 0 && took >= 0 && p.Echo <= c.now {
		known.roundTrip = max(took, 1)
	}
}

// met notes that something came from a site.
func (c *Core) met(site events.SiteID) *acquaintance {
	a := c.knows[site]
	if a == nil {
		a = &acquaintance{has: map[events.Origin]uint64{}}
		c.knows[site] = a
	}
	a.heard = c.now
	return a
}

// Status tells how things stand with every other member, by site.
func (c *Core) Status() []SiteStatus {
	var out []SiteStatus
	for site, m := range c.members {
		if site == c.cfg.Self || m.Gone {
			continue
		}
		s := SiteStatus{Site: site}
		a := c.knows[site]
		if a != nil {
			s.Heard, s.RoundTrip, s.Wall, s.WallAt = a.heard, a.roundTrip, a.wall, a.wallAt
		}
		for _, lg := range c.logs {
			if _, forked := c.forks[lg.origin]; forked || lg.origin.Kind != events.Ctl {
				continue // of a fork each keeps its branch
			}
			has := uint64(0)
			if a != nil {
				has = a.has[lg.origin]
			}
			end := c.end(lg.origin)
			has, here := min(has, end), min(lg.size, end)
			s.Lag += here - min(here, has)
			s.Behind += has - min(here, has)
		}
		for _, l := range c.peers {
			if l.site == site && l.ready {
				s.Links++
			}
		}
		if p := c.pairs[site]; p != nil {
			s.Pair, s.Degraded = true, p.degraded
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b SiteStatus) int { return slices.Compare(a.Site.UUID[:], b.Site.UUID[:]) })
	return out
}

// Standing is a [SiteStatus] with the time of day.
type Standing struct {
	SiteStatus
	LastSeen time.Time // zero for never in this run
	// Ahead is by how much its wall clock is ahead of this site's, as good as half
	// the round trip; false where it has not told.
	Ahead      time.Duration
	ClockKnown bool
	Traffic    Traffic
}

// Traffic is the bytes that went over the links with a site in this run.
type Traffic struct{ CtlIn, CtlOut, RecIn, RecOut uint64 }

// meter counts what goes over the links with one site, by lane.
type meter struct{ in, out [lanes]atomic.Uint64 }

// meterOf is the meter of a site; under mu.
func (n *Node) meterOf(site events.SiteID) *meter {
	m := n.meters[site]
	if m == nil {
		m = &meter{}
		n.meters[site] = m
	}
	return m
}

func (n *Node) traffic(site events.SiteID) Traffic {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.meterOf(site)
	return Traffic{CtlIn: m.in[CtlLane].Load(), CtlOut: m.out[CtlLane].Load(), RecIn: m.in[RecLane].Load(), RecOut: m.out[RecLane].Load()}
}

// Status tells how things stand with every other member.
func (n *Node) Status(ctx context.Context) ([]Standing, error) {
	answer := make(chan []SiteStatus, 1)
	select {
	case n.calls <- func() { answer <- n.core.Status() }:
	case <-n.ctx.Done():
		return nil, errors.New("the mesh is closing")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var out []Standing
	for _, s := range <-answer {
		st := Standing{SiteStatus: s, Traffic: n.traffic(s.Site)}
		if s.Heard > 0 {
			st.LastSeen = n.began.Add(s.Heard).UTC()
		}
		if s.Wall > 0 {
			then := time.Now().Add(s.WallAt - n.now())
			st.Ahead, st.ClockKnown = time.UnixMicro(s.Wall).Add(s.RoundTrip/2).Sub(then), true
		}
		out = append(out, st)
	}
	return out, nil
}

// gotPayload hands on what was fetched.
func (n *Node) gotPayload(p GotPayload) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ch := n.asking[p.ID]; ch != nil {
		select {
		case ch <- p:
		default: // it has room for all that was asked for
		}
	}
}

// Reconsider has payloads asked for where they were not and Config.Payloads wants
// them now.
func (n *Node) Reconsider() { n.hand(Reconsider{}) }

// Fetch gets a payload that is held elsewhere, proven by its header, which is held
// here. The error says that nobody in reach has it.
func (n *Node) Fetch(ctx context.Context, header *events.Header) ([]byte, error) {
	payloads, err := n.FetchAll(ctx, []events.Header{*header})
	if err != nil {
		return nil, err
	}
	return payloads[0], nil
}

// FetchAll gets payloads that are held elsewhere, of headers that follow each other
// in one log: at most 256, of 4 MiB together. With an error come those before the
// one that nobody in reach has. Who gives something else than the header says is
// not asked again for this.
func (n *Node) FetchAll(ctx context.Context, headers []events.Header) ([][]byte, error) {
	var payloads [][]byte
	var liars []events.SiteID
	for len(payloads) < len(headers) {
		some, liar, err := n.fetch(ctx, headers[len(payloads):], liars)
		if payloads = append(payloads, some...); err != nil {
			return payloads, err
		}
		if !liar.IsZero() {
			h := headers[len(payloads)]
			n.cfg.Log.Warn("refused from the mesh", "log", h.Origin().String(), "position", h.Position, "site", liar.String(), "what", "a payload that is not the one of its header")
			liars = append(liars, liar)
		}
	}
	return payloads, nil
}

// fetch asks once, and gives what came up to something that is not what the header
// says, with who gave that.
func (n *Node) fetch(ctx context.Context, headers []events.Header, not []events.SiteID) (payloads [][]byte, liar events.SiteID, err error) {
	o, first := headers[0].Origin(), headers[0].Position
	n.mu.Lock()
	n.nextAsk++
	id, ch := n.nextAsk, make(chan GotPayload, len(headers)+1)
	n.asking[id] = ch
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.asking, id)
	}()
	n.hand(WantPayloads{ID: id, Origin: o, First: first, Count: uint32(len(headers)), Not: not})
	for len(payloads) < len(headers) {
		select {
		case p := <-ch:
			if p.Failed {
				return payloads, liar, fmt.Errorf("log %s position %d: %w, and nobody in reach has it; try again when its site is", o, p.Position, events.ErrPayloadAbsent)
			}
			if headers[len(payloads)].CheckPayload(p.Payload) != nil {
				return payloads, p.Site, nil
			}
			payloads = append(payloads, p.Payload)
		case <-ctx.Done():
			return payloads, liar, ctx.Err()
		case <-n.ctx.Done():
			return payloads, liar, errors.New("the mesh is closing")
		}
	}
	return payloads, liar, nil
}

package mesh

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// fetch is a wish for payloads that are not held here.
type fetch struct {
	WantPayloads
	next  uint64          // position that comes next
	from  LinkID          // who was asked; 0 for nobody
	tried map[LinkID]bool // who does not have what comes next
	asked time.Duration
}

// maxFetch bounds the payloads that a peer may ask for at once.
const maxFetch = 256

func (c *Core) wantPayloads(in WantPayloads) {
	c.fetches[in.ID] = &fetch{WantPayloads: in, next: in.First, tried: map[LinkID]bool{}}
}

// checkFetches asks the next peer for what has not come.
func (c *Core) checkFetches() {
	for _, id := range slices.Sorted(maps.Keys(c.fetches)) {
		f := c.fetches[id]
		if f.from != 0 && c.now >= f.asked+silent*c.cfg.HaveEvery {
			f.tried[f.from], f.from = true, 0
		}
		if f.from == 0 {
			c.askForPayloads(f)
		}
	}
}

func (c *Core) askForPayloads(f *fetch) {
	for _, l := range c.linksInOrder() {
		if !l.ready || f.tried[l.id] || slices.Contains(f.Not, l.site) || l.other[f.Origin] || l.have[f.Origin].Size < f.next {
			continue
		}
		f.from, f.asked = l.id, c.now
		left := f.First + uint64(f.Count) - f.next
		c.send(l, CtlLane, Fetch{ID: f.ID, Origin: f.Origin, First: f.next, Count: uint32(min(left, maxFetch))})
		return
	}
	delete(c.fetches, f.ID)
	c.emit(GotPayload{ID: f.ID, Origin: f.Origin, Position: f.next, Failed: true})
}

func (c *Core) lostFetches(id LinkID) {
	for _, f := range c.fetches {
		if f.from == id {
			f.tried[id], f.from = true, 0
		}
	}
}

// gotFetch serves a peer, whoever wrote the log: a payload is sealed, and
// proven by its header. One wish is read after another.
func (c *Core) gotFetch(l *link, m Fetch) {
	if len(l.asked) >= maxAsked {
		c.violation(l, m.Origin, fmt.Errorf("more than %d payloads asked for", maxAsked))
		return
	}
	l.asked = append(l.asked, m)
	c.nextFetch(l)
}

func (c *Core) nextFetch(l *link) {
	if l.fetching || len(l.asked) == 0 {
		return
	}
	m := l.asked[0]
	l.asked, l.fetching = l.asked[1:], true
	c.emit(ReadPayloads{Link: l.id, ID: m.ID, Origin: m.Origin, First: m.First, Count: min(m.Count, maxFetch)})
}

func (c *Core) payloadRead(in PayloadRead) {
	l := c.links[in.Link]
	if l == nil {
		return
	}
	for i, p := range in.Payloads {
		c.send(l, RecLane, Payload{ID: in.ID, Origin: in.Origin, Position: in.First + uint64(i), Payload: p, Absent: p == nil})
	}
	l.fetching = false
	c.nextFetch(l)
}

func (c *Core) gotPayload(l *link, m Payload) {
	f := c.fetches[m.ID]
	if f == nil || f.from != l.id || f.Origin != m.Origin || f.next != m.Position {
		return
	}
	f.asked = c.now
	if m.Absent {
		f.tried[l.id], f.from = true, 0
		return
	}
	payload := m.Payload
	if payload == nil {
		payload = []byte{}
	}
	c.emit(GotPayload{ID: f.ID, Site: l.site, Origin: f.Origin, Position: f.next, Payload: payload})
	f.next++
	clear(f.tried)
	switch {
	case f.next == f.First+uint64(f.Count):
		delete(c.fetches, f.ID)
	case (f.next-f.First)%maxFetch == 0:
		f.from = 0 // what was asked for has come; ask for more
	}
}

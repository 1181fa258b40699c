package mesh_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/mesh"
)

// simNet carries messages between processes. A way from one to another can be
// cut by itself; a connection that is cut in either way breaks after a while,
// and comes back once both ways are open.
type simNet struct {
	sim   *sim
	cut   map[[2]int]int // how many faults cut the way from one to another
	conns map[[2]int]*conn
	lossy int // faults that make messages get lost, doubled and overtaken
	next  mesh.LinkID
	bytes int // of records sent
	laden int // batches sent
}

// conn is a connection between two processes, the lower index first.
type conn struct {
	up    bool
	gen   int
	links [2]mesh.LinkID
	since time.Duration // since when it is cut, or may not be made again; 0 for neither
	last  [2][2]time.Duration
}

func newSimNet(s *sim) *simNet {
	return &simNet{sim: s, cut: map[[2]int]int{}, conns: map[[2]int]*conn{}}
}

func pairOf(a, b int) [2]int { return [2]int{min(a, b), max(a, b)} }

// connect makes two processes try to be connected from now on.
func (n *simNet) connect(a, b int) { n.conns[pairOf(a, b)] = &conn{} }

// watch makes and breaks connections.
func (n *simNet) watch() {
	for a := range n.sim.sites {
		for b := a + 1; b < len(n.sim.sites); b++ {
			c := n.conns[[2]int{a, b}]
			if c == nil {
				continue
			}
			open := n.cut[[2]int{a, b}] == 0 && n.cut[[2]int{b, a}] == 0
			both := n.sim.sites[a].up && n.sim.sites[b].up
			switch {
			case c.up && open:
				c.since = 0
			case c.up && c.since == 0:
				c.since = n.sim.now
			case c.up && n.sim.now > c.since+500*time.Millisecond:
				n.down(a, b)
			case !c.up && open && both && n.sim.now >= c.since:
				n.establish(c, a, b)
			}
		}
	}
}

func (n *simNet) establish(c *conn, a, b int) {
	c.up, c.since = true, 0
	c.gen++
	n.next += 2
	c.links = [2]mesh.LinkID{n.next, n.next + 1}
	gen := c.gen
	n.sim.sites[a].input(mesh.LinkUp{Link: c.links[0], Site: n.sim.sites[b].id})
	if c.up && c.gen == gen {
		n.sim.sites[b].input(mesh.LinkUp{Link: c.links[1], Site: n.sim.sites[a].id})
	}
}

func (n *simNet) down(a, b int) {
	c := n.conns[pairOf(a, b)]
	if c == nil || !c.up {
		return
	}
	c.up, c.since = false, n.sim.now+300*time.Millisecond
	n.sim.sites[min(a, b)].input(mesh.LinkDown{Link: c.links[0]})
	n.sim.sites[max(a, b)].input(mesh.LinkDown{Link: c.links[1]})
}

// drop breaks all connections of a process.
func (n *simNet) drop(index int) {
	for other := range n.sim.sites {
		n.down(index, other)
	}
}

// closed breaks the connection that a link of a process is on.
func (n *simNet) closed(index int, link mesh.LinkID) {
	for other := range n.sim.sites {
		if c := n.conns[pairOf(index, other)]; c != nil && c.up && (c.links[0] == link || c.links[1] == link) {
			n.down(index, other)
		}
	}
}

// send carries one message as its wire form.
func (n *simNet) send(from *simSite, out mesh.Send) {
	to, c, end := n.peer(from.index, out.Link)
	if c == nil {
		return
	}
	b, err := mesh.Encode(out.Message)
	if err != nil {
		n.sim.fail("%s: %v", from, err)
		return
	}
	if m, ok := out.Message.(mesh.Batch); ok {
		n.laden++
		for _, r := range m.Records {
			n.bytes += len(r.Header) + len(r.Payload)
		}
	}
	copies := 1
	if n.loses(from.index, to) {
		switch n.sim.rng.IntN(20) {
		case 0:
			copies = 0
		case 1:
			copies = 2
		}
	}
	for range copies {
		n.carry(from.index, to, c, end, out.Lane, b)
	}
}

// peer finds where a link leads, and which end of the connection it is.
func (n *simNet) peer(index int, link mesh.LinkID) (int, *conn, int) {
	for other := range n.sim.sites {
		c := n.conns[pairOf(index, other)]
		if c == nil || !c.up || other == index {
			continue
		}
		for end := range 2 {
			if c.links[end] == link {
				return other, c, end
			}
		}
	}
	return 0, nil, 0
}

// loses reports whether messages from one process to another get lost, doubled and
// overtaken.
func (n *simNet) loses(from, to int) bool {
	return n.lossy > 0 && !(n.sim.healing && n.sim.inCore(from) && n.sim.inCore(to))
}

func (n *simNet) carry(from, to int, c *conn, end int, lane mesh.Lane, b []byte) {
	at := n.sim.now + time.Millisecond + time.Duration(n.sim.rng.IntN(4000))*time.Microsecond
	if !n.loses(from, to) {
		at = max(at, c.last[end][lane]+1)
	}
	c.last[end][lane] = max(at, c.last[end][lane])
	gen := c.gen
	if n.cut[[2]int{from, to}] > 0 {
		return
	}
	n.sim.after(at-n.sim.now, func() {
		if !c.up || c.gen != gen || n.cut[[2]int{from, to}] > 0 {
			return
		}
		m, err := mesh.Decode(b)
		if err != nil {
			n.sim.fail("message from process %d: %v", from, err)
			return
		}
		site := n.sim.sites[to]
		if site.level > 0 && newer(m) {
			m = nil // a site of an older level does not know it
		}
		site.hear(n.sim.sites[from].id, m)
		site.input(mesh.Received{Link: c.links[1-end], Lane: lane, Message: m})
	})
}

// newer reports whether a site of the oldest level would not know a message.
func newer(m mesh.Message) bool {
	switch m.(type) {
	case mesh.Fetch, mesh.Payload, mesh.Wraps, mesh.Ping:
		return true
	}
	return false
}

// isolate cuts, or mends, every way between two groups of processes.
func (n *simNet) isolate(inside map[int]bool, delta int) {
	for a := range n.sim.sites {
		for b := range n.sim.sites {
			if inside[a] != inside[b] {
				n.cut[[2]int{a, b}] += delta
			}
		}
	}
}

// tampered changes a record that is forwarded, or the head over it, or signs
// what it changed with a key of its own.
func tampered(rng *rand.Rand, l *simLog, r mesh.ReadDone) mesh.ReadDone {
	r.Entries = slices.Clone(r.Entries)
	i := rng.IntN(len(r.Entries))
	header := bytes.Clone(r.Entries[i].Header)
	switch rng.IntN(4) {
	case 0:
		header[rng.IntN(len(header))] ^= 1
		r.Entries[i].Header = header
	case 1:
		r.Entries[i].Header = otherFact(header)
	case 2:
		r.Head = bytes.Clone(r.Head)
		r.Head[rng.IntN(len(r.Head))] ^= 1
	case 3:
		r.Entries[i].Header = otherFact(header)
		tree := l.tree(int(r.From))
		for _, e := range r.Entries {
			tree.Append(evidence.LeafHash(e.Header))
		}
		r.Head = simNote("a key of the forger", r.Origin, tree.Size(), tree.Root())
	}
	return r
}

// otherFact is a good header that nobody wrote.
func otherFact(header []byte) []byte {
	h, err := events.DecodeHeader(header)
	if err == nil {
		h.Wall++
		header, err = events.EncodeHeader(&h)
	}
	if err != nil {
		panic(err)
	}
	return header
}

package mesh

import (
	"fmt"
	"net"
	"testing"

	"github.com/holdfast-pam/holdfast/events"
)

// connFrom is a connection of which only the address counts.
type connFrom struct {
	net.Conn
	addr   string
	closed bool
}

func (c *connFrom) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.addr), Port: 1} }

func (c *connFrom) Close() error {
	c.closed = true
	if c.Conn == nil {
		return nil
	}
	return c.Conn.Close()
}

func (d *door) enterFrom(addr string) *connFrom {
	c := &connFrom{addr: addr}
	d.enter(c)
	return c
}

// Members betray: from many addresses from which they had links they fill the door. Who
// is new, or has moved, keeps the place that it takes, and so does a member from where it
// had its last link, whatever they had remembered before.
func TestAttackMembersThatFillTheDoor(t *testing.T) {
	honest, rogues := newSiteID(1), []events.SiteID{newSiteID(2), newSiteID(3), newSiteID(4)}
	const home = "10.0.0.1"
	for _, addresses := range []int{1, 3, 8, 12, 2000} {
		var d door
		d.remember(honest, "10.9.9.9") // it had another address before
		for i := range addresses {
			d.remember(rogues[i%len(rogues)], fmt.Sprintf("10.1.%d.%d", i/250, 1+i%250))
		}
		d.remember(honest, home)
		crowd := func() {
			for i := range 2000 {
				d.enterFrom(fmt.Sprintf("10.1.%d.%d", i%addresses/250, 1+i%addresses%250))
			}
		}
		crowd()
		held := []*connFrom{d.enterFrom(home), d.enterFrom(home)}
		if addresses < maxHandshakes { // of more, each with one connection, a newcomer is no smaller crowd
			held = append(held, d.enterFrom("10.2.0.1"))
		}
		crowd()
		for _, c := range held {
			if c.closed {
				t.Errorf("%d addresses: %s made room", addresses, c.addr)
			}
		}
		if n := len(d.waiting); n != maxHandshakes {
			t.Errorf("%d addresses: %d wait", addresses, n)
		}
	}
}

// What is kept in mind of a member is bounded, and forgotten with it.
func TestTheDoorForgetsWhoIsGone(t *testing.T) {
	a, b := newStation(t, 1), newStation(t, 2)
	a.start(a.listen(), a.peer(), b.peer())
	for i := range 2 * maxRegulars {
		a.node.door.remember(b.id, fmt.Sprintf("10.1.0.%d", i))
	}
	for i := range 2 * maxRegulars {
		if got, want := a.node.door.knows(fmt.Sprintf("10.1.0.%d", i)), i >= maxRegulars; got != want {
			t.Errorf("address %d: known %v, want %v", i, got, want)
		}
	}
	gone := b.peer()
	gone.Gone = true
	for _, peers := range [][]Peer{{a.peer()}, {a.peer(), gone}} {
		a.node.door.remember(b.id, "10.1.0.1")
		a.node.SetPeers(peers)
		if a.node.door.knows("10.1.0.1") {
			t.Errorf("after it went it is still known (%d peers)", len(peers))
		}
		here, there := net.Pipe()
		c := &connFrom{Conn: here, addr: "10.1.0.2"}
		a.node.addLink(b.id, [lanes]net.Conn{c, c}, false) // one that was under way
		if a.node.door.knows("10.1.0.2") {
			t.Error("a link that was under way when its member went is kept in mind")
		}
		_ = there.Close() // so it ends
	}
}

package mesh

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

const (
	// handshakeTime is how long a connection may take to prove who it is, and
	// the second lane of a link to follow the first.
	handshakeTime = 10 * time.Second
	// maxHandshakes bounds connections that are no part of a link yet.
	maxHandshakes = 64
	// sourceRate and sourceBurst bound the connections that one address makes, by
	// the second: proving keys takes time here too. Many sites may share one.
	sourceRate, sourceBurst = 64, 192
	// linkRate and linkBurst bound the links that one member makes, by the second:
	// each has it told of all logs.
	linkRate, linkBurst = 4, 40
	// joinRate and joinBurst bound the invitations that one address tries, by the
	// second: each that is refused becomes an event.
	joinRate, joinBurst = 0.1, 20
	// lineRate and lineBurst bound the lines of the log about one peer.
	lineRate, lineBurst = 0.1, 30
	// dialEvery is how long a site waits between two attempts at a peer. One that
	// is under way is not waited for: in a network that was cut it may hang until
	// long after it was mended.
	dialEvery = time.Second / 2
	// dialTime bounds one attempt.
	dialTime = 5 * time.Second
	// maxLinks bounds the links to one peer: one each way is normal.
	maxLinks = 4
	// maxHalves bounds the links of one peer that are half made: as many attempts
	// as it makes before it gives the first up.
	maxHalves = 2 * int(dialTime/dialEvery)
	// queued and queuedBytes bound what waits to be sent on a lane. What is
	// acknowledged late is bounded by windows; who reads nothing at all loses
	// its link.
	queued      = 8192
	queuedBytes = maxWindow + 32<<20
	// writeTime is how long a peer may take nothing while something is sent.
	writeTime = 30 * time.Second
)

// lanePair is a link: two connections, and what waits to be sent on each.
type lanePair struct {
	id      LinkID
	site    events.SiteID
	dialled bool // by this side
	conns   [lanes]net.Conn
	out     [lanes]chan []byte
	done    chan struct{} // closed by close
	heard   atomic.Int64  // when something last came, on the node's clock
	meter   *meter
	bytes   [lanes]atomic.Int64 // in out
}

// close ends the link's goroutines; it may be called more than once, under the
// node's mu.
func (l *lanePair) close() {
	select {
	case <-l.done:
		return
	default:
	}
	close(l.done)
	for _, c := range l.conns {
		_ = c.Close() // nothing more is expected from it
	}
}

// halfLink is the first connection of a link that waits for the second.
type halfLink struct {
	conn net.Conn
	lane Lane
}

// halfKey tells which two connections belong together: a number that the dialing
// site made, within what its key allows it to say.
type halfKey struct {
	site  events.SiteID
	nonce [16]byte
}

// preamble is what the dialing side sends first on each connection.
const preambleSize = 1 + 16

func (n *Node) accept() {
	cfg := serverTLS(n.cert, func(key ed25519.PublicKey) bool { _, ok := n.peerByKey(key); return ok })
	for {
		conn, err := n.cfg.Listener.Accept()
		if err != nil {
			if n.ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				n.cfg.Log.Error("the mesh port takes no connections for a moment", "error", err)
				select {
				case <-time.After(time.Second):
					continue
				case <-n.ctx.Done():
				}
			}
			return
		}
		source := sourceOf(conn.RemoteAddr())
		sources := n.sources
		if n.door.knows(source) {
			sources = n.regulars
		}
		if _, ok := sources.take(source); !ok {
			_ = conn.Close() // too many at once; an honest peer dials again
			n.refuse(source, "a connection to the mesh port was refused", "from", conn.RemoteAddr().String(), "error", "too many from there")
			continue
		}
		leave := n.door.enter(conn)
		n.work.Go(func() {
			err := n.welcome(tls.Server(conn, cfg))
			if gone := leave(); err == nil || n.ctx.Err() != nil {
				return
			} else if gone {
				err = errCrowded
			}
			if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) { // a peer had another attempt that was faster
				n.cfg.Log.Debug("a connection to the mesh port ended", "from", conn.RemoteAddr().String(), "error", err)
				return
			}
			n.refuse(source, "a connection to the mesh port was refused", "from", conn.RemoteAddr().String(), "error", err)
		})
	}
}

// refuse puts into the log what somebody was refused, within bounds for each.
func (n *Node) refuse(who, what string, args ...any) {
	if left, ok := n.lines.take(who); ok {
		if left > 0 {
			args = append(args, "like it, without a line", left)
		}
		n.cfg.Log.Warn(what, args...)
	}
}

// ends puts into the log why a link is ended from here.
func (n *Node) ends(site events.SiteID, why string) {
	n.refuse("ends of "+site.String(), "a link of the mesh ends", "site", site.String(), "why", why)
}

// note puts what becomes of a member's links into the log, within bounds.
func (n *Node) note(site events.SiteID, what string, args ...any) {
	if _, ok := n.lines.take("links of " + site.String()); ok {
		n.cfg.Log.Info(what, args...)
	}
}

// Refuse puts into the log what a member was refused, within bounds for each.
func (n *Node) Refuse(site events.SiteID, what string, err error) {
	n.refuse(site.String(), "refused from the mesh", "site", site.String(), "what", what, "error", err)
}

func (n *Node) peerByKey(key ed25519.PublicKey) (Peer, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.peers {
		if key.Equal(ed25519.PublicKey(p.Identity)) && p.Site != n.cfg.Core.Self && !p.Gone {
			return p, true
		}
	}
	return Peer{}, false
}

// welcome takes one connection in, until it is a link, half of one, or done.
func (n *Node) welcome(conn *tls.Conn) error {
	ctx, cancel := context.WithTimeout(n.ctx, handshakeTime)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return errors.Join(err, conn.Close())
	}
	key, err := peerKey(conn.ConnectionState())
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	if conn.ConnectionState().NegotiatedProtocol == joinProtocol {
		return errors.Join(n.answerJoin(ctx, conn, key), conn.Close())
	}
	peer, ok := n.peerByKey(key)
	if !ok {
		return errors.Join(ErrStranger, conn.Close())
	}
	if conn.ConnectionState().NegotiatedProtocol == heldProtocol {
		return errors.Join(n.answerHeld(ctx, conn, peer.Site), conn.Close())
	}
	var b [preambleSize]byte
	if err := conn.SetReadDeadline(time.Now().Add(handshakeTime)); err != nil {
		return errors.Join(err, conn.Close())
	}
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return errors.Join(err, conn.Close())
	}
	lane := Lane(b[0])
	if lane >= lanes {
		return errors.Join(fmt.Errorf("site %s: lane %d", peer.Site, lane), conn.Close())
	}
	if _, ok := n.flaps.take(peer.Site.String()); lane == CtlLane && !ok {
		return errors.Join(fmt.Errorf("site %s makes too many links", peer.Site), conn.Close())
	}
	return n.pair(halfKey{peer.Site, [16]byte(b[1:])}, lane, conn)
}

// pair puts the two connections of a link together.
func (n *Node) pair(key halfKey, lane Lane, conn net.Conn) error {
	n.mu.Lock()
	first := n.halves[key]
	switch {
	case first == nil && n.halvesOf(key.site) >= maxHalves:
		n.mu.Unlock()
		return errors.Join(fmt.Errorf("site %s has too many links half made", key.site), conn.Close())
	case first == nil:
		n.halves[key] = &halfLink{conn, lane}
		n.mu.Unlock()
		n.work.Go(func() { n.expire(key, conn) })
		return nil
	case first.lane == lane:
		n.mu.Unlock()
		return errors.Join(fmt.Errorf("site %s: the same lane twice", key.site), conn.Close())
	}
	delete(n.halves, key)
	n.mu.Unlock()
	var conns [lanes]net.Conn
	conns[first.lane], conns[lane] = first.conn, conn
	n.addLink(key.site, conns, false)
	return nil
}

// halvesOf counts the links of a site that are half made; under mu.
func (n *Node) halvesOf(site events.SiteID) (count int) {
	for key := range n.halves {
		if key.site == site {
			count++
		}
	}
	return count
}

// expire drops half a link whose other half does not come.
func (n *Node) expire(key halfKey, conn net.Conn) {
	select {
	case <-time.After(handshakeTime):
	case <-n.ctx.Done():
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.halves[key]; h != nil && h.conn == conn {
		delete(n.halves, key)
		_ = conn.Close() // it never became a link
	}
}

// addLink brings a link up, in place of the oldest one when there are too many.
func (n *Node) addLink(site events.SiteID, conns [lanes]net.Conn, dialled bool) {
	l := &lanePair{site: site, dialled: dialled, conns: conns, done: make(chan struct{})}
	l.heard.Store(int64(n.now()))
	for lane := range l.out {
		l.out[lane] = make(chan []byte, queued)
	}
	n.mu.Lock()
	var same []LinkID
	for id, other := range n.lanes {
		if other.site == site {
			same = append(same, id)
		}
	}
	n.nextLink++
	l.id = n.nextLink
	n.lanes[l.id] = l
	l.meter = n.meterOf(site)
	if n.member(site) {
		n.door.remember(site, sourceOf(conns[CtlLane].RemoteAddr()))
	}
	closing := n.ctx.Err() != nil
	if closing {
		l.close()
	}
	n.mu.Unlock()
	if closing {
		return
	}
	if len(same) >= maxLinks {
		oldest := same[0]
		for _, id := range same {
			oldest = min(oldest, id)
		}
		n.closeLink(oldest)
	}
	n.note(site, "a link of the mesh is up", "site", site.String(), "addr", conns[CtlLane].RemoteAddr().String(), "dialled", dialled)
	n.work.Go(func() {
		n.hand(LinkUp{Link: l.id, Site: site, Wall: time.Now().UnixMicro()})
		for lane := range Lane(lanes) {
			n.work.Go(func() { n.receive(l, lane) })
			n.work.Go(func() { n.transmit(l, lane) })
		}
	})
}

// closeLink ends a link; its readers tell the core.
func (n *Node) closeLink(id LinkID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.lanes[id]; l != nil {
		l.close()
		delete(n.lanes, id)
	}
}

// receive reads one lane until it ends. It reads no further while the core has
// not taken what came before, so no peer can fill memory.
func (n *Node) receive(l *lanePair, lane Lane) {
	err := n.receiveAll(l, lane)
	n.closeLink(l.id)
	n.hand(LinkDown{l.id})
	if n.ctx.Err() == nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		n.note(l.site, "a lane of a link ended", "site", l.site.String(), "lane", lane, "error", err)
	}
}

func (n *Node) receiveAll(l *lanePair, lane Lane) error {
	conn := l.conns[lane]
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	r := bufio.NewReaderSize(conn, 64<<10)
	for {
		b, err := ReadFrame(r)
		if err != nil {
			return err
		}
		l.heard.Store(int64(n.now()))
		l.meter.in[lane].Add(uint64(frameHead - 1 + len(b)))
		m, err := Decode(b)
		if errors.Is(err, ErrUnknownMessage) {
			m, err = nil, nil
		}
		if err != nil {
			n.Refuse(l.site, "is no message", err)
			return err
		}
		n.reports.room(n.ctx, l, m)
		n.hand(Received{Link: l.id, Lane: lane, Message: m})
		if n.ctx.Err() != nil {
			return n.ctx.Err()
		}
	}
}

// transmit writes what waits on one lane until the link ends.
func (n *Node) transmit(l *lanePair, lane Lane) {
	conn := l.conns[lane]
	w := bufio.NewWriterSize(conn, 64<<10)
	for {
		var b []byte
		select {
		case b = <-l.out[lane]:
			l.bytes[lane].Add(-int64(len(b)))
		case <-l.done:
			return
		}
		err := conn.SetWriteDeadline(time.Now().Add(writeTime))
		if err == nil {
			err = WriteFrame(w, b)
			l.meter.out[lane].Add(uint64(frameHead - 1 + len(b)))
		}
		if err == nil && len(l.out[lane]) == 0 {
			err = w.Flush()
		}
		if err != nil {
			n.closeLink(l.id)
			return
		}
	}
}

// send puts a message in a lane's queue. A peer whose queue is full has not
// read for long: its link ends.
func (n *Node) send(s Send) {
	n.mu.Lock()
	l := n.lanes[s.Link]
	n.mu.Unlock()
	if l == nil {
		return
	}
	if p, ok := s.Message.(Ping); ok {
		p.Wall = time.Now().UnixMicro()
		s.Message = p
	}
	b, err := Encode(s.Message)
	if err != nil {
		n.cfg.Log.Error("a message of the mesh can't be written", "site", l.site.String(), "error", err)
		n.closeLink(s.Link)
		return
	}
	if l.bytes[s.Lane].Add(int64(len(b))) <= queuedBytes {
		select {
		case l.out[s.Lane] <- b:
			return
		default:
		}
	}
	n.ends(l.site, "the peer does not read")
	n.closeLink(s.Link)
}

// dial keeps a link to every peer that has an address.
func (n *Node) dial() {
	tick := time.NewTicker(dialEvery)
	defer tick.Stop()
	type attempts struct{ made, underWay atomic.Int32 }
	var bySite sync.Map
	for {
		for _, p := range n.unlinked() {
			v, _ := bySite.LoadOrStore(p.Site, new(attempts))
			at := v.(*attempts)
			if at.underWay.Load() >= int32(dialTime/dialEvery) {
				continue
			}
			at.underWay.Add(1)
			addr := p.Addrs[uint32(at.made.Add(1)-1)%uint32(len(p.Addrs))]
			n.work.Go(func() {
				defer at.underWay.Add(-1)
				if err := n.dialPeer(p, addr); err != nil {
					n.cfg.Log.Debug("a peer can't be reached", "site", p.Site.String(), "addr", addr, "error", err)
				}
			})
		}
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
	}
}

// unlinked lists the peers with an address and no link on which something was
// heard lately.
func (n *Node) unlinked() []Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []Peer
	for _, p := range n.peers {
		if len(p.Addrs) > 0 && p.Site != n.cfg.Core.Self && !p.Gone && !n.hears(p.Site, false) {
			out = append(out, p)
		}
	}
	return out
}

// hears reports whether there is a link to a site that is not silent (of those
// dialled here, or of all); under mu.
func (n *Node) hears(site events.SiteID, dialled bool) bool {
	for _, l := range n.lanes {
		if l.site == site && (l.dialled || !dialled) && n.now()-time.Duration(l.heard.Load()) < n.core.quiet() {
			return true
		}
	}
	return false
}

func (n *Node) dialPeer(p Peer, addr string) error {
	ctx, cancel := context.WithTimeout(n.ctx, dialTime)
	defer cancel()
	d := tls.Dialer{NetDialer: &net.Dialer{}, Config: clientTLS(n.cert, linkProtocol, p.Identity)}
	hello := make([]byte, preambleSize)
	if _, err := rand.Read(hello[1:]); err != nil {
		return err
	}
	var conns [lanes]net.Conn
	for lane := range conns {
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			conns[lane] = conn
			hello[0] = byte(lane)
			_, err = conn.Write(hello)
		}
		if err != nil {
			return errors.Join(err, closeAll(conns))
		}
	}
	n.mu.Lock()
	late := n.hears(p.Site, true)
	n.mu.Unlock()
	if late { // another attempt was faster; the peer's own may be given up for this one
		return closeAll(conns)
	}
	n.addLink(p.Site, conns, true)
	return nil
}

func closeAll(conns [lanes]net.Conn) error {
	var errs []error
	for _, c := range conns {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

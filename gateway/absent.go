package gateway

import (
	"context"
	"net"
	"syscall"
	"time"

	"github.com/holdfast-pam/holdfast/gateway/relay"
)

// A side whose machine lost power or whose network was cut says nothing any more, and the kernel alone may take hours to
// notice. So probes are sent to whoever is silent, and who acknowledges nothing at all for Limits.PeerTimeout is gone. A side that is idle,
// or suspended, or reads nothing, acknowledges: its kernel does.

const (
	// peerProbes is how many probes of keepalive fit between the first one and the end.
	peerProbes = 6
	// shutWindow is how rarely the kernel may ask whether a peer that reads nothing has begun to: silence between is no sign.
	shutWindow = 4 * time.Minute
)

// keepAlive makes the kernel probe a silent peer, often enough to tell within PeerTimeout.
func (l Limits) keepAlive(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: l.PeerTimeout / 4, Interval: l.PeerTimeout / 8, Count: peerProbes})
		_ = tcp.SetNoDelay(true)
	}
}

// isAbsent says that the peer of a connection has acknowledged nothing for too long.
func (l Limits) isAbsent(c *net.TCPConn) bool {
	silent, shut, ok := silence(c)
	most := l.PeerTimeout
	if shut {
		most = max(most, shutWindow)
	}
	return ok && silent > most
}

// watchPeers ends what has lost a side, until ctx ends.
func (s *Server) watchPeers(ctx context.Context) {
	tick := time.NewTicker(s.cfg.Limits.PeerTimeout / 8)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, e := range s.lives.list() {
			s.checkPeers(e)
		}
	}
}

func (s *Server) checkPeers(e *live) {
	e.mu.Lock()
	running := e.running
	e.mu.Unlock()
	switch {
	case running != nil:
		for d, leg := range running.legs {
			if leg.tcp != nil && s.cfg.Limits.isAbsent(leg.tcp) {
				running.lose(relay.Direction(d))
			}
		}
	case e.tcp != nil && s.cfg.Limits.isAbsent(e.tcp):
		_ = e.tcp.Close() // its reader finds out
	}
}

// lose ends the session for want of the side that d is read from. What was received from it still goes to the other side.
func (s *session) lose(d relay.Direction) {
	s.mu.Lock()
	ending := s.cause != nil
	s.mu.Unlock()
	if !ending { // a second cause would cut the ending short
		s.end(readEnded(d, syscall.ETIMEDOUT))
	}
}

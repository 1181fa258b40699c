package relay

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// The global requests of ssh -R.
const (
	listenTCPIP  = "tcpip-forward"
	cancelTCPIP  = "cancel-tcpip-forward"
	listenSocket = "streamlocal-forward@openssh.com"
	cancelSocket = "cancel-streamlocal-forward@openssh.com"
)

// listener is one at the target that the client asked for and policy allowed, from the request until the target
// refused or cancelled it.
type listener struct {
	host    string // or the path of a socket
	port    uint32 // 0 until the target has chosen one
	socket  bool
	inForce bool // the target said so
}

// is reports whether a request or channel names the listener. The host that a channel names is the one of the request,
// or, as some targets do it, the address that the connection came in at.
func (l *listener) is(p place, exact bool) bool {
	if l.socket != p.socket || l.port != p.port {
		return false
	}
	return l.host == p.host || !exact && !l.socket && sameHost(l.host, p.host)
}

func sameHost(asked, came string) bool {
	asked, came = strings.ToLower(asked), strings.ToLower(came)
	if asked == came || asked == "" || asked == "*" {
		return true
	}
	a, err := netip.ParseAddr(asked)
	b, err2 := netip.ParseAddr(came)
	loopback := came == "localhost" || err2 == nil && b.Unmap().IsLoopback()
	switch {
	case err != nil:
		return asked == "localhost" && loopback
	case a.IsUnspecified():
		return true
	}
	return err2 == nil && a.Unmap() == b.Unmap() || a.Unmap().IsLoopback() && came == "localhost"
}

// listened reports whether a channel comes from a listener that is in force.
func (r *Relay) listened(p place) bool {
	return slices.ContainsFunc(r.listeners, func(l *listener) bool { return l.inForce && l.is(p, false) })
}

// effect is what a request changes once the other side has said yes.
type effect struct {
	listener *listener
	cancel   bool
}

// listens decides on a request of ssh -R and notes what it may change.
func (s *step) listens(m sshwire.GlobalRequest) (e effect, allowed bool) {
	p := listenPlace(m)
	if !p.readable {
		return e, false
	}
	if m.Type == cancelTCPIP || m.Type == cancelSocket {
		i := slices.IndexFunc(s.listeners, func(l *listener) bool { return l.is(p, true) })
		if i < 0 {
			return e, false
		}
		return effect{s.listeners[i], true}, true
	}
	l := &listener{host: p.host, port: p.port, socket: p.socket}
	if !s.policy.binds(l) || len(s.listeners) >= s.limits.Listeners {
		return e, false
	}
	s.listeners = append(s.listeners, l)
	return effect{l, false}, true
}

// apply makes the change of a request that was answered; reply is the REQUEST_SUCCESS, nil where none was asked for.
func (r *Relay) apply(e effect, success bool, reply []byte) {
	l := e.listener
	switch {
	case l == nil:
	case e.cancel == success: // cancelled, or never made
		r.listeners = slices.DeleteFunc(r.listeners, func(other *listener) bool { return other == l })
	case e.cancel:
	case !l.socket && l.port == 0:
		if len(reply) < 5 { // the target chose a port and doesn't say which: nothing can be known to come from it
			r.apply(e, false, nil)
			return
		}
		l.port, l.inForce = binary.BigEndian.Uint32(reply[1:]), true
	default:
		l.inForce = true
	}
}

package relay

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// Policy says which ways a session may open besides the session channel. The zero value refuses them all. X11 and tun
// are never allowed.
type Policy struct {
	DirectTCPIP       bool // ssh -L, -D, -W
	DirectStreamLocal bool // ssh -L to a unix socket
	RemoteTCPIP       bool // ssh -R
	RemoteStreamLocal bool // ssh -R of a unix socket
	Agent             bool // ssh -A
}

// allowsOpen says whether a channel of this type may be opened by a packet travelling in d. Unknown types may not.
func (p Policy) allowsOpen(d Direction, kind string) bool {
	if d == In {
		switch kind {
		case "session":
			return true
		case "direct-tcpip":
			return p.DirectTCPIP
		case "direct-streamlocal@openssh.com":
			return p.DirectStreamLocal
		}
		return false
	}
	switch kind {
	case "forwarded-tcpip":
		return p.RemoteTCPIP
	case "forwarded-streamlocal@openssh.com":
		return p.RemoteStreamLocal
	case "auth-agent@openssh.com":
		return p.Agent
	}
	return false
}

// allowsRequest says whether a channel request may pass. Only those that open a way of their own are refused: what else
// a client asks of its own shell is the target's to judge.
func (p Policy) allowsRequest(d Direction, kind string) bool {
	if d == Out {
		return true
	}
	switch kind {
	case "x11-req":
		return false
	case "auth-agent-req@openssh.com", "auth-agent-req":
		return p.Agent
	}
	return true
}

// allowsGlobal says whether a global request may pass. Unknown ones may not.
func (p Policy) allowsGlobal(d Direction, kind string) bool {
	switch {
	case kind == "keepalive@openssh.com":
		return true
	case d == Out:
		return false
	}
	switch kind {
	case "no-more-sessions@openssh.com":
		return true
	case "tcpip-forward", "cancel-tcpip-forward":
		return p.RemoteTCPIP
	case "streamlocal-forward@openssh.com", "cancel-streamlocal-forward@openssh.com":
		return p.RemoteStreamLocal
	}
	return false
}

// hostKeysAnnounced is how an OpenSSH server offers its host keys to a client that trusts it. The target's are not the
// gateway's: a client must not learn them.
const hostKeysAnnounced = "hostkeys-00@openssh.com"

// maxDetail bounds Output.Detail, in bytes.
const maxDetail = 256

// openDetail tells where a refused channel would have led.
func openDetail(m sshwire.ChannelOpen) string {
	switch m.Type {
	case "direct-tcpip", "forwarded-tcpip":
		return address(m.Payload)
	case "direct-streamlocal@openssh.com", "forwarded-streamlocal@openssh.com":
		path, _ := text(m.Payload)
		return clean(path)
	}
	return ""
}

// requestDetail tells what a refused global request would have listened on.
func requestDetail(m sshwire.GlobalRequest) string {
	switch m.Type {
	case "tcpip-forward", "cancel-tcpip-forward":
		return address(m.Payload)
	case "streamlocal-forward@openssh.com", "cancel-streamlocal-forward@openssh.com":
		path, _ := text(m.Payload)
		return clean(path)
	}
	return ""
}

// address reads a host and port as RFC 4254 sections 7.1 and 7.2 write them; what can't be read gives less text.
func address(payload []byte) string {
	host, rest := text(payload)
	if len(rest) < 4 {
		return clean(host)
	}
	return fmt.Sprintf("%s:%d", clean(host), binary.BigEndian.Uint32(rest))
}

// text takes a string off the front, cut to what is there.
func text(b []byte) (s, rest []byte) {
	if len(b) < 4 {
		return nil, nil
	}
	n := min(uint64(binary.BigEndian.Uint32(b)), uint64(len(b)-4))
	return b[4 : 4+n], b[4+n:]
}

// clean makes bytes fit for an event: bounded, valid UTF-8, with room for a port.
func clean(b []byte) string {
	const room = len(":4294967295")
	if len(b) > maxDetail-room {
		b = b[:maxDetail-room]
	}
	return strings.ToValidUTF8(string(b), "?")
}

package relay

import (
	"encoding/binary"
	"net"
	"strconv"
	"strings"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// maxDetail bounds Output.Detail and the texts of a [Channel], in bytes.
const maxDetail = 256

// place is where a channel or a listener is: a host and port, or the path of a socket as host.
type place struct {
	host     string
	port     uint32
	socket   bool
	from     string // host:port of the other end, where there is one
	readable bool   // the payload is what the specification says, with nothing after it
}

func (p place) String() string {
	if p.socket || p.host == "" && p.port == 0 {
		return clean(p.host)
	}
	return net.JoinHostPort(clean(p.host), strconv.FormatUint(uint64(p.port), 10))
}

// openPlace reads the payload of a CHANNEL_OPEN: RFC 4254 section 7.2, and OpenSSH's PROTOCOL sections 2.4 for sockets.
func openPlace(m sshwire.ChannelOpen) (p place) {
	r := reader{rest: m.Payload}
	switch m.Type {
	case directTCPIP, forwardedTCPIP:
		p.host, p.port = r.text(), r.number()
		from := place{host: r.text(), port: r.number()}
		p.from = from.String()
	case directSocket:
		p.socket, p.host = true, r.text()
		r.text() // reserved
		r.number()
	case forwardedSocket:
		p.socket, p.host = true, r.text()
		r.text() // reserved
	}
	p.readable = !r.short && len(r.rest) == 0
	return p
}

// listenPlace reads the payload of a request to listen or to cancel that: RFC 4254 section 7.1, PROTOCOL section 2.4.
func listenPlace(m sshwire.GlobalRequest) (p place) {
	r := reader{rest: m.Payload}
	switch m.Type {
	case listenTCPIP, cancelTCPIP:
		p.host, p.port = r.text(), r.number()
	case listenSocket, cancelSocket:
		p.socket, p.host = true, r.text()
	}
	p.readable = !r.short && len(r.rest) == 0
	return p
}

// reader takes fields off the front of a payload, as far as it goes.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) text() string {
	if len(r.rest) < 4 {
		r.short, r.rest = true, nil
		return ""
	}
	n := uint64(binary.BigEndian.Uint32(r.rest))
	r.rest = r.rest[4:]
	if n > uint64(len(r.rest)) {
		n, r.short = uint64(len(r.rest)), true
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}

func (r *reader) number() uint32 {
	if len(r.rest) < 4 {
		r.short, r.rest = true, nil
		return 0
	}
	n := binary.BigEndian.Uint32(r.rest)
	r.rest = r.rest[4:]
	return n
}

// clean makes text from outside fit for an event: bounded, valid UTF-8, with room for a port.
func clean(s string) string {
	const room = len("[]:4294967295")
	if len(s) > maxDetail-room {
		s = s[:maxDetail-room]
	}
	return strings.ToValidUTF8(s, "?")
}

// Package destination holds the rules of a grant that say where a forwarding may lead: TCP destinations like
// 10.0.0.0/8:5432 and the paths of unix sockets. What no rule names is refused.
//
// Rules are judged by what the client wrote, before the target resolves it: a name that stands for an address inside a
// refused network is judged as the name that it is.
package destination

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// MaxLength bounds a rule, in bytes; no host name or socket path is longer.
const MaxLength = 300

// Rule is one parsed rule. The zero value names nothing.
//
//	db1.example.net:5432    one host
//	*.example.net:443       all hosts of a domain
//	10.0.0.0/8:5432         a network; [2001:db8::/32]:5432 one of IPv6
//	*:8000-8999             any host, a range of ports; the port may be * as well
//	localhost:*             the target itself, by any of its loopback names
//	/run/app/*.sock         unix sockets; * stands for part of one path element
//
// A host of "*" names neither the target's own addresses (loopback, unspecified) nor link-local ones: those are named
// one by one, by localhost or by a network inside them.
type Rule struct {
	text   string
	kind   kind
	prefix netip.Prefix // of a network
	name   string       // of a host or domain in lower case, or the path
	low    uint32       // ports
	high   uint32
}

type kind uint8

const (
	nothing kind = iota
	anyHost
	oneHost
	localHost
	domain
	network
	socket
)

// Error says why a text is no rule.
type Error struct {
	Text, Why string
}

func (e *Error) Error() string { return fmt.Sprintf("%q is no destination: %s", e.Text, e.Why) }

var hostPattern = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$`)

// Parse reads a rule; the error is an [*Error].
func Parse(text string) (Rule, error) {
	bad := func(why string) (Rule, error) { return Rule{}, &Error{text, why} }
	switch {
	case len(text) > MaxLength:
		return bad(fmt.Sprintf("it is longer than %d bytes", MaxLength))
	case strings.HasPrefix(text, "/"):
		if path.Clean(text) != text || strings.ContainsAny(text, "?[]\\") || strings.ContainsFunc(text, unprintable) {
			return bad("a socket is a clean absolute path, in which only * stands for something else")
		}
		return Rule{text: text, kind: socket, name: text}, nil
	}
	host, ports, err := net.SplitHostPort(text)
	if err != nil {
		return bad("write HOST:PORT, or the path of a socket")
	}
	r := Rule{text: text}
	var ok bool
	if r.low, r.high, ok = parsePorts(ports); !ok {
		return bad("the port is *, a number from 1 to 65535, or a range like 8000-8999")
	}
	if why := r.parseHost(strings.ToLower(host)); why != "" {
		return bad(why)
	}
	return r, nil
}

func unprintable(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }

// parseHost sets what the rule names; it returns why it can't.
func (r *Rule) parseHost(host string) string {
	if strings.Contains(host, "/") {
		p, err := netip.ParsePrefix(host)
		if err != nil || p.Masked() != p || p.Addr().Is4In6() {
			return "a network is written like 10.0.0.0/8, with no bits set after the prefix"
		}
		r.kind, r.prefix = network, p
		return ""
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" {
			return "an address with a zone says nothing to another machine"
		}
		a = a.Unmap()
		r.kind, r.prefix = network, netip.PrefixFrom(a, a.BitLen())
		return ""
	}
	if host == "*" {
		r.kind = anyHost
		return ""
	}
	host = strings.TrimSuffix(host, ".")
	rest, wild := strings.CutPrefix(host, "*.")
	switch {
	case host == "localhost":
		r.kind = localHost
	case numeric(rest):
		return "a network is written like 10.0.0.0/8"
	case !hostPattern.MatchString(rest):
		return "a host is a name, *.DOMAIN, *, an address or a network"
	case wild:
		r.kind, r.name = domain, rest
	default:
		r.kind, r.name = oneHost, host
	}
	return ""
}

func parsePorts(s string) (low, high uint32, ok bool) {
	if s == "*" {
		return 0, 65535, true
	}
	a, b, both := strings.Cut(s, "-")
	if !both {
		b = a
	}
	one, err1 := strconv.ParseUint(a, 10, 16)
	two, err2 := strconv.ParseUint(b, 10, 16)
	return uint32(one), uint32(two), err1 == nil && err2 == nil && 1 <= one && one <= two
}

// String is the rule as it was written.
func (r Rule) String() string { return r.text }

// IsSocket reports whether the rule names unix sockets.
func (r Rule) IsSocket() bool { return r.kind == socket }

// Reaches reports whether a connection to host and port may be made (RFC 4254 section 7.2, direct-tcpip).
func (r Rule) Reaches(host string, port uint32) bool {
	return port > 0 && r.names(host, port, false)
}

// Binds reports whether host and port may be listened on (RFC 4254 section 7.1, tcpip-forward). There "" and "*" are all
// addresses, which only the host "*" names, and port 0 is one that the target chooses, which only the port "*" names.
func (r Rule) Binds(host string, port uint32) bool {
	if host == "" || host == "*" {
		host = "0.0.0.0"
	}
	return r.names(host, port, true)
}

// Names reports whether path may be connected to or listened on. A path that isn't clean is named by no rule.
func (r Rule) Names(socketPath string) bool {
	if r.kind != socket || len(socketPath) > MaxLength || path.Clean(socketPath) != socketPath || !strings.HasPrefix(socketPath, "/") {
		return false
	}
	ok, err := path.Match(r.name, socketPath)
	return err == nil && ok
}

func (r Rule) names(host string, port uint32, bind bool) bool {
	if port < r.low || port > r.high || len(host) > MaxLength {
		return false
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if a, err := netip.ParseAddr(host); err == nil {
		return r.namesAddr(a.Unmap(), bind)
	}
	if host == "localhost" {
		return r.kind == localHost || bind && r.kind == anyHost
	}
	if numeric(host) || !hostPattern.MatchString(host) {
		return false // 127.1, 0x7f000001 and their like: an address in disguise
	}
	switch r.kind {
	case anyHost:
		return bind || !strings.HasSuffix(host, ".localhost") && !strings.HasPrefix(host, "ip6-l") && !strings.HasPrefix(host, "localhost")
	case oneHost:
		return host == r.name
	case domain:
		return strings.HasSuffix(host, "."+r.name)
	}
	return false
}

func (r Rule) namesAddr(a netip.Addr, bind bool) bool {
	switch r.kind {
	case anyHost:
		return bind || !special(a)
	case localHost:
		return a == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || a == netip.IPv6Loopback()
	case network:
		return a.Zone() == "" && r.prefix.Contains(a) && (!special(a) || special(r.prefix.Addr()) && narrow(r.prefix))
	}
	return false
}

// special reports whether an address leads to the target itself or to what is only next to it: it is never meant by a
// rule that names more than such addresses.
func special(a netip.Addr) bool {
	return a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.Is4() && a.As4()[0] == 0
}

// narrow reports whether a network that begins with a special address holds nothing else.
func narrow(p netip.Prefix) bool {
	a := p.Addr()
	switch {
	case a.IsLinkLocalUnicast() && a.Is4():
		return p.Bits() >= 16
	case a.IsLinkLocalUnicast():
		return p.Bits() >= 10
	case a.Is4():
		return p.Bits() >= 8
	}
	return p.Bits() == 128
}

// numeric reports whether resolvers would read a host as an IPv4 address in one of its old forms: its last part is a
// number.
func numeric(host string) bool {
	part := host[strings.LastIndex(host, ".")+1:]
	if _, err := strconv.ParseUint(part, 0, 64); err == nil {
		return true
	}
	return part != "" && strings.Trim(part, "0123456789") == "" || strings.HasPrefix(part, "0x")
}

package gateway

import (
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
)

// A certificate is bound to the gateway's address only where nothing in between can have changed it.
func TestOnLink(t *testing.T) {
	addr := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }
	for _, c := range []struct {
		from, to net.Addr
		want     string
	}{
		{addr("127.0.0.1"), addr("127.0.0.1"), "127.0.0.1"},
		{addr("127.0.0.1"), addr("127.9.9.9"), "127.0.0.1"},
		{addr("::1"), addr("::1"), "::1"},
		{addr("192.0.2.1"), addr("192.0.2.2"), ""}, // no address of this machine
		{addr("127.0.0.1"), addr("203.0.113.9"), ""},
		{&net.UnixAddr{}, addr("127.0.0.1"), ""},
		{nil, nil, ""},
	} {
		if got := onLink(c.from, c.to); got != c.want {
			t.Errorf("from %v to %v: %q, want %q", c.from, c.to, got, c.want)
		}
	}
}

// A certificate permits what both the grant and the person's own way in allow.
func TestCertificateExtensions(t *testing.T) {
	for _, c := range []struct {
		allow   []events.Way
		permits permits
		want    string
	}{
		{nil, allPermits, "permit-pty"},
		{nil, permits{}, ""},
		{[]events.Way{events.Local}, allPermits, "permit-port-forwarding permit-pty"},
		{[]events.Way{events.Remote, events.Agent}, allPermits, "permit-agent-forwarding permit-port-forwarding permit-pty"},
		{[]events.Way{events.Local, events.Remote, events.Agent}, permits{pty: true}, "permit-pty"},
		{[]events.Way{events.Agent}, permits{agent: true}, "permit-agent-forwarding"},
	} {
		l := &targetLogin{started: &commands.Started{Terms: events.Terms{Allow: c.allow}}, permits: c.permits}
		if got := strings.Join(slices.Sorted(maps.Keys(l.extensions())), " "); got != c.want {
			t.Errorf("%v with %+v: %q, want %q", c.allow, c.permits, got, c.want)
		}
	}
}

package relay

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-pam/holdfast/commands/destination"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

func rules(t testing.TB, texts ...string) (list []destination.Rule) {
	t.Helper()
	for _, text := range texts {
		r, err := destination.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

func port(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// tcp is the payload of a direct-tcpip or forwarded-tcpip.
func tcp(host string, n uint32) []byte { return cat(str(host), port(n), str("192.0.2.1"), port(4242)) }

func tcpOpen(sender uint32, host string, n uint32) one {
	return one{In, open(directTCPIP, sender, tcp(host, n)...)}
}

func socketOpen(sender uint32, path string) one {
	return one{In, open(directSocket, sender, cat(str(path), str(""), port(0))...)}
}

func listenOn(kind, host string, n uint32, reply bool) one {
	return one{In, global(kind, reply, cat(str(host), port(n))...)}
}

func listenAt(kind, path string) one { return one{In, global(kind, true, str(path)...)} }

func came(sender uint32, host string, n uint32) one {
	return one{Out, open(forwardedTCPIP, sender, tcp(host, n)...)}
}

func cameAt(sender uint32, path string) one {
	return one{Out, open(forwardedSocket, sender, cat(str(path), str(""))...)}
}

// passes are the packets that were forwarded, a letter each: "." or, for those that were not, "x".
func passes(t *testing.T, r *Relay, packets []one) string {
	t.Helper()
	var b strings.Builder
	for i, p := range packets {
		outputs, err := r.Step(p.d, p.packet, nil)
		if err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		letter := "x"
		for _, o := range outputs {
			if o.Kind == Forward {
				letter = "."
			}
		}
		b.WriteString(letter)
	}
	return b.String()
}

func TestWhatRulesAllow(t *testing.T) {
	to := Policy{To: rules(t, "db:5432", "10.0.0.0/8:*", "/run/app/*.sock")}
	listen := Policy{Listen: rules(t, "localhost:8000-8100", "127.0.0.1:*", "/tmp/*")}
	agent := Policy{Agent: true}
	success0 := sshwire.RequestSuccess{Payload: port(40000)}.Append(nil)
	ask := one{In, request(2, "auth-agent-req@openssh.com", false)}
	useAgent := func(sender uint32) one { return one{Out, open(agentChannel, sender)} }
	tests := []struct {
		name    string
		policy  Policy
		packets []one
		want    string
	}{
		{"nothing by default", Policy{}, []one{tcpOpen(9, "db", 5432), socketOpen(9, "/run/app/a.sock"), listenOn(listenTCPIP, "localhost", 8000, false), listenAt(listenSocket, "/tmp/a"),
			came(9, "localhost", 8000), cameAt(9, "/tmp/a"), ask, useAgent(9)}, "xxxxxxxx"},
		{"destinations", to, []one{tcpOpen(8, "db", 5432), tcpOpen(9, "10.1.2.3", 22), socketOpen(10, "/run/app/a.sock"),
			tcpOpen(11, "db", 22), tcpOpen(11, "web", 5432), tcpOpen(11, "127.0.0.1", 5432), socketOpen(11, "/run/docker.sock"), socketOpen(11, "/run/app/../a.sock")}, "...xxxxx"},
		{"a destination is no way back", to, []one{listenOn(listenTCPIP, "db", 5432, true), came(9, "db", 5432), ask}, "xxx"},
		{"what can't be read", to, []one{{In, open(directTCPIP, 9)}, {In, open(directTCPIP, 9, tcp("db", 5432)[:20]...)}, {In, open(directTCPIP, 9, cat(tcp("db", 5432), []byte{0})...)},
			{In, open(directSocket, 9, str("/run/app/a.sock")...)}, tcpOpen(9, "db", 5432+1<<16)}, "xxxxx"},
		{"a listener from the target's yes on", listen, []one{came(9, "localhost", 8000), listenOn(listenTCPIP, "localhost", 8000, true), came(9, "localhost", 8000), {Out, success},
			came(9, "localhost", 8000), came(10, "127.0.0.1", 8000), came(11, "localhost", 8001), came(11, "192.0.2.9", 8000), cameAt(11, "localhost")}, "x.x...xxx"},
		{"a listener without an answer", listen, []one{listenOn(listenTCPIP, "localhost", 8000, false), came(9, "localhost", 8000)}, ".."},
		{"a listener that the target refused", listen, []one{listenOn(listenTCPIP, "localhost", 8000, true), {Out, failure}, came(9, "localhost", 8000)}, "..x"},
		{"listeners that rules don't name", listen, []one{listenOn(listenTCPIP, "", 8000, true), listenOn(listenTCPIP, "localhost", 7999, true), listenOn(listenTCPIP, "localhost", 0, true),
			listenAt(listenSocket, "/etc/x"), {In, global(listenTCPIP, false, str("localhost")...)}, {In, global(listenTCPIP, false, cat(str("localhost"), port(8000), port(1))...)}}, "xxxxxx"},
		{"a port that the target chooses", listen, []one{listenOn(listenTCPIP, "127.0.0.1", 0, true), {Out, success0}, came(9, "127.0.0.1", 40000), came(10, "127.0.0.1", 0)}, "...x"},
		{"a port that the target keeps to itself", listen, []one{listenOn(listenTCPIP, "127.0.0.1", 0, true), {Out, success}, came(9, "127.0.0.1", 0)}, "..x"},
		{"cancelled", listen, []one{listenOn(listenTCPIP, "localhost", 8000, true), {Out, success}, listenOn(cancelTCPIP, "localhost", 8000, true), came(9, "localhost", 8000), {Out, success},
			came(10, "localhost", 8000), listenOn(cancelTCPIP, "localhost", 8000, true)}, ".....xx"},
		{"not cancelled", listen, []one{listenOn(listenTCPIP, "localhost", 8000, true), {Out, success}, listenOn(cancelTCPIP, "localhost", 8000, true), {Out, failure}, came(9, "localhost", 8000)}, "....."},
		{"cancelled twice at once", listen, []one{listenOn(listenTCPIP, "localhost", 8000, true), listenOn(cancelTCPIP, "localhost", 8000, true), listenOn(cancelTCPIP, "localhost", 8000, true),
			{Out, success}, {Out, success}, {Out, failure}, came(9, "localhost", 8000)}, "......x"},
		{"cancel of nothing", listen, []one{listenOn(cancelTCPIP, "localhost", 8000, true)}, "x"},
		{"sockets", listen, []one{listenAt(listenSocket, "/tmp/a"), {Out, success}, cameAt(9, "/tmp/a"), cameAt(10, "/tmp/b"), listenAt(cancelSocket, "/tmp/a"), {Out, success}, cameAt(10, "/tmp/a")}, "...x..x"},
		{"the agent once it is asked for", agent, []one{useAgent(9), ask, useAgent(9), useAgent(10)}, "x..."},
		{"the agent as long as its session lasts", agent, []one{ask, {Out, closing(1)}, useAgent(9)}, "..x"},
		{"the agent as long as the client wants it", agent, []one{ask, {In, closing(2)}, useAgent(9)}, "..x"},
		{"never", Policy{To: rules(t, "*:*", "/*"), Listen: rules(t, "*:*", "/*"), Agent: true}, []one{{In, request(2, "x11-req", true)}, {In, open("tun@openssh.com", 9)}, {In, open("x11", 9)}, {Out, open("x11", 9)},
			{Out, open("session", 9)}, {In, open(forwardedTCPIP, 9, tcp("localhost", 1)...)}, {Out, open(directTCPIP, 9, tcp("a", 1)...)}, {Out, global(listenTCPIP, false, cat(str("a"), port(1))...)}}, "xxxxxxxx"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := passes(t, session(t, tt.policy, Limits{}), tt.packets); got != tt.want {
				t.Errorf("passed %s, want %s", got, tt.want)
			}
		})
	}
}

func TestNoTerminal(t *testing.T) {
	if got := passes(t, session(t, Policy{NoPTY: true}, Limits{}), []one{{In, request(2, "pty-req", true)}, {In, request(2, "shell", true)}}); got != "x." {
		t.Errorf("passed %s", got)
	}
}

// The agent is asked for on sessions only: a forwarded channel says nothing of its user.
func TestAgentIsAskedForOnSessions(t *testing.T) {
	r := session(t, Policy{Agent: true, To: rules(t, "db:5432")}, Limits{})
	if got := passes(t, r, []one{tcpOpen(9, "db", 5432), {Out, confirm(9, 10)}, {In, request(10, "auth-agent-req@openssh.com", false)}, {Out, open(agentChannel, 11)}}); got != "..xx" {
		t.Errorf("passed %s", got)
	}
}

func TestListenersAreBounded(t *testing.T) {
	r := session(t, Policy{Listen: rules(t, "localhost:*")}, Limits{Listeners: 2})
	listen := func(n uint32) one { return listenOn(listenTCPIP, "localhost", n, true) }
	if got := passes(t, r, []one{listen(1), listen(2), listen(3), {Out, failure}, listen(3), listen(4)}); got != "..x..x" {
		t.Errorf("passed %s", got)
	}
}

// notes lists what a relay tells of channels.
func notes(t *testing.T, r *Relay, packets []one) (kinds []Kind, channels []Channel) {
	t.Helper()
	for _, p := range packets {
		outputs, err := r.Step(p.d, p.packet, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range outputs {
			if o.Channel != nil {
				kinds, channels = append(kinds, o.Kind), append(channels, *o.Channel)
			}
		}
	}
	return kinds, channels
}

func TestWhatIsToldOfForwardings(t *testing.T) {
	policy := Policy{To: rules(t, "[2001:db8::1]:80", "/run/*"), Listen: rules(t, "localhost:8000"), Agent: true}
	refused := sshwire.ChannelOpenFailure{Recipient: 5, Reason: 2, Text: "Connection\nrefused\xff"}.Append(nil)
	kinds, channels := notes(t, session(t, policy, Limits{}), []one{
		tcpOpen(4, "2001:db8::1", 80), {Out, confirm(4, 20)}, {In, data(20, "GET")}, {Out, data(4, "hello")}, {Out, data(4, "bye")},
		{In, data(2, "typed in the shell")},
		socketOpen(5, "/run/x"), {Out, refused},
		{Out, closing(4)}, {In, closing(20)},
		listenOn(listenTCPIP, "localhost", 8000, false), came(30, "localhost", 8000), {In, confirm(30, 31)}, {Out, data(31, "1234567")},
	})
	if diff := cmp.Diff([]Kind{Opened, Opened, Closed, Closed, Opened}, kinds); diff != "" {
		t.Error(diff)
	}
	first := Channel{Serial: 0, Direction: In, Type: directTCPIP, To: "[2001:db8::1]:80", Origin: "192.0.2.1:4242"}
	second := Channel{Serial: 1, Direction: In, Type: directSocket, To: "/run/x"}
	third := Channel{Serial: 2, Direction: Out, Type: forwardedTCPIP, To: "localhost:8000", Origin: "192.0.2.1:4242"}
	failed, done := second, first
	failed.Failure = "connect failed: Connection\nrefused?"
	done.Bytes = [2]uint64{3, 8}
	if diff := cmp.Diff([]Channel{first, second, failed, done, third}, channels); diff != "" {
		t.Error(diff)
	}
}

func TestForwardsAtTheEnd(t *testing.T) {
	r := session(t, Policy{To: rules(t, "db:5432")}, Limits{})
	notes(t, r, []one{
		tcpOpen(4, "db", 5432), {Out, confirm(4, 20)}, {In, data(20, "123")}, {In, closing(20)}, {Out, closing(4)},
		tcpOpen(5, "db", 5432), {Out, confirm(5, 21)}, {Out, data(5, "12345")}, tcpOpen(6, "db", 5432), {In, data(2, "not forwarded")},
	})
	open, n, bytes := r.Forwards()
	if n != 3 || bytes != [2]uint64{3, 5} || len(open) != 2 || open[0].Serial != 1 || open[0].Bytes != [2]uint64{0, 5} || open[1].Serial != 2 {
		t.Errorf("%d channels, %v bytes, open %+v", n, bytes, open)
	}
}

func TestTextsAreFitForEvents(t *testing.T) {
	long := sshwire.ChannelOpen{Type: directTCPIP, Payload: cat(port(1024), bytes.Repeat([]byte("\xff"), 1024), port(22), str("x"), port(1))}
	if got := openPlace(long).String(); len(got) > maxDetail || !utf8.ValidString(got) || !strings.HasSuffix(got, ":22") {
		t.Errorf("destination %q", got)
	}
	if got := openPlace(sshwire.ChannelOpen{Type: directTCPIP, Payload: []byte{0, 0, 9}}); got.readable || got.String() != "" {
		t.Errorf("a cut payload gives %+v", got)
	}
}

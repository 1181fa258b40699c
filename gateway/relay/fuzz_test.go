package relay

import (
	"errors"
	"testing"
)

// FuzzStep feeds arbitrary packets: nothing panics, the state stays bounded and survives being written out.
func FuzzStep(f *testing.F) {
	f.Add([]byte{0, 5, 80, 0, 0, 0, 1, 'x', 1})
	var seed []byte
	for _, p := range []one{{In, open("session", 1)}, {Out, confirm(1, 2)}, {In, request(2, "x11-req", true)}, {In, global("tcpip-forward", true)}, {Out, data(1, "x")}, {Out, closing(1)}} {
		seed = append(append(seed, byte(p.d), byte(len(p.packet))), p.packet...)
	}
	f.Add(seed)
	policy := Policy{To: rules(f, "db:5432", "/run/*"), Listen: rules(f, "localhost:*"), Agent: true}
	seed = nil
	for _, p := range []one{{In, open("session", 1)}, {Out, confirm(1, 2)}, {In, request(2, "auth-agent-req@openssh.com", false)}, {Out, open(agentChannel, 3)}, {In, confirm(3, 4)}, {In, data(3, "key")},
		listenOn(listenTCPIP, "localhost", 80, true), listenOn(cancelTCPIP, "localhost", 80, true), {Out, success}, came(5, "localhost", 80), {Out, success}, tcpOpen(7, "db", 5432), socketOpen(8, "/run/x")} {
		seed = append(append(seed, byte(p.d), byte(len(p.packet))), p.packet...)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, script []byte) {
		r := New(policy, Limits{Channels: 4, Owed: 4, Listeners: 2})
		for len(script) >= 2 {
			d, n := Direction(script[0]&1), min(int(script[1]), len(script)-2)
			_, err := r.Step(d, script[2:2+n], nil)
			if err != nil {
				return
			}
			script = script[2+n:]
			if r.Channels() > 4 || len(r.dir[0].byID)+len(r.dir[1].byID) > 8 {
				t.Fatalf("%d channels", r.Channels())
			}
			if len(r.listeners) > 2 {
				t.Fatalf("%d listeners", len(r.listeners))
			}
			state, err := r.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			var next Relay
			if err := next.UnmarshalBinary(state); err != nil {
				t.Fatalf("state %x: %v", state, err)
			}
			r = &next
		}
	})
}

// FuzzState reads arbitrary bytes as a state: refused, or a state that is written back and steps without a panic.
func FuzzState(f *testing.F) {
	r := New(Policy{To: rules(f, "db:*"), Listen: rules(f, "localhost:*"), Agent: true}, Limits{})
	for _, p := range []one{{In, open("session", 1)}, {Out, confirm(1, 2)}, tcpOpen(3, "db", 1), listenOn(listenTCPIP, "localhost", 80, true), listenOn(cancelTCPIP, "localhost", 80, true),
		{In, global("keepalive@openssh.com", true)}, {In, global("tcpip-forward", true)}} {
		if _, err := r.Step(p.d, p.packet, nil); err != nil {
			f.Fatal(err)
		}
	}
	state, err := r.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(state)
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Relay
		if err := r.UnmarshalBinary(b); err != nil {
			if !errors.Is(err, ErrBadState) {
				t.Fatal(err)
			}
			return
		}
		first, err := r.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var again Relay
		if err := again.UnmarshalBinary(first); err != nil {
			t.Fatalf("%x became %x: %v", b, first, err)
		}
		_, _ = r.Step(Out, success, nil)
		_, _ = r.Step(In, closing(2), nil)
	})
}

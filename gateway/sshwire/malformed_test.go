package sshwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"
)

// frame is what stands on the wire before any protection: a length, and what follows it.
func frame(length uint32, rest ...byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, length), rest...)
}

// Bytes that are no packet, at every step and towards either role: the connection ends at once as a breach of the
// protocol, whatever length they claim.
func TestMalformedPacketsAtEveryStep(t *testing.T) {
	noise := bytes.Repeat([]byte{0x5a}, 64)
	frames := map[string][]byte{
		"length 2^32-1":           frame(1<<32-1, noise...),
		"length 2^31":             frame(1<<31, noise...),
		"length over the maximum": frame(DefaultMaxPacket+1024, noise...),
		"length 0":                frame(0, noise...),
		"length 1":                frame(1, noise...),
		"length off the block":    frame(17, noise...),
		"padding over the packet": frame(44, append([]byte{200}, noise...)...), // without protection
		"no payload":              frame(12, append([]byte{11}, noise...)...),  // without protection
		"noise":                   frame(48, append(noise, noise...)...),       // under protection: forged
	}
	for _, server := range []bool{true, false} {
		for _, step := range steps {
			t.Run(fmt.Sprintf("victim is server %v/%s", server, step), func(t *testing.T) {
				t.Parallel()
				for name, wire := range frames {
					breakAt(t, server, step, name, wire)
				}
			})
		}
	}
}

func breakAt(t *testing.T, victimIsServer bool, step, name string, wire []byte) {
	t.Helper()
	own, other := tcpPair(t)
	defer own.Close()
	got := make(chan error, 1)
	go func() { got <- victim(other, victimIsServer) }()
	h := newHostile(t, own, !victimIsServer)
	defer h.Close()
	if err := h.reach(step); err != nil {
		t.Fatalf("the hostile end didn't get to %q: %v", step, err)
	}
	go func() { _, _ = io.Copy(io.Discard, own) }()
	if _, err := own.Write(wire); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-got:
		var breach *ProtocolError
		if !errors.As(err, &breach) {
			t.Errorf("%s at %q: victim said %v", name, step, err)
		}
	case <-time.After(8 * time.Second):
		t.Errorf("%s at %q: the victim goes on", name, step)
	}
}

package relay

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// one is a packet and the direction it comes from.
type one struct {
	d      Direction
	packet []byte
}

func global(name string, reply bool, payload ...byte) []byte {
	return sshwire.GlobalRequest{Type: name, WantReply: reply, Payload: payload}.Append(nil)
}

func open(name string, sender uint32, payload ...byte) []byte {
	return sshwire.ChannelOpen{Type: name, Sender: sender, Window: 1 << 21, MaxPacket: 1 << 15, Payload: payload}.Append(nil)
}

func confirm(recipient, sender uint32) []byte {
	return sshwire.ChannelOpenConfirmation{Recipient: recipient, Sender: sender}.Append(nil)
}

func request(recipient uint32, name string, reply bool) []byte {
	return sshwire.ChannelRequest{Recipient: recipient, Type: name, WantReply: reply}.Append(nil)
}

func data(recipient uint32, text string) []byte {
	return sshwire.ChannelData{Recipient: recipient, Data: []byte(text)}.Append(nil)
}

func closing(recipient uint32) []byte { return sshwire.ChannelClose{Recipient: recipient}.Append(nil) }

var (
	success        = []byte{sshwire.MsgRequestSuccess}
	failure        = []byte{sshwire.MsgRequestFailure}
	channelFailure = sshwire.ChannelFailure{Recipient: 1}.Append(nil)
)

// session is a relay with one session channel: 1 at the client, 2 at the target.
func session(t testing.TB, policy Policy, limits Limits) *Relay {
	t.Helper()
	r := New(policy, limits)
	for _, p := range []one{{In, open("session", 1)}, {Out, confirm(1, 2)}} {
		if _, err := r.Step(p.d, p.packet, nil); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// tell writes outputs as short lines.
func tell(outputs []Output) (lines []string) {
	for _, o := range outputs {
		switch o.Kind {
		case Forward:
			lines = append(lines, fmt.Sprintf("%s forward", o.Direction))
		case Drop:
			lines = append(lines, fmt.Sprintf("%s drop %d: %s", o.Direction, o.Number, o.What))
		case Make:
			lines = append(lines, fmt.Sprintf("%s make %x for %d", o.Direction, o.Packet, o.Refuses))
		case Altered:
			lines = append(lines, fmt.Sprintf("%s altered %d", o.Direction, o.Number))
		case Refused:
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s refused %d: %s %s", o.Direction, o.Number, o.What, o.Detail)))
		}
	}
	return lines
}

func str(s string) []byte { return append([]byte{0, 0, 0, byte(len(s))}, s...) }

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestWhatPolicyRefuses(t *testing.T) {
	prohibited := fmt.Sprintf("%x", sshwire.ChannelOpenFailure{Recipient: 9, Reason: 1, Text: textNotAllowed}.Append(nil))
	tests := []struct {
		name    string
		packets []one
		want    []string
	}{
		{"refusal between keepalives waits its turn", []one{
			{In, global("keepalive@openssh.com", true)}, {In, global("tcpip-forward", true, cat(str("::"), []byte{0, 0, 0x1f, 0x90})...)},
			{In, global("keepalive@openssh.com", true)}, {Out, failure}, {Out, failure},
		}, []string{"in forward", "in drop 2: refused: request tcpip-forward", "in refused 2: request tcpip-forward [::]:8080", "in forward",
			"out forward", "out make 52 for 2", "out forward"}},
		{"refusal with nothing owed is made at once", []one{{In, global("streamlocal-forward@openssh.com", true, str("/tmp/s")...)}},
			[]string{"in drop 1: refused: request streamlocal-forward@openssh.com", "in refused 1: request streamlocal-forward@openssh.com /tmp/s", "out make 52 for 1"}},
		{"refusal that wants no reply gets none", []one{{In, global("cancel-tcpip-forward", false)}},
			[]string{"in drop 1: refused: request cancel-tcpip-forward", "in refused 1: request cancel-tcpip-forward"}},
		{"host keys are not passed on", []one{{Out, global("hostkeys-00@openssh.com", false, 1, 2, 3)}},
			[]string{"out drop 1: host keys of the target are not for the client"}},
		{"host keys are not proven", []one{{In, global("hostkeys-prove-00@openssh.com", true)}},
			[]string{"in drop 1: refused: request hostkeys-prove-00@openssh.com", "in refused 1: request hostkeys-prove-00@openssh.com", "out make 52 for 1"}},
		{"an unknown request of the target", []one{{Out, global("odd@example.com", true)}},
			[]string{"out drop 1: refused: request odd@example.com", "out refused 1: request odd@example.com", "in make 52 for 1"}},
		{"a forward of the client", []one{{In, open("direct-tcpip", 9, cat(str("10.0.0.1"), []byte{0, 0, 0, 22}, str("::1"), []byte{0, 0, 0, 1})...)}},
			[]string{"in drop 1: refused: channel direct-tcpip", "in refused 1: channel direct-tcpip 10.0.0.1:22", "out make " + prohibited + " for 1"}},
		{"a channel of the target", []one{{Out, open("x11", 9)}},
			[]string{"out drop 1: refused: channel x11", "out refused 1: channel x11", "in make " + prohibited + " for 1"}},
		{"agent forwarding behind a request", []one{{In, request(2, "pty-req", true)}, {In, request(2, "auth-agent-req@openssh.com", true)}, {Out, channelFailure}},
			[]string{"in forward", "in drop 2: refused: request auth-agent-req@openssh.com", "in refused 2: request auth-agent-req@openssh.com", "out forward", "out make 6400000001 for 2"}},
		{"a refused request after the target's close gets no reply", []one{{Out, closing(1)}, {In, request(2, "x11-req", true)}, {In, closing(2)}},
			[]string{"out forward", "in drop 1: refused: request x11-req", "in refused 1: request x11-req", "in forward"}},
		{"unknown messages of the layer pass", []one{{In, []byte{127, 1}}, {Out, []byte{83}}}, []string{"in forward", "out forward"}},
		{"late window adjust", []one{{In, closing(2)}, {In, sshwire.ChannelWindowAdjust{Recipient: 2, Bytes: 1}.Append(nil)}, {Out, data(1, "in flight")}},
			[]string{"in forward", "in drop 2: window of a channel that is not open", "out forward"}},
		{"late reply", []one{{In, request(2, "exec", true)}, {Out, closing(1)}, {Out, channelFailure}},
			[]string{"in forward", "out forward", "out drop 2: reply on a channel that is not open"}},
		{"late request", []one{{Out, closing(1)}, {Out, request(1, "exit-status", false)}}, []string{"out forward", "out drop 2: request on a channel that is not open"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := session(t, Policy{}, Limits{})
			var outputs []Output
			for _, p := range tt.packets {
				var err error
				if outputs, err = r.Step(p.d, p.packet, outputs); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(tt.want, tell(outputs)); diff != "" {
				t.Errorf("outputs differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatBreaksASession(t *testing.T) {
	tests := map[string][]one{
		"empty packet":                     {{In, nil}},
		"transport message":                {{In, []byte{sshwire.MsgKexInit}}},
		"message 128":                      {{Out, []byte{128}}},
		"cut short":                        {{In, data(2, "abc")[:10]}},
		"malformed request name":           {{In, global("with space", true)}},
		"global reply nobody owes":         {{Out, success}},
		"global reply of the asker":        {{In, global("keepalive@openssh.com", true)}, {In, success}},
		"reply to what the gateway owes":   {{In, global("tcpip-forward", true)}, {Out, failure}},
		"channel reply nobody owes":        {{Out, channelFailure}},
		"channel reply twice":              {{In, request(2, "exec", true)}, {Out, channelFailure}, {Out, channelFailure}},
		"data on an unknown channel":       {{In, data(7, "x")}},
		"data under the other side's id":   {{In, data(1, "x")}},
		"data before confirmation":         {{In, open("session", 5)}, {Out, data(5, "x")}},
		"data after close":                 {{In, closing(2)}, {In, data(2, "x")}},
		"data after both closed":           {{In, closing(2)}, {Out, closing(1)}, {Out, data(1, "x")}},
		"close twice":                      {{In, closing(2)}, {In, closing(2)}},
		"end of data on unknown channel":   {{Out, sshwire.ChannelEOF{Recipient: 8}.Append(nil)}},
		"request wanting reply on unknown": {{Out, request(8, "exec", true)}},
		"channel number opened twice":      {{In, open("session", 1)}},
		"refused number opened twice":      {{In, open("x11", 1)}},
		"channel number given twice":       {{In, open("session", 5)}, {Out, confirm(5, 2)}},
		"confirmed by its opener":          {{In, open("session", 5)}, {In, confirm(5, 6)}},
		"confirmed twice":                  {{Out, confirm(1, 3)}},
		"failed after confirmation":        {{Out, sshwire.ChannelOpenFailure{Recipient: 1}.Append(nil)}},
		"confirmation nobody asked for":    {{Out, confirm(4, 4)}},
		"confirmation of a refused open":   {{In, open("direct-tcpip", 5)}, {Out, confirm(5, 6)}},
	}
	for name, packets := range tests {
		t.Run(name, func(t *testing.T) {
			r := session(t, Policy{}, Limits{})
			for i, p := range packets {
				outputs, err := r.Step(p.d, p.packet, nil)
				if i < len(packets)-1 {
					if err != nil {
						t.Fatalf("packet %d: %v", i, err)
					}
					continue
				}
				if !errors.Is(err, ErrProtocol) {
					t.Fatalf("last packet: %v, want a protocol error", err)
				}
				if last := outputs[len(outputs)-1]; last.Kind != Drop || last.Number != r.Counts(p.d).Received-1 {
					t.Errorf("outputs %v don't end with the drop of the packet", tell(outputs))
				}
			}
			if _, err := r.Step(In, data(2, "more"), nil); !errors.Is(err, ErrProtocol) {
				t.Errorf("step after the error: %v", err)
			}
			if _, err := r.MarshalBinary(); !errors.Is(err, ErrProtocol) {
				t.Errorf("state after the error: %v", err)
			}
		})
	}
}

func TestChannelsAreBoundedAndFreed(t *testing.T) {
	r := New(Policy{}, Limits{Channels: 2})
	for round := range uint32(3) {
		for i := range uint32(2) {
			mustForward(t, r, In, open("session", i))
			mustForward(t, r, Out, confirm(i, 10+i))
		}
		outputs, err := r.Step(In, open("session", 7), nil)
		if err != nil || len(outputs) != 3 || outputs[2].Packet[8] != byte(sshwire.OpenResourceShortage) {
			t.Fatalf("round %d: third channel: %v, %v", round, tell(outputs), err)
		}
		for i := range uint32(2) {
			mustForward(t, r, Out, closing(i))
			mustForward(t, r, In, closing(10+i))
		}
		mustForward(t, r, In, open("session", 3))
		mustForward(t, r, Out, sshwire.ChannelOpenFailure{Recipient: 3, Reason: 2}.Append(nil))
		if r.Channels() != 0 || len(r.dir[In].byID)+len(r.dir[Out].byID) != 0 {
			t.Fatalf("round %d: %d channels left", round, r.Channels())
		}
	}
}

func mustForward(t *testing.T, r *Relay, d Direction, packet []byte) {
	t.Helper()
	outputs, err := r.Step(d, packet, nil)
	if err != nil || len(outputs) != 1 || outputs[0].Kind != Forward {
		t.Fatalf("%s packet %x: %v, %v", d, packet, tell(outputs), err)
	}
}

func TestOwedRepliesAreBounded(t *testing.T) {
	for name, packet := range map[string][]byte{"global": global("keepalive@openssh.com", true), "channel": request(2, "exec", true)} {
		r := session(t, Policy{}, Limits{Owed: 3})
		for range 3 {
			mustForward(t, r, In, packet)
		}
		if _, err := r.Step(In, packet, nil); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: fourth request: %v", name, err)
		}
	}
}

func TestCounts(t *testing.T) {
	r := session(t, Policy{}, Limits{})
	for _, p := range []one{{In, data(2, "hello")}, {Out, sshwire.ChannelExtendedData{Recipient: 1, Type: 1, Data: []byte("err")}.Append(nil)}, {In, open("x11", 4)}} {
		if _, err := r.Step(p.d, p.packet, nil); err != nil {
			t.Fatal(err)
		}
	}
	if in, want := r.Counts(In), (Counts{Received: 3, Sent: 2, Bytes: 5}); in != want {
		t.Errorf("in: %+v, want %+v", in, want)
	}
	if out, want := r.Counts(Out), (Counts{Received: 2, Sent: 3, Bytes: 3}); out != want {
		t.Errorf("out: %+v, want %+v", out, want)
	}
}

func BenchmarkStep32KiB(b *testing.B) {
	r := session(b, Policy{}, Limits{})
	packet := data(1, strings.Repeat("x", 32<<10))
	outputs := make([]Output, 0, 4)
	b.SetBytes(32 << 10)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if outputs, err = r.Step(Out, packet, outputs[:0]); err != nil {
			b.Fatal(err)
		}
	}
}

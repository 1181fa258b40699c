package relay

import (
	"errors"
	"fmt"
	"testing"

	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// Every message of the connection layer, cut short at every byte, or with bytes after its end where nothing may follow:
// the session breaks, and the packet is dropped.
func TestMalformedMessagesBreakASession(t *testing.T) {
	type message struct {
		packet []byte
		open   bool // its end is left to its type
	}
	for name, m := range map[string]message{
		"global request":    {sshwire.GlobalRequest{Type: "x@y", WantReply: true}.Append(nil), true},
		"open":              {sshwire.ChannelOpen{Type: "session", Sender: 9, Window: 1, MaxPacket: 1}.Append(nil), true},
		"confirmation":      {sshwire.ChannelOpenConfirmation{Recipient: 9, Sender: 9}.Append(nil), true},
		"open failure":      {sshwire.ChannelOpenFailure{Recipient: 9, Text: "x"}.Append(nil), false},
		"window adjustment": {sshwire.ChannelWindowAdjust{Recipient: 2, Bytes: 1}.Append(nil), false},
		"data":              {data(2, "x"), false},
		"extended data":     {sshwire.ChannelExtendedData{Recipient: 2, Type: 1, Data: []byte("x")}.Append(nil), false},
		"end of data":       {sshwire.ChannelEOF{Recipient: 2}.Append(nil), false},
		"close":             {sshwire.ChannelClose{Recipient: 2}.Append(nil), false},
		"request":           {sshwire.ChannelRequest{Recipient: 2, Type: "x@y", WantReply: true}.Append(nil), true},
		"success":           {sshwire.ChannelSuccess{Recipient: 2}.Append(nil), false},
		"failure":           {sshwire.ChannelFailure{Recipient: 2}.Append(nil), false},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; n < len(m.packet); n++ {
				breaks(t, fmt.Sprintf("cut to %d of %d bytes", n, len(m.packet)), m.packet[:n])
			}
			if !m.open {
				breaks(t, "a byte too long", append(m.packet[:len(m.packet):len(m.packet)], 0))
			}
		})
	}
}

func breaks(t *testing.T, what string, packet []byte) {
	t.Helper()
	outputs, err := session(t, Policy{}, Limits{}).Step(In, packet, nil)
	if !errors.Is(err, ErrProtocol) || len(outputs) != 1 || outputs[0].Kind != Drop {
		t.Errorf("%s: %v, %v", what, tell(outputs), err)
	}
}

// Windows are end to end: adjustments that go over 2^32, data over every window, channels that take no data. They pass
// as they came, for the other side to judge, and change nothing here.
func TestWindowsAreTheOthersToJudge(t *testing.T) {
	for _, d := range []Direction{In, Out} {
		id := map[Direction]uint32{In: 2, Out: 1}[d]
		r := session(t, Policy{}, Limits{})
		for range 3 {
			mustForward(t, r, d, sshwire.ChannelWindowAdjust{Recipient: id, Bytes: 1<<32 - 1}.Append(nil))
		}
		big := make([]byte, 256<<10)
		before := r.Channels()
		for range 64 {
			mustForward(t, r, d, sshwire.ChannelData{Recipient: id, Data: big}.Append(nil))
			mustForward(t, r, d, sshwire.ChannelExtendedData{Recipient: id, Type: 7, Data: big}.Append(nil))
		}
		if got := r.Counts(d).Bytes; got != 64*2*256<<10 || r.Channels() != before {
			t.Errorf("%d bytes, %d channels", got, r.Channels())
		}
	}
	r := session(t, Policy{}, Limits{})
	mustForward(t, r, In, sshwire.ChannelOpen{Type: "session", Sender: 5}.Append(nil))
	mustForward(t, r, Out, sshwire.ChannelOpenConfirmation{Recipient: 5, Sender: 6}.Append(nil))
}

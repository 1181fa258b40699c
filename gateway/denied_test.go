package gateway

import (
	"context"
	"slices"
	"testing"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/relay"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
	"github.com/holdfast-pam/holdfast/replay"
)

// What a denied transfer makes of packets is in the log with them, so that it tells both what the sides sent and what
// they got.
func TestDeniedTransfersAreRecorded(t *testing.T) {
	r := newRig(t, 1<<20, func(s *session) {
		s.relay = relay.New(policyOf(events.Terms{Deny: []events.Transfer{events.Upload}}), relay.Limits{})
	})
	r.open()
	ask := sshwire.ChannelRequest{Recipient: 2, Type: "subsystem", WantReply: true, Payload: sshwire.SubsystemRequest{Name: "sftp"}.Append(nil)}
	yes := sshwire.ChannelSuccess{Recipient: 1}
	send(t, r.client, ask, toTarget("\x00\x00\x00\x05\x01\x00\x00\x00\x03"))
	want(t, r.target, ask, toTarget("\x00\x00\x00\x05\x01\x00\x00\x00\x03"))
	send(t, r.target, yes, toClient("\x00\x00\x00\x05\x02\x00\x00\x00\x03"))
	want(t, r.client, yes, toClient("\x00\x00\x00\x05\x02\x00\x00\x00\x03"))
	send(t, r.client, toTarget("\x00\x00\x00\x0b\x0d\x00\x00\x00\x07\x00\x00\x00\x02/x"))
	want(t, r.target, toTarget("\x00\x00\x00\x0b\xc8\x00\x00\x00\x07\x00\x00\x00\x02--"))
	send(t, r.target, toClient("\x00\x00\x00\x13\x65\x00\x00\x00\x07\x00\x00\x00\x08\x00\x00\x00\x02no\x00\x00\x00\x00"))
	want(t, r.client, toClient("\x00\x00\x00\x13\x65\x00\x00\x00\x07\x00\x00\x00\x03\x00\x00\x00\x02Pe\x00\x00\x00\x00"))
	eof := sshwire.ChannelEOF{Recipient: 2}
	send(t, r.client, toTarget("nonsense and more"), toTarget("and on"))
	want(t, r.target, eof)
	bye := sshwire.ChannelClose{Recipient: 1}
	send(t, r.target, bye)
	want(t, r.client, bye)
	r.client.Close()
	if e := r.wait(); !e.Complete {
		t.Errorf("ended %+v", e)
	}
	for _, what := range []string{"sftp remove", "sftp packet type 101"} {
		if e := <-r.refused; e.What != what {
			t.Errorf("refused %+v, want %s", e, what)
		}
	}
	sent := r.log.sent(t, r.session, events.In)
	if last := sent[len(sent)-1]; !slices.Equal(last, eof.Append(nil)) || !slices.Equal(sent[3], toTarget("\x00\x00\x00\x0b\xc8\x00\x00\x00\x07\x00\x00\x00\x02--").Append(nil)) {
		t.Errorf("the log says that the target got %q", sent)
	}
	var order []string
	for item, err := range replay.Items(func(yield func(replay.Record, error) bool) {
		for entry, err := range r.log.log.Read(context.Background(), 1) {
			must(t, err)
			e, err := events.DecodeEntry(entry)
			must(t, err)
			record, err := OpenRecord(e, r.session.key)
			if !yield(record, err) {
				return
			}
		}
	}) {
		must(t, err)
		text := string(item.Direction)
		for what, is := range map[string]bool{"made": item.Made, "dropped": item.Dropped, "altered": item.Altered != nil} {
			if is {
				text += " " + what
			}
		}
		if text != "in" && text != "out" {
			order = append(order, text)
		}
	}
	if !slices.Equal(order, []string{"in altered", "out altered", "in dropped", "in made", "in dropped"}) {
		t.Errorf("replayed %q", order)
	}
}

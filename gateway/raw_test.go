package gateway

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// dial logs ada in, packet by packet.
func (s *site) dial(login string) *sshwire.Conn {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	must(s.t, err)
	c, err := sshwire.Client(context.Background(), nc, &sshwire.ClientConfig{
		User: login, Auth: []sshwire.ClientAuth{sshwire.PublicKeys(s.users["ada"].signer)},
		HostKey: func(net.Addr, ssh.PublicKey) error { return nil },
	})
	must(s.t, err)
	s.t.Cleanup(func() { c.Close() })
	return c
}

// Requests that the gateway refuses, pipelined between those that a real sshd answers: each reply in its place.
func TestPipelinedRefusalsAgainstOpenSSH(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	c := s.dial(d.User + "+web1")
	write := func(messages ...message) {
		for _, m := range messages {
			must(t, c.WritePacket(m.Append(nil)))
		}
		must(t, c.Flush())
	}
	keepalive := sshwire.GlobalRequest{Type: "keepalive@openssh.com", WantReply: true}
	forward := sshwire.GlobalRequest{Type: "tcpip-forward", WantReply: true, Payload: []byte("\x00\x00\x00\x00\x00\x00\x00\x00")}
	write(keepalive, forward, forward, keepalive, forward,
		sshwire.ChannelOpen{Type: "session", Sender: 5, Window: 1 << 20, MaxPacket: 1 << 15},
		sshwire.ChannelOpen{Type: "direct-tcpip", Sender: 6, Window: 1 << 20, MaxPacket: 1 << 15},
		keepalive)
	var replies, failures int
	var channel *sshwire.ChannelOpenConfirmation
	for replies < 6 || channel == nil || failures < 1 {
		p, err := c.ReadPacket()
		must(t, err)
		switch p[0] {
		case sshwire.MsgRequestSuccess, sshwire.MsgRequestFailure:
			replies++
		case sshwire.MsgChannelOpenFailure:
			m, _ := sshwire.ParseChannelOpenFailure(p)
			if m.Recipient != 6 || m.Reason != sshwire.OpenAdministrativelyProhibited {
				t.Errorf("%+v", m)
			}
			failures++
		case sshwire.MsgChannelOpenConfirmation:
			m, _ := sshwire.ParseChannelOpenConfirmation(p)
			channel = &m
		}
	}
	request := func(kind string, payload message) message {
		r := sshwire.ChannelRequest{Recipient: channel.Sender, Type: kind, WantReply: true}
		if payload != nil {
			r.Payload = payload.Append(nil)
		}
		return r
	}
	write(
		request("x11-req", nil), request("pty-req", sshwire.PtyRequest{Term: "xterm", Columns: 80, Rows: 24, Modes: []byte{0}}),
		request("auth-agent-req@openssh.com", nil), request("x11-req", nil),
		request("exec", sshwire.ExecRequest{Command: "exit 6"}), request("x11-req", nil),
	)
	var got []byte
	var status []byte
	for status == nil || len(got) < 6 {
		p, err := c.ReadPacket()
		must(t, err)
		switch p[0] {
		case sshwire.MsgChannelSuccess, sshwire.MsgChannelFailure:
			got = append(got, p[0])
		case sshwire.MsgChannelRequest:
			if m, _ := sshwire.ParseChannelRequest(p); m.Type == "exit-status" {
				status = bytes.Clone(m.Payload)
			}
		}
	}
	want := []byte{100, 99, 100, 100, 99, 100}
	if !bytes.Equal(got, want) || status[3] != 6 {
		t.Errorf("replies %v, want %v; exit status %v", got, want, status)
	}
	must(t, c.Disconnect(sshwire.ReasonByApplication, "done"))
	if e := s.ended(1); e.Reason != events.EndedByClient || !e.Complete {
		t.Errorf("ended %+v", e)
	}
}

// A side that breaks the protocol after login ends its session and nothing else.
func TestHostileClient(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	other := s.started(d)
	for _, packets := range map[string][][]byte{
		"data on a channel that is not open": {sshwire.ChannelData{Recipient: 77, Data: []byte("x")}.Append(nil)},
		"reply that nobody waits for":        {{sshwire.MsgRequestFailure}},
		"malformed open":                     {{sshwire.MsgChannelOpen, 0, 0, 0, 200, 1}},
	} {
		c := s.dial(d.User + "+web1")
		for _, p := range packets {
			must(t, c.WritePacket(p))
		}
		must(t, c.Flush())
		var err error
		for err == nil {
			_, err = c.ReadPacket()
		}
		s.want(err.Error(), "broke the SSH protocol")
	}
	for n := range 3 {
		if e := s.ended(n + 1); e.Reason != events.EndedByProtocol {
			t.Errorf("ended %+v", e)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if live := s.server.Live(); len(live) != 1 {
		t.Errorf("%d sessions are live", len(live))
	}
	must(t, s.server.Shutdown(ctx))
	other()
}

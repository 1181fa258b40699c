package gateway

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/gateway/relay"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

var toAnywhere = events.Terms{Allow: []events.Way{events.Local, events.Remote, events.Agent}, To: []string{"*:*"}, Listen: []string{"localhost:*"}}

// forwarding makes a rig whose session may forward; what it tells of that goes to noted.
func forwarding(t *testing.T) (r *rig, noted chan []events.Event) {
	t.Helper()
	noted = make(chan []events.Event, 10000)
	r = newRig(t, 1<<20, func(s *session) {
		s.relay = relay.New(policyOf(toAnywhere), relay.Limits{})
		s.note = func(_ context.Context, changes []events.Event) error { noted <- changes; return nil }
	})
	r.open()
	return r, noted
}

func tcpOpen(sender uint32) sshwire.ChannelOpen {
	to := sshwire.DirectTCPIP{Host: "db", Port: 5432, Origin: "192.0.2.1", OriginPort: 4242}
	return sshwire.ChannelOpen{Type: "direct-tcpip", Sender: sender, Window: 1 << 20, MaxPacket: 1 << 15, Payload: to.Append(nil)}
}

func TestForwardingIsAnEventBeforeItsEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, noted := forwarding(t)
		time.Sleep(time.Second)
		first := time.Since(r.session.started)
		send(t, r.client, tcpOpen(9))
		synctest.Wait()
		opened := events.SessionChannelOpened{Direction: events.In, Type: "direct-tcpip", To: "db:5432", Origin: "192.0.2.1:4242", Number: 1, At: uint64(first.Microseconds())}
		if diff := cmp.Diff([]events.Event{opened}, <-noted); diff != "" {
			t.Error(diff)
		}
		want(t, r.target, tcpOpen(9))
		yes := sshwire.ChannelOpenConfirmation{Recipient: 9, Sender: 10, Window: 1 << 20, MaxPacket: 1 << 15}
		send(t, r.target, yes)
		want(t, r.client, yes)
		send(t, r.client, sshwire.ChannelData{Recipient: 10, Data: []byte("select 1")})
		send(t, r.target, sshwire.ChannelData{Recipient: 9, Data: []byte("1\n")})
		time.Sleep(time.Minute)
		send(t, r.target, sshwire.ChannelClose{Recipient: 9})
		synctest.Wait()
		send(t, r.client, sshwire.ChannelClose{Recipient: 10}, tcpOpen(11))
		synctest.Wait()
		closed := events.SessionChannelClosed{Type: "direct-tcpip", To: "db:5432", In: 8, Out: 2, Duration: uint64(time.Minute.Microseconds())}
		var second events.Event
		got := slices.Concat(<-noted, drained(noted))
		if len(got) == 2 {
			second = got[1]
		}
		if o, ok := second.(events.SessionChannelOpened); !ok || o.Channel != 1 {
			t.Errorf("second channel: %+v", second)
		}
		if diff := cmp.Diff(closed, got[0]); diff != "" {
			t.Error(diff)
		}
		r.client.Close()
		if e := r.wait(); e.Forwards != (events.ForwardTotals{Channels: 2, In: 8, Out: 2}) {
			t.Errorf("ended %+v", e)
		}
		left := r.session.leftOpen()
		if len(left) != 1 || left[0].(events.SessionChannelClosed).Channel != 1 {
			t.Errorf("left open: %+v", left)
		}
	})
}

func drained(noted chan []events.Event) (all []events.Event) {
	for {
		select {
		case changes := <-noted:
			all = append(all, changes...)
		default:
			return all
		}
	}
}

func TestForwardingThatCannotBeRecordedEndsTheSession(t *testing.T) {
	r, _ := forwarding(t)
	r.session.order.Lock()
	r.session.note = func(context.Context, []events.Event) error { return store.ErrFull }
	r.session.order.Unlock()
	send(t, r.client, tcpOpen(9))
	if packets, _ := wantEnd(r.target); len(packets) > 0 {
		t.Errorf("the target got %q", packets)
	}
	if e := r.wait(); e.Reason != events.EndedByStorage {
		t.Errorf("ended %+v", e)
	}
}

// Many short connections make no flood of events, and what makes none is in the sum.
func TestEventsOfForwardingsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, noted := forwarding(t)
		connect := func(n int) (opened, closed int) {
			for range n {
				send(t, r.client, tcpOpen(9))
				want(t, r.target, tcpOpen(9))
				no := sshwire.ChannelOpenFailure{Recipient: 9, Reason: sshwire.OpenConnectFailed, Text: "refused"}
				send(t, r.target, no)
				want(t, r.client, no)
			}
			synctest.Wait()
			for _, e := range drained(noted) {
				switch e := e.(type) {
				case events.SessionChannelOpened:
					opened++
				case events.SessionChannelClosed:
					closed++
					if e.Failure != "connect failed: refused" {
						t.Errorf("closed %+v", e)
					}
				}
			}
			return opened, closed
		}
		if o, c := connect(300); o != channelEvents || c != channelEvents {
			t.Errorf("300 connections made %d and %d events", o, c)
		}
		time.Sleep(5 * channelEvery)
		if o, c := connect(20); o != 5 || c != 5 {
			t.Errorf("20 more made %d and %d events", o, c)
		}
		r.client.Close()
		if e := r.wait(); e.Forwards.Channels != 320 {
			t.Errorf("ended %+v", e)
		}
		if len(r.session.ledger.told) != 0 {
			t.Error("closed channels are kept")
		}
	})
}

func TestPolicyOfTerms(t *testing.T) {
	if p := policyOf(events.Terms{To: []string{"*:*"}, Listen: []string{"*:*"}}); p.To != nil || p.Listen != nil || p.Agent {
		t.Errorf("rules without a way give %+v", p)
	}
	p := policyOf(events.Terms{Allow: []events.Way{events.Local, "later"}, To: []string{"a:1", "srv://later"}})
	if len(p.To) != 1 || p.Listen != nil || p.Agent {
		t.Errorf("terms of a later version give %+v", p)
	}
	if p := allPermits.limit(policyOf(toAnywhere)); len(p.To) != 1 || len(p.Listen) != 1 || !p.Agent || p.NoPTY {
		t.Errorf("all terms give %+v", p)
	}
	if p := (permits{}).limit(policyOf(toAnywhere)); p.To != nil || p.Listen != nil || p.Agent || !p.NoPTY {
		t.Errorf("a certificate that permits nothing leaves %+v", p)
	}
}

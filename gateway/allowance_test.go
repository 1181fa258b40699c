package gateway

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// allowed makes a rig in fake time whose session has limits.
func allowed(t *testing.T, terms events.Terms) *rig {
	t.Helper()
	r := newRig(t, 1<<20, func(s *session) { s.allowance.most, s.allowance.idle = allowanceOf(terms) })
	r.open()
	return r
}

// told checks that the client hears why its session ended and gets nothing else.
func (r *rig) told(text string) {
	r.t.Helper()
	packets, err := wantEnd(r.client)
	var bye *sshwire.DisconnectError
	if len(packets) > 0 || !errors.As(err, &bye) || !strings.Contains(bye.Text, text) {
		r.t.Errorf("the client got %q and %v, want %q", packets, err, text)
	}
}

func TestOnlyInputIsInput(t *testing.T) {
	keepalive := sshwire.GlobalRequest{Type: "keepalive@openssh.com", WantReply: true}
	for name, tt := range map[string]struct {
		from     string
		messages []message
		idle     bool
	}{
		"typed":              {"client", []message{toTarget("x")}, false},
		"keepalives":         {"client", []message{keepalive}, true},
		"window":             {"client", []message{sshwire.ChannelWindowAdjust{Recipient: 2, Bytes: 9}}, true},
		"window size":        {"client", []message{sshwire.ChannelRequest{Recipient: 2, Type: "window-change"}}, true},
		"nothing, as data":   {"client", []message{toTarget("")}, true},
		"output":             {"target", []message{toClient("x")}, true},
		"target's keepalive": {"target", []message{keepalive}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := allowed(t, events.Terms{Idle: 600})
				began := time.Now()
				from, to := r.client, r.target
				if tt.from == "target" {
					from, to = r.target, r.client
				}
				for range 9 {
					time.Sleep(time.Minute)
					send(t, from, tt.messages...)
					want(t, to, tt.messages...)
				}
				if tt.idle {
					e := <-r.ended
					if took := time.Since(began); took != 10*time.Minute || e.Reason != events.EndedByPolicy || e.Detail != "no input for 10m" || !e.Complete {
						t.Errorf("after %s: %+v", took, e)
					}
					r.told("you typed nothing for 10m")
					return
				}
				time.Sleep(9*time.Minute + 59*time.Second)
				send(t, r.client, toTarget("still here"))
				want(t, r.target, toTarget("still here"))
				r.client.Close()
				r.wait()
			})
		})
	}
}

func TestMaximumTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := allowed(t, events.Terms{MaxTime: 3600, Idle: 3000})
		began := time.Now()
		for range 5 {
			time.Sleep(11 * time.Minute)
			send(t, r.client, toTarget("busy"))
			want(t, r.target, toTarget("busy"))
		}
		e := <-r.ended
		if took := time.Since(began); took != time.Hour || e.Reason != events.EndedByPolicy || e.Detail != "maximum time of the grant: 1h" {
			t.Errorf("after %s: %+v", took, e)
		}
		r.told("your grant lets a session last 1h")
	})
}

// Without limits a session ends for no silence, nor for a keepalive that nobody answers.
func TestSilenceEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := allowed(t, events.Terms{})
		keepalive := sshwire.GlobalRequest{Type: "keepalive@openssh.com", WantReply: true}
		for range 3 {
			send(t, r.client, keepalive)
			want(t, r.target, keepalive)
			time.Sleep(240 * time.Hour)
		}
		send(t, r.client, toTarget("awake"))
		want(t, r.target, toTarget("awake"))
		r.client.Close()
		if e := r.wait(); e.Reason != events.EndedByClient {
			t.Errorf("ended %+v", e)
		}
	})
}

// A client that doesn't take what it is sent keeps no limit from ending its session.
func TestLimitOfAStuckSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1<<10, func(s *session) { s.allowance.idle = time.Minute })
		r.open()
		go func() {
			for range 100 {
				_ = r.target.WritePacket(toClient("%s", strings.Repeat("x", 1000)).Append(nil))
				if r.target.Flush() != nil {
					return
				}
			}
		}()
		began := time.Now()
		e := <-r.ended
		if took := time.Since(began); took > time.Minute+endTime || e.Reason != events.EndedByPolicy {
			t.Errorf("after %s: %+v", took, e)
		}
	})
}

func TestInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{15 * time.Minute: "15m", 8 * time.Hour: "8h", 10 * time.Second: "10s", 90 * time.Minute: "1h30m", 24*time.Hour + time.Second: "24h0m1s", 20 * time.Hour: "20h", 10 * time.Minute: "10m"} {
		if got := inWords(d); got != want {
			t.Errorf("%s reads %q, want %q", d, got, want)
		}
	}
}

package rotation_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/rotation"
	"github.com/holdfast-pam/holdfast/events"
)

var planApp = commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked}

// asks has an administrator give a command. It tells the rotation that was begun, or
// that is in the way.
func (x *node) asks(c commands.Command) (begun, inTheWay events.RotationID, err error) {
	records, err := x.d.Do(context.Background(), events.UserActor(x.user), c)
	var refusal *commands.Refusal
	if errors.As(err, &refusal) {
		return begun, refusal.Rotation, err
	}
	return events.RotationID{UUID: records[0].Header.Stream}, inTheWay, err
}

func (x *node) status() (st rotation.Status) {
	x.d.View(func(s *aggregate.State) { st = x.m.StatusOf(s, x.account("app")) })
	return st
}

// Whether a site is at work is told by the links to it, not by its clock, nor by when
// it last wrote: a rotation may wait long for its turn at the target.
func TestASiteThatIsHeardIsWaitedFor(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"clock behind": -10 * time.Minute, "clock right": 0, "clock ahead": 10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			p := twoSites(t)
			a, b := p.nodes[0], p.nodes[1]
			b.clock = func() time.Time { return p.at.Add(ahead) }
			begun, _, err := b.asks(planApp)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				p.hearAll()
				if _, id, _ := a.asks(planApp); id != begun {
					t.Fatalf("in the way is %s, want %s", id, begun)
				}
				if st := a.status(); st.State != rotation.Rotating || st.Rotation != begun {
					t.Fatalf("status %+v", st)
				}
				p.at = p.at.Add(10 * time.Minute)
			}
			if _, _, err := a.asks(planApp); err != nil {
				t.Fatalf("with nothing heard of that site: %v", err)
			}
		})
	}
}

// One person has a secret alone. A rotation of another site that only waits would go on
// and change it.
func TestNoCheckOutWhileARotationElsewhereWaits(t *testing.T) {
	p := twoSites(t)
	a, b := p.nodes[0], p.nodes[1]
	begun, _, err := b.asks(planApp)
	if err != nil {
		t.Fatal(err)
	}
	p.by(b, events.SiteActor(b.site.ID), commands.DeferRotation{Rotation: begun, Until: b.now().Add(3 * time.Minute), Detail: "logins"})
	p.hearAll()
	checkOut := commands.CheckOutSecret{Account: "app", Target: "db", Reason: "fire", For: time.Hour}
	if _, _, err := a.asks(checkOut); err == nil {
		t.Fatal("given while a rotation waits that will change it")
	}
	if _, ok := a.d.Rotating(a.state, a.credential("app").ID); ok {
		t.Error("another rotation would wait for it")
	}
	p.at = p.at.Add(3 * time.Minute) // and nothing is heard of b
	if _, _, err := a.asks(checkOut); err != nil {
		t.Errorf("a site that is lost stands in the way: %v", err)
	}
}

// What a lost site left open is a detail of the status: it hides nothing, is not what
// people are told to wait for, and does not keep secrets from being erased.
func TestWhatALostSiteLeftOpen(t *testing.T) {
	p := twoSites(t)
	a, b := p.nodes[0], p.nodes[1]
	own, _, err := a.asks(planApp)
	if err != nil {
		t.Fatal(err)
	}
	p.at = p.at.Add(time.Second * 5)
	lost, _, err := b.asks(planApp) // it has not heard of a's
	if err != nil {
		t.Fatal(err)
	}
	p.hearAll()
	if _, id, _ := a.asks(planApp); id != lost {
		t.Errorf("of two that are under way %s is in the way, want the newer one, %s", id, lost)
	}
	waiting, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if o, err := a.m.Await(waiting, lost); err == nil {
		t.Errorf("a rotation of a site that is heard is waited for no more: %+v", o)
	}
	p.at = p.at.Add(2 * time.Minute) // and nothing is heard of b
	if o, err := a.m.Await(t.Context(), lost); err != nil || !strings.Contains(o.Detail, "nothing is heard of it") {
		t.Errorf("waiting for the rotation of a lost site: %+v, %v", o, err)
	}
	if _, id, _ := a.asks(planApp); id != own {
		t.Errorf("to be waited for is %s, want %s", id, own)
	}
	for len(a.state.Rotations()) > 1 {
		p.step(a)
	}
	a.must(events.UserActor(a.user), commands.SetRotationPolicy{Target: "db", Policy: events.RotationPolicy{MaxAge: 24 * 3600}})
	p.at = p.at.Add(48 * time.Hour)
	st := a.status()
	if st.State != rotation.Overdue || !st.Rotation.IsZero() || !strings.Contains(st.Detail, lost.String()) {
		t.Errorf("status %+v, want overdue, and the lost rotation as detail", st)
	}
	a.must(events.UserActor(a.user), commands.RemoveAccount{Account: "app", Target: "db"})
	if _, _, err := a.asks(commands.AskSecretsErasure{Account: "app", Target: "db", Reason: "gone"}); err != nil {
		t.Errorf("erase: %v", err)
	}
}

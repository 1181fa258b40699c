package aggregate_test

import (
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

func (x *taken) named(t *testing.T, p *peer, of, successor events.SiteID, yield, take time.Duration) events.Record {
	t.Helper()
	return p.write(t, of.UUID, events.SiteActor(p.ID), events.SuccessorNamed{
		Successor: successor, Yield: uint64(yield.Milliseconds()), Take: uint64(take.Milliseconds()),
	})
}

// What was taken by a lease are rotations: requests are decided, and codes of second
// factors taken, where they were.
func TestATakeoverOfWhatIsScheduled(t *testing.T) {
	x := newTaken(t)
	factor := events.FactorID{UUID: aggregatetest.ID("factor", 1)}
	enrolled := x.by(t, x.a, x.user, factor.UUID, events.FactorEnrolled{User: x.user})
	x.b.hear(t, []events.Record{enrolled})
	take := x.b.write(t, x.a.ID.UUID, events.SiteActor(x.b.ID), events.DutiesTaken{Term: 1, From: x.a.ID, Scheduled: true, Reason: "silent"})
	x.a.hear(t, []events.Record{take})
	for _, p := range []*peer{x.a, x.b} {
		r, _ := p.state.Request(events.RequestID{UUID: x.id})
		f, _ := p.state.Factor(factor)
		if x.owner(t, p, x.account) != x.b.ID || p.state.Redeemer(r) != x.a.Origin() || p.state.FactorOwner(f) != x.a.ID {
			t.Errorf("%s rotates, %s counts uses, %s takes codes", x.owner(t, p, x.account), p.state.Redeemer(r), p.state.FactorOwner(f))
		}
		if _, moved := p.state.Holder(x.a.ID, events.TargetID{}); moved {
			t.Error("all duties count as moved")
		}
		if held := p.state.HeldBy(x.b.ID); len(held) != 1 || !held[0].Scheduled {
			t.Errorf("the taker holds %v", held)
		}
	}
	if lost := x.a.state.Lost(x.a.ID); len(lost) != 1 {
		t.Errorf("the site that came back has lost %v", lost)
	}
	all := x.takes(t, x.c) // not knowing of the other
	x.a.hear(t, []events.Record{all})
	x.b.hear(t, []events.Record{all})
	if x.owner(t, x.b, x.account) != x.owner(t, x.a, x.account) {
		t.Error("the sites differ on who rotates")
	}
	if d, _ := x.b.state.Holder(x.a.ID, events.TargetID{}); d.Holder != x.c.ID {
		t.Errorf("%s holds the rest", d.Holder)
	}
}

// Who may take over, and when, is what the site itself has said, whatever others say
// for it; and whom it named before counts until they say that they know.
func TestHeirs(t *testing.T) {
	x := newTaken(t)
	forged := x.named(t, x.c, x.a.ID, x.c.ID, time.Second, 3*time.Second)
	x.a.hear(t, []events.Record{forged})
	if n, named := x.a.state.Successor(x.a.ID); named || len(x.a.state.Heirs(x.a.ID)) > 0 {
		t.Fatalf("a site named itself the successor of another one: %+v", n)
	}
	first := x.named(t, x.a, x.a.ID, x.b.ID, time.Minute, time.Second)
	if n, _ := x.a.state.Successor(x.a.ID); n.Take < aggregate.LeastTake(time.Minute) {
		t.Errorf("the successor takes over after %s from a site that stops after %s", n.Take, n.Yield)
	}
	second := x.named(t, x.a, x.a.ID, x.c.ID, 10*time.Second, 20*time.Second)
	third := x.named(t, x.a, x.a.ID, x.c.ID, 5*time.Second, 30*time.Second)
	x.b.hear(t, []events.Record{forged, first, second, third})
	x.c.hear(t, []events.Record{first, second, third})
	for _, p := range []*peer{x.a, x.b, x.c} {
		heirs := p.state.Heirs(x.a.ID)
		if len(heirs) != 2 || heirs[0].Successor != x.b.ID || heirs[1].Yield != 5*time.Second || heirs[1].Take != 30*time.Second {
			t.Errorf("%s has the heirs %+v", x.a.ID, heirs)
		}
	}
	if r := x.b.state.Replaced(x.b.ID); len(r) != 1 || r[0].At.ID != third.Header.ID {
		t.Errorf("b has to say that it knows of %+v", r)
	}
	ends := func(p *peer, of events.Record) events.Record {
		return p.write(t, p.ID.UUID, events.SiteActor(p.ID), events.SuccessionEnded{Of: x.a.ID, By: of.Header.ID})
	}
	ended := []events.Record{ends(x.b, third), ends(x.c, third)}
	x.a.hear(t, ended)
	if heirs := x.a.state.Heirs(x.a.ID); len(heirs) != 1 || heirs[0].Successor != x.c.ID {
		t.Errorf("when all have said so: %+v", heirs)
	}
	x.b.hear(t, ended[1:])
	x.c.hear(t, ended[:1])
	if x.a.state.Digest() != x.b.state.Digest() || x.b.state.Digest() != x.c.state.Digest() {
		t.Error("the sites differ")
	}
	back := x.named(t, x.a, x.a.ID, x.b.ID, time.Minute, 2*time.Minute)
	if heirs := x.a.state.Heirs(x.a.ID); len(heirs) != 2 {
		t.Errorf("named again after %s: %+v", back.Header.ID, heirs)
	}
}

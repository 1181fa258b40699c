package aggregate_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// leave has b of a trio leave, and gives its last word.
func (x *trio) leave(t *testing.T) events.Record {
	x.user(t, x.b, 1)
	return x.put(t, x.b, x.b.ID, events.SiteLeft{Reason: "closed"})
}

// closes has a steward that has heard of everything up to some record close b.
func (x *trio) closes(t *testing.T, p *peer) {
	t.Helper()
	var logs []events.ClockEntry
	for _, e := range p.state.Clock().Entries() {
		if size, held := p.state.HoldOf(e.Origin); held {
			e.Position = min(e.Position, size)
		}
		if e.Origin.Site == x.b.ID && e.Position > 0 {
			logs = append(logs, e)
		}
	}
	x.put(t, p, x.b.ID, events.SiteClosed{Logs: logs})
}

// thief has the disk of b, and begins another epoch in which it claims to know of
// nothing but that it was admitted.
func (x *trio) thief(t *testing.T, epoch uint32) *peer {
	p := &peer{aggregatetest.NewSite(1), aggregate.New()}
	p.Epoch = epoch
	p.state.SetSelf(p.ID)
	p.Knows = p.state.Clock
	p.hear(t, x.all[:3])
	return p
}

// inAnyOrder gives the state of all that is known, which is the same in whatever order
// it came.
func (x *trio) inAnyOrder(t *testing.T) *aggregate.State {
	t.Helper()
	s := build(t, x.c.ID, x.all, nil)
	rapid.Check(t, func(t *rapid.T) {
		h := &history{all: x.all}
		if build(t, x.c.ID, h.permute(t), nil).Digest() != s.Digest() {
			t.Fatalf("another state")
		}
	})
	return s
}

// What a site writes in its log after it has said that it leaves has no effect, also
// where it is applied before anybody closed that log; what others wrote who took it
// for good waits for none of it. The site itself goes on.
func TestNothingCountsAfterTheLastWord(t *testing.T) {
	x := newTrio(t)
	x.leave(t)
	x.user(t, x.b, 2)
	s := x.inAnyOrder(t)
	if !has(s, 1) || has(s, 2) || !s.Left(x.b.ID) {
		t.Errorf("before %t, after %t, left %t", has(s, 1), has(s, 2), s.Left(x.b.ID))
	}
	if alone := build(t, x.b.ID, x.all, nil); !has(alone, 2) {
		t.Error("the site that has left does not go on by itself")
	}
	n := len(x.all)
	x.c.hear(t, x.all[3:])
	x.user(t, x.c, 3) // which knows of what is beyond the end
	if s := build(t, x.a.ID, append(append([]events.Record{}, x.all[:n-1]...), x.all[n:]...), nil); !has(s, 3) {
		t.Error("what is beyond the end is waited for")
	}
}

// Whoever has the disk of a site that has left begins another epoch, which claims to
// know nothing of that, and gives it to a member that has not heard yet. Once a
// steward has closed the logs it counts for nothing, whatever came first.
func TestAttackAnotherEpochOfWhoHasLeft(t *testing.T) {
	x := newTrio(t)
	x.leave(t)
	thief := x.thief(t, 9)
	stolen := thief.write(t, aggregatetest.ID("held", 2), events.SiteActor(thief.ID), events.UserAdded{Name: "mallory", Role: events.Admin})
	x.c.hear(t, append(append([]events.Record{}, x.all[3:]...), stolen))
	if !has(x.c.state, 2) {
		t.Fatal("the attack does not even begin")
	}
	x.a.hear(t, x.all[3:])
	x.closes(t, x.a)
	x.all = append(x.all, stolen)
	s := x.inAnyOrder(t)
	if has(s, 2) || !has(s, 1) {
		t.Errorf("of the thief %t, of before it left %t", has(s, 2), has(s, 1))
	}
	x.closes(t, x.c) // which has taken the thief's
	if s := x.inAnyOrder(t); has(s, 2) || !has(s, 1) {
		t.Errorf("closed by one who was tricked: of the thief %t, of before it left %t", has(s, 2), has(s, 1))
	}
}

// The thief's epoch ends with a last word, too, and a steward that was cut off takes it
// for the first: it takes nothing away of what it had not heard of, and the thief wins
// nothing.
func TestAttackASecondLastWord(t *testing.T) {
	x := newTrio(t)
	x.user(t, x.b, 3)
	x.c.hear(t, x.all[3:])
	x.leave(t)
	n := len(x.all)
	thief := x.thief(t, 9)
	stolen := []events.Record{
		thief.write(t, aggregatetest.ID("held", 2), events.SiteActor(thief.ID), events.UserAdded{Name: "mallory", Role: events.Admin}),
		thief.write(t, thief.ID.UUID, events.SiteActor(thief.ID), events.SiteLeft{Reason: "again"}),
	}
	x.c.hear(t, stolen)
	x.all = append(x.all, stolen...)
	x.closes(t, x.c)
	x.a.hear(t, x.all[3:n])
	x.closes(t, x.a)
	s := x.inAnyOrder(t)
	if has(s, 2) || !has(s, 1) || !has(s, 3) {
		t.Errorf("of the thief %t, of before it left %t, %t", has(s, 2), has(s, 1), has(s, 3))
	}
}

// Whoever has the disk writes the log a second time, without the last word: a fork
// holds it from before that. The site has left all the same, and is no custodian.
func TestAttackTheLastWordIsForkedAway(t *testing.T) {
	x := newTrio(t)
	opened := x.b.write(t, x.b.ID.UUID, events.SiteActor(x.b.ID), events.LogOpened{Key: "key of b"})
	x.all = append(x.all, opened)
	x.leave(t)
	x.a.hear(t, x.all[3:])
	x.closes(t, x.a)
	x.put(t, x.a, x.b.ID, events.ForkProved{Log: x.b.Origin(), Size: 1, Proof: []byte("good")})
	s := x.inAnyOrder(t)
	if has(s, 1) || !s.Left(x.b.ID) || s.Custodian(x.b.ID) {
		t.Errorf("beyond the fork %t, left %t, custodian %t", has(s, 1), s.Left(x.b.ID), s.Custodian(x.b.ID))
	}
}

// A steward that betrays closes one that stays: that has no effect, and neither has
// what it closes in the fenced part of its log.
func TestAttackAStewardClosesWhoStays(t *testing.T) {
	x := newTrio(t)
	x.user(t, x.b, 1)
	fence := x.put(t, x.a, x.c.ID, fenceOf(x.a, x.c))
	x.put(t, x.c, x.b.ID, events.SiteClosed{})
	x.put(t, x.c, x.a.ID, events.SiteClosed{})
	s := x.inAnyOrder(t)
	if s.Left(x.b.ID) || s.Left(x.a.ID) || !has(s, 1) {
		t.Error("a site that stays was closed")
	}
	x.leave(t)
	x.b.hear(t, []events.Record{fence})
	if s := build(t, x.a.ID, x.all, nil); !s.Left(x.b.ID) || s.Closed(x.b.ID) || !has(s, 1) {
		t.Errorf("left %t, closed %t by who is fenced", s.Left(x.b.ID), s.Closed(x.b.ID))
	}
}

// Who may not decide on members closes nothing.
func TestAttackAPeerClosesNothing(t *testing.T) {
	x := newTrio(t)
	x.put(t, x.a, x.c.ID, events.SiteAdmitted{Name: "c", Identity: []byte{1}, Role: events.PeerSite})
	x.user(t, x.b, 1)
	x.c.hear(t, x.all[3:])
	x.put(t, x.c, x.b.ID, events.SiteClosed{})
	x.leave(t)
	s := build(t, x.a.ID, x.all, nil)
	if s.Closed(x.b.ID) || !has(s, 1) {
		t.Errorf("closed by a peer %t, what it did counts %t", s.Closed(x.b.ID), has(s, 1))
	}
}

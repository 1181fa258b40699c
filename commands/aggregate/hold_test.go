package aggregate_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// trio is a mesh of three stewards: a, which founded it, b and c.
type trio struct {
	a, b, c *peer
	all     []events.Record
}

func newTrio(t *testing.T) *trio {
	x := &trio{a: newPeer(0), b: newPeer(1), c: newPeer(2)}
	x.put(t, x.a, x.a.ID, events.SiteAdmitted{Name: "a", Identity: make([]byte, 32), Founder: true, Role: events.Steward, Custodian: true})
	for i, p := range []*peer{x.b, x.c} {
		x.put(t, x.a, p.ID, events.SiteAdmitted{Name: string(rune('b' + i)), Identity: []byte{byte(i)}, Role: events.Steward, Custodian: true})
	}
	for _, p := range []*peer{x.b, x.c} {
		p.hear(t, x.all)
	}
	return x
}

func (x *trio) put(t *testing.T, p *peer, stream events.SiteID, e events.Event) events.Record {
	t.Helper()
	r := p.write(t, stream.UUID, events.SiteActor(p.ID), e)
	x.all = append(x.all, r)
	return r
}

func (x *trio) user(t *testing.T, p *peer, n int) events.Record {
	t.Helper()
	r := p.write(t, aggregatetest.ID("held", n), events.SiteActor(p.ID), events.UserAdded{Name: "u", Role: events.Admin})
	x.all = append(x.all, r)
	return r
}

// fenceOf cuts a site's logs at what another one has applied.
func fenceOf(p, of *peer) events.SiteFenced {
	return events.SiteFenced{Logs: []events.ClockEntry{{Origin: of.Origin(), Position: p.state.At(of.Origin())}}, Reason: "stolen"}
}

// build makes the state of some records as a site does: anew, until what it holds
// is what it calls for.
func build(t fataler, self events.SiteID, records []events.Record, check func(events.ForkProved, string, []byte) error) *aggregate.State {
	var holds aggregate.Holds
	for range 8 {
		s := aggregate.New()
		s.CheckForks(check)
		s.SetSelf(self)
		s.SetHolds(holds)
		deliver(t, s, records)
		if next := s.Holds(); next.Equal(holds) {
			return s
		} else {
			holds = next
		}
	}
	t.Fatalf("it never settles")
	return nil
}

func has(s *aggregate.State, n int) bool {
	_, ok := s.User(events.UserID{UUID: aggregatetest.ID("held", n)})
	return ok
}

// What a fenced site wrote up to the cut counts, and nothing after it; others that
// knew of that are not kept waiting. Taken back, all of it counts.
func TestAFenceCutsBySize(t *testing.T) {
	x := newTrio(t)
	x.user(t, x.b, 1)
	x.a.hear(t, x.all[len(x.all)-1:])
	x.user(t, x.b, 2) // a has not heard of it
	x.put(t, x.a, x.b.ID, fenceOf(x.a, x.b))
	x.c.hear(t, x.all[3:])
	x.user(t, x.c, 3) // it knows of what is cut
	s := build(t, x.a.ID, x.all, nil)
	if !has(s, 1) || has(s, 2) || !has(s, 3) {
		t.Errorf("before the cut %t, after it %t, by one who knew of it %t", has(s, 1), has(s, 2), has(s, 3))
	}
	if !s.Fenced(x.b.ID) || s.Fenced(x.c.ID) {
		t.Error("the wrong site is fenced")
	}
	x.put(t, x.a, x.b.ID, events.SiteReinstated{Reason: "found"})
	if s := build(t, x.a.ID, x.all, nil); !has(s, 2) || s.Fenced(x.b.ID) {
		t.Error("a fence that was taken back still counts")
	}
}

// An epoch that a fenced site begins counts for nothing, and neither do fences that
// it sets once it knows of its own. Two that fence each other are both cut.
func TestAFencedSiteFencesNobody(t *testing.T) {
	x := newTrio(t)
	fence := x.put(t, x.a, x.b.ID, fenceOf(x.a, x.b))
	x.b.hear(t, []events.Record{fence})
	x.put(t, x.b, x.a.ID, fenceOf(x.b, x.a))
	if s := build(t, x.c.ID, x.all, nil); s.Fenced(x.a.ID) || !s.Fenced(x.b.ID) {
		t.Error("a fenced site has fenced the one that fenced it")
	}
	y := newTrio(t)
	y.put(t, y.a, y.b.ID, fenceOf(y.a, y.b))
	y.put(t, y.b, y.a.ID, fenceOf(y.b, y.a))
	if s := build(t, y.c.ID, y.all, nil); !s.Fenced(y.a.ID) || !s.Fenced(y.b.ID) {
		t.Error("of two that fence each other, not knowing, both are cut")
	}
	size, held := build(t, x.c.ID, x.all, nil).HoldOf(events.Origin{Site: x.b.ID, Epoch: 9, Kind: events.Ctl})
	if size != 0 || !held {
		t.Error("another epoch of a fenced site counts")
	}
}

// A fence by a site that may not decide on members has no effect.
func TestAPeerFencesNobody(t *testing.T) {
	x := newTrio(t)
	x.put(t, x.a, x.c.ID, events.SiteAdmitted{Name: "c", Identity: []byte{1}, Role: events.PeerSite, Custodian: true})
	x.c.hear(t, x.all[len(x.all)-1:])
	x.put(t, x.c, x.a.ID, fenceOf(x.c, x.a))
	if build(t, x.b.ID, x.all, nil).Fenced(x.a.ID) {
		t.Error("a peer has fenced the founder")
	}
}

// A fork holds its log from where the branches part, if its proof proves it; in
// every order the state is the same.
func TestAForkHoldsItsLog(t *testing.T) {
	x := newTrio(t)
	opened := x.b.write(t, x.b.ID.UUID, events.SiteActor(x.b.ID), events.LogOpened{Key: "key of b"})
	x.all = append(x.all, opened)
	x.user(t, x.b, 1)
	x.user(t, x.b, 2)
	x.put(t, x.c, x.b.ID, events.ForkProved{Log: x.b.Origin(), Size: 2, Proof: []byte("good")})
	x.put(t, x.c, x.a.ID, events.ForkProved{Log: x.a.Origin(), Size: 1, Proof: []byte("forged")})
	check := func(f events.ForkProved, key string, _ []byte) error {
		if string(f.Proof) != "good" {
			return errors.New("forged")
		}
		return nil
	}
	s := build(t, x.a.ID, x.all, check)
	if !has(s, 1) || has(s, 2) {
		t.Errorf("before the fork %t, after it %t", has(s, 1), has(s, 2))
	}
	if _, forked := s.ForkOf(x.a.Origin()); forked {
		t.Error("a log is held by a forged proof")
	}
	last := len(x.all)
	reordered := append(append([]events.Record{}, x.all[:3]...), x.all[last-2], x.all[last-1])
	reordered = append(reordered, x.all[3:last-2]...)
	if other := build(t, x.c.ID, reordered, check); other.Digest() != s.Digest() {
		t.Error("a site that hears of the fork first holds another state")
	}
	f := s.Forks()[0]
	if s.Settled(f) {
		t.Error("nobody has settled it")
	}
	x.a.hear(t, x.all[3:])
	x.put(t, x.a, x.b.ID, events.ForkSettled{Log: x.b.Origin(), Size: 2, Reason: "looked at"})
	if s := build(t, x.a.ID, x.all, check); !s.Settled(s.Forks()[0]) || has(s, 2) {
		t.Error("it is settled, and nothing after it counts")
	}
}

// A site says in one branch of its log that another log was written twice, and settles
// that. Who holds the other branch comes to the same state, once somebody else has said so.
func TestWhatIsSaidInABranch(t *testing.T) {
	x := newTrio(t)
	x.user(t, x.c, 1)
	fork := events.ForkProved{Log: x.c.Origin(), Size: 0, Proof: []byte("proof")}
	n := len(x.all)
	x.put(t, x.b, x.c.ID, fork)
	x.put(t, x.b, x.c.ID, events.ForkSettled{Log: x.c.Origin(), Size: 0, Reason: "it says"})
	x.put(t, x.b, x.a.ID, fenceOf(x.b, x.a))
	branch := x.all[n:]
	x.all = x.all[:n:n]
	x.put(t, x.a, x.b.ID, events.ForkProved{Log: x.b.Origin(), Size: 0, Proof: []byte("proof")})
	x.put(t, x.a, x.c.ID, fork)
	with := build(t, x.c.ID, slices.Concat(x.all[:n], branch, x.all[n:]), nil)
	without := build(t, x.c.ID, x.all, nil)
	if with.Digest() != without.Digest() {
		t.Error("who holds the branch has another state")
	}
	for _, f := range with.Forks() {
		if with.Settled(f) || f.At.Origin != x.a.Origin() {
			t.Errorf("the fork of %s: settled %t, told in %s", f.Log, with.Settled(f), f.At.Origin)
		}
	}
}

package aggregate_test

import (
	"math"
	"testing"

	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// taken is access at a, which is gone; b and c know of all of it.
type taken struct {
	*asked
	c *peer
}

func newTaken(t *testing.T) *taken {
	x := &taken{asked: newAsked(t), c: newPeer(2)}
	x.c.hear(t, x.all)
	return x
}

// takes has a site take over from a.
func (x *taken) takes(t *testing.T, p *peer, targets ...events.TargetID) events.Record {
	t.Helper()
	return x.by(t, p, x.admin, x.a.ID.UUID, events.DutiesTaken{Term: p.state.NextTerm(x.a.ID), From: x.a.ID, Targets: targets, Reason: "burnt"})
}

func (x *taken) owner(t *testing.T, p *peer, id events.AccountID) events.SiteID {
	t.Helper()
	a, ok := p.state.Account(id)
	if !ok {
		t.Fatal("no account")
	}
	return p.state.Owner(a)
}

// What a site began moves with the takeover, what it begins once it knows of that
// is its own; and it comes back when it is given back.
func TestATakeoverMovesWhatASiteBegan(t *testing.T) {
	x := newTaken(t)
	if x.owner(t, x.b, x.account) != x.a.ID {
		t.Error("another site than the one that added the account owns it")
	}
	take := x.takes(t, x.b)
	if x.owner(t, x.b, x.account) != x.b.ID {
		t.Error("the taker does not own what it took")
	}
	x.a.hear(t, []events.Record{take})
	if lost := x.a.state.Lost(x.a.ID); len(lost) != 1 || lost[0].Holder != x.b.ID {
		t.Errorf("the site that came back has lost %v", lost)
	}
	yield := x.by(t, x.a, x.admin, x.a.ID.UUID, events.DutiesYielded{Term: 1, To: x.b.ID, By: take.Header.ID})
	if lost := x.a.state.Lost(x.a.ID); len(lost) != 0 {
		t.Errorf("it has said so, and still has lost %v", lost)
	}
	later := events.AccountID{UUID: aggregatetest.ID("later", 1)}
	x.at(t, x.a, later.UUID, events.AccountAdded{Name: "db", Target: events.TargetID{UUID: x.target}})
	x.b.hear(t, append([]events.Record{yield}, x.all[len(x.all)-1]))
	for _, p := range []*peer{x.a, x.b} {
		if x.owner(t, p, later) != x.a.ID || x.owner(t, p, x.account) != x.b.ID {
			t.Errorf("owners %s and %s", x.owner(t, p, later), x.owner(t, p, x.account))
		}
	}
	given := x.by(t, x.b, x.admin, x.a.ID.UUID, events.DutiesGiven{Term: 2, To: x.a.ID, Epoch: 1, Reason: "back"})
	x.a.hear(t, []events.Record{given})
	for _, p := range []*peer{x.a, x.b} {
		if x.owner(t, p, x.account) != x.a.ID {
			t.Error("what was given back is not its owner's")
		}
	}
	if x.a.state.Digest() != x.b.state.Digest() {
		t.Error("the sites differ")
	}
}

// Two sites that take over without hearing of each other: all sites hold the same
// one to be the taker, whichever they heard first; a later one wins over both.
func TestTakeoversThatDidNotHearOfEachOther(t *testing.T) {
	x := newTaken(t)
	byB, byC := x.takes(t, x.b), x.takes(t, x.c)
	x.a.hear(t, []events.Record{byC, byB})
	x.b.hear(t, []events.Record{byC})
	x.c.hear(t, []events.Record{byB})
	want := x.owner(t, x.a, x.account)
	if want != x.b.ID && want != x.c.ID {
		t.Fatalf("owner %s", want)
	}
	loser := x.b
	if want == x.b.ID {
		loser = x.c
	}
	for _, p := range []*peer{x.b, x.c} {
		if got := x.owner(t, p, x.account); got != want {
			t.Errorf("%s owns it as %s sees it, %s as the others do", got, p.ID, want)
		}
		if lost := p.state.Lost(p.ID); (len(lost) > 0) != (p == loser) {
			t.Errorf("%s has lost %v", p.ID, lost)
		}
	}
	again := x.takes(t, loser)
	x.a.hear(t, []events.Record{again})
	if got := x.owner(t, x.a, x.account); got != loser.ID {
		t.Errorf("%s owns it after a takeover in knowledge of the others", got)
	}
}

// A takeover of one target leaves the rest where it is.
func TestATakeoverOfOneTarget(t *testing.T) {
	x := newTaken(t)
	other := events.AccountID{UUID: aggregatetest.ID("other", 1)}
	x.at(t, x.a, other.UUID, events.AccountAdded{Name: "db", Target: events.TargetID{UUID: aggregatetest.ID("other", 2)}})
	x.b.hear(t, x.all[len(x.all)-1:])
	x.takes(t, x.b, events.TargetID{UUID: x.target})
	if x.owner(t, x.b, x.account) != x.b.ID || x.owner(t, x.b, other) != x.a.ID {
		t.Error("it took too much or too little")
	}
}

// What somebody decided who had been disabled elsewhere is suspended (rule R9).
func TestATakeoverByADisabledAdministrator(t *testing.T) {
	x := newTaken(t)
	take := x.takes(t, x.b)
	x.all = append(x.all, x.c.write(t, x.admin.UUID, events.SiteActor(x.c.ID), events.UserDisabled{Reason: "left"}))
	x.c.hear(t, []events.Record{take})
	if got := x.owner(t, x.c, x.account); got != x.a.ID {
		t.Errorf("%s owns the account", got)
	}
}

// Where a site was taken over, its requests are decided: approvals are given anew
// and spent in the taker's log. What the site itself lets through, as long as it
// has not heard, counts against them.
func TestRequestsAfterATakeover(t *testing.T) {
	x := newTaken(t)
	yes := x.approve(t, x.a)
	x.b.hear(t, []events.Record{yes})
	take := x.takes(t, x.b)
	if v := x.standing(x.b); v.Missing != 1 {
		t.Errorf("an approval that the gone site may have used counts: %+v", v)
	}
	again := x.by(t, x.b, x.eve, x.id, events.RequestApproved{Uses: 2, Site: x.b.ID, Epoch: 1, Fingerprint: "eve"})
	lets := func(p *peer) bool {
		r, _ := p.state.RequestFor(x.user, x.account, p.Origin(), x.now)
		return r != nil
	}
	if !lets(x.b) || !lets(x.a) {
		t.Error("a cut keeps people out on one side")
	}
	spentThere := x.by(t, x.a, x.user, x.id, events.ApprovalRedeemed{})
	spentHere := x.by(t, x.b, x.user, x.id, events.ApprovalRedeemed{})
	if v := x.standing(x.b); v.Uses != 1 {
		t.Errorf("%d uses left, want 1", v.Uses)
	}
	x.a.hear(t, []events.Record{take, again, spentHere})
	x.b.hear(t, []events.Record{spentThere})
	for _, p := range []*peer{x.a, x.b} {
		if v := x.standing(p); v.Uses != 0 || lets(p) {
			t.Errorf("%d uses left of 2 after one at each site", v.Uses)
		}
	}
	late := x.by(t, x.a, x.user, x.id, events.ApprovalRedeemed{})
	x.b.hear(t, []events.Record{late})
	if v := x.standing(x.b); v.Uses != 0 {
		t.Errorf("%d uses left: a site spent what it knew to be another's", v.Uses)
	}
	if x.a.state.Digest() != x.b.state.Digest() {
		t.Error("the sites differ")
	}
}

// Codes of the time of a takeover may have been taken at the site that is gone.
func TestFactorsAfterATakeover(t *testing.T) {
	x := newTaken(t)
	id := events.FactorID{UUID: aggregatetest.ID("factor", 1)}
	enrolled := x.by(t, x.a, x.user, id.UUID, events.FactorEnrolled{User: x.user})
	confirmed := x.by(t, x.a, x.user, id.UUID, events.FactorConfirmed{Step: 10, Recovery: [][]byte{{1}, {2}}})
	x.b.hear(t, []events.Record{enrolled, confirmed})
	take := x.takes(t, x.b)
	f, _ := x.b.state.Factor(id)
	if x.b.state.FactorOwner(f) != x.b.ID {
		t.Error("the taker does not own the factor")
	}
	restored := x.a.Origin()
	restored.Epoch++
	for in, left := range map[events.Origin]int{x.a.Origin(): 2, x.b.Origin(): 0, restored: 0} {
		if _, ok := f.Recovery([]byte{2}, in); ok != (left > 0) || f.RecoveryLeft(in) != left {
			t.Errorf("log %s may spend %d recovery codes, want %d", in, f.RecoveryLeft(in), left)
		}
	}
	now := uint64(aggregatetest.Epoch.Unix()) / 30
	if !x.b.state.FactorSpent(f, now, x.b.Origin()) || !x.b.state.FactorSpent(f, now+1, x.b.Origin()) || x.b.state.FactorSpent(f, now+3, x.b.Origin()) {
		t.Error("the wrong codes count as spent")
	}
	here := x.by(t, x.b, x.user, id.UUID, events.FactorRedeemed{Step: now + 4})
	there := x.by(t, x.a, x.user, id.UUID, events.FactorRedeemed{Step: now + 5}) // it has not heard
	x.a.hear(t, []events.Record{take, here})
	late := x.by(t, x.a, x.user, id.UUID, events.FactorRedeemed{Step: now + 9})
	x.b.hear(t, []events.Record{there, late})
	for _, p := range []*peer{x.a, x.b} {
		f, _ := p.state.Factor(id)
		if !p.state.FactorSpent(f, now+5, p.Origin()) || p.state.FactorSpent(f, now+6, p.Origin()) {
			t.Error("codes that both sites took while they did not hear of each other are spent, and no other")
		}
	}
	if x.a.state.Digest() != x.b.state.Digest() {
		t.Error("the sites differ")
	}
}

// A rotation of a site that is gone stands in nobody's way; the site itself ends
// it, and says nothing by that about the secret.
func TestRotationsAfterATakeover(t *testing.T) {
	x := newTaken(t)
	credential, run := events.CredentialID{UUID: aggregatetest.ID("credential", 1)}, aggregatetest.ID("rotation", 1)
	added := x.by(t, x.a, x.admin, credential.UUID, events.CredentialAdded{Account: x.account, Kind: events.Password})
	planned := x.by(t, x.a, x.admin, run, events.RotationPlanned{Credential: credential, Account: x.account, Why: events.WhyAsked})
	x.b.hear(t, []events.Record{added, planned})
	if len(x.b.state.RotationsOf(credential)) != 1 {
		t.Fatal("no rotation is under way")
	}
	take := x.takes(t, x.b)
	if open := x.b.state.RotationsOf(credential); len(open) > 0 {
		t.Errorf("rotation %s of a site that is gone is in the way", open[0].ID)
	}
	forged := x.by(t, x.b, x.admin, run, events.RotationEnded{Result: events.RotationVerified})
	if _, open := x.b.state.Rotation(events.RotationID{UUID: run}); !open {
		t.Error("another site ended it")
	}
	x.a.hear(t, []events.Record{take, forged})
	if len(x.a.state.UnderWayAt(x.a.ID)) != 0 {
		t.Error("the site goes on with it")
	}
	ended := x.by(t, x.a, x.admin, run, events.RotationEnded{Result: events.RotationYielded})
	x.b.hear(t, []events.Record{ended})
	c, _ := x.b.state.Credential(credential)
	if _, said := c.LastEnded(); said || c.Failures() != 0 {
		t.Error("what became of it says something about the secret")
	}
}

// A site of role edge takes nothing over.
func TestAnEdgeTakesNothingOver(t *testing.T) {
	x := newTaken(t)
	for i, p := range []*peer{x.a, x.b} {
		role := []events.MemberRole{events.Steward, events.EdgeSite}[i]
		x.at(t, x.a, p.ID.UUID, events.SiteAdmitted{Name: "s", Identity: make([]byte, 32), Founder: i == 0, Role: role})
	}
	x.b.hear(t, x.all[len(x.all)-2:])
	take := x.takes(t, x.b)
	x.a.hear(t, []events.Record{take})
	if got := x.owner(t, x.a, x.account); got != x.a.ID {
		t.Errorf("%s owns the account", got)
	}
}

// A member takes another one's work over by the greatest number that there is, and so
// for good: it counts for no more than what it knew of and one, and is taken back.
func TestAttackATakeoverForGood(t *testing.T) {
	x := newTaken(t)
	greedy := x.by(t, x.b, x.admin, x.a.ID.UUID, events.DutiesTaken{Term: math.MaxUint64, From: x.a.ID, Reason: "mine"})
	x.c.hear(t, []events.Record{greedy})
	back := x.takes(t, x.c)
	x.b.hear(t, []events.Record{back})
	again := x.by(t, x.b, x.admin, x.a.ID.UUID, events.DutiesTaken{Term: math.MaxUint64, From: x.c.ID, Reason: "mine"})
	x.c.hear(t, []events.Record{again})
	given := x.by(t, x.c, x.admin, x.a.ID.UUID, events.DutiesGiven{Term: x.c.state.NextTerm(x.a.ID), To: x.a.ID, Epoch: 1, Reason: "enough"})
	x.b.hear(t, []events.Record{given})
	for _, p := range []*peer{x.b, x.c} {
		if x.owner(t, p, x.account) != x.a.ID {
			t.Errorf("the work stays at %s", x.owner(t, p, x.account))
		}
	}
	if x.b.state.Digest() != x.c.state.Digest() {
		t.Error("the sites differ")
	}
}

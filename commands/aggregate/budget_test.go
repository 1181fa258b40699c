package aggregate_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// logins is an account with a lock-out at its target, in a mesh of some sites. Every
// login is wrong, and none of them is forgotten.
type logins struct {
	t       fataler
	peers   []*peer
	all     []events.Record
	account events.AccountID
	secret  events.CredentialID
	wrong   int
	after   time.Duration // since the beginning
}

func newLogins(t fataler, sites, threshold int) *logins {
	x := &logins{
		t: t, account: events.AccountID{UUID: aggregatetest.ID("account", 1)}, secret: events.CredentialID{UUID: aggregatetest.ID("credential", 1)},
	}
	for n := range sites {
		p := newPeer(n)
		x.peers = append(x.peers, p)
		x.say(x.peers[0], events.SiteAdmitted{Name: fmt.Sprint(n), Identity: []byte{byte(n)}, Founder: n == 0, Role: events.Steward, Custodian: true}, p.ID)
	}
	a := x.peers[0]
	for _, e := range []struct {
		id    [16]byte
		event events.Event
	}{
		{x.account.UUID, events.AccountAdded{Name: "root", Credential: x.secret}},
		{x.secret.UUID, events.CredentialAdded{Account: x.account, Kind: events.Password}},
		{x.account.UUID, events.RotationPolicySet{Policy: events.RotationPolicy{LockoutThreshold: uint32(threshold), LockoutWindow: 3600}}},
	} {
		x.all = append(x.all, a.write(t, e.id, events.SiteActor(a.ID), e.event))
	}
	for _, p := range x.peers[1:] {
		x.hear(p, a)
	}
	return x
}

func (x *logins) say(p *peer, e events.Event, stream events.SiteID) {
	x.all = append(x.all, p.write(x.t, stream.UUID, events.SiteActor(p.ID), e))
}

// hear has a site apply everything that another one has.
func (x *logins) hear(p, from *peer) {
	for _, r := range x.all {
		if o := r.Header.Origin(); from.state.At(o) >= r.Header.Position && p.state.At(o) < r.Header.Position {
			p.hear(x.t, []events.Record{r})
		}
	}
}

// yield has a site say that it knows what was taken from it.
func (x *logins) yield(p *peer) {
	for _, d := range p.state.Lost(p.ID) {
		x.say(p, events.DutiesYielded{Term: d.Term, To: d.Holder, By: d.At.ID}, d.Site)
	}
}

// speak has a site write something.
func (x *logins) speak(p *peer) { x.say(p, events.DutiesYielded{}, p.ID) }

func (x *logins) take(p *peer) {
	owner := x.peers[0].ID
	x.say(p, events.DutiesTaken{Term: p.state.NextTerm(owner), Reason: "gone"}, owner)
}

func (x *logins) give(p, to *peer) {
	owner := x.peers[0].ID
	x.say(p, events.DutiesGiven{Term: p.state.NextTerm(owner), To: to.ID, Epoch: 1, Reason: "well"}, owner)
}

func (x *logins) left(p *peer) int {
	a, _ := p.state.Account(x.account)
	c, _ := p.state.Credential(x.secret)
	left, _ := p.state.LoginsLeft(a, c, p.ID, aggregatetest.Epoch.Add(time.Minute+x.after))
	return max(0, left)
}

func (x *logins) owns(p *peer) bool {
	a, _ := p.state.Account(x.account)
	return p.state.Owner(a) == p.ID
}

func (x *logins) fail(p *peer) {
	x.all = append(x.all, p.write(x.t, x.secret.UUID, events.SiteActor(p.ID), events.SecretRejected{Version: events.SecretID{UUID: aggregatetest.ID("version", 1)}}))
	x.wrong++
}

func (x *logins) have(t *testing.T, when string, want ...int) {
	t.Helper()
	for n, p := range x.peers {
		if got := x.left(p); got != want[n] {
			t.Errorf("%s: site %d may log in %d times, want %d", when, n, got, want[n])
		}
	}
}

// The parts of a budget that can't be divided pass on with the duty, and are never at
// two sites.
func TestPartsOfABudgetPassOn(t *testing.T) {
	x := newLogins(t, 3, 3)
	a, b, c := x.peers[0], x.peers[1], x.peers[2]
	x.have(t, "at first", 1, 0, 0)
	x.take(b)
	x.take(c)
	x.have(t, "taken over by both, who do not hear each other, nor the owner them", 1, 1, 0)
	x.fail(a)
	x.hear(a, b)
	x.yield(a)
	x.have(t, "the owner has heard of one", 0, 1, 0)
	x.hear(b, a)
	x.have(t, "which has heard that it knows, and what it spent", 0, 1, 0)
	x.fail(b)
	x.have(t, "all of it is spent", 0, 0, 0)
}

// Whoever is fenced is not reckoned with any more, nor who has left, who reckons
// with nothing any more.
func TestBudgetsWithoutWhoIsGone(t *testing.T) {
	x := newLogins(t, 3, 3)
	a, b, c := x.peers[0], x.peers[1], x.peers[2]
	x.say(c, events.SiteLeft{Reason: "closed"}, c.ID)
	x.hear(a, c)
	x.hear(b, c)
	x.have(t, "one has left", 1, 0, 0)
	for _, p := range []*peer{a, b} {
		x.speak(p)
		x.hear(a, b)
		x.hear(b, a)
	}
	x.have(t, "both know that both know it", 1, 0, 0)
	x.after = 2 * time.Hour
	x.have(t, "and have known it for a window", 1, 1, 0)
	x.after = 0
	x.take(b)
	x.say(b, fenceOf(b, a), a.ID)
	x.have(t, "the owner is fenced", 1, 1, 0)
	x.after = 2 * time.Hour
	if got := x.left(b); got != 2 {
		t.Errorf("the only one left may log in %d times, want 2", got)
	}
}

// A site that joins has a share at once, and no more than what those before have left.
func TestWhoJoinsSpendsNothingTwice(t *testing.T) {
	x := newLogins(t, 1, 3)
	x.fail(x.peers[0])
	x.fail(x.peers[0])
	x.peers = append(x.peers, newPeer(1))
	x.say(x.peers[0], events.SiteAdmitted{Name: "b", Identity: []byte{1}, Role: events.Steward, Custodian: true}, x.peers[1].ID)
	x.hear(x.peers[1], x.peers[0])
	x.have(t, "all of it is spent", 0, 0)
	x.after = 2 * time.Hour
	x.have(t, "later", 1, 1)
}

// Sites that may not open a secret have no share in what may be spent on it.
func TestWhoOpensNothingHasNoShare(t *testing.T) {
	x := newLogins(t, 2, 3)
	edge := newPeer(9)
	x.say(x.peers[0], events.SiteAdmitted{Name: "edge", Identity: []byte{9}, Role: events.EdgeSite}, edge.ID)
	x.hear(x.peers[1], x.peers[0])
	x.have(t, "with a third site", 1, 1)
}

// Where there are more sites than tries, each may log in all the same as long as it has
// no reason to doubt the secret; once it was turned down there, not before it hears of
// one that the target takes.
func TestWhoDoubtsNothingMayLogIn(t *testing.T) {
	x := newLogins(t, 4, 3)
	a, b, c := x.peers[0], x.peers[1], x.peers[2]
	x.have(t, "nothing is known to be right", 1, 0, 0, 0)
	right := func() {
		staged := a.write(t, x.secret.UUID, events.SiteActor(a.ID), events.SecretStaged{Sealed: []byte("s")})
		x.all = append(x.all, staged, a.write(t, x.secret.UUID, events.SiteActor(a.ID),
			events.SecretApplied{Version: events.SecretID{UUID: staged.Header.ID}, How: events.ByEntry}))
	}
	right()
	for _, p := range x.peers[1:] {
		x.hear(p, a)
	}
	x.have(t, "a secret is right", 1, 1, 1, 1)
	right() // behind the back of the others
	x.fail(c)
	x.have(t, "one of them was wrong", 1, 1, 0, 1)
	x.hear(b, c)
	x.have(t, "and another one has heard", 1, 0, 0, 1)
	x.hear(a, c)
	right() // it knows what was wrong
	for _, p := range x.peers[1:] {
		x.hear(p, a)
	}
	x.have(t, "they know what is right", 1, 1, 0, 1)
}

// Sites take the rotation of an account from each other, give it back, hear some of it
// or nothing, and log in wrongly whenever they may. The target never locks the account,
// in whatever order (invariant I10).
func TestAttackBudgetsNeverAddUp(t *testing.T) {
	taken, full := 0, 0
	runs := 3000
	if testing.Short() {
		runs = 1000
	}
	for seed := range uint64(runs) {
		rng := rand.New(rand.NewPCG(seed, 1))
		sites, threshold := 2+rng.IntN(3), 2+rng.IntN(7)
		x := newLogins(t, sites, threshold)
		quiet := rng.IntN(3) // so that what comes last is not spent before
		leaving := x.peers[sites-1]
		if rng.IntN(3) > 0 {
			leaving = nil
		}
		for range 10 + rng.IntN(60) {
			p, other := x.peers[rng.IntN(sites)], x.peers[rng.IntN(sites)]
			switch n := rng.IntN(13); {
			case n == 12 && other != x.peers[0] && !x.peers[0].state.Left(x.peers[0].ID):
				x.say(x.peers[0], events.SuccessorNamed{Successor: other.ID, Yield: 60_000, Take: 90_000}, x.peers[0].ID)
			case p.state.Left(p.ID): // it hears nobody any more
				for x.left(p) > 0 {
					x.fail(p)
				}
			case p == leaving && n == 0 && !x.owns(p): // else it gives its work away first
				x.say(p, events.SiteLeft{Reason: "closed"}, p.ID)
			case n < 2:
				x.take(p)
				taken++
			case n < 3 && p != other && x.owns(p):
				x.give(p, other)
			case n < 5:
				x.yield(p)
			case n < 9:
				x.hear(p, other)
			case x.left(p) > 0 && rng.IntN(quiet+1) == 0:
				x.fail(p)
			}
		}
		for range 2 { // everybody spends what they may, before and after all have heard all
			for _, p := range x.peers {
				for x.left(p) > 0 {
					x.fail(p)
				}
			}
			if x.wrong >= threshold {
				t.Fatalf("seed %d: %d wrong logins by %d sites, and the target locks the account at %d", seed, x.wrong, sites, threshold)
			}
			for range x.peers {
				for _, p := range x.peers {
					if p.state.Left(p.ID) {
						continue
					}
					for _, other := range x.peers {
						x.hear(p, other)
					}
					x.yield(p)
				}
			}
		}
		if x.wrong == threshold-1 {
			full++
		}
		digest := x.peers[0].state.Digest()
		for _, p := range x.peers[1:] {
			if p.state.Digest() != digest && !p.state.Left(p.ID) {
				t.Fatalf("seed %d: two states", seed)
			}
		}
	}
	if t.Logf("%d takeovers; all of the budget was spent in %d of %d runs", taken, full, runs); taken < runs || full < runs/2 {
		t.Errorf("the property tried nothing: %d takeovers, all of the budget spent in %d of %d runs", taken, full, runs)
	}
}

package aggregate_test

import (
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// leftAfter is how many logins a site has left some time after the beginning, with what
// is here of all logs.
func (x *logins) leftAfter(t *testing.T, p *peer, after time.Duration) int {
	t.Helper()
	s := build(t, p.ID, x.all, nil)
	a, _ := s.Account(x.account)
	c, _ := s.Credential(x.secret)
	left, _ := s.LoginsLeft(a, c, p.ID, aggregatetest.Epoch.Add(after))
	return max(0, left)
}

// Logins of which a fenced site speaks, that goes on by itself, do not count, and the
// target has seen them: for a window its share is nobody else's.
func TestLoginsOfAFencedSiteKeepItsShare(t *testing.T) {
	x := newLogins(t, 3, 7)
	a, b, c := x.peers[0], x.peers[1], x.peers[2]
	x.say(a, fenceOf(a, c), c.ID)
	x.hear(b, a)
	x.speak(b)
	x.hear(a, b)
	if got := x.leftAfter(t, a, 3*time.Hour); got != 3 {
		t.Fatalf("with nothing heard of it, %d are left, want half of 6", got)
	}
	c.Skew = 150 * time.Minute
	x.fail(c)
	for after, want := range map[time.Duration]int{3 * time.Hour: 2, 4 * time.Hour: 3} {
		if got := x.leftAfter(t, a, after); got != want {
			t.Errorf("%s after the beginning %d are left, want %d", after, got, want)
		}
	}
}

// Who has the keys of a fenced site can say that it logs in as often as it likes, at
// whatever time: the others are left what they had before the fence.
func TestAttackLoginsOfAFencedSite(t *testing.T) {
	for threshold := range 10 {
		if threshold < 2 {
			continue
		}
		x := newLogins(t, 3, threshold)
		a, c := x.peers[0], x.peers[2]
		before := x.left(a)
		x.say(a, fenceOf(a, c), c.ID)
		for n := range 200 {
			c.Skew = time.Duration(n) * 4 * time.Minute
			x.all = append(x.all, c.write(t, x.secret.UUID, events.SiteActor(c.ID), events.SecretTried{}))
			x.fail(c)
		}
		for n := range 24 {
			if got := x.leftAfter(t, a, time.Duration(n)*time.Hour); got < before {
				t.Errorf("threshold %d: after %dh only %d are left, %d before the fence", threshold, n, got, before)
			}
		}
	}
}

// A member of whose log two branches are met has logged in all the same: the target
// counts on, and so do the site itself and who has heard of it.
func TestLoginsInABranchCount(t *testing.T) {
	x := newLogins(t, 2, 5)
	a, b := x.peers[0], x.peers[1]
	size := a.state.At(a.Origin())
	x.fail(a)
	x.fail(a)
	x.hear(b, a)
	before := map[*peer]int{a: x.left(a), b: x.left(b)}
	x.say(b, events.ForkProved{Log: a.Origin(), Size: size, Proof: []byte("proof")}, a.ID)
	for _, p := range x.peers {
		if got := x.leftAfter(t, p, time.Minute); got != before[p] {
			t.Errorf("%d are left to %s, and %d before the fork was met", got, p.ID, before[p])
		}
	}
	if got := x.leftAfter(t, a, 2*time.Hour); got != 2 {
		t.Errorf("after the window %d are left, want half of 4", got)
	}
}

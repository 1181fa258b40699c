package site

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// voided has the secrets of a removed account erased at a and c, while b, which is cut
// off, restores the account; then b comes back, and is prepared before it serves.
func voided(t *testing.T, before func(x *custody, b *Site)) (x *custody, key uuid.UUID) {
	t.Helper()
	x = newCustody(t)
	x.do(x.a, commands.AddUser{Name: "eve", Role: events.Admin, Key: newPublicKey(t)})
	var eve events.Actor
	x.a.commands.View(func(s *aggregate.State) {
		u, _ := s.UserByName("eve")
		eve = events.UserActor(u.ID)
	})
	key = x.current(x.a).Credential.UUID
	x.do(x.a, commands.RemoveAccount{Account: "root", Target: "web1"})
	x.b.hears(x.a)
	cfg := x.b.SameAddresses(x.b.cfg)
	x.b.end()

	x.do(x.a, commands.AskSecretsErasure{Account: "root", Target: "web1", Reason: "gdpr"})
	if _, err := x.a.commands.Do(t.Context(), eve, commands.ConfirmSecretsErasure{Account: "root", Target: "web1"}); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*member{x.a, x.c} {
		m.hears(x.a)
		for end := time.Now().Add(30 * time.Second); m.sealer.Has(key); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s does not destroy it", m.Name())
			}
		}
	}
	s := open(t, cfg)
	if _, err := s.commands.Do(t.Context(), x.admin, commands.RestoreAccount{Account: "root", Target: "web1", Reason: "in use"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	x.b = serveConfig(t, cfg, func(b *Site) { before(x, b) })
	return x, key
}

// shared has a site send its data keys to nobody by itself, as if that was under way
// already: what it sent was refused.
func shared(x *custody, b *Site) {
	b.sharing.next[x.a.ID()], b.sharing.next[x.c.ID()] = nil, nil
}

// A site sends its data keys before what it decided is heard, so that they are refused,
// and never sends them again by itself: who misses them asks.
func TestKeysOfAVoidErasureComeBack(t *testing.T) {
	x, key := voided(t, shared)
	for _, m := range []*member{x.a, x.b, x.c} {
		m.hears(x.b)
		m.hears(x.a)
		x.eventually(m, "first")
		m.commands.View(func(s *aggregate.State) {
			if _, erased := s.Erased(key); erased {
				t.Errorf("%s: the erasure counts", m.Name())
			}
		})
		if missing := m.missingKeys(); len(missing) != 0 {
			t.Errorf("%s goes on asking for %v", m.Name(), missing)
		}
	}
	x.do(x.a, commands.RevealSecret{Account: "root", Target: "web1", Reason: "look"})
}

// Who has the data keys does not answer for a time, so that they are asked for rarely:
// once it is met again, they are asked for at once.
func TestKeysAreAskedForWhenTheirSiteIsMet(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds without an answer")
	}
	x, key := voided(t, func(x *custody, b *Site) {
		shared(x, b)
		b.wanted.giving = map[events.SiteID]bool{x.a.ID(): true, x.c.ID(): true} // for ever
	})
	x.a.hears(x.b)
	time.Sleep(8 * time.Second) // asked for after 0, 2 and 6 seconds
	if x.a.sealer.Has(key) {
		t.Fatal("it is there without an answer")
	}
	x.b.end()
	x.b = serveConfig(t, x.b.SameAddresses(x.b.cfg), func(b *Site) { shared(x, b) })
	for end := time.Now().Add(4 * time.Second); !x.a.sealer.Has(key); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is not asked for when its site is met")
		}
	}
}

// What nobody has is asked for ever more rarely; what comes to be missing, or whatever is
// left when some has come, soon.
func TestAskingIsBounded(t *testing.T) {
	var a asking
	one, two := uuid.New(), uuid.New()
	now := time.Now()
	asks := func(d time.Duration, missing ...uuid.UUID) (n int) {
		for end := now.Add(d); now.Before(end); now = now.Add(lookAgain) {
			if a.due(now, missing) {
				n++
			}
		}
		return n
	}
	if n := asks(time.Hour); n != 0 {
		t.Errorf("asked %d times for nothing", n)
	}
	if n := asks(askAgain, one, two); n != 1 {
		t.Errorf("asked %d times at first", n)
	}
	if n := asks(time.Hour, one, two); n < 55 || n > 65 {
		t.Errorf("asked %d times in an hour", n)
	}
	if n := asks(2*askRarely, two); n < 5 || n > 7 {
		t.Errorf("asked %d times in two minutes after one has come", n)
	}
	if n := asks(lookAgain, one, two); n != 1 {
		t.Errorf("asked %d times as soon as another one is missing", n)
	}
}

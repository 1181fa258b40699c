package site

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// What was answered at one half of a pair can be opened at the other half: the answer
// waits for the key, not for the sealed secret alone.
func TestPairHoldsTheKeysOfWhatWasAnswered(t *testing.T) {
	a, b := servePair(t, "a", "b"), servePair(t, "b", "a")
	if err := a.AddAdmin(t.Context(), "ada", newPublicKey(t)); err != nil {
		t.Fatal(err)
	}
	var admin events.Actor
	a.commands.View(func(s *aggregate.State) { admin = events.UserActor(s.Users()[0].ID) })
	b.join(a, admin, events.PeerSite)
	if _, err := a.commands.Do(t.Context(), admin, commands.AddTarget{Name: "web1", Addr: "192.0.2.1:22", HostKeys: []string{newPublicKey(t)}}); err != nil {
		t.Fatal(err)
	}
	b.waiting.mu.Lock() // b takes no keys
	sealed, err := vault.Add(t.Context(), a.sealer, events.Password, seal.NewSecret([]byte("hunter2")))
	answered := make(chan error, 1)
	go func() {
		if err == nil {
			_, err = a.commands.Do(t.Context(), admin, commands.AddAccount{Name: "root", Target: "web1", Secret: sealed})
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		b.waiting.mu.Unlock()
		t.Fatalf("answered while b has no key: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	b.waiting.mu.Unlock()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	secret, err := vault.Open(t.Context(), b.sealer, sealed)
	if err != nil || string(secret.Bytes()) != "hunter2" {
		t.Errorf("b opens it: %v", err)
	}
}

// Nobody waits for keys while a pair is degraded, nor for ever while it is not.
func TestWaitForKeysOfAPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newPairKeys()
		one, other := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
		check := func(when string, wantLate int, want time.Duration) {
			t.Helper()
			began := time.Now()
			if late := k.wait(time.Second); late != wantLate || time.Since(began) != want {
				t.Errorf("%s: %d late after %s, want %d after %s", when, late, time.Since(began), wantLate, want)
			}
		}
		check("no keys", 0, 0)
		k.made(one)
		k.made(other)
		go func() { time.Sleep(50 * time.Millisecond); k.kept([]uuid.UUID{one, other}) }()
		check("both are held", 0, 50*time.Millisecond)
		check("nothing new", 0, 0)
		k.made(one)
		k.made(other)
		k.kept([]uuid.UUID{other})
		check("one does not come", 1, time.Second)
		check("it is waited for once", 0, 0)
		k.made(one)
		go func() { time.Sleep(20 * time.Millisecond); k.degrade(true) }()
		check("the pair degrades", 0, 20*time.Millisecond)
		k.made(other)
		check("degraded", 0, 0)
		k.degrade(false)
		k.made(other)
		check("restored", 1, time.Second)
	})
}

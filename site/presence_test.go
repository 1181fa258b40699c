package site

import (
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// Two sites that hear each other by way of a third one only: a strict role goes on at
// one as long as the other is there (mesh.present says so), and no longer.
func TestNewsByWayOfAnotherSite(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits until news are old")
	}
	between := serveMember(t, "between")
	if err := between.AddAdmin(t.Context(), "ada", newPublicKey(t)); err != nil {
		t.Fatal(err)
	}
	var admin events.Actor
	between.commands.View(func(s *aggregate.State) { admin = events.UserActor(s.Users()[0].ID) })
	home, far := serveDialler(t, "home"), serveDialler(t, "far") // neither can be reached by the other
	home.join(between, admin, events.PeerSite)
	far.join(between, admin, events.PeerSite)
	if _, err := home.commands.Do(t.Context(), admin, commands.AddUser{Name: "olaf", Role: events.Operator, Key: newPublicKey(t)}); err != nil {
		t.Fatal(err)
	}
	const within = 4 * time.Second // twice that for what runs
	strict, seconds := events.Strict, uint64(within/time.Second)
	if _, err := home.commands.Do(t.Context(), admin, commands.SetRole{Role: events.Operator, Staleness: &strict, Within: &seconds}); err != nil {
		t.Fatal(err)
	}
	far.hears(home)
	stale := func() (why string) {
		far.commands.View(func(s *aggregate.State) {
			u, err := s.UserByName("olaf")
			if err != nil {
				t.Fatal(err)
			}
			if home := s.HomeOf(u); far.silence(home) < time.Hour {
				t.Fatalf("the two sites are linked")
			}
			why = far.commands.Silence(s, u)
		})
		return why
	}
	for end := time.Now().Add(3 * within); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if why := stale(); why != "" {
			t.Fatalf("%s before %s: %s", time.Until(end), end, why)
		}
	}
	home.stop()
	for end := time.Now().Add(2*within + 3*time.Second); stale() == ""; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the site is gone, and nobody is refused")
		}
	}
}

package site

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// A site is fenced beyond a cut, while others hear more of it and go on from that. What
// they decided comes to the one that fenced before what it knew of. The digest at their
// clock is the same there before and after, and when the fence is taken back, all that
// was decided counts, also after a start.
func TestAFenceIsTakenBackOfWhatOthersWentOnFrom(t *testing.T) {
	a, c, d := serveMember(t, "a"), serveMember(t, "c"), serveMember(t, "d")
	admin := adminAt(t, a)
	c.join(a, admin, events.Steward)
	d.join(a, admin, events.PeerSite)
	c.hears(d)
	a.node().SetPeers(nil)
	addUser(t, d.Site, "beyond")
	c.hears(d)
	addUser(t, c.Site, "after")
	at, want, err := c.Digest(t.Context(), events.Clock{})
	if err != nil {
		t.Fatal(err)
	}
	do := func(cmd commands.Command) {
		t.Helper()
		if _, err := a.commands.Do(t.Context(), admin, cmd); err != nil {
			t.Fatal(err)
		}
	}
	do(commands.FenceSite{Site: "d", Reason: "stolen"}) // and a speaks to its peers again
	a.hears(c)
	c.hears(a)
	same := func(when string, users int) {
		t.Helper()
		for _, m := range []*member{a, c} {
			if _, got, err := m.Digest(t.Context(), at); err != nil || got != want {
				t.Errorf("%s, at %s: %s, %v; want %s", when, m.Name(), got, err, want)
			}
			n := -1
			for end := time.Now().Add(20 * time.Second); n != users && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				m.commands.View(func(s *aggregate.State) { n = len(s.Users()) }) // the state is built anew a moment later
			}
			if n != users {
				t.Errorf("%s, at %s: %d users, want %d", when, m.Name(), n, users)
			}
		}
	}
	same("fenced", 2)
	do(commands.ReconcileSite{Site: "d", Reason: "found"})
	addUser(t, d.Site, "again")
	a.hears(d)
	c.hears(a)
	c.hears(d)
	same("taken back", 4)
	a = serveConfig(t, a.down())
	a.hears(d)
	same("started again", 4)

	// In the order in which it may have come, and before the rest of it is here.
	var heard, rest []events.Record
	for r, err := range a.source.Records(t.Context(), events.Ctl, events.Clock{}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Header.Origin() == d.ctl.Log().Origin() && r.Header.Position > at.At(r.Header.Origin())-2 {
			rest = append(rest, r)
		} else {
			heard = append(heard, r)
		}
	}
	build := func(mayLack bool, records ...events.Record) (*aggregate.State, error) {
		return a.fold(mayLack, func(f *folding) error {
			for _, r := range records {
				if err := f.Apply(r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	state, err := build(false, append(slices.Clone(heard), rest...)...)
	if err != nil || len(state.Users()) != 4 {
		t.Fatalf("what others knew of comes last: %v", err)
	}
	if state, err = build(true, heard...); err != nil || len(state.Users()) != 2 {
		t.Fatalf("it is on its way: %v", err)
	}
	if _, err = build(false, heard...); !errors.Is(err, aggregate.ErrEarly) {
		t.Errorf("it is nowhere: %v", err)
	}
}

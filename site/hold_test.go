package site

import (
	"errors"
	"fmt"
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
	if o := d.ctl.Log().Origin(); a.commands.WaitApplied(t.Context(), o, at.At(o)) != nil { // what c decided does not wait for it
		t.Fatal("a did not hear what c knew of")
	}
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
	build := func(lacks *events.ClockEntry, records ...events.Record) (*aggregate.State, error) {
		return a.fold(t.Context(), lacks, func(f *folding) error {
			for _, r := range records {
				if err := f.Apply(r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	state, err := build(nil, append(slices.Clone(heard), rest...)...)
	if err != nil || len(state.Users()) != 4 {
		t.Fatalf("what others knew of comes last: %v", err)
	}
	var lacks events.ClockEntry
	if state, err = build(&lacks, heard...); err != nil || len(state.Users()) != 2 {
		t.Fatalf("it is on its way: %v", err)
	}
	if o := d.ctl.Log().Origin(); lacks.Origin != o || lacks.Position != at.At(o) {
		t.Errorf("%s position %d lacks, want %s position %d", lacks.Origin, lacks.Position, o, at.At(o))
	}
	if _, err = build(nil, heard...); !errors.Is(err, aggregate.ErrEarly) {
		t.Errorf("it is nowhere: %v", err)
	}
	if _, err = build(&lacks, append(slices.Clone(heard), rest[1:]...)...); !errors.Is(err, aggregate.ErrGap) {
		t.Errorf("a record is missing while others wait: %v", err)
	}
}

// A steward betrays: it fences another site, claims to know of records of it that do not
// exist, and takes the fence back. The log stays held, as nobody can do without what is
// claimed; but the state is not built anew for that again and again, and a fence that is
// true still counts at once.
func TestAttackAStewardClaimsWhatNeverComes(t *testing.T) {
	a, c, d := serveMember(t, "a"), serveMember(t, "c"), serveMember(t, "d")
	admin := adminAt(t, a)
	c.join(a, admin, events.Steward)
	d.join(a, admin, events.PeerSite)
	addUser(t, d.Site, "dan")
	c.hears(d)
	a.hears(d)
	target := d.ctl.Log().Origin()
	size, _ := d.ctl.Log().Size()
	c.say(d.ID().UUID, events.SiteFenced{Logs: []events.ClockEntry{{Origin: target, Position: size}}, Reason: "it is a lie"})
	c.masks()
	claim := c.applied.Load().With(target, size+1000)
	for said := false; !said; { // what it hears meanwhile has it forget
		c.applied.Store(&claim)
		c.say(c.ID().UUID, events.SiteStopped{})
		var coder events.ClockCoder
		for e, err := range c.ctl.Log().Headers(t.Context(), 1) {
			var h events.Header
			if err == nil {
				h, err = events.DecodeHeader(e.Header)
			}
			if err == nil {
				_, err = coder.Apply(h.Clock)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		said = coder.Clock().At(target) == claim.At(target)
	}
	c.say(d.ID().UUID, events.SiteReinstated{})
	a.hears(c)
	held := func(m *member) (state *aggregate.State, is, called bool) {
		m.commands.View(func(s *aggregate.State) { // which one it is, and nothing of it
			state, is, called = s, s.HeldWith().Sites[d.ID()], s.Holds().Sites[d.ID()]
		})
		return state, is, called
	}
	// What is called for is tried, in vain.
	for end := time.Now().Add(20 * time.Second); a.mesh.lacks.Load() == nil && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	before, is, called := held(a)
	if l := a.mesh.lacks.Load(); l == nil || l.first != (events.ClockEntry{Origin: target, Position: size + 1000}) || !is || called {
		t.Fatalf("it lacks %v; held %v, called for %v", l, is, called)
	}
	for n := range 20 {
		addUser(t, a.Site, fmt.Sprintf("user%d", n))
		time.Sleep(50 * time.Millisecond)
	}
	if now, _, _ := held(a); now != before {
		t.Error("the state was built anew, with nothing more there")
	}
	if _, err := a.commands.Do(t.Context(), admin, commands.FenceSite{Site: "d", Reason: "stolen"}); err != nil {
		t.Fatal(err)
	}
	a.masks()
	a = serveConfig(t, a.down())
	if _, is, called := held(a); !is || !called || a.mesh.lacks.Load() != nil {
		t.Errorf("started again: held %v, called for %v", is, called)
	}
}

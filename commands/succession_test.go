package commands_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// members makes the two halves a mesh; b is admitted as it is asked to.
func (h *halves) members(role events.MemberRole, custodian bool) {
	h.Helper()
	for i, w := range []*world{h.a, h.b} {
		e := events.SiteAdmitted{Name: []string{"here", "there"}[i], Role: role, Custodian: custodian, Identity: []byte{byte(i)}}
		if i == 0 {
			e.Role, e.Custodian, e.Founder = events.Steward, true, true
		}
		h.a.fact(w.site.ID.UUID, e)
	}
	h.hear()
}

func refusedWith(t *testing.T, err error, says string) {
	t.Helper()
	var r *commands.Refusal
	if !errors.As(err, &r) || !strings.Contains(r.Error(), says) {
		t.Errorf("got %v, want a refusal that says %q", err, says)
	}
}

// A successor is named with times by which both can't work at once, and is one that
// could do the work.
func TestNamingASuccessor(t *testing.T) {
	name := func(w *world, c commands.NameSuccessor) error {
		_, err := w.d.Do(t.Context(), w.actor("ada"), c)
		return err
	}
	h := newHalves(t)
	h.members(events.PeerSite, true)
	for says, c := range map[string]commands.NameSuccessor{
		"at the earliest":  {Successor: "there", Yield: time.Minute, Take: 62 * time.Second},
		"at least":         {Successor: "there", Yield: 999 * time.Millisecond, Take: time.Minute},
		"at most":          {Successor: "there", Yield: time.Minute, Take: 25 * time.Hour},
		"whole":            {Successor: "there", Yield: time.Minute + time.Microsecond, Take: 90 * time.Second},
		"its own":          {Successor: "here", Yield: time.Minute, Take: 90 * time.Second},
		"no site":          {Successor: "nowhere", Yield: time.Minute, Take: 90 * time.Second},
		"has no successor": {},
	} {
		refusedWith(t, name(h.a, c), says)
	}
	if err := name(h.a, commands.NameSuccessor{Successor: "there", Yield: time.Minute, Take: 90 * time.Second}); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, name(h.a, commands.NameSuccessor{Successor: "there", Yield: time.Minute, Take: 90 * time.Second}), "already")
	if err := name(h.a, commands.NameSuccessor{}); err != nil {
		t.Fatal(err)
	}
	if _, named := h.a.state.Successor(h.a.site.ID); named {
		t.Error("nobody was named, and there is a successor")
	}
	for _, c := range []struct {
		role      events.MemberRole
		custodian bool
	}{{events.PeerSite, false}, {events.EdgeSite, true}} {
		h := newHalves(t)
		h.members(c.role, c.custodian)
		refusedWith(t, name(h.a, commands.NameSuccessor{Successor: "there", Yield: time.Minute, Take: 90 * time.Second}), "custodian")
	}
}

// A site takes nothing over that it was not named for, nor too early, nor from one
// that was heard meanwhile.
func TestAttackSuccession(t *testing.T) {
	h := newHalves(t)
	h.members(events.PeerSite, true)
	a := h.a.site.ID
	succeed := func(silent time.Duration, written uint64) error {
		records, err := h.b.d.Do(t.Context(), events.SiteActor(h.b.site.ID), commands.Succeed{Of: a, Silent: silent, Written: written})
		if err == nil && len(records) == 0 {
			return errors.New("nothing to take")
		}
		return err
	}
	refusedWith(t, succeed(time.Hour, h.b.state.Written(a)), "has not named this one")
	h.a.do("ada", commands.NameSuccessor{Successor: "there", Yield: time.Minute, Take: 90 * time.Second})
	h.hear()
	refusedWith(t, succeed(89*time.Second, h.b.state.Written(a)), "silent")
	refusedWith(t, succeed(time.Hour, h.b.state.Written(a)-1), "just now")
	if err := succeed(90*time.Second, h.b.state.Written(a)); err != nil {
		t.Fatal(err)
	}
	if err := succeed(time.Hour, h.b.state.Written(a)); err == nil || err.Error() != "nothing to take" {
		t.Errorf("taken twice: %v", err)
	}
	account, _, err := h.b.state.AccountByName("root", "web1")
	if err != nil || h.b.state.Owner(account) != h.b.site.ID {
		t.Fatalf("the owner is %s, %v", h.b.state.Owner(account), err)
	}
	// What is scheduled is planned where it is carried out, and nowhere else.
	h.hear()
	_, err = h.a.d.Do(t.Context(), events.SiteActor(a), commands.PlanRotation{Account: account.ID.String(), Why: events.WhySchedule})
	refusedWith(t, err, "is carried out at site")
	// What it has, it gives away only as a whole.
	_, err = h.a.d.Do(t.Context(), h.a.actor("ada"), commands.GiveDuties{To: "there", Reason: "r"})
	if err != nil {
		t.Errorf("to who has the rest: %v", err)
	}
	// Who has left, or is fenced, takes nothing, since nobody waits for its answers.
	for _, gone := range []events.Event{events.SiteLeft{Reason: "r"}, events.SiteFenced{Reason: "r"}} {
		h := newHalves(t)
		h.members(events.PeerSite, true)
		h.a.do("ada", commands.NameSuccessor{Successor: "there", Yield: time.Minute, Take: 90 * time.Second})
		h.hear()
		by := h.b
		if _, fenced := gone.(events.SiteFenced); fenced {
			by = h.a
		}
		by.fact(h.b.site.ID.UUID, gone)
		h.hear()
		if !h.b.state.Left(h.b.site.ID) && !h.b.state.Fenced(h.b.site.ID) {
			t.Fatalf("%T takes nobody out", gone)
		}
		if n := len(h.a.state.Heirs(h.a.site.ID)); n != 0 {
			t.Errorf("%T: %d sites are waited for", gone, n)
		}
		_, err := h.b.d.Do(t.Context(), events.SiteActor(h.b.site.ID), commands.Succeed{Of: h.a.site.ID, Silent: time.Hour, Written: h.b.state.Written(h.a.site.ID)})
		refusedWith(t, err, "no member of the mesh any more")
		if by == h.b {
			continue
		}
		by.fact(h.b.site.ID.UUID, events.SiteReinstated{Reason: "r"})
		h.hear()
		again := func() error {
			_, err := h.b.d.Do(t.Context(), events.SiteActor(h.b.site.ID), commands.Succeed{Of: h.a.site.ID, Silent: time.Hour, Written: h.b.state.Written(h.a.site.ID)})
			return err
		}
		refusedWith(t, again(), "after it was named")
		h.a.do("ada", commands.NameSuccessor{Successor: "there", Yield: time.Minute, Take: 2 * time.Minute})
		h.hear()
		if err := again(); err != nil {
			t.Errorf("named again: %v", err)
		}
	}
	// By a naming that the site took back, nothing is taken.
	h.a.do("ada", commands.NameSuccessor{})
	h.hear()
	refusedWith(t, succeed(time.Hour, h.b.state.Written(a)), "has not named this one")
	if d := aggregate.LeastTake(time.Minute); d < 62200*time.Millisecond {
		t.Errorf("a successor may take over after %s", d)
	}
}

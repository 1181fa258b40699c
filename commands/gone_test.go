package commands_test

import (
	"testing"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
)

// A session of a site that is gone takes nobody's place, and its recording may be
// erased: nobody will ever hear how it ended. While its site is heard it does and may
// not be.
func TestSessionsOfASiteThatIsGone(t *testing.T) {
	for how, goes := range map[string]commands.Command{
		"fenced":     commands.FenceSite{Site: "there", Reason: "stolen"},
		"taken over": commands.TakeOver{Site: "there", Reason: "burnt down"},
	} {
		t.Run(how, func(t *testing.T) {
			h := newHalves(t)
			h.members(events.Steward, true)
			h.mustAsk(h.a, commands.LimitTarget{Target: "web1", MaxSessions: 1})
			h.hear()
			started, err := h.b.enters("olaf")
			if err != nil {
				t.Fatal(err)
			}
			h.hear()
			ask := commands.AskErasure{Session: started.Session, Reason: "a card number"}
			if _, err := h.a.enters("olaf"); err == nil {
				t.Fatal("a session more than the target takes")
			}
			refusedWith(t, h.asked(h.a, ask), "is running")
			h.mustAsk(h.a, goes)
			other, err := h.a.enters("olaf")
			if err != nil {
				t.Fatalf("the session of a site that is gone keeps others out: %v", err)
			}
			h.a.do("site", commands.EndSession{Session: other.Session, Reason: events.EndedByClient})
			refusedWith(t, h.asked(h.a, commands.KillSession{Session: started.Session}), "gone")
			h.mustAsk(h.a, ask)
			if _, err := h.b.enters("olaf"); err == nil {
				t.Error("at the site itself the session takes no place")
			}
			if how == "fenced" {
				return
			}
			h.hear() // it was not gone: it was cut off
			h.mustAsk(h.b, commands.AddGroup{Name: "alive"})
			h.hear()
			if _, err := h.a.enters("olaf"); err == nil {
				t.Error("a session more than the target takes, once its site is heard again")
			}
		})
	}
}

// A site does not leave while sessions run there.
func TestNobodyLeavesWithSessionsRunning(t *testing.T) {
	h := newHalves(t)
	h.members(events.Steward, true)
	h.hear()
	started, err := h.b.enters("olaf")
	if err != nil {
		t.Fatal(err)
	}
	h.mustAsk(h.b, commands.GiveDuties{To: "here", Reason: "closes"})
	refusedWith(t, h.asked(h.b, commands.LeaveMesh{Reason: "closes"}), "1 session")
	h.b.do("site", commands.EndSession{Session: started.Session, Reason: events.EndedByClient})
	h.mustAsk(h.b, commands.LeaveMesh{Reason: "closes"})
}

// Of two policies that did not know of each other, one of which leaves the matter to
// the default, the more lenient one does not count.
func TestTheStricterIsolationCounts(t *testing.T) {
	h := newHalves(t)
	h.members(events.Steward, true)
	set := func(w *world, p events.RotationPolicy) {
		h.mustAsk(w, commands.SetRotationPolicy{Target: "web1", Policy: p})
	}
	for want, both := range map[events.Isolation][2]events.Isolation{
		events.IsolatedNever:  {events.IsolatedNever, events.IsolatedAlways},
		events.IsolatedAsked:  {events.IsolatedAlways, ""},
		events.IsolatedAlways: {events.IsolatedAlways, events.IsolatedAlways},
	} {
		set(h.a, events.RotationPolicy{Isolated: both[0], Disclose: events.ToGranted})
		set(h.b, events.RotationPolicy{Isolated: both[1]})
		h.hear()
		for _, w := range []*world{h.a, h.b} {
			if p := w.state.RotationPolicy(w.account("root", "web1")); p.Isolated != want || p.Disclose != events.ToAdmins {
				t.Errorf("%q and %q: %s, disclosed to %s", both[0], both[1], p.Isolated, p.Disclose)
			}
		}
	}
}

// Work is given neither to a site that has left nor to one that is fenced, and a
// refusal speaks of what was asked.
func TestNoWorkForASiteThatIsGone(t *testing.T) {
	for how, goes := range map[string]func(h *halves){
		"fenced": func(h *halves) { h.mustAsk(h.a, commands.FenceSite{Site: "there", Reason: "stolen"}) },
		"left": func(h *halves) {
			h.mustAsk(h.b, commands.GiveDuties{To: "here", Reason: "closes"})
			h.mustAsk(h.b, commands.LeaveMesh{Reason: "closes"})
		},
	} {
		t.Run(how, func(t *testing.T) {
			h := newHalves(t)
			h.members(events.Steward, true)
			h.hear()
			refusedWith(t, h.asked(h.a, commands.FenceSite{Site: "here", Reason: "r"}), "this site itself")
			refusedWith(t, h.asked(h.a, commands.FenceSite{Site: "there"}), "fencing a site needs a reason")
			refusedWith(t, h.asked(h.a, commands.GiveDuties{To: "here", Reason: "r"}), "this site itself")
			goes(h)
			h.hear()
			refusedWith(t, h.asked(h.a, commands.GiveDuties{To: "there", Reason: "r"}), "no member of the mesh any more")
		})
	}
}

package commands_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// newer has the other half write what a newer holdfast would, and this one hear it.
func (h *halves) newer(eventType string, version uint16, stream uuid.UUID) {
	h.Helper()
	h.b.fact(stream, events.UserDisabled{}) // stands for it in the log of the other half
	r := &h.b.site.Records[len(h.b.site.Records)-1]
	r.Header.Type, r.Header.TypeVersion = eventType, version
	if n, err := h.a.d.Deliver(h.Context(), []events.Record{*r}); err != nil || n != 1 {
		h.Fatalf("%d taken, %v", n, err)
	}
}

func (w *world) barred() (all []string) {
	for _, c := range w.state.Conflicts() {
		if strings.HasPrefix(c.What, "newer decision on ") {
			all = append(all, c.Name)
		}
	}
	return all
}

// What a newer holdfast decided, and this one can't read, is passed over, unless its
// name says that it bars: then nothing new is allowed on what it is about, and what
// takes away still is (rule R20).
func TestANewerDecisionBarsWhatIsNew(t *testing.T) {
	for what, of := range map[string]func(w *world) uuid.UUID{
		"user":    func(w *world) uuid.UUID { return w.user("olaf").ID.UUID },
		"account": func(w *world) uuid.UUID { return w.account("root", "web1").ID.UUID },
		"target":  func(w *world) uuid.UUID { return w.account("root", "web1").Target.UUID },
		"grant":   func(w *world) uuid.UUID { return w.state.Grants()[0].ID.UUID },
		"role":    func(w *world) uuid.UUID { return events.RoleStream(w.user("olaf").Role) },
	} {
		t.Run(what, func(t *testing.T) {
			h := newHalves(t)
			h.members(events.Steward, true)
			h.newer(what+".looked_at", 1, of(h.a))
			if _, err := h.a.enters("olaf"); err != nil || len(h.a.barred()) != 0 {
				t.Fatalf("what may be passed over bars: %v %v", err, h.a.barred())
			}
			h.newer(what+".quarantined!", 1, of(h.a))
			_, err := h.a.enters("olaf")
			refusedWith(t, err, "newer")
			if len(h.a.barred()) != 1 {
				t.Errorf("conflict ls says %v", h.a.barred())
			}
		})
	}
}

// What changes the meaning of a type that is known bars as well; and people can't
// change what is barred, but take it away.
func TestAnEventOfANewerVersionBars(t *testing.T) {
	h := newHalves(t)
	h.members(events.Steward, true)
	target := h.a.account("root", "web1").Target
	h.newer("target.limits_set", 99, target.UUID)
	refusedWith(t, h.asked(h.a, commands.LimitTarget{Target: "web1", MaxSessions: 5}), "newer")
	refusedWith(t, h.asked(h.a, commands.PlanRotation{Account: "root", Target: "web1", Why: events.WhyAsked}), "newer")
	refusedWith(t, h.asked(h.a, commands.RevealSecret{Account: "root", Target: "web1", Reason: "curious"}), "newer")
	h.mustAsk(h.a, commands.RemoveTarget{Target: "web1"})
}

// A peer decides on factors and authorities, and says something newer of them.
func TestAPeerBarsWhatItDecidesOn(t *testing.T) {
	h := newHalves(t)
	h.a.enrolled("olaf", 1)
	h.a.do("ada", commands.TrustCA{Name: "corp", Key: key("corp")})
	h.members(events.PeerSite, false)
	ca := h.a.state.CAs()[0].ID.UUID
	h.newer("factor.redeemed", 99, factorID(1).UUID)
	h.newer("ca.trusted", 99, ca)
	for _, id := range []uuid.UUID{factorID(1).UUID, ca} {
		if _, barred := h.a.state.Barred(id); !barred {
			t.Errorf("conflict ls says %v", h.a.barred())
		}
	}
	h.mustAsk(h.a, commands.DistrustCA{CA: "corp", Reason: "it is newer"})
}

// A person who is barred decides on nothing.
func TestWhoIsBarredDecidesNothing(t *testing.T) {
	h := newHalves(t)
	h.members(events.Steward, true)
	h.newer("user.quarantined!", 1, h.a.user("ada").ID.UUID)
	refusedWith(t, h.asked(h.a, commands.AddGroup{Name: "more"}), "newer")
}

// A member bars nothing that it may not decide on: not what an event says that it is
// about, nor by an event of which nobody can tell.
func TestAttackAMemberBarsWhatIsNotItsOwn(t *testing.T) {
	h := newHalves(t)
	h.members(events.EdgeSite, false)
	user := h.a.user("olaf").ID.UUID
	for _, name := range []string{"user.quarantined!", "moon.landed!", "session.frozen!"} {
		h.newer(name, 1, user)
		if _, err := h.a.enters("olaf"); err != nil || len(h.a.barred()) != 0 {
			t.Errorf("%s of an edge: %v", name, err)
		}
	}
}

// A member writes what it may, as a newer holdfast would, and says that it is about a
// site: neither can it be fenced no more, nor does anything stop at the other site.
func TestAttackAMemberThatCannotBeFenced(t *testing.T) {
	for _, role := range []events.MemberRole{events.EdgeSite, events.PeerSite, events.Steward} {
		t.Run(string(role), func(t *testing.T) {
			h := newHalves(t)
			h.members(role, false)
			for _, stream := range []uuid.UUID{h.b.site.ID.UUID, h.a.site.ID.UUID} {
				h.newer("session.started", 99, stream)
				h.newer("session.frozen!", 1, stream)
			}
			h.newer("site.started", 99, h.b.site.ID.UUID)
			if role != events.Steward {
				h.mustAsk(h.a, commands.SealSite{Site: h.a.site.ID, Provider: "passphrase", Reason: "a break-in"})
				if len(h.a.barred()) > 0 {
					t.Errorf("conflict ls says %v", h.a.barred())
				}
			}
			h.mustAsk(h.a, commands.FenceSite{Site: "there", Reason: "it betrays"})
			if !h.a.state.Fenced(h.b.site.ID) {
				t.Error("it is not fenced")
			}
		})
	}
}

// What bars is in the digest, whatever the order of arrival.
func TestWhatBarsIsInTheDigest(t *testing.T) {
	h := newHalves(t)
	h.members(events.Steward, true)
	h.newer("user.quarantined!", 1, h.a.user("olaf").ID.UUID)
	again := aggregate.New()
	records := slices.Concat(h.a.site.Records, h.b.site.Records)
	for progress := true; progress; {
		progress = false
		for _, r := range records {
			before := again.At(r.Header.Origin())
			if again.Apply(r) == nil && again.At(r.Header.Origin()) > before {
				progress = true
			}
		}
	}
	if again.Digest() != h.a.state.Digest() || len(again.Conflicts()) != len(h.a.state.Conflicts()) {
		t.Error("a rebuild comes to another state")
	}
}

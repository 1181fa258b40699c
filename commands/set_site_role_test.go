package commands_test

import (
	"slices"
	"testing"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// A steward makes another member one, and it may then say who may decide what; and
// takes that back.
func TestTheRoleOfAMember(t *testing.T) {
	h := newHalves(t)
	h.members(events.PeerSite, true)
	no, yes := false, true
	refusedWith(t, h.asked(h.b, commands.SetSiteRole{Site: "there", Role: events.Steward}), "this site has role peer")
	for says, c := range map[string]commands.SetSiteRole{
		"no site":               {Site: "nowhere", Role: events.PeerSite},
		"made the mesh":         {Site: "here", Role: events.PeerSite},
		"has that role already": {Site: "there", Role: events.PeerSite, Custodian: &yes},
		"no role":               {Site: "there", Role: "king"},
		"no area":               {Site: "there", Role: events.PeerSite, Scopes: []events.Area{events.AreaMesh}},
	} {
		refusedWith(t, h.asked(h.a, c), says)
	}
	h.mustAsk(h.a, commands.SetSiteRole{Site: "there", Role: events.Steward, Custodian: &no})
	h.hear()
	m, _ := h.b.state.MeshSite(h.b.site.ID)
	if m.Role != events.Steward || m.Custodian || !slices.Contains(m.Areas, events.AreaMesh) || m.Name != "there" || len(m.Identity) == 0 {
		t.Fatalf("as a steward: %+v", m)
	}
	h.mustAsk(h.b, commands.InviteSite{Site: h.b.site.ID, Name: "third", SecretHash: make([]byte, 32), Valid: 3600e9, Role: events.PeerSite})
	h.hear()
	if len(h.a.state.Invitations()) != 1 {
		t.Error("the invitation of a steward has no effect at another site")
	}
	h.mustAsk(h.a, commands.SetSiteRole{Site: "there", Role: events.EdgeSite})
	h.hear()
	if m, _ := h.a.state.MeshSite(h.b.site.ID); m.Role != events.EdgeSite || m.Custodian || len(m.Areas) != 0 && slices.Contains(m.Areas, events.AreaAccess) {
		t.Errorf("as an edge: %+v", m)
	}
	refusedWith(t, h.asked(h.b, commands.AddGroup{Name: "more"}), "no effect")
}

// Who is not in the mesh has no role there, and is told what there is to do.
func TestTheRoleOfWhoIsGone(t *testing.T) {
	for says, gone := range map[string]events.Event{"begin a new site": events.SiteLeft{Reason: "r"}, "mesh reconcile": events.SiteFenced{Reason: "r"}} {
		h := newHalves(t)
		h.members(events.PeerSite, true)
		by := h.a
		if _, left := gone.(events.SiteLeft); left {
			by = h.b
		}
		by.fact(h.b.site.ID.UUID, gone)
		h.hear()
		refusedWith(t, h.asked(h.a, commands.SetSiteRole{Site: "there", Role: events.EdgeSite}), says)
	}
}

// A member that raises itself has done nothing: what it writes beyond its role has no
// effect anywhere.
func TestAttackAPeerMakesItselfASteward(t *testing.T) {
	h := newHalves(t)
	h.members(events.PeerSite, true)
	h.b.fact(h.b.site.ID.UUID, events.SiteAdmitted{Name: "there", Role: events.Steward, Custodian: true, Identity: []byte{1}})
	h.hear()
	for _, w := range []*world{h.a, h.b} {
		if m, _ := w.state.MeshSite(h.b.site.ID); m.Role != events.PeerSite || slices.Contains(m.Areas, events.AreaMesh) {
			t.Errorf("it is %s, and decides on %v", m.Role, m.Areas)
		}
	}
}

// Stewards that say different things of a member are a conflict: the lesser role counts,
// until one of them says it again.
func TestTwoRolesOfAMember(t *testing.T) {
	h := newHalves(t)
	h.members(events.Steward, true)
	third := aggregatetest.NewSite(7).ID
	h.a.fact(third.UUID, events.SiteAdmitted{Name: "third", Role: events.PeerSite, Custodian: true, Identity: []byte{3},
		Before: []events.ClockEntry{{Origin: events.Origin{Site: third, Epoch: 1, Kind: events.Ctl}, Position: 7}}})
	h.hear()
	h.mustAsk(h.a, commands.SetSiteRole{Site: "third", Role: events.Steward})
	h.mustAsk(h.b, commands.SetSiteRole{Site: "third", Role: events.EdgeSite})
	h.hear()
	for _, w := range []*world{h.a, h.b} {
		if m, _ := w.state.MeshSite(third); m.Role != events.EdgeSite || w.admissions() != 1 {
			t.Errorf("it is %s; in conflict: %d", m.Role, w.admissions())
		}
	}
	h.mustAsk(h.b, commands.SetSiteRole{Site: "third", Role: events.EdgeSite})
	h.hear()
	m, _ := h.a.state.MeshSite(third)
	if h.a.admissions() != 0 || m.Role != events.EdgeSite || len(m.Before.Entries()) != 1 {
		t.Errorf("settled: it is %s, had decided %v before, and in conflict are %d", m.Role, m.Before, h.a.admissions())
	}
}

// asked has an administrator ask for something at a site.
func (h *halves) asked(w *world, c commands.Command) error {
	_, err := w.d.Do(h.Context(), w.actor("ada"), c)
	return err
}

func (h *halves) mustAsk(w *world, c commands.Command) {
	h.Helper()
	if err := h.asked(w, c); err != nil {
		h.Fatal(err)
	}
}

// admissions counts the members about whom stewards disagree.
func (w *world) admissions() (n int) {
	for _, c := range w.state.Conflicts() {
		if c.What == "admission of site" {
			n++
		}
	}
	return n
}

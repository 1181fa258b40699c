package aggregate_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// mesh is a founder and a newcomer that hear each other at once.
type mesh struct {
	t                 *testing.T
	founder, newcomer *peer
}

func newMesh(t *testing.T) *mesh {
	m := &mesh{t, newPeer(0), newPeer(1)}
	m.newcomer.state.In(m.founder.ID)
	m.at(m.founder, m.founder.ID.UUID, events.MeshFounded{})
	return m
}

// at writes at a site, and the other one hears it.
func (m *mesh) at(p *peer, stream uuid.UUID, e events.Event) {
	m.t.Helper()
	r := p.write(m.t, stream, events.SiteActor(p.ID), e)
	for _, other := range []*peer{m.founder, m.newcomer} {
		if other != p {
			other.hear(m.t, []events.Record{r})
		}
	}
	if a, b := m.founder.state.Digest(), m.newcomer.state.Digest(); a != b {
		m.t.Fatalf("after %T the sites hold different states", e)
	}
}

func (m *mesh) admit(areas ...events.Area) {
	m.at(m.founder, m.newcomer.ID.UUID, events.SiteAdmitted{Name: "south", Areas: areas})
}

func (m *mesh) masked(eventType string) string {
	for _, k := range m.founder.state.Masked() {
		if k.Type == eventType && k.Site == m.newcomer.ID {
			return k.Why
		}
	}
	return ""
}

// What a site wrote before it was admitted stays on record and counts nowhere,
// not even at that site: identities that a newcomer made are not the mesh's.
func TestAttackIdentitiesMadeBeforeJoining(t *testing.T) {
	m := newMesh(t)
	user := aggregatetest.ID("user", 1)
	m.at(m.founder, aggregatetest.ID("user", 2), events.UserAdded{Name: "ada", Role: events.Admin})
	m.at(m.newcomer, user, events.UserAdded{Name: "mallory", Role: events.Admin})
	m.at(m.newcomer, user, events.UserKeyAdded{Key: "k", Fingerprint: "f"})
	m.admit(events.Areas()...)
	m.at(m.newcomer, aggregatetest.ID("user", 3), events.UserAdded{Name: "bob", Role: events.Operator})
	for _, p := range []*peer{m.founder, m.newcomer} {
		if _, err := p.state.UserByName("mallory"); err == nil {
			t.Error("a user that was made before joining is one of the mesh")
		}
		if _, err := p.state.UserByKey("f"); err == nil {
			t.Error("a key that was given before joining lets in")
		}
		for _, name := range []string{"ada", "bob"} {
			if _, err := p.state.UserByName(name); err != nil {
				t.Errorf("user %s: %v", name, err)
			}
		}
	}
	if why := m.masked("user.added"); !strings.Contains(why, "before its site was admitted") {
		t.Errorf("masked because %q", why)
	}
}

// A member with valid keys that goes beyond what it was admitted for changes
// nothing, and that is seen.
func TestAttackRogueMember(t *testing.T) {
	m := newMesh(t)
	user, target, account := aggregatetest.ID("user", 1), aggregatetest.ID("target", 1), aggregatetest.ID("account", 1)
	m.at(m.founder, user, events.UserAdded{Name: "bob", Role: events.Operator})
	m.at(m.founder, target, events.TargetAdded{Name: "web1", Addr: "h:22", HostKeys: []string{"k"}})
	m.at(m.founder, account, events.AccountAdded{Name: "root", Target: events.TargetID{UUID: target}})
	m.admit(events.Sessions)
	before := m.founder.state.Digest()
	attacks := []struct {
		stream uuid.UUID
		event  events.Event
	}{
		{aggregatetest.ID("grant", 1), events.GrantAdded{User: events.UserID{UUID: user}, Account: events.AccountID{UUID: account}}},
		{aggregatetest.ID("user", 9), events.UserAdded{Name: "mallory", Role: events.Admin}},
		{user, events.UserDisabled{}},
		{target, events.TargetHostKeyPinned{HostKeys: []string{"evil"}}},
		{aggregatetest.ID("site", 7), events.SiteAdmitted{Name: "evil", Areas: events.Areas()}},
		{m.newcomer.ID.UUID, events.SiteAdmitted{Name: "south", Areas: events.Areas()}}, // more for itself
		{m.founder.ID.UUID, events.SiteStopped{}},                                       // in another site's name
		{aggregatetest.ID("invitation", 1), events.SiteInvited{Name: "evil", Areas: events.Areas()}},
		{aggregatetest.ID("mesh", 1), events.MeshFounded{}},
	}
	for _, a := range attacks {
		m.at(m.newcomer, a.stream, a.event)
		if m.masked(typeName(t, a.event)) == "" {
			t.Errorf("%T was not masked", a.event)
		}
	}
	if _, ok := m.founder.state.Grant(events.GrantID{UUID: aggregatetest.ID("grant", 1)}); ok {
		t.Error("the grant stands")
	}
	if _, err := m.founder.state.UserByName("mallory"); err == nil {
		t.Error("the user is there")
	}
	if u, _ := m.founder.state.User(events.UserID{UUID: user}); u.Disabled() {
		t.Error("bob is disabled")
	}
	if ids := m.founder.state.MeshMembers(); len(ids) != 1 || slices.Contains(ids[0].Areas, events.Mesh) {
		t.Errorf("members %+v", ids)
	}
	if m.founder.state.Digest() == before {
		t.Error("the state does not show that it was tried")
	}
	m.at(m.newcomer, aggregatetest.ID("session", 1), events.SessionStarted{User: events.UserID{UUID: user}, Account: events.AccountID{UUID: account}})
	if _, ok := m.founder.state.Session(events.SessionID{UUID: aggregatetest.ID("session", 1)}); !ok {
		t.Error("what it was admitted for does not count")
	}
	m.admit(events.Areas()...)
	m.at(m.newcomer, aggregatetest.ID("user", 10), events.UserAdded{Name: "cyd", Role: events.Operator})
	if _, err := m.founder.state.UserByName("cyd"); err != nil {
		t.Error("a later admission for more does not count")
	}
}

func typeName(t *testing.T, e events.Event) string {
	t.Helper()
	typ, err := events.TypeOf(e)
	if err != nil {
		t.Fatal(err)
	}
	return typ.Name
}

// Every type of event that is folded belongs to an area, or is what a site says
// of itself: nothing new is outside the rules by accident.
func TestEveryEventHasAnArea(t *testing.T) {
	s := aggregate.New().In(aggregatetest.NewSite(0).ID)
	edge := newPeer(1)
	edge.state.In(s.Mesh())
	for _, typ := range events.Catalogue() {
		m := &aggregate.Mark{Origin: edge.Origin(), Position: 1, Stream: aggregatetest.ID("stream", 1)}
		if s.MaskOf(m, typ.Name) == "" {
			t.Errorf("%s of a site that nobody admitted counts", typ.Name)
		}
	}
}

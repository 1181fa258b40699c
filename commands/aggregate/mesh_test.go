package aggregate_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// What a site wrote before it was admitted knows nothing of its admission, and has
// to wait for it everywhere: at the founder and at those who joined.
func TestNothingOfASiteCountsBeforeItsAdmission(t *testing.T) {
	founder, b, c := newPeer(0), newPeer(1), newPeer(2)
	old := b.write(t, aggregatetest.ID("user", 1), events.SiteActor(b.ID), events.UserAdded{Name: "mallory", Role: events.Admin})
	founder.write(t, founder.ID.UUID, events.SiteActor(founder.ID), events.SiteAdmitted{Name: "a", Identity: make([]byte, 32), Founder: true, Role: events.Steward})
	c.state.Joined(c.ID, founder.ID, events.Clock{})
	for _, p := range []*peer{founder, c} {
		if err := p.state.Apply(old); !errors.Is(err, aggregate.ErrEarly) {
			t.Errorf("site %s takes what a stranger wrote: %v", p.ID, err)
		}
	}
	founder.write(t, b.ID.UUID, events.SiteActor(founder.ID), events.SiteAdmitted{
		Name: "b", Identity: make([]byte, 32), Role: events.Steward, Before: []events.ClockEntry{{Origin: b.Origin(), Position: 1}},
	})
	c.hear(t, founder.Records)
	for _, p := range []*peer{founder, c} {
		deliver(t, p.state, []events.Record{old})
		if len(p.state.Users()) != 0 {
			t.Errorf("site %s counts a user from before its site joined", p.ID)
		}
	}
}

// What a member decides counts as far as its role goes, and identities from
// before it joined do not; in whatever order it comes, the state is the same.
func TestWhatAMemberMayDecide(t *testing.T) {
	for role, counts := range map[events.MemberRole]struct{ user, admits bool }{
		events.Steward: {true, true}, events.PeerSite: {true, false}, events.EdgeSite: {false, false},
	} {
		t.Run(string(role), func(t *testing.T) {
			founder, b := newPeer(0), newPeer(1)
			admit := events.SiteAdmitted{Name: "a", Identity: make([]byte, 32), Founder: true, Role: events.Steward}
			founder.write(t, founder.ID.UUID, events.SiteActor(founder.ID), admit)
			before := events.UserID{UUID: aggregatetest.ID("user", 1)}
			old := b.write(t, before.UUID, events.SiteActor(b.ID), events.UserAdded{Name: "mallory", Role: events.Admin})
			rogue := b.write(t, b.ID.UUID, events.SiteActor(b.ID), events.SiteAdmitted{Name: "b", Founder: true, Role: events.Steward})
			in := founder.write(t, b.ID.UUID, events.SiteActor(founder.ID), events.SiteAdmitted{
				Name: "b", Identity: make([]byte, 32), Role: role, Before: []events.ClockEntry{{Origin: b.Origin(), Position: 2}},
			})
			b.state = aggregate.New() // as it begins anew when it joins
			b.state.Joined(b.ID, founder.ID, events.NewClock(events.ClockEntry{Origin: b.Origin(), Position: 2}))
			deliver(t, b.state, []events.Record{old, rogue, founder.Records[0], in})
			b.Knows = b.state.Clock

			after, third := aggregatetest.ID("user", 2), aggregatetest.ID("site", 7)
			b.write(t, after, events.SiteActor(b.ID), events.UserAdded{Name: "bob", Role: events.Admin})
			b.write(t, third, events.SiteActor(b.ID), events.SiteAdmitted{Name: "c", Identity: make([]byte, 32), Role: events.Steward})
			b.write(t, b.ID.UUID, events.SiteActor(b.ID), events.SiteAdmitted{Name: "b", Founder: true, Role: events.Steward})
			founder.hear(t, b.Records)
			for _, s := range []*aggregate.State{founder.state, b.state} {
				if _, ok := s.User(before); ok {
					t.Error("a user from before it joined counts")
				}
				if _, ok := s.User(events.UserID{UUID: after}); ok != counts.user {
					t.Errorf("a user that it made: %t, want %t", ok, counts.user)
				}
				if _, ok := s.MeshSite(events.SiteID{UUID: third}); ok != counts.admits {
					t.Errorf("a site that it admitted: %t, want %t", ok, counts.admits)
				}
				if s.Founder() != founder.ID {
					t.Errorf("founder %s, want %s", s.Founder(), founder.ID)
				}
			}
			if founder.state.Digest() != b.state.Digest() {
				t.Error("the sites hold different states")
			}
		})
	}
}

// A member says that it is reached at what is no address, or at a very long one, and a
// steward admits it there: nothing of that is taken from their logs.
func TestAttackAddressesThatAreNone(t *testing.T) {
	const good = "b.example:7022"
	founder, b := newPeer(0), newPeer(1)
	by := events.SiteActor(founder.ID)
	admit := func(addr string) {
		founder.write(t, b.ID.UUID, by, events.SiteAdmitted{Name: "b", Identity: make([]byte, 32), Role: events.EdgeSite, Addr: addr})
	}
	founder.write(t, founder.ID.UUID, by, events.SiteCreated{Name: "a"})
	founder.write(t, founder.ID.UUID, by, events.SiteAdmitted{Name: "a", Identity: make([]byte, 32), Founder: true, Role: events.Steward})
	admit(good)
	b.hear(t, founder.Records)
	founder.hear(t, []events.Record{b.write(t, b.ID.UUID, events.SiteActor(b.ID), events.SiteCreated{Name: "b"})})
	at := func() string {
		m, _ := founder.state.MeshSite(b.ID)
		return m.Addr
	}
	for _, bad := range []string{
		strings.Repeat("x", 300<<10) + ":7022", strings.Repeat("x", 300) + ":7022", "b.example", "b.example:", ":7022", "b.example:ssh",
		"b.example:0", "b.example:65536", "b.example:-1", "b\x1b[2J:7022", "b example:7022", "b\n:7022", "::1:7022", "",
	} {
		founder.hear(t, []events.Record{b.write(t, b.ID.UUID, events.SiteActor(b.ID), events.SiteStarted{Mesh: bad})})
		if at() != good {
			t.Errorf("%.40q is where the site is reached", at())
		}
		admit(bad)
		if at() != "" {
			t.Errorf("%.40q is where the site was admitted", at())
		}
		admit(good)
	}
	for _, addr := range []string{"[::1]:7022", "[::]:7022", "0.0.0.0:7022", "192.0.2.1:65535", "[fe80::1%eth0]:1"} {
		if !aggregate.IsMeshAddr(addr) {
			t.Errorf("%s is taken for no address", addr)
		}
	}
}

// A site is reached where it said as a member, and before that where it was admitted,
// whatever it said when it was alone. The digest tells it.
func TestWhereASiteIsReached(t *testing.T) {
	var m *aggregate.MeshSite
	digest := func(said string) string {
		founder, b := newPeer(0), newPeer(1)
		by := events.SiteActor(founder.ID)
		founder.write(t, founder.ID.UUID, by, events.SiteAdmitted{Name: "a", Identity: make([]byte, 32), Founder: true, Role: events.Steward})
		before := []events.Record{
			b.write(t, b.ID.UUID, events.SiteActor(b.ID), events.SiteCreated{Name: "b"}),
			b.write(t, b.ID.UUID, events.SiteActor(b.ID), events.SiteStarted{Mesh: "127.0.0.1:1"}),
		}
		founder.write(t, b.ID.UUID, by, events.SiteAdmitted{
			Name: "b", Identity: make([]byte, 32), Role: events.PeerSite, Addr: "192.0.2.1:2", Before: []events.ClockEntry{{Origin: b.Origin(), Position: 2}},
		})
		founder.hear(t, before)
		if m, _ = founder.state.MeshSite(b.ID); m.Addr != "192.0.2.1:2" {
			t.Errorf("reached at %s, where it was when it was alone", m.Addr)
		}
		b.hear(t, founder.Records)
		founder.hear(t, []events.Record{b.write(t, b.ID.UUID, events.SiteActor(b.ID), events.SiteStarted{Mesh: said})})
		if m, _ = founder.state.MeshSite(b.ID); m.Addr != said || m.AdmittedAt != "192.0.2.1:2" {
			t.Errorf("reached at %s, %s", m.Addr, m.AdmittedAt)
		}
		if b.state.Digest() != founder.state.Digest() {
			t.Error("the sites hold different states")
		}
		return founder.state.Digest()
	}
	if one := digest("192.0.2.1:3"); one != digest("192.0.2.1:3") || one == digest("192.0.2.1:4") {
		t.Error("the digest does not tell where the site said that it is reached")
	}
}

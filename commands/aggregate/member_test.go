package aggregate_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// members is a mesh of a founder and newcomers. Beside each site's state there
// is one that hears everything as late as it may, and one that hears the
// newcomers first.
type members struct {
	*testing.T
	founder *peer
	joined  []*peer
	all     []events.Record
}

func newMembers(t *testing.T) *members {
	m := &members{T: t, founder: newPeer(0)}
	m.at(m.founder, m.founder.ID.UUID, events.SiteAdmitted{Name: "a", Identity: make([]byte, 32), Founder: true, Role: events.Steward})
	return m
}

// at writes at a site, and all others hear it.
func (m *members) at(p *peer, stream uuid.UUID, e events.Event) events.Record {
	m.Helper()
	return m.by(p, events.SiteActor(p.ID), stream, e)
}

func (m *members) by(p *peer, actor events.Actor, stream uuid.UUID, e events.Event) events.Record {
	m.Helper()
	r := p.write(m, stream, actor, e)
	m.all = append(m.all, r)
	for _, other := range append([]*peer{m.founder}, m.joined...) {
		if other != p {
			other.hear(m, []events.Record{r})
		}
	}
	return r
}

// join has a site join that has written something already.
func (m *members) join(p *peer, role events.MemberRole, scopes ...events.Area) {
	m.Helper()
	before := events.ClockEntry{Origin: p.Origin(), Position: uint64(len(p.Records))}
	own := slices.Clone(p.Records)
	p.state = aggregate.New() // as it begins anew when it joins
	p.state.Joined(p.ID, m.founder.ID, events.NewClock(before))
	deliver(m, p.state, own)
	p.Knows = p.state.Clock
	m.admit(p, role, scopes, before)
	m.joined = append(m.joined, p)
	for _, r := range m.all {
		p.Observe(r)
	}
	deliver(m, p.state, m.all)
	for _, other := range append([]*peer{m.founder}, m.joined...) {
		if other != p {
			other.hear(m, own)
		}
	}
	m.all = append(m.all, own...)
}

func (m *members) admit(p *peer, role events.MemberRole, scopes []events.Area, before ...events.ClockEntry) {
	m.Helper()
	m.at(m.founder, p.ID.UUID, events.SiteAdmitted{Name: "site", Identity: make([]byte, 32), Role: role, Scopes: scopes, Before: before})
}

// agree has a site that hears of the newcomers' records as soon as it may, and
// one that hears of them at the very end, hold the same as all others.
func (m *members) agree() *aggregate.State {
	m.Helper()
	want := m.founder.state.Digest()
	for _, p := range m.joined {
		if p.state.Digest() != want {
			m.Error("the sites hold different states")
		}
	}
	for _, founderFirst := range []bool{true, false} {
		waiting := slices.Clone(m.all)
		slices.SortStableFunc(waiting, func(a, b events.Record) int {
			first := func(r events.Record) int {
				if (r.Header.Site == m.founder.ID) == founderFirst {
					return 0
				}
				return 1
			}
			return first(a) - first(b)
		})
		s := aggregate.New()
		s.Joined(events.SiteID{UUID: aggregatetest.ID("site", 99)}, m.founder.ID, events.Clock{})
		for len(waiting) > 0 {
			n := len(waiting)
			waiting = slices.DeleteFunc(waiting, func(r events.Record) bool { return s.Apply(r) == nil })
			if len(waiting) == n {
				m.Fatalf("%d records wait for ever", n)
			}
		}
		if s.Digest() != want {
			m.Errorf("a site that hears the founder first (%t) holds another state", founderFirst)
		}
	}
	return m.founder.state
}

// masked says why records of a type were masked.
func (m *members) masked(p *peer, eventType string) string {
	for _, k := range m.founder.state.Masked() {
		if k.Type == eventType && k.Site == p.ID {
			return k.Why
		}
	}
	return ""
}

func nameOf(t *testing.T, e events.Event) string {
	t.Helper()
	typ, err := events.TypeOf(e)
	if err != nil {
		t.Fatal(err)
	}
	return typ.Name
}

// What a site decided by itself stays on record when it joins; who may do what
// there does not become the mesh's, what there is to reach does.
func TestAttackIdentitiesMadeBeforeJoining(t *testing.T) {
	m, b := newMembers(t), newPeer(1)
	by := events.SiteActor(b.ID)
	user, target, group, other := aggregatetest.ID("user", 1), aggregatetest.ID("target", 1), aggregatetest.ID("group", 1), aggregatetest.ID("site", 7)
	b.write(t, user, by, events.UserAdded{Name: "mallory", Role: events.Admin})
	b.write(t, user, by, events.UserKeyAdded{Key: "k", Fingerprint: "f"})
	b.write(t, group, by, events.GroupAdded{Name: "ops"})
	b.write(t, events.RoleStream(events.Operator), by, events.RoleSet{Role: events.Operator, SecondFactor: true})
	b.write(t, other, by, events.SiteAdmitted{Name: "evil", Role: events.Steward})
	b.write(t, target, by, events.TargetAdded{Name: "web1", Addr: "h:22", HostKeys: []string{"k"}})
	m.join(b, events.PeerSite)
	m.at(b, aggregatetest.ID("user", 2), events.UserAdded{Name: "bob", Role: events.Operator})
	s := m.agree()
	if _, err := s.UserByName("mallory"); err == nil {
		t.Error("a user that was made before joining is one of the mesh")
	}
	if _, err := s.UserByKey("f"); err == nil {
		t.Error("a key that was given before joining lets in")
	}
	if _, err := s.GroupByName("ops"); err == nil || s.RoleSettings(events.Operator).SecondFactor || len(s.MeshSites()) != 2 {
		t.Error("a group, a role's settings or a member from before joining counts")
	}
	if _, err := s.TargetByName("web1"); err != nil {
		t.Errorf("the newcomer's target: %v", err)
	}
	if _, err := s.UserByName("bob"); err != nil {
		t.Errorf("a user that it made as a member: %v", err)
	}
}

// A member with valid keys that goes beyond what it was admitted for changes
// nothing anywhere, and that is seen.
func TestAttackRogueMember(t *testing.T) {
	for name, rogue := range map[string]struct {
		role   events.MemberRole
		scopes []events.Area
		knows  bool // whether it admits to know of its admission and of what it attacks
	}{
		"edge": {events.EdgeSite, nil, true}, "edge that knows nothing": {events.EdgeSite, nil, false},
		"peer of narrow scope": {events.PeerSite, []events.Area{events.AreaSessions}, true},
	} {
		t.Run(name, func(t *testing.T) {
			m, b, c := newMembers(t), newPeer(1), newPeer(2)
			user, target, account, credential := aggregatetest.ID("user", 1), aggregatetest.ID("target", 1), aggregatetest.ID("account", 1), aggregatetest.ID("credential", 1)
			m.at(m.founder, user, events.UserAdded{Name: "bob", Role: events.Operator})
			m.at(m.founder, target, events.TargetAdded{Name: "web1", Addr: "h:22", HostKeys: []string{"k"}})
			m.at(m.founder, account, events.AccountAdded{Name: "root", Target: events.TargetID{UUID: target}, Credential: events.CredentialID{UUID: credential}})
			m.at(m.founder, credential, events.CredentialAdded{Account: events.AccountID{UUID: account}, Kind: events.Password})
			staged := m.at(m.founder, credential, events.SecretStaged{Sealed: []byte("s")})
			running := aggregatetest.ID("session", 1)
			m.join(c, events.PeerSite)
			m.at(c, running, events.SessionStarted{User: events.UserID{UUID: user}, Account: events.AccountID{UUID: account}, Credential: events.CredentialID{UUID: credential}})
			m.join(b, rogue.role, rogue.scopes...)
			if !rogue.knows {
				b.Knows = nil
			}
			version := events.SecretID{UUID: staged.Header.ID}
			attacks := []struct {
				stream uuid.UUID
				event  events.Event
			}{
				{aggregatetest.ID("grant", 1), events.GrantAdded{User: events.UserID{UUID: user}, Account: events.AccountID{UUID: account}}},
				{aggregatetest.ID("request", 1), events.RequestMade{User: events.UserID{UUID: user}, Account: events.AccountID{UUID: account}}},
				{aggregatetest.ID("request", 1), events.RequestApproved{}},
				{aggregatetest.ID("user", 9), events.UserAdded{Name: "mallory", Role: events.Admin}},
				{user, events.UserKeyAdded{Key: "evil", Fingerprint: "evil"}},
				{user, events.UserDisabled{}},
				{target, events.TargetHostKeyPinned{HostKeys: []string{"evil"}}},
				{aggregatetest.ID("target", 9), events.TargetAdded{Name: "web1", Addr: "evil:22"}}, // the name would be in conflict
				{credential, events.SecretVerified{Version: version, How: events.ByLogin}},
				{aggregatetest.ID("site", 7), events.SiteAdmitted{Name: "evil", Role: events.Steward}},
				{b.ID.UUID, events.SiteAdmitted{Name: "site", Role: events.Steward}},                // more for itself
				{b.ID.UUID, events.SiteAdmitted{Name: "site", Founder: true, Role: events.Steward}}, // or all
				{m.founder.ID.UUID, events.SiteRekeyed{SealingKey: []byte("evil")}},                 // in another site's name
				{m.founder.ID.UUID, events.SiteStopped{}},
				{aggregatetest.ID("invitation", 1), events.SiteInvited{Name: "evil", Role: events.Steward}},
			}
			for _, a := range attacks {
				m.at(b, a.stream, a.event)
				if m.masked(b, nameOf(t, a.event)) == "" {
					t.Errorf("%T was not masked", a.event)
				}
			}
			m.at(b, running, events.SessionEnded{Reason: events.EndedByClient}) // about a session that runs elsewhere
			m.at(b, running, events.SessionKillRequested{Reason: "evil"})
			m.at(b, credential, events.SecretRejected{Version: version}) // seen in no session of its own
			s := m.agree()
			if _, ok := s.Grant(events.GrantID{UUID: aggregatetest.ID("grant", 1)}); ok {
				t.Error("the grant stands")
			}
			if _, ok := s.Request(events.RequestID{UUID: aggregatetest.ID("request", 1)}); ok {
				t.Error("the request stands")
			}
			if u, err := s.UserByName("bob"); err != nil || u.HasKey("evil") || len(s.Users()) != 1 {
				t.Errorf("the users changed: %v", err)
			}
			if tg, err := s.TargetByName("web1"); err != nil || !slices.Equal(tg.HostKeys(), []string{"k"}) {
				t.Errorf("the target changed: %v", err)
			}
			if cr, _ := s.Credential(events.CredentialID{UUID: credential}); cr.Unsettled() || len(cr.Candidates()) > 0 {
				t.Error("the credential changed")
			}
			if n, ok := s.Session(events.SessionID{UUID: running}); !ok {
				t.Error("another site's session was ended")
			} else if _, _, killed := n.Killed(); killed {
				t.Error("the end of another site's session was asked for")
			}
			if len(s.MeshSites()) != 3 || s.Founder() != m.founder.ID || slices.Contains(s.DecidesOn(b.ID), events.AreaAccess) || len(s.Invitations()) > 0 {
				t.Error("the members changed")
			}
			m.at(b, aggregatetest.ID("session", 2), events.SessionStarted{User: events.UserID{UUID: user}, Account: events.AccountID{UUID: account}})
			if _, ok := m.agree().Session(events.SessionID{UUID: aggregatetest.ID("session", 2)}); !ok {
				t.Error("what it was admitted for does not count")
			}
		})
	}
}

// A steward admits nobody for more than it may decide itself, founds no second
// mesh, and takes no word of another site's past away.
func TestAttackRogueSteward(t *testing.T) {
	m, b, c := newMembers(t), newPeer(1), newPeer(2)
	narrow := []events.Area{events.AreaSessions, events.AreaMesh}
	m.join(b, events.Steward, narrow...)
	m.join(c, events.PeerSite)
	kept := aggregatetest.ID("user", 1)
	m.at(c, kept, events.UserAdded{Name: "cyd", Role: events.Operator})
	own := slices.Clone(c.Records)
	for _, e := range []events.SiteAdmitted{
		{Name: "b", Role: events.Steward}, {Name: "b", Role: events.Steward, Founder: true},
		{Name: "b", Role: events.Steward, Before: []events.ClockEntry{{Origin: c.Origin(), Position: 1000}, {Origin: m.founder.Origin(), Position: 1000}}},
	} {
		m.at(b, b.ID.UUID, e)
	}
	third, late := aggregatetest.ID("site", 7), newPeer(3)
	late.write(t, aggregatetest.ID("target", 1), events.SiteActor(late.ID), events.TargetAdded{Name: "web1", Addr: "h:22"})
	m.at(b, third, events.SiteAdmitted{Name: "d", Identity: make([]byte, 32), Role: events.Steward, Before: []events.ClockEntry{
		{Origin: c.Origin(), Position: 1000}, {Origin: m.founder.Origin(), Position: 1000}, {Origin: late.Origin(), Position: 0},
	}})
	m.join(late, events.PeerSite)
	s := m.agree()
	if got := s.DecidesOn(b.ID); !slices.Equal(got, narrow) {
		t.Errorf("it decides on %v", got)
	}
	if got := s.DecidesOn(events.SiteID{UUID: third}); !slices.Equal(got, narrow) {
		t.Errorf("whom it admitted decides on %v", got)
	}
	if _, err := s.TargetByName("web1"); err != nil {
		t.Errorf("another site took a newcomer's past away: %v", err)
	}
	if _, err := s.UserByName("cyd"); err != nil || s.Founder() != m.founder.ID {
		t.Errorf("founder %s, user %v", s.Founder(), err)
	}
	m.at(b, c.ID.UUID, events.SiteAdmitted{Name: "site", Identity: make([]byte, 32), Role: events.PeerSite, Before: []events.ClockEntry{{Origin: c.Origin(), Position: 1000}}})
	if _, err := m.agree().UserByName("cyd"); err != nil || len(own) == 0 {
		t.Errorf("a site's decisions were made its past: %v", err)
	}
}

// A steward takes a site in that another one takes in as well, keeping back that it
// knows, and says something else about what that had decided before: all sites come to
// the same, whatever they hear first, the newcomer too, whatever it was told itself.
func TestAttackTwoPasts(t *testing.T) {
	for name, told := range map[string]uint64{"told by the founder": 3, "told by the other": 1} {
		t.Run(name, func(t *testing.T) {
			m, b, c := newMembers(t), newPeer(1), newPeer(2)
			m.join(b, events.Steward)
			frozen := b.state.Clock()
			b.Knows = func() events.Clock { return frozen.With(b.Origin(), b.state.At(b.Origin())) }
			for n := range 3 {
				c.write(t, aggregatetest.ID("target", n), events.SiteActor(c.ID), events.TargetAdded{Name: "web", Addr: "h:22"})
			}
			own := slices.Clone(c.Records)
			past := func(n uint64) []events.ClockEntry { return []events.ClockEntry{{Origin: c.Origin(), Position: n}} }
			m.at(m.founder, c.ID.UUID, events.SiteAdmitted{Name: "c", Identity: make([]byte, 32), Role: events.PeerSite, Before: past(3)})
			m.at(b, c.ID.UUID, events.SiteAdmitted{Name: "c", Identity: make([]byte, 32), Role: events.PeerSite, Before: past(1)})
			one, two := m.all[len(m.all)-2], m.all[len(m.all)-1]
			rest := m.all[:len(m.all)-2]
			want := ""
			for _, order := range [][]events.Record{
				slices.Concat(rest, []events.Record{one}, own, []events.Record{two}), slices.Concat(rest, []events.Record{two}, own, []events.Record{one}),
				slices.Concat(rest, []events.Record{one, two}, own), slices.Concat(own, rest, []events.Record{two, one}),
			} {
				s := settleAs(t, order, func(s *aggregate.State) {
					if order[0].Header.Site == c.ID {
						s.Joined(c.ID, m.founder.ID, events.NewClock(past(told)...))
					}
				})
				if want == "" {
					want = s.Digest()
				}
				if s.Digest() != want || len(s.Targets()) != 1 {
					t.Errorf("a site that hears them in another order has %d targets, want 1 at all", len(s.Targets()))
				}
				if !slices.ContainsFunc(s.Conflicts(), func(c aggregate.Conflict) bool { return c.What == "admission of site" }) {
					t.Error("it is not shown")
				}
			}
		})
	}
}

// A steward takes a newcomer in beside another one, and says with it something about the
// past of a third site: nobody has a say in that, whatever comes first.
func TestAttackThePastOfAThirdSite(t *testing.T) {
	m, b, c, d := newMembers(t), newPeer(1), newPeer(2), newPeer(3)
	m.join(b, events.Steward)
	for n := range 3 {
		c.write(t, aggregatetest.ID("target", n), events.SiteActor(c.ID), events.TargetAdded{Name: fmt.Sprint("web", n), Addr: "h:22"})
	}
	before := []events.ClockEntry{{Origin: c.Origin(), Position: 3}}
	m.at(m.founder, c.ID.UUID, events.SiteAdmitted{Name: "c", Identity: make([]byte, 32), Role: events.PeerSite, Before: before})
	frozen := b.state.Clock()
	b.Knows = func() events.Clock { return frozen.With(b.Origin(), b.state.At(b.Origin())) }
	m.at(m.founder, d.ID.UUID, events.SiteAdmitted{Name: "d", Identity: make([]byte, 32), Role: events.PeerSite})
	m.at(b, d.ID.UUID, events.SiteAdmitted{Name: "d", Identity: make([]byte, 32), Role: events.PeerSite, Before: []events.ClockEntry{{Origin: c.Origin(), Position: 1}}})
	one, two := m.all[len(m.all)-2], m.all[len(m.all)-1]
	rest := append(slices.Clone(m.all[:len(m.all)-2]), c.Records...)
	for name, order := range map[string][]events.Record{"first": {two, one}, "last": {one, two}} {
		if s := settleAs(t, slices.Concat(rest, order), func(*aggregate.State) {}); len(s.Targets()) != 3 {
			t.Errorf("said %s: of the targets that a third site had before it joined %d are left", name, len(s.Targets()))
		}
	}
}

// A record about what its site does not claim to know is a lie about its clock:
// whether it counts must not depend on what arrives first.
func TestAttackRecordsAboutWhatTheirSiteDidNotKnow(t *testing.T) {
	x := newSplit(t)
	m := events.UserID{UUID: aggregatetest.ID("late", 1)}
	added := x.a.write(t, m.UUID, events.SiteActor(x.a.ID), events.UserAdded{Name: "late", Role: events.Operator})
	lies := []events.Record{
		x.b.write(t, m.UUID, events.SiteActor(x.b.ID), events.UserDisabled{}),
		x.b.write(t, m.UUID, events.SiteActor(x.b.ID), events.UserKeyAdded{Key: "evil", Fingerprint: "evil"}),
	}
	x.a.hear(t, lies)
	x.b.hear(t, []events.Record{added})
	if x.a.state.Digest() != x.b.state.Digest() {
		t.Error("the order of arrival decides")
	}
	for _, p := range []*peer{x.a, x.b} {
		if u, ok := p.state.User(m); !ok || u.Disabled() || u.HasKey("evil") {
			t.Error("the lie counts")
		}
	}
}

// The logs of sites that nobody has admitted wait, and hold nobody up.
func TestAttackStrangersLog(t *testing.T) {
	m, c := newMembers(t), newPeer(3)
	r := c.write(t, aggregatetest.ID("user", 1), events.SiteActor(c.ID), events.UserAdded{Name: "eve", Role: events.Admin})
	if err := m.founder.state.Apply(r); err == nil {
		t.Fatal("a stranger's record was applied")
	}
	m.at(m.founder, aggregatetest.ID("user", 2), events.UserAdded{Name: "bob", Role: events.Operator})
	if len(m.agree().Users()) != 1 {
		t.Error("the stranger's user is there")
	}
}

// A member makes up types of events, a new one each time, on what it may not decide: they
// are few sorts, or each would be an alarm at every site.
func TestAttackMadeUpTypes(t *testing.T) {
	m, b := newMembers(t), newPeer(1)
	m.join(b, events.EdgeSite)
	for n := range 100 {
		for _, noun := range []string{"user", "site"} {
			m.at(b, aggregatetest.ID("user", n), events.UserDisabled{}) // stands for it
			r := &m.all[len(m.all)-1]
			r.Header.Type = fmt.Sprint(noun, ".made_up_", n)
			b.Records[len(b.Records)-1] = *r
		}
	}
	late := aggregate.New()
	for _, r := range m.all {
		if err := late.Apply(r); err != nil {
			t.Fatal(err)
		}
	}
	sorts, count := late.Masked(), uint64(0)
	for _, k := range sorts {
		count += k.Count
	}
	if len(sorts) != 2 || count != 200 {
		t.Errorf("%d sorts of %d masked records, such as %+v", len(sorts), count, *sorts[0])
	}
}

// Every type of event belongs to an area or is a site's own, so that a new one
// is thought about.
func TestEveryEventHasAnArea(t *testing.T) {
	for _, typ := range events.Catalogue() {
		if area, own := aggregate.AreaOf(typ.Name); area == "" && !own {
			t.Errorf("%s has no area: see member.go", typ.Name)
		}
	}
}

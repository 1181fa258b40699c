package site

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/mesh"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/gateway"
	"github.com/holdfast-pam/holdfast/projections"
	"github.com/holdfast-pam/holdfast/replay"
)

// member is a serving site of a mesh.
type member struct {
	*Site
	t    *testing.T
	stop func()
	end  func() // stops and closes it
}

func serveMember(t *testing.T, name string) *member {
	t.Helper()
	return serveAt(t, name, "127.0.0.1:0", "")
}

// serveDialler serves a member that others can't dial.
func serveDialler(t *testing.T, name string) *member {
	t.Helper()
	return serveAt(t, name, "", "")
}

// servePair serves a member that is a pair with another one.
func servePair(t *testing.T, name, other string) *member {
	t.Helper()
	return serveAt(t, name, "127.0.0.1:0", other)
}

func serveAt(t *testing.T, name, meshPort, pair string) *member {
	t.Helper()
	c := testConfig(t)
	c.Mesh.Pair = pair
	c.Site.Name, c.SSH.Listen, c.Mesh.Listen = name, "127.0.0.1:0", meshPort
	return serveConfig(t, c)
}

func serveConfig(t *testing.T, c Config, before ...func(*Site)) *member {
	t.Helper()
	s, err := Open(t.Context(), c, "test", slog.New(slog.DiscardHandler))
	if err == nil {
		err = s.Listen(t.Context(), noConsole{})
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range before {
		f(s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	m := &member{Site: s, t: t, stop: cancel}
	m.end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(m.end)
	return m
}

// say writes a fact at a site, whatever its right to.
func (m *member) say(stream uuid.UUID, e events.Event) events.Record {
	m.t.Helper()
	d, err := events.NewDraft(stream, m.actor(), "Test", e)
	var records []events.Record
	if err == nil {
		records, err = m.commands.Append(m.t.Context(), d)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return records[0]
}

// hears waits until a site has applied what another one has decided up to now.
func (m *member) hears(from *member) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	size, _ := from.ctl.Log().Size()
	for _, err := range []error{
		m.commands.WaitApplied(ctx, from.ctl.Log().Origin(), size), m.views.WaitFor(ctx, from.ctl.Log().Origin(), size), m.CaughtUp(ctx),
	} {
		if err != nil {
			m.t.Fatal(err)
		}
	}
}

// masks waits until what does not count of other sites' logs has no effect at a member.
func (m *member) masks() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	err := m.commands.Await(ctx, func(s *aggregate.State, _ time.Time) bool { return s.Holds().Equal(s.HeldWith()) })
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *member) join(sponsor *member, admin events.Actor, role events.MemberRole, scopes ...events.Area) {
	m.t.Helper()
	token, _, err := sponsor.Invite(m.t.Context(), admin, commands.InviteSite{
		Name: m.Name(), Valid: time.Hour, Role: role, Scopes: scopes, Custodian: true,
	}, sponsor.MeshAddr())
	if err == nil {
		_, err = m.Join(m.t.Context(), admin, token)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.hears(sponsor)
	sponsor.hears(m)
}

// A member of the mesh with valid keys writes grants, users, approvals and
// admissions beyond its role. All of it is kept, none of it counts in the state or
// in the views, also not when they are built anew; the alarm is an event and stands
// in the status.
func TestAttackRogueMemberOnTheWire(t *testing.T) {
	a, b := serveMember(t, "a"), serveMember(t, "b")
	if err := a.AddAdmin(t.Context(), "ada", newPublicKey(t)); err != nil {
		t.Fatal(err)
	}
	if err := b.AddAdmin(t.Context(), "mallory", newPublicKey(t)); err != nil {
		t.Fatal(err)
	}
	var admin events.Actor
	a.commands.View(func(s *aggregate.State) { admin = events.UserActor(s.Users()[0].ID) })
	b.join(a, admin, events.EdgeSite)
	before := len(mustUsers(t, a))

	user, other := uuid.Must(uuid.NewV7()), events.SiteID{UUID: uuid.Must(uuid.NewV7())}
	for range 12 {
		b.say(uuid.Must(uuid.NewV7()), events.UserAdded{Name: "mallory", Role: events.Admin})
	}
	for _, fact := range []struct {
		stream uuid.UUID
		event  events.Event
	}{
		{user, events.UserAdded{Name: "evil", Role: events.Admin}},
		{user, events.UserKeyAdded{Key: newPublicKey(t), Fingerprint: "evil"}},
		{admin.ID, events.UserDisabled{}},
		{uuid.Must(uuid.NewV7()), events.GrantAdded{User: events.UserID{UUID: user}}},
		{uuid.Must(uuid.NewV7()), events.RequestApproved{}},
		{other.UUID, events.SiteAdmitted{Name: "evil", Identity: make([]byte, 32), Role: events.Steward}},
		{b.ID().UUID, events.SiteAdmitted{Name: "b", Identity: make([]byte, 32), Role: events.Steward, Founder: true}},
		{a.ID().UUID, events.SiteStopped{}},
	} {
		b.say(fact.stream, fact.event)
	}
	a.hears(b)
	check := func(when string) {
		t.Helper()
		for _, m := range []*member{a, b} {
			if users := mustUsers(t, m); len(users) != before || users[0].State != "active" {
				t.Errorf("%s, %s: users %+v", when, m.Name(), users)
			}
			m.commands.View(func(s *aggregate.State) {
				if len(s.Users()) != 1 || s.Users()[0].Disabled() || len(s.Grants()) > 0 || len(s.MeshSites()) != 2 || s.Founder() != a.ID() {
					t.Errorf("%s, %s: the state has changed", when, m.Name())
				}
			})
		}
		page, err := a.views.Audit(t.Context(), projections.AuditFilter{Type: "grant.added", Filter: projections.Filter{Limit: 10}})
		if err != nil || len(page.Items) != 1 || !strings.Contains(page.Items[0].Masked, "not admitted to decide on access") {
			t.Errorf("%s: the timeline shows %+v, %v", when, page.Items, err)
		}
	}
	check("at once")
	b.hears(a)
	for _, m := range []*member{a, b} {
		if err := m.views.Rebuild(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	check("built anew")

	at, here, err := a.Digest(t.Context(), events.Clock{})
	if err != nil {
		t.Fatal(err)
	}
	b.hears(a)
	for _, m := range []*member{a, b} {
		if _, there, err := m.Digest(t.Context(), at); err != nil || there != here {
			t.Errorf("%s: digest %s, want %s: %v", m.Name(), there, here, err)
		}
	}
	sites, err := a.Mesh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range sites {
		if want := map[string]uint64{"a": 0, "b": 20}[st.Site]; st.Masked != want {
			t.Errorf("status shows %d masked records of %s, want %d", st.Masked, st.Site, want)
		}
	}
	if err := a.commands.Await(t.Context(), func(s *aggregate.State, _ time.Time) bool { // the alarms follow a moment later
		for _, m := range s.Masked() {
			if m.Beyond && s.MaskedTold(a.ID(), m) == 0 {
				return false
			}
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if err := a.CaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	page, err := a.views.Audit(t.Context(), projections.AuditFilter{Type: "mesh.masked", Filter: projections.Filter{Limit: 100}})
	if err != nil {
		t.Fatal(err)
	}
	alarms := ""
	for _, e := range page.Items {
		alarms += fmt.Sprintln(string(e.Payload))
	}
	for _, sort := range []string{"user.added", "user.key_added", "user.disabled", "grant.added", "request.approved", "site.admitted", "site.stopped"} {
		if !strings.Contains(alarms, `"`+sort+`"`) {
			t.Errorf("no alarm about %s:\n%s", sort, alarms)
		}
	}
	if n := strings.Count(alarms, "user.added"); n > 3 {
		t.Errorf("%d alarms about 13 users", n)
	}
	_, err = b.commands.Do(t.Context(), admin, commands.AddGroup{Name: "ops"})
	if err == nil || !strings.Contains(err.Error(), "not admitted to decide on access") {
		t.Errorf("an administrator at the edge made a group: %v", err)
	}
}

// A site that dies when it has just joined, before its views were built anew, shows
// nobody of before after its next start.
func TestDiedAfterJoining(t *testing.T) {
	c := testConfig(t)
	open := func() *Site {
		t.Helper()
		s, err := Open(t.Context(), c, "test", slog.New(slog.DiscardHandler))
		if err == nil {
			err = s.CaughtUp(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	shut := func(s *Site) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := open()
	if err := s.AddAdmin(t.Context(), "mallory", newPublicKey(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.CaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	size, _ := s.ctl.Log().Size()
	j := joined{Mesh: events.SiteID{UUID: uuid.Must(uuid.NewV7())}, Before: []events.ClockEntry{{Origin: s.ctl.Log().Origin(), Position: size}}}
	shut(s)
	b, err := json.Marshal(j)
	if err == nil {
		err = writeDurable(s.data.meshJoined(), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s = open()
		if users, err := s.views.Users(t.Context(), projections.Filter{}); err != nil || len(users) != 0 {
			t.Errorf("users %+v, %v", users, err)
		}
		shut(s)
	}
}

// A member sends a wrong data key under the name of a credential's, before the
// right one comes: it hides it for no longer than that.
func TestAttackWrongDataKeyFirst(t *testing.T) {
	a, b := serveMember(t, "a"), serveMember(t, "b")
	if err := a.AddAdmin(t.Context(), "ada", newPublicKey(t)); err != nil {
		t.Fatal(err)
	}
	var admin events.Actor
	a.commands.View(func(s *aggregate.State) { admin = events.UserActor(s.Users()[0].ID) })
	b.join(a, admin, events.PeerSite)
	a.sealer.Entrust(nil, nil) // a has not told b yet
	sealed, err := vault.Add(t.Context(), a.sealer, events.Password, seal.NewSecret([]byte("hunter2")))
	if err != nil {
		t.Fatal(err)
	}
	public, err := seal.ParsePublicKey(b.ID().UUID, b.keys.Status().Public)
	if err != nil {
		t.Fatal(err)
	}
	wrap, err := public.Wrap(sealed.Credential.UUID, seal.NewSecret(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := json.Marshal(sharedKey{sealed.Credential.UUID, wrap})
	if err != nil {
		t.Fatal(err)
	}
	b.acceptKeys(t.Context(), mesh.GotWraps{Site: a.ID(), Wraps: mesh.Wraps{Keys: [][]byte{wrong}}})
	for _, c := range []commands.Command{
		commands.AddTarget{Name: "web1", Addr: "192.0.2.1:22", HostKeys: []string{newPublicKey(t)}},
		commands.AddAccount{Name: "root", Target: "web1", Secret: sealed},
	} {
		if _, err := a.commands.Do(t.Context(), admin, c); err != nil {
			t.Fatal(err)
		}
	}
	b.hears(a)
	if _, err := vault.Open(t.Context(), b.sealer, sealed); err == nil {
		t.Fatal("a wrong key opens")
	}
	a.shareKeys(t.Context(), b.ID())
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		secret, err := vault.Open(t.Context(), b.sealer, sealed)
		if err == nil && string(secret.Bytes()) == "hunter2" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the right key stays hidden: %v", err)
		}
	}
	b.acceptKeys(t.Context(), mesh.GotWraps{Site: a.ID(), Wraps: mesh.Wraps{Keys: [][]byte{wrong}}})
	if _, err := vault.Open(t.Context(), b.sealer, sealed); err != nil {
		t.Errorf("the wrong key came back: %v", err)
	}
}

func mustUsers(t *testing.T, m *member) []projections.User {
	t.Helper()
	users, err := m.views.Users(t.Context(), projections.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return users
}

// record writes a record of a session into a site's log of recordings, whatever the
// site's right to.
func (m *member) record(session events.SessionID, key *seal.DataKey, first uint64, block string) {
	m.t.Helper()
	sealed, err := key.Seal(nil, []byte(block), seal.Binding{Purpose: gateway.PacketsPurpose(events.In), ID: session.UUID, Number: first})
	var d events.Draft
	if err == nil {
		d, err = events.NewDraft(session.UUID, m.actor(), "Test", events.SessionPackets{Direction: events.In, First: first, Count: 1, Sealed: sealed})
	}
	if err == nil {
		_, err = m.rec.Writer().Append(m.t.Context(), d)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// recorded waits until a site holds what another one has recorded up to now.
func (m *member) recorded(of *member) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	size, _ := of.rec.Log().Size()
	if err := m.views.WaitFor(ctx, of.rec.Log().Origin(), size); err != nil {
		m.t.Fatal(err)
	}
}

// blocks are what a site reads of a session's recording.
func (m *member) blocks(session events.SessionID) (all []string, err error) {
	shown, err := m.views.Session(m.t.Context(), session)
	var extents []projections.Extent
	if err == nil {
		extents, err = m.views.Extents(m.t.Context(), session, shown.SiteID)
	}
	var key *seal.DataKey
	for r, err := range m.records(m.t.Context(), session, extents) {
		var opened replay.Record
		if err == nil {
			opened, key, err = m.openRecord(m.t.Context(), r, key)
		}
		if err != nil {
			return all, err
		}
		all = append(all, string(opened.Block))
	}
	if key != nil {
		key.Release()
	}
	return all, err
}

// A member records under the id of a session that runs at another site, as if it were
// part of it, and sends a wrong data key for it before the right one comes: the
// recording is the session's own at all sites, the wrong key hides it no longer than
// until it is read, and there is an alarm.
func TestAttackRecordingsOfOthers(t *testing.T) {
	a, b, c := serveMember(t, "a"), serveMember(t, "b"), serveMember(t, "c")
	admin := adminAt(t, a)
	b.join(a, admin, events.PeerSite)
	c.join(a, admin, events.PeerSite)
	b.hears(c)
	c.hears(b)
	a.sealer.Entrust(func() []*seal.PublicKey { return nil }, nil) // a has told nobody yet
	session := events.SessionID{UUID: uuid.Must(uuid.NewV7())}
	a.say(session.UUID, events.SessionStarted{User: events.UserID{UUID: admin.ID}})
	key, err := a.sealer.NewKey(t.Context(), session.UUID)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Release()
	a.record(session, key, 0, "first")
	c.hears(a)
	b.hears(a)

	public, err := seal.ParsePublicKey(c.ID().UUID, c.keys.Status().Public)
	if err != nil {
		t.Fatal(err)
	}
	own, err := b.sealer.NewKey(t.Context(), session.UUID)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Release()
	wrap, err := b.sealer.WrapFor(t.Context(), session.UUID, public)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := json.Marshal(sharedKey{session.UUID, wrap})
	if err != nil {
		t.Fatal(err)
	}
	b.node().SendWraps(c.ID(), mesh.Wraps{Keys: [][]byte{wrong}})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if k, err := c.sealer.Key(t.Context(), session.UUID); err == nil {
			k.Release()
			break
		}
		if time.Now().After(end) {
			t.Fatal("the wrong key does not come")
		}
	}
	b.record(session, own, 1, "evil")
	a.record(session, key, 1, "second")
	a.entrust(t.Context())
	for _, m := range []*member{a, c} {
		for _, of := range []*member{a, b} {
			m.recorded(of)
		}
		if got, err := m.blocks(session); err != nil || !slices.Equal(got, []string{"first", "second"}) {
			t.Errorf("site %s reads %q, %v", m.Name(), got, err)
		}
		m.alarmForeign(t.Context())
		m.alarmForeign(t.Context())
		if err := m.CaughtUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	page, err := a.views.Audit(t.Context(), projections.AuditFilter{Type: "mesh.masked", Filter: projections.Filter{Limit: 100}})
	if err != nil {
		t.Fatal(err)
	}
	alarms := 0
	for _, e := range page.Items {
		if e.Origin.Site == a.ID() && strings.Contains(string(e.Payload), b.ID().String()) && strings.Contains(string(e.Payload), "session.packets") {
			alarms++
		}
	}
	if alarms != 1 {
		t.Errorf("%d alarms about b at a", alarms)
	}
	b.node().SendWraps(c.ID(), mesh.Wraps{Keys: [][]byte{wrong}})
	c.hears(b)
	if got, err := c.blocks(session); err != nil || len(got) != 2 {
		t.Errorf("after the wrong key has come again: %q, %v", got, err)
	}
}

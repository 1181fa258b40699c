package site

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/mesh"
	"github.com/holdfast-pam/holdfast/projections"
)

func adminAt(t *testing.T, m *member) events.Actor {
	t.Helper()
	if err := m.AddAdmin(t.Context(), "ada", newPublicKey(t)); err != nil {
		t.Fatal(err)
	}
	var admin events.Actor
	m.commands.View(func(s *aggregate.State) { admin = events.UserActor(s.Users()[0].ID) })
	return admin
}

func invite(t *testing.T, m *member, admin events.Actor, name string, valid time.Duration, role events.MemberRole) (*ticket, string) {
	t.Helper()
	text, _, err := m.Invite(t.Context(), admin, commands.InviteSite{Name: name, Valid: valid, Role: role, Custodian: role == events.Steward}, m.MeshAddr())
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := parseTicket(text)
	if err != nil {
		t.Fatal(err)
	}
	return ticket, text
}

// newcomer is a program that asks to join, whatever it may.
type newcomer struct {
	identity ed25519.PrivateKey
	ask      mesh.JoinRequest
}

func newNewcomer(t *testing.T, like *Site, ticket *ticket, name string) *newcomer {
	t.Helper()
	_, identity, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := like.siteKeys()
	return &newcomer{identity, mesh.JoinRequest{
		Invitation: ticket.Invitation, Secret: ticket.Secret, Site: events.SiteID{UUID: uuid.Must(uuid.NewV7())}, Name: name,
		SealingKey: keys.SealingKey, HostKey: keys.HostKey,
	}}
}

func (n *newcomer) join(ctx context.Context, at *Site, pinned []byte) error {
	_, err := mesh.AskToJoin(ctx, at.MeshAddr(), pinned, n.identity, n.ask)
	return err
}

func (m *member) members() (names []string) {
	m.commands.View(func(s *aggregate.State) {
		for _, site := range s.MeshSites() {
			names = append(names, site.Name)
		}
	})
	return names
}

// What somebody may try with an invitation, at the real port: nothing but the first
// use under its name, within its time, at the site that made it, lets anybody in.
func TestAttackInvitations(t *testing.T) {
	a, b := serveMember(t, "a"), serveMember(t, "b")
	admin := adminAt(t, a)
	b.join(a, admin, events.Steward)
	pinned := func(m *member) []byte { return m.siteKeys().Identity }
	good, _ := invite(t, a, admin, "c", time.Hour, events.PeerSite)
	over, _ := invite(t, a, admin, "d", time.Second, events.PeerSite)
	b.hears(a)
	refused := func(why string, n *newcomer, at *member) {
		t.Helper()
		before := len(a.members())
		err := n.join(t.Context(), at.Site, pinned(at))
		if err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", why, err)
		}
		if len(a.members()) != before {
			t.Errorf("%s: it is a member", why)
		}
	}
	guess := newNewcomer(t, a.Site, good, "c")
	guess.ask.Secret = make([]byte, 32)
	refused("a made-up secret", guess, a)
	guess.ask.Invitation = events.InvitationID{UUID: uuid.Must(uuid.NewV7())}
	refused("a made-up invitation", guess, a)
	refused("under another name", newNewcomer(t, a.Site, good, "x"), a)
	refused("at another site that may take sites in too", newNewcomer(t, a.Site, good, "c"), b)
	time.Sleep(1100 * time.Millisecond)
	refused("after its time", newNewcomer(t, a.Site, over, "d"), a)
	past := newNewcomer(t, a.Site, good, "c")
	past.ask.Holds = []mesh.Holding{{Origin: a.ctl.Log().Origin(), Size: 1000}}
	refused("with another site's decisions as its own past", past, a)
	stolen := newNewcomer(t, a.Site, good, "c")
	if err := stolen.join(t.Context(), a.Site, pinned(b)); err == nil {
		t.Error("it was shown to who does not hold the key that the invitation names")
	}

	first, second := newNewcomer(t, a.Site, good, "c"), newNewcomer(t, a.Site, good, "c")
	errs := make([]error, 2)
	var work sync.WaitGroup
	for i, n := range []*newcomer{first, second} {
		work.Go(func() { errs[i] = n.join(t.Context(), a.Site, pinned(a)) })
	}
	work.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Errorf("of two that use it at once: %v, %v", errs[0], errs[1])
	}
	in, out := first, second
	if errs[0] != nil {
		in, out = second, first
	}
	refused("used again by somebody else", out, a)
	thief := *in
	thief.identity = out.identity
	refused("used again by somebody else under the same id", &thief, a)
	renamed := *in
	renamed.ask.Site = events.SiteID{UUID: uuid.Must(uuid.NewV7())}
	refused("used again for another site by the same key", &renamed, a)
	if err := in.join(t.Context(), a.Site, pinned(a)); err != nil {
		t.Errorf("who used it asks again, since the answer was lost: %v", err)
	}
	if n := len(a.members()); n != 3 {
		t.Errorf("there are %d members: %v", n, a.members())
	}
	alarms := 0
	b.hears(a)
	for _, m := range []*member{a, b} {
		for r, err := range m.source.Records(t.Context(), events.Ctl, events.Clock{}) {
			if err == nil && r.Header.Type == "access.denied" && r.Header.Site == m.ID() {
				alarms++
			}
		}
	}
	if alarms < 8 {
		t.Errorf("%d refusals are on record", alarms)
	}
}

// An edge says that it is reached at a very long address: others join as before, and
// hear nothing of it once it is fenced.
func TestAttackAnAddressTooLongToJoin(t *testing.T) {
	a, b := serveMember(t, "a"), serveMember(t, "b")
	admin := adminAt(t, a)
	b.join(a, admin, events.EdgeSite)
	b.say(b.ID().UUID, events.SiteStarted{Mesh: strings.Repeat("x", 300<<10) + ":7022"})
	a.hears(b)
	c := serveMember(t, "c")
	c.join(a, admin, events.PeerSite)
	if _, peers := a.peers(); len(peers) != 3 || slices.ContainsFunc(peers, func(p mesh.Peer) bool { return !slices.ContainsFunc(p.Addrs, aggregate.IsMeshAddr) }) {
		t.Errorf("the members are dialled at %.200v", peers)
	}
	if _, err := a.commands.Do(t.Context(), admin, commands.FenceSite{Site: "b", Reason: "it betrays"}); err != nil {
		t.Fatal(err)
	}
	ticket, _ := invite(t, a, admin, "d", time.Hour, events.PeerSite)
	n := newNewcomer(t, a.Site, ticket, "d")
	answer, err := mesh.AskToJoin(t.Context(), a.MeshAddr(), a.siteKeys().Identity, n.identity, n.ask)
	if err != nil || len(answer.Members) != 3 || slices.ContainsFunc(answer.Members, func(m mesh.WirePeer) bool { return m.Site == b.ID() }) {
		t.Errorf("a newcomer hears of %+v, %v", answer.Members, err)
	}
}

// A newcomer joins when the founder and another member have left: it hears what they
// decided.
func TestJoinWhereTheFounderHasLeft(t *testing.T) {
	a, b, c := serveMember(t, "a"), serveMember(t, "b"), serveMember(t, "c")
	admin := adminAt(t, a)
	b.join(a, admin, events.Steward)
	c.join(a, admin, events.Steward)
	c.hears(b)
	addUser(t, b.Site, "bea")
	a.hears(b)
	c.hears(b)
	for _, m := range []*member{b, a} {
		if _, err := m.Leave(t.Context(), admin, "c", "the office closes"); err != nil {
			t.Fatal(err)
		}
		c.hears(m)
		m.end()
	}
	d := serveMember(t, "d")
	d.join(c, admin, events.PeerSite)
	if !knows(d.Site, "ada") || !knows(d.Site, "bea") {
		t.Error("the newcomer has not heard what those decided who left")
	}
}

// A stranger that tries invitations without end fills neither the log nor the time
// of the site.
func TestAttackManyInvitations(t *testing.T) {
	a := serveMember(t, "a")
	good, _ := invite(t, a, adminAt(t, a), "c", time.Hour, events.PeerSite)
	before, _ := a.ctl.Log().Size()
	for range 60 {
		n := newNewcomer(t, a.Site, good, "c")
		n.ask.Secret = make([]byte, 32)
		if err := n.join(t.Context(), a.Site, a.siteKeys().Identity); err == nil {
			t.Fatal("a made-up secret lets in")
		}
	}
	if after, _ := a.ctl.Log().Size(); after-before > 30 {
		t.Errorf("60 attempts made %d events", after-before)
	}
}

// The member dies between taking a newcomer in and telling it so. The newcomer asks
// again, has decided more meanwhile, and both count the same of what was before.
func TestJoinAfterALostAnswer(t *testing.T) {
	a, b := serveMember(t, "a"), serveMember(t, "b")
	admin := adminAt(t, a)
	_, text := invite(t, a, admin, "b", 2*time.Second, events.PeerSite)
	ticket, err := parseTicket(text)
	if err != nil {
		t.Fatal(err)
	}
	keys := b.siteKeys()
	size, root := b.ctl.Log().Size()
	lost := &newcomer{b.mesh.identity, mesh.JoinRequest{
		Invitation: ticket.Invitation, Secret: ticket.Secret, Site: keys.Site, Name: keys.Name, Addr: keys.Addr,
		SealingKey: keys.SealingKey, HostKey: keys.HostKey, Holds: []mesh.Holding{{Origin: b.ctl.Log().Origin(), Size: size, Root: root}},
	}}
	if err := lost.join(t.Context(), a.Site, a.siteKeys().Identity); err != nil {
		t.Fatal(err) // and the answer goes nowhere
	}
	b.say(uuid.Must(uuid.NewV7()), events.TargetAdded{Name: "web1", Addr: "192.0.2.1:22", HostKeys: []string{"k"}})
	time.Sleep(2 * time.Second) // the invitation is over by now
	if _, err := b.Join(t.Context(), admin, text); err != nil {
		t.Fatal(err)
	}
	b.hears(a)
	a.hears(b)
	at, here, err := a.Digest(t.Context(), events.Clock{})
	if err != nil {
		t.Fatal(err)
	}
	b.hears(a)
	if _, there, err := b.Digest(t.Context(), at); err != nil || there != here {
		t.Errorf("digest %s at the newcomer, want %s: %v", there, here, err)
	}
	for _, m := range []*member{a, b} {
		m.commands.View(func(s *aggregate.State) {
			if len(s.Targets()) > 0 {
				t.Errorf("site %s counts what the newcomer decided after it was taken in and before it knew", m.Name())
			}
		})
	}
}

// A site that has invited somebody, who never came, can join another mesh itself; its
// invitation is good for nothing then.
func TestWhoHasInvitedJoins(t *testing.T) {
	a, b, c := serveMember(t, "a"), serveMember(t, "b"), serveMember(t, "c")
	admin := adminAt(t, a)
	mine := adminAt(t, b)
	_, other := invite(t, b, mine, "c", time.Hour, events.PeerSite)
	b.join(a, admin, events.PeerSite)
	if _, err := c.Join(t.Context(), mine, other); err == nil {
		t.Error("joined a mesh that is no more")
	}
	addUser(t, b.Site, "after")
	a.hears(b)
	c.join(a, admin, events.PeerSite)
	b.hears(c)
	if len(a.members()) != 3 || !slices.Equal(a.members(), b.members()) || !slices.Equal(a.members(), c.members()) {
		t.Errorf("members %v, %v, %v", a.members(), b.members(), c.members())
	}
}

// A newcomer that is lost before anything of the mesh came to it starts again as it
// was started, where nobody can be let in yet. The administrator that its options name
// is made no second time, and not in the mesh.
func TestANewcomerIsLostBeforeItHears(t *testing.T) {
	a := serveMember(t, "a")
	admin := adminAt(t, a)
	c := testConfig(t)
	c.Site.Name, c.SSH.Listen, c.Mesh.Listen = "b", "0.0.0.0:0", "127.0.0.1:0"
	s := open(t, c)
	if err := errors.Join(s.AddAdmin(t.Context(), "beth", newPublicKey(t)), s.Close()); err != nil {
		t.Fatal(err)
	}
	b := serveConfig(t, c)
	ticket, _ := invite(t, a, admin, "b", time.Hour, events.PeerSite)
	n := newNewcomer(t, b.Site, ticket, "b")
	n.identity, n.ask.Site, n.ask.Addr = b.mesh.identity, b.ID(), b.MeshAddr()
	size, root := b.ctl.Log().Size()
	n.ask.Holds = []mesh.Holding{{Origin: b.ctl.Log().Origin(), Size: size, Root: root}}
	answer, err := mesh.AskToJoin(t.Context(), a.MeshAddr(), a.siteKeys().Identity, n.identity, n.ask)
	if err != nil {
		t.Fatal(err)
	}
	lost := a.down()
	if err := b.becomeMember(t.Context(), answer, entries(n.ask.Holds)); err != nil {
		t.Fatal(err)
	}
	b = serveConfig(t, b.down())
	if b.hasAdmin() || b.Lacks("beth") {
		t.Errorf("nothing of the mesh is here: administrators %t, one is to be made %t", b.hasAdmin(), b.Lacks("beth"))
	}
	a = serveConfig(t, lost)
	b.hears(a)
	a.hears(b)
	if users := mustUsers(t, a); !b.hasAdmin() || len(users) != 1 || b.Lacks("beth") {
		t.Errorf("users %+v; administrators at the newcomer %t", users, b.hasAdmin())
	}
}

// A member makes a target, a user and a session again under ids that another one
// uses, while the two can't hear each other. All sites and their views come to the
// same, it is shown, and what was there is back once the member is fenced.
func TestAttackMadeTwiceOnTheWire(t *testing.T) {
	a, b, c := serveMember(t, "a"), serveMember(t, "b"), serveMember(t, "c")
	admin := adminAt(t, a)
	b.join(a, admin, events.PeerSite)
	c.join(a, admin, events.PeerSite)
	b.hears(c)
	c.hears(b)
	target, user, session := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	good, _ := b.ctl.Log().Size()
	b.node().SetPeers(nil)
	a.say(target, events.TargetAdded{Name: "web1", Addr: "192.0.2.1:22", HostKeys: []string{newPublicKey(t)}})
	a.say(user, events.UserAdded{Name: "bob", Role: events.Operator})
	a.say(session, events.SessionStarted{User: events.UserID{UUID: user}})
	b.say(target, events.TargetAdded{Name: "web9", Addr: "198.51.100.9:22", HostKeys: []string{newPublicKey(t)}})
	b.say(user, events.UserAdded{Name: "bob", Role: events.Admin})
	b.say(session, events.SessionStarted{User: events.UserID{UUID: user}, Source: "evil"})
	c.hears(a)
	_, peers := b.peers()
	b.node().SetPeers(peers)
	for _, m := range []*member{a, b, c} {
		for _, of := range []*member{a, b, c} {
			if m != of {
				m.hears(of)
			}
		}
	}
	settled := func(want int) {
		t.Helper()
		for _, m := range []*member{a, c} {
			err := m.commands.Await(t.Context(), func(s *aggregate.State, _ time.Time) bool {
				return s.Holds().Equal(s.HeldWith()) && len(s.Targets()) == want
			})
			if err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
				shown, err := m.views.Targets(t.Context(), projections.Filter{})
				if err == nil && len(shown) == want && (want == 0 || shown[0].Addr == "192.0.2.1:22") {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("site %s lists the targets %+v, %v; want %d", m.Name(), shown, err, want)
				}
			}
		}
	}
	settled(0)
	digests := map[string]string{}
	at := events.Clock{}
	for _, m := range []*member{a, c} {
		clock, digest, err := m.Digest(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		at, digests[m.Name()] = clock, digest
	}
	if digests["a"] != digests["c"] {
		t.Errorf("the sites hold different states: %v", digests)
	}
	a.commands.View(func(s *aggregate.State) {
		if n, ok := s.Session(events.SessionID{UUID: session}); !ok || n.Started.Origin.Site != a.ID() {
			t.Error("the session is not the one of its site any more")
		}
		if n := len(s.Conflicts()); n != 2 {
			t.Errorf("%d conflicts are shown, want those of the target and the user", n)
		}
	})
	a.say(b.ID().UUID, events.SiteFenced{Logs: []events.ClockEntry{{Origin: b.ctl.Log().Origin(), Position: good}}, Reason: "it betrays"})
	c.hears(a)
	settled(1)
}

// gate is an address of a site at which nothing comes through until it is opened. It
// tells when somebody is waiting.
func gate(t *testing.T, to string) (addr string, waiting <-chan struct{}, open func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came, opened := make(chan struct{}), make(chan struct{})
	open = sync.OnceFunc(func() { close(opened) })
	var work sync.WaitGroup
	t.Cleanup(work.Wait)
	t.Cleanup(func() { _ = l.Close() })
	t.Cleanup(open)
	work.Go(func() {
		in, err := l.Accept()
		if err != nil {
			return
		}
		defer in.Close()
		close(came)
		<-opened
		out, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer out.Close()
		work.Go(func() { _, _ = io.Copy(out, in) })
		_, _ = io.Copy(in, out)
	})
	return l.Addr().String(), came, open
}

func inviteAt(t *testing.T, m *member, admin events.Actor, name, addr string) string {
	t.Helper()
	token, _, err := m.Invite(t.Context(), admin, commands.InviteSite{Name: name, Valid: time.Hour, Role: events.PeerSite}, addr)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Two sites have invited each other, and both ask at once: one of them at most is taken
// in, and no site is lost. The invitation of the other one is good as long as both are alone.
func TestSitesThatJoinEachOther(t *testing.T) {
	a, b := serveMember(t, "a"), serveMember(t, "b")
	admins := map[*member]events.Actor{a: adminAt(t, a), b: adminAt(t, b)}
	toA, aAsked, openA := gate(t, a.MeshAddr())
	toB, bAsked, openB := gate(t, b.MeshAddr())
	tokens := map[*member]string{b: inviteAt(t, a, admins[a], "b", toA), a: inviteAt(t, b, admins[b], "a", toB)}
	errs := map[*member]*error{a: new(error), b: new(error)}
	var joins sync.WaitGroup
	for m, err := range errs {
		joins.Go(func() { _, *err = m.Join(t.Context(), admins[m], tokens[m]) })
	}
	<-aAsked
	<-bAsked
	openA()
	openB()
	joins.Wait()
	switch {
	case *errs[a] == nil && *errs[b] == nil:
		t.Fatal("both were taken in by the other one")
	case *errs[a] != nil && *errs[b] != nil:
		for m, err := range errs {
			if !strings.Contains((*err).Error(), "is joining another mesh itself") {
				t.Errorf("site %s: %v", m.Name(), *err)
			}
		}
		if _, err := b.Join(t.Context(), admins[b], tokens[b]); err != nil {
			t.Fatalf("both are alone, and one asks again: %v", err)
		}
	}
	a.hears(b)
	b.hears(a)
	addUser(t, a.Site, "anna")
	addUser(t, b.Site, "bert")
	a.hears(b)
	b.hears(a)
	for _, m := range []*member{a, b} {
		if !knows(m.Site, "anna") || !knows(m.Site, "bert") || len(m.members()) != 2 {
			t.Errorf("site %s has the members %v, and not all users", m.Name(), m.members())
		}
	}
}

// While a site joins another mesh it takes nobody in, also where its state could not be
// built anew; who was refused can be invited to the mesh that it is in then.
func TestWhoJoinsTakesNobodyIn(t *testing.T) {
	a, b, c := serveMember(t, "a"), serveMember(t, "b"), serveMember(t, "c")
	admin, mine := adminAt(t, a), adminAt(t, b)
	_, old := invite(t, b, mine, "c", time.Hour, events.PeerSite)
	refused := func(when string) {
		t.Helper()
		if _, err := c.Join(t.Context(), mine, old); err == nil || !strings.Contains(err.Error(), "is joining another mesh itself") {
			t.Errorf("%s: %v", when, err)
		}
	}
	b.mesh.joined.Store(&joined{Mesh: a.ID()})
	refused("it has joined by what it noted, and its state is of before")
	b.mesh.joined.Store(nil)
	addr, asked, open := gate(t, a.MeshAddr())
	token := inviteAt(t, a, admin, "b", addr)
	done := make(chan error, 1)
	go func() {
		_, err := b.Join(t.Context(), mine, token)
		done <- err
	}()
	<-asked
	refused("it asks")
	open()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	c.join(a, admin, events.PeerSite)
	b.hears(c)
	if !slices.Equal(b.members(), c.members()) || len(c.members()) != 3 {
		t.Errorf("members %v, %v", b.members(), c.members())
	}
}

// A site was tried on its machine alone before it joined: it is dialled where it was seen
// when it joined, and where it says as a member first, then still where it was seen.
func TestATrialBeforeJoiningIsNoAddress(t *testing.T) {
	a, b := serveMember(t, "a"), serveMember(t, "b")
	admin := adminAt(t, a)
	c := b.down()
	c.Mesh.Listen = "0.0.0.0:0"
	b = serveConfig(t, c)
	b.join(a, admin, events.PeerSite)
	_, port, err := net.SplitHostPort(b.MeshAddr())
	if err != nil {
		t.Fatal(err)
	}
	seen := "127.0.0.1:" + port
	dialled := func(want ...string) {
		t.Helper()
		want = slices.Compact(want) // a port may be given out twice
		_, peers := a.peers()
		for _, p := range peers {
			if p.Site == b.ID() && !slices.Equal(p.Addrs, want) {
				t.Errorf("dialled at %v, want %v", p.Addrs, want)
			}
		}
	}
	dialled(seen)
	b = serveConfig(t, b.down()) // which does not know where it is reached
	a.hears(b)
	dialled(seen)
	c = b.down()
	c.Mesh.Listen = "127.0.0.1:0"
	b = serveConfig(t, c)
	a.hears(b)
	dialled(b.MeshAddr(), seen)
	if _, err := a.commands.Do(t.Context(), admin, commands.SetSiteRole{Site: "b", Role: events.EdgeSite}); err != nil {
		t.Fatal(err)
	}
	dialled(b.MeshAddr(), seen)
}

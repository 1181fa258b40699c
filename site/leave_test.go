package site

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// leaving is a mesh of a, b and c of which b is going to leave.
type leaving struct {
	t       *testing.T
	a, b, c *member
	admin   events.Actor
}

func newLeaving(t *testing.T) *leaving {
	x := &leaving{t: t, a: serveMember(t, "a"), b: serveMember(t, "b"), c: serveMember(t, "c")}
	if err := x.a.AddAdmin(t.Context(), "ada", newPublicKey(t)); err != nil {
		t.Fatal(err)
	}
	x.a.commands.View(func(s *aggregate.State) { x.admin = events.UserActor(s.Users()[0].ID) })
	x.b.join(x.a, x.admin, events.PeerSite)
	x.c.join(x.a, x.admin, events.PeerSite)
	x.b.hears(x.c)
	addUser(t, x.b.Site, "before")
	x.a.hears(x.b)
	x.c.hears(x.b)
	return x
}

// down stops a member, and gives what it comes back with, at the same address.
func (m *member) down() Config {
	c := m.cfg
	c.Mesh.Listen = m.MeshAddr()
	m.end()
	return c
}

func (x *leaving) leave() {
	x.t.Helper()
	if _, err := x.b.Leave(x.t.Context(), x.admin, "a", "the office closes"); err != nil {
		x.t.Fatal(err)
	}
}

// settled waits until members know that b has left and a has closed its logs, and come
// to one state, and gives whether they know of a user.
func (x *leaving) settled(members ...*member) {
	x.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		digests, closed := map[string]bool{}, true
		for _, m := range members {
			m.commands.View(func(s *aggregate.State) {
				digests[s.Digest()] = true
				closed = closed && s.Closed(x.b.ID()) && s.Holds().Equal(s.HeldWith())
			})
		}
		if closed && len(digests) == 1 {
			return
		}
		if time.Now().After(end) {
			x.t.Fatalf("closed everywhere %t, %d states", closed, len(digests))
		}
	}
}

// A member was cut off when a site left: the others give it what that site decided
// last, though it is gone.
func TestWhoWasCutOffHearsOfWhoHasLeft(t *testing.T) {
	x := newLeaving(t)
	c := x.c.down()
	addUser(t, x.b.Site, "last")
	x.leave()
	x.b.end()
	x.c = serveConfig(t, c)
	x.c.hears(x.a)
	x.settled(x.a, x.c)
	if !knows(x.c.Site, "last") {
		t.Error("what it decided last has not come")
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		all, err := x.c.Mesh(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(all, func(m MeshSite) bool { return m.Site == "b" })
		if all[i].State == "left" && all[i].Trouble == "" { // all that it wrote is here, recordings too
			break
		}
		if time.Now().After(end) {
			t.Fatalf("b is shown as %q, %q", all[i].State, all[i].Trouble)
		}
	}
	o := x.b.rec.Log().Origin()
	size, _ := x.b.rec.Log().Size()
	if log, err := x.c.Other(o); err != nil {
		t.Error(err)
	} else if got, _ := log.Size(); got != size {
		t.Errorf("%d of %d records of its recordings are here", got, size)
	}
	missing := []MeshSite{{ID: x.b.ID()}}
	if x.c.noteMissing(missing, nil); !strings.Contains(missing[0].Trouble, "records from before it left") {
		t.Errorf("where all of it is missing: %q", missing[0].Trouble)
	}
}

// A site dies after it has given its work away, and leaves at the next start; it dies
// after its last word, which nobody has heard, and says it at the next start.
func TestLeavingIsCutShort(t *testing.T) {
	x := newLeaving(t)
	if _, err := x.b.GiveDuties(t.Context(), x.admin, commands.GiveDuties{To: "a", Reason: "closing"}); err != nil {
		t.Fatal(err)
	}
	b := x.b.down()
	a, c := x.a.down(), x.c.down()
	x.b = serveConfig(t, b)
	if _, err := x.b.commands.Do(t.Context(), x.admin, commands.LeaveMesh{Reason: "the office closes"}); err != nil {
		t.Fatal(err)
	}
	b = x.b.down()
	x.b = serveConfig(t, b)
	addUser(t, x.b.Site, "alone")
	x.a, x.c = serveConfig(t, a), serveConfig(t, c)
	x.settled(x.a, x.c)
	for end := time.Now().Add(time.Minute); x.b.leaves() || x.b.mesh.leaving.Load(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to know that it was heard")
		}
	}
	if _, err := x.b.Leave(t.Context(), x.admin, "a", "again"); err == nil {
		t.Error("it has left twice")
	}
	if knows(x.a.Site, "alone") || !knows(x.b.Site, "alone") {
		t.Error("what it decides alone counts at the others, or not at itself")
	}
	b = x.b.down()
	x.b = serveConfig(t, b)
	if x.b.leaves() || !knows(x.b.Site, "alone") {
		t.Error("after a restart it says once more that it leaves, or has lost what it decided alone")
	}
}

// Whoever has an old disk of a site that has left goes on with it, at a member that has
// not heard of that yet. When it does, nothing of it counts, and others never get it.
func TestAttackTheDiskOfWhoHasLeft(t *testing.T) {
	x := newLeaving(t)
	b := x.b.down()
	stolen := copyData(t, b)
	x.b = serveConfig(t, b)
	c := x.c.down()
	x.leave()
	x.b.end()
	a := x.a.down()

	x.c = serveConfig(t, c)
	thief := serveConfig(t, stolen)
	addUser(t, thief.Site, "mallory")
	x.c.hears(thief)
	if !knows(x.c.Site, "mallory") {
		t.Fatal("the attack does not even begin")
	}
	x.a = serveConfig(t, a)
	x.c.hears(x.a)
	x.settled(x.a, x.c)
	for _, m := range []*member{x.a, x.c} {
		if err := m.CaughtUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if knows(m.Site, "mallory") || !knows(m.Site, "before") {
			t.Errorf("%s knows mallory %t, before %t", m.Name(), knows(m.Site, "mallory"), knows(m.Site, "before"))
		}
		for _, u := range mustUsers(t, m) {
			if u.Name == "mallory" {
				t.Errorf("%s lists mallory", m.Name())
			}
		}
	}
	addUser(t, thief.Site, "mallory2")
	addUser(t, x.c.Site, "after")
	x.a.hears(x.c)
	log := thief.ctl.Log().Origin()
	for _, other := range x.a.OtherLogs() {
		if size, _ := other.Size(); other.Origin() == log && size > 0 {
			t.Errorf("a was given %d records of the thief's log", size)
		}
	}
	if !knows(x.a.Site, "after") || knows(x.c.Site, "mallory2") {
		t.Error("who was tricked is not heard, or hears the thief still")
	}
}

// A site that has left joins no mesh again. A new one takes its name and its place.
func TestWhoHasLeftComesBackAsAnother(t *testing.T) {
	x := newLeaving(t)
	x.leave()
	x.settled(x.a, x.c)
	token, _, err := x.a.Invite(t.Context(), x.admin, commands.InviteSite{Name: "b", Valid: time.Hour, Role: events.PeerSite, Custodian: true}, x.a.MeshAddr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.b.Join(t.Context(), x.admin, token); err == nil || !strings.Contains(err.Error(), "has left") {
		t.Errorf("joined again by its old disk: %v", err)
	}
	again := serveMember(t, "b")
	if _, err := again.Join(t.Context(), x.admin, token); err != nil {
		t.Fatal(err)
	}
	again.hears(x.a)
	addUser(t, again.Site, "new")
	x.a.hears(again)
	x.c.hears(again)
	again.hears(x.c)
	x.settled(x.a, x.c, again)
	if !knows(x.c.Site, "new") || !knows(again.Site, "before") {
		t.Error("the new one is not heard, or has not heard what the old one decided")
	}
	x.a.commands.View(func(s *aggregate.State) {
		if m, err := commands.FindMember(s, "b"); err != nil || m.Site != again.ID() {
			t.Errorf("site b is %v: %v", m, err)
		}
	})
}

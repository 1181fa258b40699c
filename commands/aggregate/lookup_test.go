package aggregate_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

func TestASiteTellsWhetherItRunsAndHasRoom(t *testing.T) {
	p := newPeer(0)
	by := events.SiteActor(p.ID)
	put := func(e events.Event) { p.write(t, p.ID.UUID, by, e) }
	check := func(running, full bool, listen string) {
		t.Helper()
		s, ok := p.state.Site(p.ID)
		if !ok || s.Running() != running || s.Full(events.Rec) != full || s.Full(events.Ctl) || s.Listen() != listen {
			t.Errorf("got %+v, want running %t, full %t, listen %q", s, running, full, listen)
		}
	}
	put(events.SiteCreated{Name: "here"})
	check(false, false, "")
	put(events.SiteStarted{Listen: ":2222"})
	check(true, false, ":2222")
	put(events.StorageFull{Log: events.Rec})
	check(true, true, ":2222")
	put(events.StorageRecovered{Log: events.Rec})
	check(true, false, ":2222")
	put(events.SiteStopped{})
	check(false, false, "")
}

func TestListsAreInOrderAndKeepWhatWasRetired(t *testing.T) {
	x := newSplit(t)
	by := events.UserActor(x.admin)
	x.a.write(t, aggregatetest.ID("zoe", 0), by, events.UserAdded{Name: "aaron", Role: events.Operator})
	x.a.write(t, x.operator.UUID, by, events.UserDisabled{})
	x.a.write(t, aggregatetest.ID("db", 0), by, events.TargetAdded{Name: "db"})
	x.a.write(t, x.target.UUID, by, events.TargetRemoved{})
	x.a.write(t, aggregatetest.ID("db account", 0), by, events.AccountAdded{Name: "app"})
	x.a.write(t, x.account.UUID, by, events.AccountRemoved{})
	var users, targets, accounts []string
	for _, u := range x.a.state.Users() {
		users = append(users, u.Name)
	}
	for _, v := range x.a.state.Targets() {
		targets = append(targets, v.Name)
	}
	for _, v := range x.a.state.Accounts() {
		accounts = append(accounts, v.Name)
	}
	if !slices.Equal(users, []string{"aaron", "ada", "olaf"}) || !slices.Equal(targets, []string{"db", "web1"}) ||
		!slices.Equal(accounts, []string{"root", "app"}) {
		t.Errorf("got %v %v %v", users, targets, accounts)
	}
	if target, ok := x.a.state.Target(x.target); !ok || !target.Removed {
		t.Error("a removed target is not found by id")
	}
	if account, ok := x.a.state.Account(x.account); !ok || !account.Removed {
		t.Error("a removed account is not found by id")
	}
	if _, _, err := x.a.state.AccountByName("root", "web1"); !errors.Is(err, aggregate.ErrUnknown) {
		t.Errorf("a removed account is found by name: %v", err)
	}
}

func TestGrantsAreListedPerUserAndOverall(t *testing.T) {
	x := newSplit(t)
	one := x.grant(x.a, 1, x.admin)
	other := aggregatetest.ID("grant", 2)
	x.a.write(t, other, events.UserActor(x.admin), events.GrantAdded{User: x.admin, Account: x.account})
	if got := x.a.state.GrantsOf(x.operator); len(got) != 1 || got[0].ID != one {
		t.Errorf("operator has %v", got)
	}
	if got := x.a.state.Grants(); len(got) != 2 || got[1].ID.UUID != other {
		t.Errorf("all are %v", got)
	}
	if err := x.a.state.GrantStands(one, aggregatetest.Epoch); err != nil {
		t.Errorf("the grant does not stand: %v", err)
	}
	x.revoke(x.a, one)
	if err := x.a.state.GrantStands(one, aggregatetest.Epoch); !errors.Is(err, aggregate.ErrUnknown) {
		t.Errorf("a removed grant: %v", err)
	}
}

func TestALiveSessionIsFoundWithWhoAskedForItsEnd(t *testing.T) {
	x := newSplit(t)
	id := events.SessionID{UUID: aggregatetest.ID("session", 0)}
	x.a.write(t, id.UUID, events.SiteActor(x.a.ID), events.SessionStarted{User: x.operator})
	x.heal()
	n, ok := x.b.state.Session(id)
	if !ok || n.Connected || n.Started.Origin.Site != x.a.ID {
		t.Fatalf("got %+v", n)
	}
	if _, _, killed := n.Killed(); killed {
		t.Error("killed before anybody asked")
	}
	x.a.write(t, id.UUID, events.SiteActor(x.a.ID), events.SessionConnected{})
	asked := x.b.write(t, id.UUID, events.UserActor(x.admin), events.SessionKillRequested{Reason: "odd"})
	x.heal()
	n, _ = x.a.state.Session(id)
	if at, reason, killed := n.Killed(); !killed || reason != "odd" || at.ID != asked.Header.ID || at.Actor.ID != x.admin.UUID || !n.Connected {
		t.Errorf("got %v %q %t", at, reason, killed)
	}
	x.a.write(t, id.UUID, events.SiteActor(x.a.ID), events.SessionEnded{})
	x.b.write(t, id.UUID, events.UserActor(x.admin), events.SessionKillRequested{}) // too late
	x.heal()
	if len(x.a.state.LiveSessions())+len(x.b.state.LiveSessions()) != 0 {
		t.Error("a late request brought an ended session back")
	}
}

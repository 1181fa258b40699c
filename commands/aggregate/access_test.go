package aggregate_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// access is a group with a grant by selector for one labelled target, known at
// two sites that don't hear each other any more.
type access struct {
	a, b         *peer
	all          []events.Record
	admin, user  events.UserID
	group, grant uuid.UUID
	target       uuid.UUID
	account      events.AccountID
}

func newAccess(t *testing.T) *access {
	x := &access{a: newPeer(0), b: newPeer(1)}
	id := func(n int) uuid.UUID { return aggregatetest.ID("access", n) }
	x.admin, x.user, x.account = events.UserID{UUID: id(1)}, events.UserID{UUID: id(2)}, events.AccountID{UUID: id(3)}
	x.group, x.grant, x.target = id(4), id(5), id(6)
	for _, w := range []struct {
		stream uuid.UUID
		event  events.Event
	}{
		{x.admin.UUID, events.UserAdded{Name: "ada", Role: events.Admin}},
		{x.user.UUID, events.UserAdded{Name: "olaf", Role: events.Operator}},
		{x.target, events.TargetAdded{Name: "web1"}},
		{x.account.UUID, events.AccountAdded{Name: "root", Target: events.TargetID{UUID: x.target}}},
		{x.target, events.TargetLabelSet{Key: "env", Value: "prod"}},
		{x.group, events.GroupAdded{Name: "ops"}},
		{x.group, events.GroupMemberAdded{User: x.user}},
		{x.grant, events.GrantAdded{Group: events.GroupID{UUID: x.group}, Selector: "root+env=prod"}},
	} {
		x.at(t, x.a, w.stream, w.event)
	}
	x.b.hear(t, x.all)
	return x
}

func (x *access) at(t *testing.T, p *peer, stream uuid.UUID, e events.Event) {
	t.Helper()
	by := events.UserActor(x.admin)
	if stream == x.admin.UUID {
		by = events.SiteActor(p.ID)
	}
	x.all = append(x.all, p.write(t, stream, by, e))
}

func (x *access) expect(t *testing.T, s *aggregate.State, want error) {
	t.Helper()
	if _, err := s.GrantFor(x.user, x.account, aggregatetest.Epoch); !errors.Is(err, want) {
		t.Errorf("GrantFor: %v, want %v", err, want)
	}
}

// Whatever takes something away at one site wins over what gives it at another
// that did not know, in both orders of arrival (rule R8); what is given later,
// in knowledge of it, counts.
func TestTakingAwayWinsInGroupsLabelsAndGrants(t *testing.T) {
	group := events.GroupID{UUID: aggregatetest.ID("access", 4)}
	user := events.UserID{UUID: aggregatetest.ID("access", 2)}
	for name, tt := range map[string]struct {
		stream     int
		away, give events.Event
		fresh      bool // each giving is an aggregate of its own
	}{
		"member": {4, events.GroupMemberRemoved{User: user}, events.GroupMemberAdded{User: user}, false},
		"label":  {6, events.TargetLabelRemoved{Key: "env"}, events.TargetLabelSet{Key: "env", Value: "prod"}, false},
		"grant": {5, events.GrantRemoved{Group: group, Selector: "root+env=prod"},
			events.GrantAdded{Group: group, Selector: "root+env=prod"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			x := newAccess(t)
			x.expect(t, x.a.state, nil)
			stream, again := aggregatetest.ID("access", tt.stream), aggregatetest.ID("access", tt.stream)
			if tt.fresh {
				again = aggregatetest.ID("again", 1)
			}
			x.at(t, x.b, again, tt.give) // does not know of
			x.at(t, x.a, stream, tt.away)
			given, away := x.all[len(x.all)-2:len(x.all)-1], x.all[len(x.all)-1:]
			x.a.hear(t, given)
			x.b.hear(t, away)
			x.expect(t, x.a.state, aggregate.ErrUnknown)
			x.expect(t, x.b.state, aggregate.ErrUnknown)
			if x.a.state.Digest() != x.b.state.Digest() {
				t.Error("the sites differ")
			}
			if tt.fresh {
				again = aggregatetest.ID("again", 2)
			}
			x.at(t, x.b, again, tt.give)
			x.expect(t, x.b.state, nil)
		})
	}
}

// Two sites that set different values give the target neither: a label gives
// rights.
func TestAContestedLabelSelectsNothing(t *testing.T) {
	x := newAccess(t)
	x.at(t, x.a, x.target, events.TargetLabelSet{Key: "env", Value: "prod"})
	x.at(t, x.b, x.target, events.TargetLabelSet{Key: "env", Value: "test"})
	x.b.hear(t, x.all[len(x.all)-2:])
	x.expect(t, x.b.state, aggregate.ErrUnknown)
}

// What a disabled administrator gives at a site that does not know yet counts
// for nothing once both have heard (rule R9).
func TestWhatADisabledAdministratorGivesIsSuspended(t *testing.T) {
	for name, give := range map[string]func(x *access) (uuid.UUID, events.Event){
		"member": func(x *access) (uuid.UUID, events.Event) { return x.group, events.GroupMemberAdded{User: x.user} },
		"label": func(x *access) (uuid.UUID, events.Event) {
			return x.target, events.TargetLabelSet{Key: "env", Value: "prod"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newAccess(t)
			if name == "member" {
				x.at(t, x.a, x.group, events.GroupMemberRemoved{User: x.user})
			} else {
				x.at(t, x.a, x.target, events.TargetLabelRemoved{Key: "env"})
			}
			x.b.hear(t, x.all[len(x.all)-1:])
			other := events.UserID{UUID: aggregatetest.ID("access", 9)}
			x.at(t, x.a, other.UUID, events.UserAdded{Name: "eve", Role: events.Admin})
			x.b.hear(t, x.all[len(x.all)-1:])
			x.at(t, x.a, other.UUID, events.UserDisabled{})
			stream, e := give(x)
			r := x.b.write(t, stream, events.UserActor(other), e)
			x.expect(t, x.b.state, nil) // it can't know
			x.a.hear(t, []events.Record{r})
			x.expect(t, x.a.state, aggregate.ErrUnknown)
		})
	}
}

func TestWithoutPayloadARemovalTakesAll(t *testing.T) {
	for name, e := range map[string]events.Event{
		"member": events.GroupMemberRemoved{}, "label": events.TargetLabelRemoved{}, "grant": events.GrantRemoved{}, "group": events.GroupRemoved{},
	} {
		x := newAccess(t)
		stream := map[string]uuid.UUID{"member": x.group, "label": x.target, "grant": x.grant, "group": x.group}[name]
		x.at(t, x.a, stream, e)
		if _, err := x.a.state.GrantFor(x.user, x.account, aggregatetest.Epoch); !errors.Is(err, aggregate.ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The most specific grant counts, and of those the newest; one that does not
// stand now is passed over.
func TestWhichGrantCounts(t *testing.T) {
	x := newAccess(t)
	now := aggregatetest.Epoch.Add(time.Hour)
	which := func() uuid.UUID {
		g, err := x.a.state.GrantFor(x.user, x.account, now)
		if err != nil {
			t.Fatal(err)
		}
		return g.ID.UUID
	}
	id := func(n int) uuid.UUID { return aggregatetest.ID("which", n) }
	direct := events.GrantAdded{User: x.user, Account: x.account}
	for n, e := range []events.GrantAdded{
		{Group: events.GroupID{UUID: x.group}, Selector: "root+*"},
		{Group: events.GroupID{UUID: x.group}, Account: x.account},
		{User: x.user, Selector: "*+*"},
		direct, direct,
	} {
		x.at(t, x.a, id(n), e)
		if which() != id(n) {
			t.Errorf("not %+v counts", e)
		}
	}
	for n, e := range []events.GrantAdded{
		{User: x.user, Account: x.account, Expires: now},
		{User: x.user, Account: x.account, From: now.Add(time.Second)},
		{User: x.user, Account: x.account, Windows: []events.Window{"nonsense"}},
		{Group: events.GroupID{UUID: x.group}, Selector: "root+*"},
	} {
		x.at(t, x.a, id(10+n), e)
		if which() != id(4) {
			t.Errorf("%+v counts", e)
		}
	}
}

// Of settings that did not know of each other, each field is its strictest.
func TestRoleSettingsAreTheStrictest(t *testing.T) {
	x := newAccess(t)
	stream := events.RoleStream(events.Operator)
	x.at(t, x.a, stream, events.RoleSet{Role: events.Operator, SecondFactor: true, Staleness: events.Strict, Within: 60})
	x.at(t, x.b, stream, events.RoleSet{Role: events.Operator, Staleness: events.Strict, Within: 30})
	x.b.hear(t, x.all[len(x.all)-2:])
	want := events.RoleSet{Role: events.Operator, SecondFactor: true, Staleness: events.Strict, Within: 30}
	if got := x.b.state.RoleSettings(events.Operator); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	x.at(t, x.b, stream, events.RoleSet{Role: events.Operator, Staleness: events.BestEffort})
	if got := x.b.state.RoleSettings(events.Operator); got.SecondFactor || got.Staleness != events.BestEffort {
		t.Errorf("after it is settled: %+v", got)
	}
	x.at(t, x.b, stream, events.RoleSet{Role: events.Admin, SecondFactor: true}) // another role's stream
	if x.b.state.RoleSettings(events.Admin).SecondFactor {
		t.Error("a role is set by another one's stream")
	}
}

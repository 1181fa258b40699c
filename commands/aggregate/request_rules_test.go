package aggregate_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// asked is access with a request of olaf, known at both sites; eve may approve
// at a policy that wants one of her.
type asked struct {
	*access
	eve events.UserID
	id  uuid.UUID
	now time.Time
}

func newAsked(t *testing.T) *asked {
	x := &asked{access: newAccess(t), eve: events.UserID{UUID: aggregatetest.ID("asked", 1)}, id: aggregatetest.ID("asked", 2)}
	x.now = aggregatetest.Epoch.Add(time.Minute)
	before := len(x.all)
	x.at(t, x.a, x.eve.UUID, events.UserAdded{Name: "eve", Role: events.Approver})
	x.at(t, x.a, aggregatetest.ID("asked", 3), events.PolicyAdded{
		Name: "p", Selector: "*+*", Requesters: []events.Party{{Anyone: true}}, Approvers: []events.Party{{Role: events.Approver}},
		Approvals: 1, MaxTime: 3600, MaxUses: 5, Decide: 3600,
	})
	x.by(t, x.a, x.user, x.id, events.RequestMade{
		User: x.user, Account: x.account, Reason: "r", For: 600, Uses: 2, Decide: aggregatetest.Epoch.Add(time.Hour), Fingerprint: "olaf",
	})
	x.b.hear(t, x.all[before:])
	return x
}

func (x *asked) by(t *testing.T, p *peer, user events.UserID, stream uuid.UUID, e events.Event) events.Record {
	t.Helper()
	r := p.write(t, stream, events.UserActor(user), e)
	x.all = append(x.all, r)
	return r
}

func (x *asked) approve(t *testing.T, p *peer) events.Record {
	t.Helper()
	return x.by(t, p, x.eve, x.id, events.RequestApproved{Uses: 2, Site: x.a.ID, Epoch: 1, Fingerprint: "eve"})
}

func (x *asked) standing(p *peer) aggregate.Standing {
	r, _ := p.state.Request(events.RequestID{UUID: x.id})
	return p.state.Standing(r, x.now)
}

// A no at one site wins over a yes at another, whichever is heard first.
func TestADenialWinsOverAnApprovalElsewhere(t *testing.T) {
	x := newAsked(t)
	yes := x.approve(t, x.a)
	no := x.by(t, x.b, x.eve, x.id, events.RequestDenied{Reason: "no"})
	x.a.hear(t, []events.Record{no})
	x.b.hear(t, []events.Record{yes})
	for _, p := range []*peer{x.a, x.b} {
		if v := x.standing(p); v.State != aggregate.Denied {
			t.Errorf("%+v", v)
		}
	}
	if x.a.state.Digest() != x.b.state.Digest() {
		t.Error("the sites differ")
	}
}

// Only the log in which a request was made spends it (rule R12): what another
// one writes counts for nothing.
func TestOnlyTheNamedLogRedeems(t *testing.T) {
	x := newAsked(t)
	x.approve(t, x.a)
	x.b.hear(t, x.all[len(x.all)-1:])
	if r, _ := x.b.state.RequestFor(x.user, x.account, x.b.Origin(), x.now); r != nil {
		t.Error("another site lets the user in by it")
	}
	if r, _ := x.a.state.RequestFor(x.user, x.account, x.a.Origin(), x.now); r == nil {
		t.Error("its own site does not")
	}
	forged := x.by(t, x.b, x.user, x.id, events.ApprovalRedeemed{})
	x.a.hear(t, []events.Record{forged})
	if v := x.standing(x.a); v.Uses != 2 {
		t.Errorf("%d uses left of 2, after another log spent one", v.Uses)
	}
	x.by(t, x.a, x.user, x.id, events.ApprovalRedeemed{})
	if v := x.standing(x.a); v.Uses != 1 {
		t.Errorf("%d uses left of 2 after one", v.Uses)
	}
}

// An approval by somebody who had been disabled at another site is suspended
// (rule R9): it counts no more, and what runs by it ends. One that was given
// before, in order, was an approval.
func TestAnApprovalByADisabledApproverIsSuspended(t *testing.T) {
	x := newAsked(t)
	yes := x.approve(t, x.a)
	redeemed := x.by(t, x.a, x.user, aggregatetest.ID("asked", 9), events.SessionStarted{
		User: x.user, Account: x.account, Request: events.RequestID{UUID: x.id}, Approvals: []uuid.UUID{yes.Header.ID},
	})
	session := func() string {
		n, ok := x.a.state.Session(events.SessionID{UUID: redeemed.Header.Stream})
		if !ok {
			t.Fatal("no session")
		}
		return x.a.state.SessionLets(n, x.now)
	}
	if why := session(); why != "" {
		t.Fatal(why)
	}
	away := x.b.write(t, x.eve.UUID, events.UserActor(x.admin), events.UserDisabled{}) // does not know of the approval
	x.a.hear(t, []events.Record{away})
	if v := x.standing(x.a); v.State != aggregate.Pending {
		t.Errorf("%+v", v)
	}
	if why := session(); why == "" {
		t.Error("the session goes on")
	}

	y := newAsked(t)
	yes = y.approve(t, y.a)
	x = y
	redeemed = y.by(t, y.a, y.user, aggregatetest.ID("asked", 9), events.SessionStarted{
		User: y.user, Account: y.account, Request: events.RequestID{UUID: y.id}, Approvals: []uuid.UUID{yes.Header.ID},
	})
	y.at(t, y.a, y.eve.UUID, events.UserDisabled{}) // knows of it
	if why := session(); why != "" {
		t.Errorf("left in order: %s", why)
	}
	if v := y.standing(y.a); v.State != aggregate.Pending {
		t.Errorf("what is not used yet: %+v", v)
	}
}

// A change of those who may break the glass that takes away wins over one that
// gives and did not know of it; scopes that differ leave none.
func TestTheStricterChangeOfTheGlassCounts(t *testing.T) {
	allow := func(x *asked, selector events.Selector, most uint64) events.GlassChange {
		return events.GlassChange{User: x.user, Allow: true, Selector: selector, MaxTime: most, Review: 60}
	}
	change := func(t *testing.T, x *asked, p *peer, n int, c events.GlassChange) {
		stream := aggregatetest.ID("glass", n)
		x.by(t, p, x.admin, stream, events.GlassChangeProposed{Change: c, Fingerprint: "admin"})
		x.by(t, p, x.eve, stream, events.GlassChangeConfirmed{Change: c, Fingerprint: "eve"})
	}
	for name, tt := range map[string]struct {
		here, there func(x *asked) events.GlassChange
		may         bool
		most        uint64
	}{
		"removal": {func(x *asked) events.GlassChange { return allow(x, "*+*", 60) }, func(x *asked) events.GlassChange { return events.GlassChange{User: x.user} }, false, 0},
		"time":    {func(x *asked) events.GlassChange { return allow(x, "*+*", 60) }, func(x *asked) events.GlassChange { return allow(x, "*+*", 30) }, true, 30},
		"scope":   {func(x *asked) events.GlassChange { return allow(x, "*+*", 60) }, func(x *asked) events.GlassChange { return allow(x, "root+*", 60) }, false, 0},
	} {
		x := newAsked(t)
		change(t, x, x.a, 1, allow(x, "*+*", 90))
		x.b.hear(t, x.all[len(x.all)-2:])
		before := len(x.all)
		change(t, x, x.a, 2, tt.here(x))
		change(t, x, x.b, 3, tt.there(x))
		x.a.hear(t, x.all[before+2:])
		x.b.hear(t, x.all[before:before+2])
		for _, p := range []*peer{x.a, x.b} {
			if g, ok := p.state.GlassOf(x.user); ok != tt.may || g.MaxTime != tt.most {
				t.Errorf("%s: %+v %t", name, g, ok)
			}
		}
	}
}

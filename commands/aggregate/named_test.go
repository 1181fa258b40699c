package aggregate_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// named says something else under the id of an event by which others name what it
// says, nil for all other events.
func named(t fataler, r events.Record) events.Event {
	e, err := r.Event()
	if err != nil {
		t.Fatalf("%v", err)
	}
	switch e := e.(type) {
	case events.SecretSent:
		e.Verb, e.Via, e.Proven = events.ChangePrivileged, events.AccountID{}, true
		return e
	case events.SecretTried:
		return e
	case events.SecretRejected:
		return events.SecretRejected{Version: e.Version, Locked: true}
	case events.SecretUnanswered:
		return events.SecretUnanswered{Version: e.Version, NotPresented: true}
	case events.SecretCheckedOut:
		e.Until = aggregatetest.Epoch.Add(1000 * time.Hour)
		return e
	case events.RequestApproved:
		e.Uses, e.Fingerprint = 99, "evil"
		return e
	case events.ApprovalRedeemed:
		return events.ApprovalRedeemed{}
	}
	return nil
}

// A member says something else under the ids of events by which logins, changes,
// check-outs and approvals are named, answers them, and keeps back what it knows.
// Whatever arrives first, all sites come to the same (invariant I2).
func TestAttackNamedTwice(t *testing.T) {
	kinds := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		h.oneOfEach(t)
		h.nameEach(t)
		rogue, twice := h.peers[0], map[string]bool{}
		frozen := rogue.state.Clock()
		rogue.Knows = func() events.Clock {
			if rapid.Bool().Draw(t, "admits what it knows") {
				frozen = rogue.state.Clock()
			}
			return frozen.With(rogue.Origin(), rogue.state.At(rogue.Origin()))
		}
		say := func(d events.Draft) {
			records, err := rogue.Append(context.Background(), d)
			if err != nil {
				t.Fatalf("%v", err)
			}
			apply(t, rogue.state, records...)
			h.all = append(h.all, records...)
			h.heard[0] = append(h.heard[0], len(h.all)-1)
		}
		for range rapid.IntRange(1, 6).Draw(t, "attacks") {
			h.sync(t, 0, rapid.IntRange(0, len(h.peers)-1).Draw(t, "from"))
			var said []events.Record
			for _, i := range h.heard[0] {
				if named(t, h.all[i]) != nil {
					said = append(said, h.all[i])
				}
			}
			if len(said) > 0 {
				r := rapid.SampledFrom(said).Draw(t, "what")
				d := rogue.Draft(r.Header.Stream, r.Header.Actor, named(t, r))
				d.ID = r.Header.ID
				say(d)
				twice[r.Header.Type] = true
				if try := (events.TryID{UUID: d.ID}); rapid.Bool().Draw(t, "answers it") {
					say(rogue.Draft(r.Header.Stream, events.SiteActor(rogue.ID), rapid.SampledFrom([]events.Event{
						events.SecretUnanswered{Try: try, NotPresented: true}, events.SecretRefused{Try: try, NotPresented: true},
						events.SecretVerified{Try: try, How: events.ByLogin}, events.SecretCheckedIn{Lease: events.LeaseID(try)},
					}).Draw(t, "answer")))
				}
			}
			for at := range h.peers[1:] { // the others go on
				h.sync(t, at+1, rapid.IntRange(0, len(h.peers)-1).Draw(t, "hears"))
				h.act(t, at+1, len(h.all)+100)
			}
		}
		want := settle(t, h.all)
		for range 3 {
			other := settle(t, h.permute(t))
			if other.Digest() != want.Digest() {
				t.Fatalf("another order of %d records gives another state:\n%s", len(h.all), unlike(want.Lines(), other.Lines()))
			}
		}
		for kind := range twice {
			kinds[kind]++
		}
	})
	for _, kind := range []string{"secret.sent", "secret.tried", "secret.rejected", "secret.unanswered", "secret.checked_out", "request.approved", "approval.redeemed"} {
		if kinds[kind] == 0 && !testing.Short() {
			t.Errorf("no history says %s twice", kind)
		}
	}
}

// nameEach has the last site say something of every kind that is named by its event.
func (h *history) nameEach(t *rapid.T) {
	at, n := len(h.peers)-1, 1000
	id := func(kind string) uuid.UUID { return aggregatetest.ID(kind, n) }
	version, run := events.SecretID{UUID: aggregatetest.ID("version", n)}, events.RotationID{UUID: id("rotation")}
	for _, one := range []struct {
		stream string
		event  events.Event
	}{
		{"credential", events.SecretSent{Version: version, Rotation: run, Verb: events.ChangeAsItself, Via: events.AccountID{UUID: id("account")}}},
		{"credential", events.SecretTried{Version: version, Rotation: run}},
		{"credential", events.SecretRejected{Version: version}},
		{"credential", events.SecretUnanswered{Version: version}},
		{"credential", events.SecretCheckedOut{Version: version}},
		{"request", events.RequestApproved{Uses: 2, Site: h.peers[at].ID, Epoch: 1}},
		{"request", events.ApprovalRedeemed{Session: events.SessionID{UUID: id("session")}}},
	} {
		h.all = append(h.all, h.peers[at].write(t, id(one.stream), events.UserActor(events.UserID{UUID: id("user")}), one.event))
		h.heard[at] = append(h.heard[at], len(h.all)-1)
	}
}

// betrayal is a credential of a founder, and a peer that says what it likes under the
// ids of the founder's events.
type betrayal struct {
	*members
	rogue      *peer
	credential uuid.UUID
	version    events.SecretID
}

func newBetrayal(t *testing.T) *betrayal {
	x := &betrayal{members: newMembers(t), rogue: newPeer(1), credential: aggregatetest.ID("credential", 1)}
	x.join(x.rogue, events.PeerSite)
	x.at(x.founder, x.credential, events.CredentialAdded{Kind: events.Password})
	x.version.UUID = x.at(x.founder, x.credential, events.SecretStaged{Sealed: []byte("good")}).Header.ID
	return x
}

// under writes at the rogue under the id of another event.
func (x *betrayal) under(r events.Record, actor events.Actor, e events.Event) {
	x.Helper()
	d := x.rogue.Draft(r.Header.Stream, actor, e)
	d.ID = r.Header.ID
	records, err := x.rogue.Append(x.Context(), d)
	if err != nil {
		x.Fatal(err)
	}
	apply(x, x.rogue.state, records...)
	x.founder.hear(x, records)
	x.all = append(x.all, records...)
}

func (x *betrayal) secret() (*aggregate.State, *aggregate.Credential) {
	s := settle(x, x.all)
	c, _ := s.Credential(events.CredentialID{UUID: x.credential})
	return s, c
}

// What counts against the lock-out is not talked away by another one who says, under
// the id of the login, that there was none; nor is the owner's rotation held up.
func TestAttackALoginIsTalkedAway(t *testing.T) {
	x := newBetrayal(t)
	run := aggregatetest.ID("rotation", 1)
	x.at(x.founder, run, events.RotationPlanned{Credential: events.CredentialID{UUID: x.credential}})
	tried := x.at(x.founder, x.credential, events.SecretTried{Version: x.version, Rotation: events.RotationID{UUID: run}})
	spent := func() map[events.SiteID]aggregate.Spending {
		_, c := x.secret()
		return c.Spent(aggregatetest.Epoch.Add(-time.Hour), true)
	}
	if n := spent()[x.founder.ID].N; n != 1 {
		t.Fatalf("%d logins count", n)
	}
	try := events.TryID{UUID: tried.Header.ID}
	for _, answer := range []events.Event{
		events.SecretUnanswered{Version: x.version, Rotation: events.RotationID{UUID: run}, Try: try, NotPresented: true},
		events.SecretVerified{Version: x.version, Rotation: events.RotationID{UUID: run}, Try: try},
	} {
		x.at(x.rogue, x.credential, answer)
		if n := spent()[x.founder.ID].N; n != 1 {
			t.Errorf("after a %T of another site %d logins count", answer, n)
		}
	}
	x.under(tried, events.SiteActor(x.rogue.ID), events.SecretTried{Version: x.version, Rotation: events.RotationID{UUID: run}})
	x.at(x.rogue, x.credential, events.SecretUnanswered{Version: x.version, Rotation: events.RotationID{UUID: run}, Try: try, NotPresented: true})
	x.at(x.rogue, run, events.RotationDeferred{Until: aggregatetest.Epoch.Add(1000 * time.Hour), Detail: "never"})
	if n := spent()[x.founder.ID].N; n != 1 {
		t.Errorf("with another login under its id %d count", n)
	}
	s, _ := x.secret()
	r, ok := s.Rotation(events.RotationID{UUID: run})
	if !ok || len(r.Attempts()) != 1 || r.Attempts()[0].Answer != "" {
		t.Errorf("another site has a say in the rotation: %+v", r)
	}
	if n, _, _ := r.Deferred(); n != 0 {
		t.Error("another site has put the rotation off")
	}
	x.at(x.founder, x.credential, events.SecretUnanswered{Version: x.version, Rotation: events.RotationID{UUID: run}, Try: try, NotPresented: true})
	if n := spent()[x.founder.ID].N; n != 0 {
		t.Errorf("answered by its own site, %d logins count", n)
	}
}

// A check-out is not taken over by another one under its id, and does not end with it.
func TestAttackALeaseUnderTheIDOfAnother(t *testing.T) {
	x := newBetrayal(t)
	ada, eve := events.UserID{UUID: aggregatetest.ID("user", 1)}, events.UserID{UUID: aggregatetest.ID("user", 2)}
	frozen := x.rogue.state.Clock()
	out := x.by(x.founder, events.UserActor(ada), x.credential, events.SecretCheckedOut{Version: x.version, Until: aggregatetest.Epoch.Add(time.Hour)})
	x.rogue.Knows = func() events.Clock { return frozen.With(x.rogue.Origin(), x.rogue.state.At(x.rogue.Origin())) }
	x.under(out, events.UserActor(eve), events.SecretCheckedOut{Version: x.version, Until: aggregatetest.Epoch.Add(1000 * time.Hour)})
	holders := func() (all []events.UserID) {
		_, c := x.secret()
		for _, l := range c.Leases() {
			all = append(all, l.User)
		}
		return all
	}
	if got := holders(); !slices.Contains(got, ada) || !slices.Contains(got, eve) {
		t.Errorf("it is lent to %v", got)
	}
	if _, c := x.secret(); !c.ExclusivityBroken() {
		t.Error("that it is lent twice is not seen")
	}
	x.at(x.rogue, x.credential, events.SecretCheckedIn{Lease: events.LeaseID{UUID: out.Header.ID}})
	if got := holders(); len(got) != 1 || got[0] != ada {
		t.Errorf("after the other one's end it is lent to %v", got)
	}
}

// A session does not last longer by another approval under the id of its own; and two
// uses of an approval under one id are two.
func TestAttackApprovalsUnderOneID(t *testing.T) {
	x := newBetrayal(t)
	bob, session := events.UserID{UUID: aggregatetest.ID("user", 1)}, aggregatetest.ID("session", 1)
	request, account := aggregatetest.ID("request", 1), events.AccountID{UUID: aggregatetest.ID("account", 1)}
	x.at(x.founder, bob.UUID, events.UserAdded{Name: "bob"})
	x.by(x.founder, events.UserActor(bob), request, events.RequestMade{User: bob, Account: account, Reason: "a", For: 60, Uses: 2})
	approved := x.by(x.founder, events.UserActor(bob), request, events.RequestApproved{Uses: 2, Site: x.founder.ID, Epoch: 1})
	used := x.at(x.founder, request, events.ApprovalRedeemed{Session: events.SessionID{UUID: session}})
	x.at(x.founder, session, events.SessionStarted{User: bob, Account: account, Request: events.RequestID{UUID: request}, Approvals: []uuid.UUID{approved.Header.ID}})
	until := func() time.Time {
		s := settle(t, x.all)
		n, _ := s.Session(events.SessionID{UUID: session})
		return s.SessionUntil(n, aggregatetest.Epoch)
	}
	want := until()
	x.rogue.Skew = 12 * time.Hour
	x.under(approved, events.UserActor(bob), events.RequestApproved{Uses: 99, Site: x.founder.ID, Epoch: 1})
	if got := until(); want.IsZero() || !got.Equal(want) {
		t.Errorf("the session may last until %s, not %s", got, want)
	}
	d := x.founder.Draft(request, events.SiteActor(x.founder.ID), events.ApprovalRedeemed{Session: events.SessionID{UUID: aggregatetest.ID("session", 2)}})
	d.ID = used.Header.ID
	records, err := x.founder.Append(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := settle(t, append(x.all, records...)).Request(events.RequestID{UUID: request}); r.Redeemed() != 2 {
		t.Errorf("two uses under one id count as %d", r.Redeemed())
	}
}

// An edge, and a peer, take no access by break-glass of another edge away by making
// something under its id: nobody decides there which of two edges was first, so each
// stands for itself, at its own site. A no ends it.
func TestAttackBreakGlassOfAnEdge(t *testing.T) {
	m, b, c, d := newMembers(t), newPeer(1), newPeer(2), newPeer(3)
	m.join(b, events.EdgeSite)
	m.join(c, events.EdgeSite)
	m.join(d, events.PeerSite)
	id := func(kind string, n int) uuid.UUID { return aggregatetest.ID(kind, n) }
	bob, ada, eve := events.UserID{UUID: id("user", 1)}, events.UserID{UUID: id("user", 2)}, events.UserID{UUID: id("user", 3)}
	account, request, session := events.AccountID{UUID: id("account", 1)}, id("request", 1), id("session", 1)
	for _, u := range []events.UserID{bob, ada, eve} {
		m.at(m.founder, u.UUID, events.UserAdded{Name: u.String(), Role: events.Admin})
	}
	m.at(m.founder, id("target", 1), events.TargetAdded{Name: "t"})
	m.at(m.founder, account.UUID, events.AccountAdded{Name: "root", Target: events.TargetID{UUID: id("target", 1)}})
	m.by(m.founder, events.UserActor(ada), id("glass", 1), events.GlassChangeProposed{Change: events.GlassChange{User: bob, Allow: true, Selector: "*+*", MaxTime: 3600, Review: 60}})
	m.by(m.founder, events.UserActor(eve), id("glass", 1), events.GlassChangeConfirmed{Fingerprint: "eve"})
	for _, p := range []*peer{c, d} {
		frozen := p.state.Clock()
		p.Knows = func() events.Clock { return frozen.With(p.Origin(), p.state.At(p.Origin())) }
	}
	before := len(m.all)
	m.by(b, events.UserActor(bob), request, events.AccessBreakGlass{User: bob, Account: account, Reason: "fire", For: 3600})
	m.at(b, session, events.SessionStarted{User: bob, Account: account, Request: events.RequestID{UUID: request}})
	good := len(m.all)
	m.by(c, events.UserActor(eve), request, events.AccessBreakGlass{User: eve, Account: account, Reason: "evil", For: 3600})
	m.by(c, events.UserActor(bob), request, events.RequestWithdrawn{Reason: "evil"})
	m.by(d, events.UserActor(eve), request, events.RequestMade{User: eve, Account: account, Reason: "evil", For: 60, Uses: 1})
	ours, theirs := m.all[before:good:good], slices.Clone(m.all[good:])
	digest := ""
	for n, order := range [][]events.Record{slices.Concat(m.all[:before], ours, theirs), slices.Concat(m.all[:before], theirs, ours),
		slices.Concat(m.all[:before], theirs[2:], ours, theirs[:2])} {
		s := settle(t, order)
		if n > 0 && s.Digest() != digest {
			t.Error("the order of arrival decides")
		}
		digest = s.Digest()
		running, ok := s.Session(events.SessionID{UUID: session})
		if !ok || s.SessionLets(running, aggregatetest.Epoch) != "" {
			t.Errorf("the session does not go on: %q", s.SessionLets(running, aggregatetest.Epoch))
		}
		if r, ok := s.RequestOf(running); !ok || r.Reason != "fire" {
			t.Errorf("the session's request is %+v", r)
		}
		if r, v := s.RequestFor(bob, account, b.Origin(), aggregatetest.Epoch); r == nil || r.Reason != "fire" || !v.Lets() {
			t.Errorf("the access is gone: %+v", r)
		}
	}
	m.by(m.founder, events.UserActor(ada), request, events.RequestDenied{Reason: "no fire"})
	s := settle(t, m.all)
	if running, _ := s.Session(events.SessionID{UUID: session}); s.SessionLets(running, aggregatetest.Epoch) == "" {
		t.Error("a no ends nothing")
	}
	m.by(c, events.UserActor(bob), request, events.AccessBreakGlass{User: bob, Account: account, Reason: "again", For: 60})
	m.by(m.founder, events.UserActor(ada), request, events.RequestReviewed{Verdict: events.Fine})
	m.by(m.founder, events.UserActor(ada), request, events.RequestMade{User: ada, Account: account, Reason: "evil, too", For: 60, Uses: 1})
	want := settle(t, m.all)
	rapid.Check(t, func(t *rapid.T) {
		other := settle(t, (&history{all: m.all}).permute(t))
		if other.Digest() != want.Digest() {
			t.Fatalf("another order of arrival gives another state:\n%s", unlike(want.Lines(), other.Lines()))
		}
	})
}

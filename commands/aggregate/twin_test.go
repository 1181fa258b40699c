package aggregate_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// settle builds a state as a site does: anew, until what it was made with is what it
// calls for.
func settle(t fataler, records []events.Record) *aggregate.State {
	return settleAs(t, records, func(*aggregate.State) {})
}

// settleAs is settle of a site whose states are prepared.
func settleAs(t fataler, records []events.Record, prepare func(*aggregate.State)) *aggregate.State {
	var holds aggregate.Holds
	for range 8 {
		s := aggregate.New()
		prepare(s)
		s.SetHolds(holds)
		deliver(t, s, records)
		next := s.Holds()
		if next.Equal(holds) {
			return s
		}
		holds = next
	}
	t.Fatalf("what counts does not settle")
	return nil
}

// again makes something of another content under the id of what a record made.
func again(r events.Record) events.Event {
	user := events.UserID{UUID: r.Header.Actor.ID}
	switch r.Header.Type {
	case "user.added":
		return events.UserAdded{Name: "b", Role: events.Operator}
	case "target.added":
		return events.TargetAdded{Name: "b", Addr: "evil:22", HostKeys: []string{"evil"}}
	case "account.added":
		return events.AccountAdded{Name: "b", Target: events.TargetID{UUID: aggregatetest.ID("aggregate", 1)}}
	case "credential.added":
		return events.CredentialAdded{Kind: events.PrivateKey}
	case "group.added":
		return events.GroupAdded{Name: "b"}
	case "policy.added":
		return events.PolicyAdded{Name: "b", Selector: "a+*", Requesters: []events.Party{{Anyone: true}}, MaxTime: 9}
	case "ca.trusted":
		return events.CATrusted{Name: "b", Key: "evil", Fingerprint: "evil"}
	case "request.made":
		return events.RequestMade{User: user, Reason: "evil"}
	case "access.break_glass":
		return events.AccessBreakGlass{User: user, Reason: "evil"}
	case "factor.enrolled":
		return events.FactorEnrolled{User: events.UserID{UUID: aggregatetest.ID("aggregate", 0)}, Sealed: []byte("evil")}
	case "glass.change_proposed":
		return events.GlassChangeProposed{Change: events.GlassChange{User: user, Allow: true, Selector: "*+*"}}
	case "site.invited":
		return events.SiteInvited{Name: "evil", Role: events.Steward}
	case "secret.staged":
		return events.SecretStaged{Sealed: []byte("evil")}
	case "session.started":
		return events.SessionStarted{Source: "evil"}
	case "grant.added":
		return events.GrantAdded{User: events.UserID{UUID: aggregatetest.ID("aggregate", 0)}, Account: events.AccountID{UUID: aggregatetest.ID("aggregate", 1)}}
	case "rotation.planned":
		return events.RotationPlanned{Credential: events.CredentialID{UUID: aggregatetest.ID("aggregate", 2)}, Why: events.WhyAsked}
	}
	return nil
}

// A member makes aggregates of every kind under ids that exist, and keeps back what
// it knows. Whatever arrives first, all sites come to the same, and show it.
func TestAttackMadeTwice(t *testing.T) {
	kinds := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		h.oneOfEach(t)
		rogue, twice := h.peers[0], map[string]bool{}
		var frozen events.Clock // what it has admitted to know
		var coder events.ClockCoder
		for _, r := range rogue.Records {
			var err error
			if frozen, err = coder.Apply(r.Header.Clock); err != nil {
				t.Fatalf("%v", err)
			}
		}
		rogue.Knows = func() events.Clock { return frozen.With(rogue.Origin(), rogue.state.At(rogue.Origin())) }
		for range rapid.IntRange(1, 6).Draw(t, "attacks") {
			for at := range h.peers[1:] { // the others go on
				h.act(t, at+1, len(h.all)+100)
			}
			h.sync(t, 0, rapid.IntRange(0, len(h.peers)-1).Draw(t, "from"))
			var made []events.Record
			for _, i := range h.heard[0] {
				if again(h.all[i]) != nil {
					made = append(made, h.all[i])
				}
			}
			if len(made) == 0 {
				continue
			}
			r := rapid.SampledFrom(made).Draw(t, "what")
			d := rogue.Draft(r.Header.Stream, r.Header.Actor, again(r))
			if r.Header.Type == "secret.staged" || rapid.Bool().Draw(t, "the event's id, too") {
				d.ID = r.Header.ID
			}
			records, err := rogue.Append(context.Background(), d)
			if err != nil {
				t.Fatalf("%v", err)
			}
			apply(t, rogue.state, records...)
			h.all = append(h.all, records...)
			h.heard[0] = append(h.heard[0], len(h.all)-1)
			twice[r.Header.Type] = true
		}
		want := settle(t, h.all)
		for range 3 {
			other := settle(t, h.permute(t))
			if other.Digest() != want.Digest() {
				t.Fatalf("another order of %d records gives another state:\n%s", len(h.all), unlike(want.Lines(), other.Lines()))
			}
			if a, b := shownConflicts(other), shownConflicts(want); a != b {
				t.Fatalf("another order of %d records shows other conflicts:\n%s\n%s", len(h.all), a, b)
			}
		}
		for kind := range twice {
			kinds[kind]++
		}
	})
	for _, r := range aggregate.Makers() {
		if kinds[r] == 0 && !testing.Short() { // which draws a fifth of the histories
			t.Errorf("no history makes %s twice", r)
		}
	}
}

// oneOfEach has the last site make something of every kind.
func (h *history) oneOfEach(t *rapid.T) {
	at, n := len(h.peers)-1, 1000
	id := func(kind string) uuid.UUID { return aggregatetest.ID(kind, n) }
	user, account := events.UserID{UUID: id("user")}, events.AccountID{UUID: id("account")}
	credential := events.CredentialID{UUID: id("credential")}
	for _, one := range []struct {
		kind  string
		event events.Event
	}{
		{"user", events.UserAdded{Name: "a", Role: events.Admin}},
		{"target", events.TargetAdded{Name: "a", Addr: "h:22", HostKeys: []string{"k"}}},
		{"credential", events.CredentialAdded{Kind: events.Password, Account: account}},
		{"credential", events.SecretStaged{Sealed: []byte("a")}},
		{"account", events.AccountAdded{Name: "a", Target: events.TargetID{UUID: id("target")}, Credential: credential}},
		{"group", events.GroupAdded{Name: "a"}}, {"policy", events.PolicyAdded{Name: "a", Selector: "*+*", Requesters: []events.Party{{Anyone: true}}}},
		{"ca", events.CATrusted{Name: "a", Key: "a", Fingerprint: "a"}}, {"factor", events.FactorEnrolled{User: user, Sealed: []byte("a")}},
		{"glass", events.GlassChangeProposed{Change: events.GlassChange{User: user, Selector: "*+*"}}}, {"invitation", events.SiteInvited{Name: "c", Role: events.PeerSite}},
		{"session", events.SessionStarted{User: user, Account: account, Credential: credential}}, {"grant", events.GrantAdded{User: user, Account: account}},
		{"rotation", events.RotationPlanned{Credential: credential, Account: account, Why: events.WhyAsked}},
		{"request", events.RequestMade{User: user, Account: account, Reason: "a", For: 60, Uses: 2}}, {"broken", events.AccessBreakGlass{User: user, Account: account, Reason: "a", For: 60}},
	} {
		h.all = append(h.all, h.peers[at].write(t, id(one.kind), events.UserActor(user), one.event))
		h.heard[at] = append(h.heard[at], len(h.all)-1)
		sort := map[string]string{"broken": "request"}[one.kind]
		if sort == "" {
			sort = one.kind
		}
		h.ids[sort] = append(h.ids[sort], id(one.kind))
	}
}

// What was made a second time takes the place of nothing, and with the fence of who
// did it everything is as before.
func TestAttackATargetMadeTwice(t *testing.T) {
	m, b := newMembers(t), newPeer(1)
	m.join(b, events.PeerSite)
	target, user := aggregatetest.ID("target", 1), aggregatetest.ID("user", 1)
	m.at(m.founder, target, events.TargetAdded{Name: "web1", Addr: "h:22", HostKeys: []string{"k"}})
	m.at(m.founder, user, events.UserAdded{Name: "ada", Role: events.Admin})
	frozen := b.state.Clock()
	m.at(b, target, events.TargetAdded{Name: "web1", Addr: "other:22"}) // it says that it knows of the first: nothing
	if tg, ok := settle(t, m.all).Target(events.TargetID{UUID: target}); !ok || tg.Addr != "h:22" {
		t.Errorf("the target is now %+v", tg)
	}
	b.Knows = func() events.Clock { return frozen.With(b.Origin(), b.state.At(b.Origin())) }
	later := aggregatetest.ID("target", 2)
	m.at(m.founder, later, events.TargetAdded{Name: "web2", Addr: "h:22", HostKeys: []string{"k"}})
	m.at(b, later, events.TargetAdded{Name: "web2", Addr: "evil:22", HostKeys: []string{"evil"}})
	s := settle(t, m.all)
	if tg, ok := s.Target(events.TargetID{UUID: later}); ok {
		t.Errorf("of two targets under one id there is %s at %s", tg.Name, tg.Addr)
	}
	shown := false
	for _, c := range s.Conflicts() {
		shown = shown || c.What == "id of target" && c.Concerns(later) && len(c.Heads) == 2
	}
	if !shown {
		t.Errorf("it is not shown: %s", shownConflicts(s))
	}
	m.at(m.founder, b.ID.UUID, events.SiteFenced{Logs: []events.ClockEntry{{Origin: b.Origin(), Position: frozen.At(b.Origin())}}, Reason: "it betrays"})
	s = settle(t, m.all)
	if tg, ok := s.Target(events.TargetID{UUID: later}); !ok || tg.Addr != "h:22" {
		t.Errorf("after the fence the target is %+v", tg)
	}
	if len(s.Conflicts()) > 0 {
		t.Errorf("after the fence there is still in conflict: %s", shownConflicts(s))
	}
}

// A custodian stages another version under the id of one that exists: it takes no
// other's place. With one that says that it did not know, neither counts, and the fence
// brings the first one back.
func TestAttackAVersionStagedTwice(t *testing.T) {
	for _, knows := range []bool{true, false} {
		m, b := newMembers(t), newPeer(1)
		m.join(b, events.PeerSite)
		credential := aggregatetest.ID("credential", 1)
		m.at(m.founder, credential, events.CredentialAdded{Kind: events.Password})
		good := b.state.At(b.Origin())
		m.at(b, aggregatetest.ID("group", 1), events.GroupAdded{Name: "x"}) // it knows the credential
		frozen := b.state.Clock()
		if !knows {
			b.Knows = func() events.Clock { return frozen.With(b.Origin(), b.state.At(b.Origin())) }
		}
		first := m.at(m.founder, credential, events.SecretStaged{Sealed: []byte("good")})
		m.at(m.founder, credential, events.SecretApplied{Version: events.SecretID{UUID: first.Header.ID}, How: events.ByEntry})
		d := b.Draft(credential, events.SiteActor(b.ID), events.SecretStaged{Sealed: []byte("evil")})
		d.ID = first.Header.ID
		records, err := b.Append(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		apply(t, b.state, records...)
		m.founder.hear(t, records)
		m.all = append(m.all, records...)
		other := slices.Clone(m.all[:len(m.all)-3])
		other = append(other, records[0], m.all[len(m.all)-3], m.all[len(m.all)-2])
		state := func(all []events.Record) (string, []byte) {
			s := settle(t, all)
			c, _ := s.Credential(events.CredentialID{UUID: credential})
			v, _ := c.Version(events.SecretID{UUID: first.Header.ID})
			return s.Digest(), v.Sealed
		}
		digest, sealed := state(m.all)
		if want := map[bool]string{true: "good", false: ""}[knows]; string(sealed) != want {
			t.Errorf("knows %t: the version holds %q, want %q", knows, sealed, want)
		}
		if !knows {
			if d, _ := state(other); d != digest {
				t.Error("the order of arrival decides")
			}
		}
		m.at(m.founder, b.ID.UUID, events.SiteFenced{Logs: []events.ClockEntry{{Origin: b.Origin(), Position: good}}})
		if _, sealed := state(m.all); string(sealed) != "good" {
			t.Errorf("after the fence the version holds %q", sealed)
		}
	}
}

// An edge, which decides on nothing but its sessions, takes no session and no
// request of another site away by its id.
func TestAttackAnEdgeMakesTwins(t *testing.T) {
	m, b, c := newMembers(t), newPeer(1), newPeer(2)
	m.join(b, events.EdgeSite)
	m.join(c, events.PeerSite)
	b.Knows = func() events.Clock { return events.NewClock().With(b.Origin(), b.state.At(b.Origin())) }
	session, request, user := aggregatetest.ID("session", 1), aggregatetest.ID("request", 1), events.UserID{UUID: aggregatetest.ID("user", 1)}
	account := events.AccountID{UUID: aggregatetest.ID("account", 1)}
	m.at(c, session, events.SessionStarted{User: user, Account: account})
	m.at(c, user.UUID, events.UserAdded{Name: "bob", Role: events.Operator})
	m.by(c, events.UserActor(user), request, events.RequestMade{User: user, Account: account, Reason: "work"})
	m.by(b, events.UserActor(user), request, events.AccessBreakGlass{User: user, Account: account, Reason: "evil"})
	m.at(b, session, events.SessionStarted{Source: "evil"})
	m.at(b, session, events.SessionEnded{Reason: events.EndedByClient})
	s := settle(t, m.all)
	if n, ok := s.Session(events.SessionID{UUID: session}); !ok || n.Started.Origin.Site != c.ID {
		t.Error("another site's session is gone")
	}
	if r, ok := s.Request(events.RequestID{UUID: request}); !ok || r.BreakGlass || r.Reason != "work" {
		t.Errorf("the request is %+v", r)
	}
}

// unlike lists the lines that only one of two has.
func unlike(a, b []string) string {
	var out strings.Builder
	for _, side := range []struct {
		mark       string
		has, other []string
	}{{"-", a, b}, {"+", b, a}} {
		for _, line := range side.has {
			if !slices.Contains(side.other, line) {
				out.WriteString(side.mark + line)
			}
		}
	}
	return out.String()
}

// What a site wrote about a thing before it made it itself, as the scan of a target
// before the target is added, counts however late it is looked at.
func TestWhatASiteItselfMakesLaterIsKnownToIt(t *testing.T) {
	p, target := newPeer(1), aggregatetest.ID("target", 1)
	scan := p.write(t, target, events.SiteActor(p.ID), events.TargetScanRequested{Name: "db", Addr: "db:22"})
	p.write(t, target, events.SiteActor(p.ID), events.TargetAdded{Name: "db", Addr: "db:22"})
	if p.state.Stray(&scan.Header, events.Clock{}) {
		t.Error("a site did not know of what it made")
	}
}

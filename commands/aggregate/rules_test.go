package aggregate_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// Two sites with an admin, an operator and an account that both know.
type split struct {
	*testing.T
	a, b            *peer
	admin, operator events.UserID
	target          events.TargetID
	account         events.AccountID
}

func newSplit(t *testing.T) *split {
	x := &split{
		T: t, a: newPeer(0), b: newPeer(1),
		admin:    events.UserID{UUID: aggregatetest.ID("admin", 0)},
		operator: events.UserID{UUID: aggregatetest.ID("operator", 0)},
		target:   events.TargetID{UUID: aggregatetest.ID("target", 0)},
		account:  events.AccountID{UUID: aggregatetest.ID("account", 0)},
	}
	by := events.SiteActor(x.a.ID)
	x.a.write(t, x.admin.UUID, by, events.UserAdded{Name: "ada", Role: events.Admin})
	x.a.write(t, x.operator.UUID, by, events.UserAdded{Name: "olaf", Role: events.Operator})
	x.a.write(t, x.target.UUID, by, events.TargetAdded{Name: "web1", Addr: "h:22", HostKeys: []string{"k1", "k2"}})
	x.a.write(t, x.account.UUID, by, events.AccountAdded{Name: "root", Target: x.target})
	x.b.hear(t, x.a.Records)
	return x
}

// heal lets both sites hear all; each hears the other's records last.
func (x *split) heal() {
	x.Helper()
	fromA, fromB := slices.Clone(x.a.Records), slices.Clone(x.b.Records)
	x.a.hear(x, fromB)
	x.b.hear(x, fromA)
	if x.a.state.Digest() != x.b.state.Digest() {
		x.Fatal("the sites hold different states after the heal")
	}
}

func (x *split) grant(p *peer, n int, by events.UserID) events.GrantID {
	id := events.GrantID{UUID: aggregatetest.ID("grant", n)}
	p.write(x, id.UUID, events.UserActor(by), events.GrantAdded{User: x.operator, Account: x.account})
	return id
}

func (x *split) revoke(p *peer, id events.GrantID) {
	p.write(x, id.UUID, events.UserActor(x.admin), events.GrantRemoved{User: x.operator, Account: x.account})
}

func (x *split) want(want error) {
	x.Helper()
	for _, p := range []*peer{x.a, x.b} {
		if _, err := p.state.GrantFor(x.operator, x.account, aggregatetest.Epoch); !errors.Is(err, want) {
			x.Errorf("site %s: got %v, want %v", p.ID, err, want)
		}
	}
}

func TestRevocationBeatsEveryGrantThatDidNotKnowOfIt(t *testing.T) {
	x := newSplit(t)
	g := x.grant(x.a, 1, x.admin)
	x.heal()
	x.revoke(x.a, g)
	x.grant(x.b, 2, x.admin) // concurrent with the revocation
	x.heal()
	x.want(aggregate.ErrUnknown)
	x.grant(x.b, 3, x.admin) // knows of it
	x.heal()
	x.want(nil)
}

// The second of two concurrent removals of one grant must still reach a grant
// made in between, although its own grant is gone when it comes.
func TestBothOfTwoConcurrentRevocationsCount(t *testing.T) {
	x := newSplit(t)
	g := x.grant(x.a, 1, x.admin)
	x.heal()
	x.revoke(x.a, g)
	x.grant(x.a, 2, x.admin)
	x.revoke(x.b, g)
	x.heal()
	x.want(aggregate.ErrUnknown)
}

func TestWhatADisabledUserDidElsewhereIsSuspended(t *testing.T) {
	x := newSplit(t)
	before := events.UserID{UUID: aggregatetest.ID("before", 0)}
	x.b.write(t, before.UUID, events.UserActor(x.admin), events.UserAdded{Name: "before", Role: events.Operator})
	x.heal()
	x.a.write(t, x.admin.UUID, events.SiteActor(x.a.ID), events.UserDisabled{})
	x.grant(x.b, 1, x.admin)
	friend := events.UserID{UUID: aggregatetest.ID("friend", 0)}
	second := events.UserID{UUID: aggregatetest.ID("second", 0)}
	x.b.write(t, friend.UUID, events.UserActor(x.admin), events.UserAdded{Name: "friend", Role: events.Admin})
	x.b.write(t, second.UUID, events.UserActor(friend), events.UserAdded{Name: "second", Role: events.Admin})
	x.b.write(t, x.operator.UUID, events.UserActor(friend), events.UserKeyAdded{Key: "k", Fingerprint: "f"})
	x.heal()
	x.want(aggregate.ErrSuspended)
	for _, id := range []events.UserID{friend, second} {
		if err := x.a.state.UserStands(id); !errors.Is(err, aggregate.ErrSuspended) {
			t.Errorf("user made through a disabled one: %v", err)
		}
	}
	if _, err := x.a.state.UserByKey("f"); !errors.Is(err, aggregate.ErrSuspended) {
		t.Errorf("key given by a suspended user: %v", err)
	}
	if err := x.a.state.UserStands(before); err != nil {
		t.Errorf("user made before: %v", err)
	}
}

func TestAUserWhoMadeThemselvesIsSuspended(t *testing.T) {
	p := newPeer(0)
	id := events.UserID{UUID: aggregatetest.ID("self", 0)}
	p.write(t, id.UUID, events.UserActor(id), events.UserAdded{Name: "self", Role: events.Admin})
	if err := p.state.UserStands(id); !errors.Is(err, aggregate.ErrSuspended) {
		t.Errorf("got %v", err)
	}
}

func TestNameAndKeyInConflictStandForNobody(t *testing.T) {
	x := newSplit(t)
	for n, p := range []*peer{x.a, x.b} {
		u := aggregatetest.ID("eve", n)
		p.write(t, u, events.UserActor(x.admin), events.UserAdded{Name: "eve", Role: events.Operator})
		p.write(t, u, events.UserActor(x.admin), events.UserKeyAdded{Key: "k", Fingerprint: "f"})
		p.write(t, aggregatetest.ID("db", n), events.UserActor(x.admin), events.TargetAdded{Name: "db", Addr: "h:22"})
		p.write(t, aggregatetest.ID("app", n), events.UserActor(x.admin), events.AccountAdded{Name: "app", Target: x.target})
	}
	x.heal()
	_, byName := x.a.state.UserByName("eve")
	_, byKey := x.a.state.UserByKey("f")
	_, target := x.a.state.TargetByName("db")
	_, _, onTarget := x.a.state.AccountByName("root", "db")
	_, _, account := x.a.state.AccountByName("app", "web1")
	for _, err := range []error{byName, byKey, target, onTarget, account} {
		var c *aggregate.ConflictError
		if !errors.As(err, &c) || len(c.IDs) != 2 {
			t.Errorf("got %v, want a conflict of two", err)
		}
	}
	x.b.write(t, aggregatetest.ID("eve", 1), events.UserActor(x.admin), events.UserDisabled{})
	x.heal()
	if u, err := x.a.state.UserByKey("f"); err != nil || u.ID.UUID != aggregatetest.ID("eve", 0) {
		t.Errorf("after one of two was disabled: %v", err)
	}
}

func TestDisabledUsersAreToldFromUnknownOnes(t *testing.T) {
	x := newSplit(t)
	x.a.write(t, x.operator.UUID, events.UserActor(x.admin), events.UserKeyAdded{Key: "k", Fingerprint: "f"})
	x.a.write(t, x.operator.UUID, events.UserActor(x.admin), events.UserDisabled{})
	if u, err := x.a.state.UserByKey("f"); !errors.Is(err, aggregate.ErrDisabled) || u.ID != x.operator {
		t.Errorf("disabled user's key: %v %v", u, err)
	}
	if _, err := x.a.state.UserByKey("other"); !errors.Is(err, aggregate.ErrUnknown) {
		t.Errorf("unknown key: %v", err)
	}
	if _, err := x.a.state.UserByName("olaf"); !errors.Is(err, aggregate.ErrUnknown) {
		t.Errorf("a disabled user's name is still taken: %v", err)
	}
}

func TestKeyTakenBeatsKeyGivenElsewhere(t *testing.T) {
	x := newSplit(t)
	give := events.UserKeyAdded{Key: "k", Fingerprint: "f"}
	x.a.write(t, x.operator.UUID, events.UserActor(x.admin), give)
	x.heal()
	x.a.write(t, x.operator.UUID, events.UserActor(x.admin), events.UserKeyRemoved{Fingerprint: "f"})
	x.b.write(t, x.operator.UUID, events.UserActor(x.admin), give)
	x.heal()
	if _, err := x.a.state.UserByKey("f"); !errors.Is(err, aggregate.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	x.b.write(t, x.operator.UUID, events.UserActor(x.admin), give)
	x.heal()
	if _, err := x.a.state.UserByKey("f"); err != nil {
		t.Errorf("given again by somebody who knew of the taking: %v", err)
	}
}

func TestOnlyHostKeysThatAllSitesPinnedCount(t *testing.T) {
	x := newSplit(t)
	pin := func(p *peer, keys ...string) {
		p.write(t, x.target.UUID, events.UserActor(x.admin), events.TargetHostKeyPinned{HostKeys: keys})
	}
	pin(x.a, "k2", "k3")
	pin(x.b, "k3", "k4")
	x.heal()
	target, _ := x.a.state.Target(x.target)
	if got := target.HostKeys(); !slices.Equal(got, []string{"k3"}) || !target.Contested() {
		t.Errorf("got %v, contested %t", got, target.Contested())
	}
	pin(x.a, "k9")
	x.heal()
	if got := target.HostKeys(); !slices.Equal(got, []string{"k9"}) || target.Contested() {
		t.Errorf("settled: got %v, contested %t", got, target.Contested())
	}
}

func TestTheSecretLastKnownToBeTrueIsCurrent(t *testing.T) {
	x := newSplit(t)
	id := aggregatetest.ID("credential", 0)
	by := events.UserActor(x.admin)
	stage := func(p *peer) events.SecretID {
		return events.SecretID{UUID: p.write(t, id, by, events.SecretStaged{Sealed: []byte("s")}).Header.ID}
	}
	current := func(p *peer) (events.SecretID, bool) {
		c, _ := p.state.Credential(events.CredentialID{UUID: id})
		v, ok := c.Current()
		if !ok {
			return events.SecretID{}, c.Contested()
		}
		return v.ID, c.Contested()
	}
	x.a.write(t, id, by, events.CredentialAdded{Account: x.account, Kind: events.Password})
	one := stage(x.a)
	if got, _ := current(x.a); !got.IsZero() {
		t.Error("a version that was only staged is current")
	}
	x.a.write(t, id, by, events.SecretVerified{Version: one})
	two := stage(x.a)
	if got, _ := current(x.a); got != one {
		t.Error("staging another version changed what is current")
	}
	x.heal()
	x.a.write(t, id, by, events.SecretApplied{Version: two})
	if got, contested := current(x.a); got != two || contested {
		t.Error("an applied version is not current")
	}
	x.b.write(t, id, by, events.SecretVerified{Version: one})
	x.heal()
	if _, contested := current(x.a); !contested {
		t.Error("two versions held true by sites apart are not contested")
	}
	c, _ := x.a.state.Credential(events.CredentialID{UUID: id})
	if len(c.Versions()) != 2 || c.Versions()[0].Level != aggregate.Verified || c.Versions()[1].Level != aggregate.Applied {
		t.Error("versions or their levels were lost")
	}
}

// Limits that sites set apart: the strictest counts, until somebody who knows of all sets another.
func TestTheStrictestLimitCounts(t *testing.T) {
	x := newSplit(t)
	want := func(n uint32) {
		t.Helper()
		for _, p := range []*peer{x.a, x.b} {
			if u, _ := p.state.User(x.operator); u.MaxSessions() != n {
				t.Errorf("site %s: limit %d, want %d", p.ID, u.MaxSessions(), n)
			}
		}
	}
	set := func(p *peer, n uint32) {
		p.write(t, x.operator.UUID, events.UserActor(x.admin), events.UserLimitsSet{MaxSessions: n})
	}
	want(0)
	set(x.a, 3)
	x.heal()
	want(3)
	set(x.a, 0)
	set(x.b, 5)
	x.heal()
	want(5)
	set(x.a, 4)
	set(x.b, 9)
	x.heal()
	want(4)
	set(x.b, 0)
	x.heal()
	want(0)
}

func TestExpiryAndTheNewestGrant(t *testing.T) {
	x := newSplit(t)
	now := aggregatetest.Epoch.Add(time.Hour)
	add := func(n int, expires time.Time) {
		x.a.write(t, aggregatetest.ID("grant", n), events.UserActor(x.admin),
			events.GrantAdded{User: x.operator, Account: x.account, Expires: expires})
	}
	check := func(at time.Time, wantID int, want error) {
		t.Helper()
		g, err := x.a.state.GrantFor(x.operator, x.account, at)
		if !errors.Is(err, want) || g.ID.UUID != aggregatetest.ID("grant", wantID) {
			t.Errorf("got %v %v, want grant %d and %v", g, err, wantID, want)
		}
	}
	add(1, now)
	check(now.Add(-1), 1, nil)
	check(now, 1, aggregate.ErrExpired) // the end itself is outside
	add(2, now.Add(time.Hour))
	check(now, 2, nil)
	add(3, time.Time{})
	check(now, 3, nil)
	add(4, now.Add(2*time.Hour))
	check(now, 4, nil)
	check(now.Add(24*time.Hour), 3, nil)
}

func TestRecordsOutOfOrderAreRefusedAndChangeNothing(t *testing.T) {
	x := newSplit(t)
	x.b.write(t, x.operator.UUID, events.UserActor(x.admin), events.UserDisabled{})
	s := aggregate.New()
	empty := s.Digest()
	if err := s.Apply(x.b.Records[0]); !errors.Is(err, aggregate.ErrEarly) {
		t.Errorf("effect before cause: %v", err)
	}
	if err := s.Apply(x.a.Records[1]); !errors.Is(err, aggregate.ErrGap) {
		t.Errorf("gap: %v", err)
	}
	rec := x.a.Records[0]
	rec.Header.Kind = events.Rec
	if err := s.Apply(rec); err == nil {
		t.Error("a rec record was folded")
	}
	if s.Digest() != empty {
		t.Error("a refused record changed the state")
	}
	apply(t, s, x.a.Records...)
	apply(t, s, x.b.Records...)
	want := s.Digest()
	apply(t, s, x.a.Records...) // delivered again
	if s.Digest() != want || want != x.b.state.Digest() {
		t.Error("a record delivered again changed the state")
	}
}

func TestTakingAwayCountsWithoutItsPayload(t *testing.T) {
	for _, version := range []uint16{1, 99} { // 99: of a newer holdfast
		x := newSplit(t)
		g := x.grant(x.a, 1, x.admin)
		x.revoke(x.a, g)
		x.a.write(t, x.operator.UUID, events.UserActor(x.admin), events.UserDisabled{Reason: "left"})
		s := aggregate.New()
		for _, r := range x.a.Records {
			if r.Header.Type == "grant.removed" || r.Header.Type == "user.disabled" {
				r.Header.TypeVersion = version
				if version == 1 {
					r.Raw.Payload = nil
				}
			}
			apply(t, s, r)
		}
		if _, ok := s.Grant(g); ok || !errors.Is(s.UserStands(x.operator), aggregate.ErrDisabled) {
			t.Error("a removal without its payload did not count")
		}
		if c := s.Counts(); c.Absent+c.Unknown != 2 {
			t.Errorf("counts %+v", c)
		}
	}
}

func TestRecordsWithoutAFoldAreCounted(t *testing.T) {
	x := newSplit(t)
	by := events.SiteActor(x.a.ID)
	x.a.write(t, uuid.New(), by, events.AccessDenied{Reason: events.UnknownKey}) // known, changes nothing
	orphan := x.a.write(t, uuid.New(), by, events.UserDisabled{})
	before := x.a.state.Digest()
	if c := x.a.state.Counts(); c != (aggregate.Counts{Orphan: 1}) {
		t.Errorf("counts %+v after %s", c, orphan.Header.Type)
	}
	next := orphan
	next.Header.Position++
	next.Header.Type = "moon.landed"
	bad := next
	bad.Header.Position++
	bad.Header.Type = "target.added"
	bad.Raw.Payload = []byte{0xff}
	absent := bad
	absent.Header.Position++
	absent.Raw.Payload = nil
	apply(t, x.a.state, next, bad, absent)
	if c := x.a.state.Counts(); c != (aggregate.Counts{Orphan: 1, Unknown: 1, Bad: 1, Absent: 1}) {
		t.Errorf("counts %+v", c)
	}
	if before == x.a.state.Digest() {
		t.Error("the digest does not tell how far the log was applied")
	}
}

// heapAfter measures what n times a step leaves in memory, in bytes.
func heapAfter(n int, keep any, step func(i int)) float64 {
	measure := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := measure()
	for i := range n {
		step(i)
	}
	after := measure()
	runtime.KeepAlive(keep)
	return (float64(after) - float64(before)) / float64(n)
}

func TestEndedSessionsAndRemovedGrantsLeaveNothing(t *testing.T) {
	p := newPeer(0)
	by := events.SiteActor(p.ID)
	put := func(stream uuid.UUID, e events.Event) {
		records, err := p.Append(t.Context(), p.Draft(stream, by, e))
		if err != nil {
			t.Fatal(err)
		}
		apply(t, p.state, records...)
	}
	session := func(i int) {
		id := aggregatetest.ID("session", i)
		put(id, events.SessionStarted{Source: fmt.Sprint(i)})
		put(id, events.SessionConnected{})
		put(id, events.SessionEnded{Reason: events.EndedByClient})
		grant := aggregatetest.ID("grant", i)
		right := events.GrantRemoved{User: events.UserID{UUID: aggregatetest.ID("u", 0)}, Account: events.AccountID{UUID: aggregatetest.ID("a", 0)}}
		put(grant, events.GrantAdded{User: right.User, Account: right.Account})
		put(grant, right)
	}
	session(0)
	one := len(p.state.LiveSessions())
	kept := p.Records
	replay := func(p2 *aggregate.State) func(int) {
		return func(i int) { apply(t, p2, p.Records[i*5:i*5+5]...) }
	}
	const n = 5000
	for i := 1; i < n; i++ {
		session(i)
	}
	fresh := aggregate.New()
	perSession := heapAfter(n, fresh, replay(fresh))
	runtime.KeepAlive(p)
	t.Logf("%.2f bytes kept of each ended session and removed grant", perSession)
	if perSession > 4 || one != 0 || len(kept) != 5 {
		t.Errorf("%.1f bytes are kept of each ended session", perSession)
	}
}

func BenchmarkApply(b *testing.B) {
	p := newPeer(0)
	records := sessionHistory(b, p, 2000)
	for _, decode := range []bool{false, true} {
		name := map[bool]string{false: "decoded", true: "from bytes"}[decode]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				s := aggregate.New()
				for _, r := range records {
					if decode {
						again, err := events.DecodeEntry(r.Raw)
						if err != nil {
							b.Fatal(err)
						}
						r = again
					}
					if err := s.Apply(r); err != nil {
						b.Fatal(err)
					}
				}
				n += len(records)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// sessionHistory is what a site writes most: sessions and a few denials.
func sessionHistory(t fataler, p *peer, sessions int) []events.Record {
	by := events.SiteActor(p.ID)
	for i := range sessions {
		id := aggregatetest.ID("session", i)
		p.write(t, id, by, events.SessionStarted{Source: "192.0.2.1:50000", Client: "SSH-2.0-OpenSSH_9.9", Fingerprint: "SHA256:abc"})
		p.write(t, id, by, events.SessionConnected{Server: "SSH-2.0-OpenSSH_9.9", Cipher: "aes128-gcm@openssh.com"})
		p.write(t, id, by, events.SessionEnded{Reason: events.EndedByClient, Complete: true})
		if i%10 == 0 {
			p.write(t, uuid.New(), events.UnknownActor(), events.AccessDenied{Reason: events.UnknownKey})
		}
	}
	return p.Records
}

// Where a secret goes and who may set it count for nothing while sites hold
// different answers.
func TestParametersAndPrivilegedAccountInConflictStandForNothing(t *testing.T) {
	x := newSplit(t)
	by := events.UserActor(x.admin)
	param := func(v string) []events.Param { return []events.Param{{Name: "p", Value: v}} }
	for n, p := range []*peer{x.a, x.b} {
		v := fmt.Sprint(n)
		p.write(t, x.target.UUID, by, events.TargetParamsSet{Params: param(v)})
		p.write(t, x.account.UUID, by, events.AccountParamsSet{Params: param(v)})
		p.write(t, x.account.UUID, by, events.AccountViaSet{Via: events.AccountID{UUID: aggregatetest.ID("via", n)}})
	}
	stands := func() (params, own, via bool) {
		target, _ := x.a.state.Target(x.target)
		account, _ := x.a.state.Account(x.account)
		_, params = target.Params()
		_, own = account.Params()
		id, via := account.Via()
		if !via && !id.IsZero() {
			t.Errorf("a privileged account in conflict is %s", id)
		}
		return params, own, via
	}
	if params, own, via := stands(); !params || !own || !via {
		t.Errorf("before the heal: %t %t %t", params, own, via)
	}
	x.heal()
	if params, own, via := stands(); params || own || via {
		t.Errorf("in conflict: %t %t %t", params, own, via)
	}
	x.b.write(t, x.target.UUID, by, events.TargetParamsSet{Params: param("3")})
	x.b.write(t, x.account.UUID, by, events.AccountParamsSet{Params: param("3")})
	x.b.write(t, x.account.UUID, by, events.AccountViaSet{})
	x.heal()
	if params, own, via := stands(); !params || !own || !via {
		t.Errorf("settled: %t %t %t", params, own, via)
	}
}

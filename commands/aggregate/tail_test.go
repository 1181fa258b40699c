package aggregate_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// beyond has b stage versions that a has not heard of when it fences b, and send some.
func beyond(x *vaultOf, versions int, sent func(n int) bool) (staged []events.SecretID) {
	for n := range versions {
		r := x.b.write(x.t, x.id.UUID, events.SiteActor(x.b.ID), events.SecretStaged{Sealed: []byte(fmt.Sprint(n)), Public: "p"})
		staged = append(staged, events.SecretID{UUID: r.Header.ID})
		x.all = append(x.all, r)
		if sent(n) {
			x.all = append(x.all, x.b.write(x.t, x.id.UUID, events.SiteActor(x.b.ID), events.SecretSent{Version: staged[n], Verb: events.ChangeAsItself}))
		}
	}
	x.put(x.t, x.a, x.b.ID, fenceOf(x.a, x.b))
	return staged
}

func (x *vaultOf) recover(p *peer, s *aggregate.State) {
	x.t.Helper()
	for _, r := range s.Recoverable() {
		x.all = append(x.all, p.write(x.t, r.Credential.UUID, events.SiteActor(p.ID), events.SecretRecovered{
			Version: r.Version, Sealed: r.Sealed, Public: r.Public, Key: r.Key, Log: r.Log, Position: r.Position,
		}))
	}
}

func (x *vaultOf) credential(s *aggregate.State) *aggregate.Credential {
	c, ok := s.Credential(x.id)
	if !ok {
		x.t.Fatal("no credential")
	}
	return c
}

// A version that a fenced site sent to the target beyond where its log counts is one that
// the target may hold. Once a site that has that part has said so, it is a candidate
// everywhere, also where there is nothing of that part, and in every order; the secret is
// contested until the target has been seen to take one, and its data key is given up.
func TestASecretBeyondWhereALogCountsIsACandidate(t *testing.T) {
	x := newVaultOf(t)
	x.all = append(x.all, x.a.write(t, x.id.UUID, events.SiteActor(x.a.ID), events.SecretApplied{
		Version: events.SecretID{UUID: x.all[4].Header.ID}, How: events.ByEntry}))
	x.all = append(x.all, x.a.write(t, aggregatetest.ID("account", 1), events.SiteActor(x.a.ID), events.AccountAdded{Name: "root", Credential: x.id}))
	staged := beyond(x, 2, func(n int) bool { return n == 1 })
	x.c.hear(t, x.all[5:])
	s := build(t, x.c.ID, x.all, nil)
	if c := x.credential(s); c.Contested() || len(c.Candidates()) != 1 {
		t.Fatalf("before anybody has said so: contested %t, %d candidates", c.Contested(), len(c.Candidates()))
	}
	if got := s.Recoverable(); len(got) != 1 || got[0].Version != staged[1] || string(got[0].Sealed) != "1" || got[0].Log != x.b.Origin() {
		t.Fatalf("recoverable: %+v", got)
	}
	n := len(x.all)
	x.recover(x.c, s)
	x.recover(x.a, s) // both say it, not knowing of each other
	late := append(append([]events.Record{}, x.all[:n]...), x.all[n+1], x.all[n])
	var without []events.Record // at a site that has nothing of what was cut
	for _, r := range x.all {
		if r.Header.Site != x.b.ID {
			without = append(without, r)
		}
	}
	here := build(t, x.a.ID, x.all, nil)
	bare := aggregate.New()
	bare.SetHolds(here.HeldWith())
	deliver(t, bare, without)
	for name, s := range map[string]*aggregate.State{"here": here, "in another order": build(t, x.a.ID, late, nil), "without the part": bare} {
		c := x.credential(s)
		if all := c.Candidates(); !c.Contested() || len(all) != 2 || all[0].ID != staged[1] || string(all[0].Sealed) != "1" || all[0].Level != aggregate.Unknown {
			t.Errorf("%s: contested %t, candidates %+v", name, c.Contested(), all)
		}
		if !slices.ContainsFunc(s.Conflicts(), func(c aggregate.Conflict) bool { return len(c.Heads) >= 2 && c.What == "secret of account" }) {
			t.Errorf("%s: no conflict: %+v", name, s.Conflicts())
		}
		if s.Exposed(c, x.id.UUID) == nil {
			t.Errorf("%s: its data key seals further versions", name)
		}
		if got := s.Recoverable(); len(got) > 0 {
			t.Errorf("%s: to be said again: %+v", name, got)
		}
		if name == "in another order" && s.Digest() != here.Digest() {
			t.Error("the order decides")
		}
	}
	x.a.state.SetHolds(here.HeldWith())
	x.a.hear(t, x.all[n:n+1])
	x.all = append(x.all, x.a.write(t, x.id.UUID, events.SiteActor(x.a.ID), events.SecretVerified{Version: staged[1], How: events.ByLogin}))
	if c := x.credential(build(t, x.b.ID, x.all, nil)); c.Contested() {
		t.Error("contested after the target has taken it")
	}
	x.put(t, x.a, x.b.ID, events.SiteReinstated{Reason: "found"})
	ours := slices.DeleteFunc(slices.Clone(x.all[:n+2]), func(r events.Record) bool { return r.Header.Site != x.a.ID })
	for name, first := range map[string][]events.Record{"here": nil, "what was cut comes last": ours} {
		s := aggregate.New()
		deliver(t, s, append(first, x.all...))
		v, ok := x.credential(s).Version(staged[1])
		if twins := s.Holds().Twins; len(twins) > 0 || !ok || v.Staged.Origin != x.b.Origin() {
			t.Errorf("%s: taken back, the version is %+v, and twins are %v", name, v, twins)
		}
	}
}

// The last version that was staged beyond where a log counts may have been sent by what
// was lost of it. It is none once its rotation has ended without that, nor is one before it.
func TestASecretThatWasStagedBeyondMayHaveBeenSent(t *testing.T) {
	for _, ended := range []bool{false, true} {
		x := newVaultOf(t)
		by := events.RotationID{UUID: aggregatetest.ID("rotation", 1)}
		x.all = append(x.all, x.a.write(t, x.id.UUID, events.SiteActor(x.a.ID), events.SecretApplied{
			Version: events.SecretID{UUID: x.all[4].Header.ID}, How: events.ByEntry}))
		var last events.Record
		for n := range 2 {
			last = x.b.write(t, x.id.UUID, events.SiteActor(x.b.ID), events.SecretStaged{Sealed: []byte(fmt.Sprint(n)), Rotation: by})
			x.all = append(x.all, last)
		}
		x.all = append(x.all, x.b.write(t, x.id.UUID, events.SiteActor(x.b.ID), events.SecretVerified{Version: events.SecretID{UUID: x.all[4].Header.ID}, How: events.ByLogin}))
		if ended {
			x.all = append(x.all, x.b.write(t, by.UUID, events.SiteActor(x.b.ID), events.RotationEnded{Result: events.RotationFailed}))
		}
		x.put(t, x.a, x.b.ID, fenceOf(x.a, x.b))
		got := build(t, x.c.ID, x.all, nil).Recoverable()
		if ended && len(got) > 0 || !ended && (len(got) != 1 || got[0].Version.UUID != last.Header.ID || got[0].Position != last.Header.Position) {
			t.Errorf("ended %t: recoverable %+v", ended, got)
		}
	}
}

// A log that is not trusted makes others test no more than a few versions.
func TestAttackManySecretsBeyondWhereALogCounts(t *testing.T) {
	x := newVaultOf(t)
	staged := beyond(x, 100, func(int) bool { return true })
	got := build(t, x.c.ID, x.all, nil).Recoverable()
	if len(got) != 3 || !slices.ContainsFunc(got, func(r aggregate.Recovery) bool { return r.Version == staged[99] }) {
		t.Errorf("%d versions are to be tested, or not the last ones", len(got))
	}
}

// What an edge wrote, which may not decide on secrets, is of no interest, nor is what is of
// an account that nobody knows.
func TestAttackSecretsBeyondByWhoMayNot(t *testing.T) {
	x := newVaultOf(t)
	x.put(t, x.a, x.b.ID, events.SiteAdmitted{Name: "b", Identity: []byte{1}, Role: events.EdgeSite, Custodian: true})
	x.b.hear(t, x.all[len(x.all)-1:])
	other := events.CredentialID{UUID: aggregatetest.ID("credential", 2)}
	for _, c := range []events.CredentialID{x.id, other} {
		r := x.b.write(t, c.UUID, events.SiteActor(x.b.ID), events.SecretStaged{Sealed: []byte("evil")})
		x.all = append(x.all, r, x.b.write(t, c.UUID, events.SiteActor(x.b.ID), events.SecretSent{Version: events.SecretID{UUID: r.Header.ID}}))
	}
	x.put(t, x.a, x.b.ID, fenceOf(x.a, x.b))
	if got := build(t, x.c.ID, x.all, nil).Recoverable(); len(got) > 0 {
		t.Errorf("recoverable: %+v", got)
	}
}

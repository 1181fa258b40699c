package aggregate_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// vaultOf is a credential in a mesh of three.
type vaultOf struct {
	*trio
	t  *testing.T
	id events.CredentialID
}

func newVaultOf(t *testing.T) *vaultOf {
	x := &vaultOf{trio: newTrio(t), t: t, id: events.CredentialID{UUID: aggregatetest.ID("credential", 1)}}
	x.all = append(x.all, x.a.write(t, x.id.UUID, events.SiteActor(x.a.ID), events.CredentialAdded{Kind: events.Password}))
	x.stage(x.a, 0)
	for _, p := range []*peer{x.b, x.c} {
		p.hear(t, x.all[3:])
	}
	return x
}

func (x *vaultOf) key(n int) uuid.UUID {
	if n == 0 {
		return uuid.Nil
	}
	return aggregatetest.ID("data key", n)
}

// stage adds a version at a site, under data key n; 0 is the credential's first one.
func (x *vaultOf) stage(p *peer, n int) {
	x.t.Helper()
	x.all = append(x.all, p.write(x.t, x.id.UUID, events.SiteActor(p.ID), events.SecretStaged{Sealed: []byte("x"), Key: x.key(n)}))
}

// exposed tells of some data keys whether they are, as a site sees it that has heard of
// everything.
func (x *vaultOf) exposed(want ...bool) {
	x.t.Helper()
	s := build(x.t, x.a.ID, x.all, nil)
	c, _ := s.Credential(x.id)
	for n, want := range want {
		key := x.key(n)
		if n == 0 {
			key = x.id.UUID
		}
		if got := s.Exposed(c, key) != nil; got != want {
			x.t.Errorf("data key %d: exposed %t, want %t", n, got, want)
		}
	}
}

func (x *vaultOf) admit(p *peer, custodian bool) {
	x.put(x.t, x.a, p.ID, events.SiteAdmitted{Name: "again", Identity: []byte{1}, Role: events.Steward, Custodian: custodian})
}

// A data key that a custodian has is exposed once it is fenced, whatever is sealed under
// it by then; one that was made by who knew of the fence is not; nor is anything any
// more once the site is trusted again.
func TestWhatAFencedCustodianCouldOpenIsExposed(t *testing.T) {
	x := newVaultOf(t)
	x.exposed(false)
	x.put(t, x.a, x.b.ID, fenceOf(x.a, x.b))
	x.stage(x.a, 0)
	x.stage(x.a, 1)
	x.exposed(true, false)
	x.put(t, x.a, x.b.ID, events.SiteReinstated{Reason: "found"})
	x.exposed(false, false)
}

// A site that has not heard of the fence goes on under the old key, or makes one for
// the fenced site: both are exposed when they meet.
func TestAKeyMadeByWhoDidNotKnowIsExposed(t *testing.T) {
	x := newVaultOf(t)
	x.put(t, x.a, x.b.ID, fenceOf(x.a, x.b))
	x.stage(x.a, 1)
	x.stage(x.c, 0)
	x.stage(x.c, 2)
	x.exposed(true, false, true)
	x.c.hear(t, x.all[5:7]) // the fence, and what a made
	x.stage(x.c, 1)
	x.stage(x.c, 2)
	x.exposed(true, false, true)
}

// Custody ends by leaving, for ever.
func TestCustodyEndsWhenASiteLeaves(t *testing.T) {
	x := newVaultOf(t)
	x.put(t, x.b, x.b.ID, events.SiteLeft{Reason: "closed"})
	x.a.hear(t, x.all[len(x.all)-1:])
	x.stage(x.a, 1)
	x.exposed(true, false)
	x.admit(x.b, true)
	x.exposed(true, false)
	if build(t, x.a.ID, x.all, nil).Custodian(x.b.ID) {
		t.Error("a site that has left is a custodian again")
	}
}

// Custody ends by being taken in again without it, and comes back by being taken in
// again with it.
func TestCustodyEndsAndComesBack(t *testing.T) {
	x := newVaultOf(t)
	x.stage(x.a, 1)
	x.admit(x.b, false)
	x.exposed(true, true)
	x.stage(x.a, 2)
	x.exposed(true, true, false)
	x.admit(x.b, true)
	x.exposed(false, false, false)
}

// Who is no custodian opens what it has sealed itself, and nothing else.
func TestWhatAFencedSiteSealedItselfIsExposed(t *testing.T) {
	x := newVaultOf(t)
	other := newPeer(3)
	x.put(t, x.a, other.ID, events.SiteAdmitted{Name: "d", Identity: []byte{9}, Role: events.PeerSite})
	other.hear(t, x.all)
	x.stage(other, 1)
	x.a.hear(t, x.all[len(x.all)-1:])
	x.put(t, x.a, other.ID, fenceOf(x.a, other))
	x.exposed(false, true)
}

// What a site may take up depends on what its sender knew of who is gone.
func TestPartingsAreCovered(t *testing.T) {
	x := newVaultOf(t)
	n := len(x.all)
	x.put(t, x.a, x.b.ID, fenceOf(x.a, x.b))
	all := build(t, x.a.ID, x.all, nil).Partings()
	if len(all) != 1 || all[0].Origin != x.a.Origin() {
		t.Fatalf("partings %v", all)
	}
	if !build(t, x.a.ID, x.all, nil).Covers(all) || build(t, x.c.ID, x.all[:n], nil).Covers(all) {
		t.Error("only who has heard of the fence covers it")
	}
}

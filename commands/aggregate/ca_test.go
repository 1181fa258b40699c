package aggregate_test

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// caSplit is a split with an authority "corp" that both sites trust.
func caSplit(t *testing.T) (*split, events.CAID) {
	x := newSplit(t)
	id := events.CAID{UUID: aggregatetest.ID("ca", 0)}
	x.a.write(t, id.UUID, events.UserActor(x.admin), events.CATrusted{Name: "corp", Key: "k", Fingerprint: "f"})
	x.heal()
	return x, id
}

var olafs = aggregate.Certificate{Authority: "f", Key: "laptop", Serial: 7, KeyID: "id", Principals: []string{"staff", "olaf"}}

func (x *split) wantCertificate(want error) {
	x.Helper()
	for _, p := range []*peer{x.a, x.b} {
		u, _, err := p.state.UserByCertificate(&olafs, aggregatetest.Epoch)
		if !errors.Is(err, want) || err == nil && u.ID != x.operator {
			x.Errorf("site %s: got %v, %v, want %v", p.ID, u, err, want)
		}
		if stands := p.state.CertificateStands(&olafs, x.operator); (stands == nil) != (want == nil) {
			x.Errorf("site %s: what is open stands: %v", p.ID, stands)
		}
	}
}

// A revocation counts wherever it was made, whatever was decided beside it, and after the trust came back.
func TestRevocationOfACertificateIsForGood(t *testing.T) {
	x, id := caSplit(t)
	x.wantCertificate(nil)
	x.b.write(t, id.UUID, events.UserActor(x.admin), events.CertificateRevoked{Serial: 8})
	x.heal()
	x.wantCertificate(nil)
	x.b.write(t, id.UUID, events.UserActor(x.admin), events.CertificateRevoked{Serial: 7})
	x.a.write(t, id.UUID, events.UserActor(x.admin), events.CADistrusted{})
	again := aggregatetest.ID("ca", 1)
	x.a.write(t, again, events.UserActor(x.admin), events.CATrusted{Name: "corp", Key: "k", Fingerprint: "f"})
	x.heal()
	x.wantCertificate(aggregate.ErrRevoked)
}

func TestTrustEndsWhereverItEnds(t *testing.T) {
	x, id := caSplit(t)
	x.b.write(t, id.UUID, events.UserActor(x.admin), events.CADistrusted{Reason: "left"})
	x.heal()
	x.wantCertificate(aggregate.ErrUnknown)
}

// A revocation whose payload is not here means every certificate of its authority, and a removal the authority.
func TestWhatCannotBeReadTakesAway(t *testing.T) {
	for _, e := range []events.Event{events.CertificateRevoked{Serial: 8}, events.CADistrusted{}} {
		x, id := caSplit(t)
		r := x.a.write(t, id.UUID, events.UserActor(x.admin), e)
		r.Raw.Payload = nil
		if err := x.b.state.Apply(r); err != nil {
			t.Fatal(err)
		}
		if _, _, err := x.b.state.UserByCertificate(&olafs, aggregatetest.Epoch); err == nil {
			t.Errorf("%T that can't be read lets olaf in", e)
		}
	}
}

// An authority that somebody trusted after they were shut out elsewhere counts for nothing.
func TestTrustByADisabledAdmin(t *testing.T) {
	x := newSplit(t)
	x.a.write(t, x.admin.UUID, events.SiteActor(x.a.ID), events.UserDisabled{})
	x.b.write(t, aggregatetest.ID("ca", 0), events.UserActor(x.admin), events.CATrusted{Name: "corp", Key: "k", Fingerprint: "f"})
	x.heal()
	for _, p := range []*peer{x.a, x.b} {
		if _, _, err := p.state.UserByCertificate(&olafs, aggregatetest.Epoch); !errors.Is(err, aggregate.ErrSuspended) {
			t.Errorf("site %s: %v", p.ID, err)
		}
	}
}

// Two users of one name, from two sites: the principal names neither.
func TestPrincipalOfTwoUsers(t *testing.T) {
	x, _ := caSplit(t)
	x.b.write(t, aggregatetest.ID("twin", 0), events.UserActor(x.admin), events.UserAdded{Name: "olaf", Role: events.Operator})
	x.heal()
	for _, p := range []*peer{x.a, x.b} {
		var several *aggregate.ConflictError
		if _, _, err := p.state.UserByCertificate(&olafs, aggregatetest.Epoch); !errors.As(err, &several) || len(several.IDs) != 2 {
			t.Errorf("site %s: %v", p.ID, err)
		}
	}
}

func TestCertificateTimes(t *testing.T) {
	x, _ := caSplit(t)
	now := aggregatetest.Epoch
	for _, tt := range []struct {
		after, before time.Time
		want          error
	}{
		{time.Time{}, time.Time{}, nil},
		{now, now.Add(1), nil},
		{now.Add(1), now.Add(2), aggregate.ErrEarlyCertificate},
		{now.Add(-1), now, aggregate.ErrLateCertificate},
		{time.Time{}, time.Unix(0, 0), aggregate.ErrLateCertificate},
	} {
		c := olafs
		c.After, c.Before = tt.after, tt.before
		if _, _, err := x.a.state.UserByCertificate(&c, now); !errors.Is(err, tt.want) {
			t.Errorf("%v to %v: %v, want %v", tt.after, tt.before, err, tt.want)
		}
	}
}

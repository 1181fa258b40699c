package projections

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/holdfast-pam/holdfast/events"
)

// An authority with what was revoked of it, the same whichever of two sites is heard first.
func TestAuthorities(t *testing.T) {
	a, b := newSite(t, 1), newSite(t, 2)
	corp, old := numbered('c', 1), numbered('c', 2)
	trusted := a.ctl(corp, events.CATrusted{Name: "corp", Key: "ssh-ed25519 AAAA", Fingerprint: "SHA256:f", Comment: "vault"})
	b.learn(trusted)
	ofA := []events.Record{
		a.ctl(corp, events.CertificateRevoked{Serial: 1 << 63, Reason: "lost"}),
		a.ctl(old, events.CATrusted{Name: "old", Fingerprint: "SHA256:g"}),
		a.ctl(old, events.CADistrusted{Reason: "replaced"}),
	}
	ofB := []events.Record{
		b.ctl(corp, events.CertificateRevoked{KeyID: "laptop"}),
		b.ctl(corp, events.CertificateRevoked{Fingerprint: "SHA256:h"}),
	}
	for name, order := range map[string][]events.Record{"a first": append(ofA[:3:3], ofB...), "b first": append(ofB[:2:2], ofA...)} {
		t.Run(name, func(t *testing.T) {
			source := newSource()
			source.append(trusted)
			source.append(order...)
			p := openTest(t, source)
			catchUp(t, p)
			got, err := p.CA(t.Context(), "corp")
			want := CA{
				ID: events.CAID{UUID: corp}, Name: "corp", Fingerprint: "SHA256:f", Key: "ssh-ed25519 AAAA", Comment: "vault", State: "trusted",
				Revoked: []Revocation{{Serial: "9223372036854775808", Reason: "lost"}, {KeyID: "laptop"}, {Fingerprint: "SHA256:h"}},
			}
			bySort := cmpopts.SortSlices(func(x, y Revocation) bool { return x.Serial+x.KeyID < y.Serial+y.KeyID })
			if diff := cmp.Diff(want, got, cmpopts.IgnoreTypes(time.Time{}), bySort); diff != "" || err != nil || got.Revoked[0].Revoked.IsZero() {
				t.Errorf("%v\n%s", err, diff)
			}
			all, err := p.CAs(t.Context(), Filter{})
			live, err2 := p.CAs(t.Context(), Filter{Live: true})
			if err != nil || err2 != nil || len(all) != 2 || len(live) != 1 || all[1].State != "removed" || all[1].Reason != "replaced" {
				t.Errorf("%+v, %v; live %+v, %v", all, err, live, err2)
			}
		})
	}
}

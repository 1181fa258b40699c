package aggregate_test

import (
	"slices"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// What a fenced custodian can open and is still in use is listed until it was changed:
// secrets, the keys of user authorities of all sites but those that are gone, second
// factors.
func TestWhatIsLeftOpenIsListed(t *testing.T) {
	x := newTrio(t)
	by := events.SiteActor(x.a.ID)
	add := func(p *peer, id string, n int, e events.Event) events.Record {
		r := p.write(t, aggregatetest.ID(id, n), by, e)
		x.all = append(x.all, r)
		return r
	}
	credential := events.CredentialID{UUID: aggregatetest.ID("credential", 1)}
	account := events.AccountID{UUID: aggregatetest.ID("account", 1)}
	use := func(key int) {
		e := events.SecretStaged{Sealed: []byte("x")}
		if key > 0 {
			e.Key = aggregatetest.ID("data key", key)
		}
		r := add(x.a, "credential", 1, e)
		add(x.a, "credential", 1, events.SecretApplied{Version: events.SecretID{UUID: r.Header.ID}, How: events.ByEntry})
	}
	factor := func(n int) {
		add(x.a, "factor", n, events.FactorEnrolled{User: events.UserID{UUID: aggregatetest.ID("user", 1)}, Sealed: []byte("x")})
		add(x.a, "factor", n, events.FactorConfirmed{})
	}
	authority := func(p *peer, n int) {
		x.put(t, p, p.ID, events.UserCACreated{Authority: events.CAID{UUID: aggregatetest.ID("ca", n)}, Key: "key", Until: aggregatetest.Epoch})
	}
	add(x.a, "user", 1, events.UserAdded{Name: "ada", Role: events.Admin})
	add(x.a, "target", 1, events.TargetAdded{Name: "web1"})
	add(x.a, "credential", 1, events.CredentialAdded{Account: account, Kind: events.Password})
	add(x.a, "account", 1, events.AccountAdded{Name: "root", Target: events.TargetID{UUID: aggregatetest.ID("target", 1)}, Credential: credential})
	use(0)
	factor(1)
	for n, p := range []*peer{x.a, x.b} {
		x.put(t, p, p.ID, events.SiteCreated{Name: string(rune('a' + n))})
		authority(p, n)
	}
	listed := func(when string, want ...string) {
		t.Helper()
		var got []string
		for _, e := range build(t, x.a.ID, x.all, nil).LeftOpen(aggregatetest.Epoch.Add(time.Hour)) {
			got = append(got, e.What+" "+e.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	listed("before")
	x.a.hear(t, slices.DeleteFunc(slices.Clone(x.all), func(r events.Record) bool { return r.Header.Site != x.b.ID }))
	x.put(t, x.a, x.b.ID, fenceOf(x.a, x.b))
	listed("after the fence", "second factor ada", "secret root+web1", "user authority a")
	use(0)
	listed("rotated under the old key", "second factor ada", "secret root+web1", "user authority a")
	use(1)
	authority(x.a, 7)
	listed("changed but for one", "second factor ada")
	factor(2)
	listed("all is changed")
}

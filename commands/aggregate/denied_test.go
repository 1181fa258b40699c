package aggregate_test

import (
	"slices"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// Grants of one right that two sites gave without hearing of each other: both
// sites deny what either denies, whichever counts. One that knew of the other
// says for itself.
func TestConcurrentGrantsDenyWhatEitherDenies(t *testing.T) {
	x := newAccess(t)
	grant := func(p *peer, n int, deny ...events.Transfer) events.Record {
		x.at(t, p, aggregatetest.ID("denied", n), events.GrantAdded{User: x.user, Account: x.account, Terms: events.Terms{Deny: deny}})
		return x.all[len(x.all)-1]
	}
	want := func(when string, deny ...events.Transfer) {
		t.Helper()
		for _, p := range []*peer{x.a, x.b} {
			g, err := p.state.GrantFor(x.user, x.account, aggregatetest.Epoch.Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			if got := p.state.TermsOf(g).Deny; !slices.Equal(got, deny) {
				t.Errorf("%s: site %s denies %v, want %v", when, p.ID, got, deny)
			}
		}
	}
	at, there := grant(x.a, 1, events.Upload), grant(x.b, 2)
	x.a.hear(t, []events.Record{there})
	x.b.hear(t, []events.Record{at})
	want("one denies", events.Upload)
	x.b.hear(t, []events.Record{grant(x.a, 3)})
	want("one that knew both")
	at, there = grant(x.a, 4, events.Download), grant(x.b, 5, events.Upload)
	x.a.hear(t, []events.Record{there})
	x.b.hear(t, []events.Record{at})
	want("each another", events.Download, events.Upload)
}

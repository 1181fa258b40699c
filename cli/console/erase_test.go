package console

import (
	"context"
	"slices"
	"testing"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// A site that is gone and the one that has its name now are told apart: which of them
// still has a key is what the list is for.
func TestErasuresTellSitesOfOneNameApart(t *testing.T) {
	s, a, b, old := aggregate.New(), aggregatetest.NewSite(0), aggregatetest.NewSite(1), aggregatetest.NewSite(2)
	session := aggregatetest.ID("session", 0)
	say := func(d events.Draft) {
		t.Helper()
		records, err := a.Append(context.Background(), d)
		if err == nil {
			err = s.Apply(records[0])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	self := events.SiteActor(a.ID)
	for i, m := range []*aggregatetest.Site{a, b, old} {
		say(a.Draft(m.ID.UUID, self, events.SiteAdmitted{
			Name: []string{"a", "b", "b"}[i], Role: events.Steward, Custodian: true, Founder: i == 0, Identity: []byte{byte(i)},
		}))
	}
	ada, eve := aggregatetest.ID("user", 0), aggregatetest.ID("user", 1)
	say(a.Draft(ada, self, events.UserAdded{Name: "ada", Role: events.Admin}))
	say(a.Draft(eve, self, events.UserAdded{Name: "eve", Role: events.Admin}))
	ask := a.Draft(session, events.UserActor(events.UserID{UUID: ada}), events.ErasureAsked{What: events.ErasableRecording, Reason: "x"})
	say(ask)
	say(a.Draft(session, events.UserActor(events.UserID{UUID: eve}), events.ErasureConfirmed{Ask: ask.ID, What: events.ErasableRecording}))
	x, _ := s.Erasure(session)
	got := erasureOf(s, x)
	want := []string{"a", "b (" + b.ID.String() + ")", "b (" + old.ID.String() + ")"}
	slices.Sort(want)
	if slices.Sort(got.Waiting); got.State != "erased" || !slices.Equal(got.Waiting, want) {
		t.Errorf("%s, waiting for %q, want %q", got.State, got.Waiting, want)
	}
}

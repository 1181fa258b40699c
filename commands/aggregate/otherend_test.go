package aggregate_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// A site whose disk was an old one ends in a new log what it had begun in the old
// one, and then the end of that log comes back and tells something else. Both orders
// give the same, and what was told in the first log counts.
func TestEndsThatAreToldInTwoLogs(t *testing.T) {
	old, again := newPeer(0), newPeer(0)
	again.Epoch = 7
	again.Knows = again.state.Clock
	credential, account := aggregatetest.ID("credential", 1), aggregatetest.ID("account", 1)
	rotation, session, crashed := aggregatetest.ID("rotation", 1), aggregatetest.ID("session", 1), aggregatetest.ID("session", 2)
	by := events.SiteActor(old.ID)
	id := events.CredentialID{UUID: credential}
	write := func(p *peer, stream uuid.UUID, e events.Event) []events.Record {
		t.Helper()
		d, err := events.NewDraft(stream, by, "Test", e)
		if err != nil {
			t.Fatal(err)
		}
		records, err := p.Append(context.Background(), d)
		if err != nil {
			t.Fatal(err)
		}
		apply(t, p.state, records...)
		return records
	}
	var common, tail, new []events.Record
	say := func(to *[]events.Record, p *peer, stream uuid.UUID, e events.Event) events.Record {
		records := write(p, stream, e)
		*to = append(*to, records...)
		return records[0]
	}
	say(&common, old, credential, events.CredentialAdded{Account: events.AccountID{UUID: account}, Kind: events.Password})
	staged := say(&common, old, credential, events.SecretStaged{Sealed: []byte("sealed")})
	version := events.SecretID{UUID: staged.Header.ID}
	say(&common, old, rotation, events.RotationPlanned{Credential: id, Account: events.AccountID{UUID: account}})
	for _, s := range []uuid.UUID{session, crashed} {
		say(&common, old, s, events.SessionStarted{Credential: id, Secret: version})
	}
	again.hear(t, common)

	say(&tail, old, session, events.SessionConnected{})
	say(&tail, old, session, events.SessionEnded{Reason: events.EndedByClient})
	say(&tail, old, rotation, events.RotationEnded{Result: events.RotationVerified})

	for _, s := range []uuid.UUID{session, crashed} {
		say(&new, again, s, events.SessionEnded{Reason: events.EndedByCrash})
	}
	say(&new, again, rotation, events.RotationEnded{Result: events.RotationFailed, Detail: "lost"})

	states := map[string]*aggregate.State{"the old one first": aggregate.New(), "the new one first": aggregate.New()}
	apply(t, states["the old one first"], append(append(common[:len(common):len(common)], tail...), new...)...)
	apply(t, states["the new one first"], append(append(common[:len(common):len(common)], new...), tail...)...)
	if states["the old one first"].Digest() != states["the new one first"].Digest() {
		t.Error("which log came first decides")
	}
	for order, s := range states {
		if len(s.LiveSessions())+len(s.Rotations()) > 0 {
			t.Errorf("%s: something goes on", order)
		}
		c, _ := s.Credential(id)
		if last, ok := c.LastEnded(); !ok || last.Result != events.RotationVerified || c.Failures() > 0 {
			t.Errorf("%s: the rotation ended %+v, %d failures", order, last, c.Failures())
		}
		if m, used := c.Used(version); !used || m.Origin != old.Origin() {
			t.Errorf("%s: the secret's last use is %v", order, m)
		}
		if n := c.Spent(aggregatetest.Epoch.Add(-time.Hour), true)[old.ID].N; n != 1 {
			t.Errorf("%s: %d presentations count, of the one session of which nothing else is known", order, n)
		}
	}
}

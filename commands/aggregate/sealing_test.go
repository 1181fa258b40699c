package aggregate_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// rekey makes one event about a site's keys: usually the site's own, sometimes
// one that another site has no business to write.
func (h *history) rekey(t *rapid.T, at, step int, name string, on func(string, events.Event)) {
	switch rapid.IntRange(0, 3).Draw(t, "rekey") {
	case 0:
		h.write(t, at, h.peers[at].ID.UUID, events.SiteCreated{Name: name, SealingKey: []byte(name)})
		h.ids["site"] = append(h.ids["site"], h.peers[at].ID.UUID)
	case 1:
		on("site", events.RekeyBegan{SealingKey: fmt.Appendf(nil, "key %d", step)})
	case 2:
		on("site", events.SiteRekeyed{SealingKey: fmt.Appendf(nil, "key %d", step)})
	case 3:
		on("site", events.RekeyAbandoned{})
	}
}

// TestAttackForeignSealingKey: a key that another site names as this one's is not
// this one's, or secrets would be wrapped to whoever wrote it.
func TestAttackForeignSealingKey(t *testing.T) {
	a, b := newPeer(0), newPeer(1)
	id := a.ID.UUID
	a.write(t, id, events.SiteActor(a.ID), events.SiteCreated{Name: "a", SealingKey: []byte("ours")})
	b.hear(t, a.Records)
	admin := aggregatetest.ID("admin", 0)
	for _, e := range []events.Event{
		events.RekeyBegan{SealingKey: []byte("theirs")}, events.SiteRekeyed{SealingKey: []byte("theirs")}, events.RekeyAbandoned{},
	} {
		b.write(t, id, events.UserActor(events.UserID{UUID: admin}), e)
		b.write(t, id, events.SiteActor(a.ID), e)
	}
	for name, p := range map[string]*peer{"a": a, "b": b} {
		if p == a {
			a.hear(t, b.Records)
		}
		s, ok := p.state.Site(a.ID)
		if !ok || string(s.SealingKey()) != "ours" || s.NextSealingKey() != nil {
			t.Errorf("at %s: %q, then %q", name, s.SealingKey(), s.NextSealingKey())
		}
	}
	a.write(t, id, events.SiteActor(a.ID), events.RekeyBegan{SealingKey: []byte("next")})
	if s, _ := a.state.Site(a.ID); string(s.SealingKey()) != "ours" || string(s.NextSealingKey()) != "next" {
		t.Errorf("during a rekey: %q, then %q", s.SealingKey(), s.NextSealingKey())
	}
	a.write(t, id, events.SiteActor(a.ID), events.SiteRekeyed{SealingKey: []byte("next")})
	if s, _ := a.state.Site(a.ID); string(s.SealingKey()) != "next" || s.NextSealingKey() != nil {
		t.Errorf("after it: %q, then %q", s.SealingKey(), s.NextSealingKey())
	}
}

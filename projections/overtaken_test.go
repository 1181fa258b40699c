package projections

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// What was taken away and given back, at a site that another one could not hear: a
// session that began there by the old right is listed, also if it began after both by
// every clock; one that began by the new right is not.
func TestOvertakenAfterARestore(t *testing.T) {
	for name, cut := range map[string]func(a *writerSite, c cast) []events.Record{
		"account.removed": func(a *writerSite, c cast) []events.Record {
			return []events.Record{a.ctl(c.root.UUID, events.AccountRemoved{}), a.ctl(c.root.UUID, events.AccountRestored{Reason: "a mistake"})}
		},
		"target.removed": func(a *writerSite, c cast) []events.Record {
			return []events.Record{a.ctl(c.web.UUID, events.TargetRemoved{}), a.ctl(c.web.UUID, events.TargetRestored{Reason: "a mistake"})}
		},
		"user.key_removed": func(a *writerSite, c cast) []events.Record {
			return []events.Record{a.ctl(c.bob.UUID, events.UserKeyRemoved{Fingerprint: "SHA256:bob"}), a.ctl(c.bob.UUID, events.UserKeyAdded{Key: "k", Fingerprint: "SHA256:bob"})}
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newSite(t, 1), newSite(t, 2)
			c, all := play(a)
			for _, r := range all {
				if r.Header.Kind == events.Ctl {
					b.learn(r)
				}
			}
			there := cut(a, c)
			var here []events.Record
			session := func(n uint64, until int) {
				id := numbered('x', n)
				start := b.ctl(id, events.SessionStarted{User: c.bob, Account: c.root, Target: c.web, Grant: c.grant, Fingerprint: "SHA256:bob"})
				for range until {
					b.ticker.Next()
				}
				here = append(here, start, b.ctl(id, events.SessionEnded{Reason: events.EndedByPolicy}))
			}
			for b.ticker.Next() < there[1].Header.HLC {
			}
			session(10, 10)
			for _, r := range there {
				b.learn(r)
			}
			session(11, 10)
			if first := here[0].Header; first.HLC < there[1].Header.HLC || b.applied.At(a.origin) < there[1].Header.Position {
				t.Fatal("it does not begin after the restore")
			}
			for _, order := range [][]events.Record{slices.Concat(all, there, here), slices.Concat(all, here[:2], there, here[2:])} {
				source := newSource()
				source.append(order...)
				p := openTest(t, source)
				catchUp(t, p)
				found, err := p.Overtaken(t.Context(), Filter{}, time.Second, epochStart.Add(time.Hour))
				if err != nil {
					t.Fatal(err)
				}
				var ids []uuid.UUID
				for _, o := range found {
					if ids = append(ids, o.Session.UUID); o.By != name || o.Seconds < 5 {
						t.Errorf("listed: %+v", o)
					}
				}
				if want := []uuid.UUID{numbered('x', 10)}; !slices.Equal(ids, want) {
					t.Errorf("lists %v, want %v", ids, want)
				}
			}
		})
	}
}

package projections

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// busySite writes n records as a site in use does: sessions that start,
// connect and end, and for each of them some records of packets.
func busySite(b *testing.B, n int) *fakeSource {
	s, source := newSite(b, 1), newSource()
	c, all := play(s)
	for len(all) < n {
		session := events.SessionID{UUID: numbered('x', s.next+100)}
		all = append(all,
			s.by(events.UserActor(c.bob), session.UUID, events.SessionStarted{User: c.bob, Account: c.root, Target: c.web, Credential: c.cred,
				Grant: c.grant, Source: "192.0.2.1:5022", Client: "SSH-2.0-OpenSSH_9.9", Fingerprint: "SHA256:bob"}),
			s.ctl(session.UUID, events.SessionConnected{Server: "SSH-2.0-sshd", HostKey: "SHA256:web"}),
			s.ctl(session.UUID, events.SessionEnded{Reason: events.EndedByClient, Complete: true}))
	}
	source.append(all...)
	return source
}

// BenchmarkApply measures all projections together, in batches of 1000.
func BenchmarkApply(b *testing.B) {
	source := busySite(b, b.N)
	p := openTest(b, source)
	b.ResetTimer()
	catchUp(b, p)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkApplyRec measures rec headers, as a session that streams makes them.
func BenchmarkApplyRec(b *testing.B) {
	s, source := newSite(b, 1), newSource()
	var all []events.Record
	for i := range b.N {
		all = append(all, s.packets(events.SessionID{UUID: numbered('x', uint64(i%8))}, 64))
	}
	source.append(all...)
	p := openTest(b, source)
	b.ResetTimer()
	catchUp(b, p)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkOneEvent is the time from a record to the view, one at a time.
func BenchmarkOneEvent(b *testing.B) {
	s, source := newSite(b, 1), newSource()
	p := openTest(b, source)
	for i := range b.N {
		b.StopTimer()
		source.mu.Lock()
		source.records[events.Ctl] = nil // what was applied is not looked at again
		source.seen[events.Ctl] = 0
		source.mu.Unlock()
		source.append(s.ctl(numbered('u', uint64(i)), events.UserAdded{Name: fmt.Sprint(i)}))
		b.StartTimer()
		if _, _, err := p.step(b.Context(), events.Ctl, false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRebuild100k(b *testing.B) {
	source := busySite(b, 100_000)
	p := openTest(b, source)
	for b.Loop() {
		if err := p.Rebuild(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkQueries reads from about 33,000 sessions and 100,000 events.
func BenchmarkQueries(b *testing.B) {
	p := openTest(b, busySite(b, 100_000))
	catchUp(b, p)
	last, err := p.Sessions(b.Context(), Filter{Limit: 20_000})
	if err != nil {
		b.Fatal(err)
	}
	queries := map[string]func() error{
		"session page of 50": func() error { _, err := p.Sessions(b.Context(), Filter{Limit: 50}); return err },
		"page deep inside":   func() error { _, err := p.Sessions(b.Context(), Filter{Limit: 50, After: last.Next}); return err },
		"of a user":          func() error { _, err := p.Sessions(b.Context(), Filter{Limit: 50, User: "bob"}); return err },
		"live":               func() error { _, err := p.Sessions(b.Context(), Filter{Limit: 50, Live: true}); return err },
		"in an hour": func() error {
			_, err := p.Sessions(b.Context(), Filter{Limit: 50, Since: epochStart.Add(time.Hour), Until: epochStart.Add(2 * time.Hour)})
			return err
		},
		"one session":      func() error { _, err := p.Session(b.Context(), last.Items[0].ID); return err },
		"audit page of 50": func() error { _, err := p.Audit(b.Context(), AuditFilter{Filter: Filter{Limit: 50}}); return err },
		"audit of a user": func() error {
			_, err := p.Audit(b.Context(), AuditFilter{Filter: Filter{Limit: 50, User: "bob"}})
			return err
		},
		"audit of a session": func() error {
			_, err := p.Audit(b.Context(), AuditFilter{Session: last.Items[0].ID})
			return err
		},
		"audit by position": func() error { _, err := p.Event(b.Context(), "50000"); return err },
	}
	for name, query := range queries {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := query(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

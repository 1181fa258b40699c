package projections

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// A site writes under the id of a session that another one runs, as if it ran it
// itself: whatever comes first, the other's session, its files and its recording stay
// as they are, and what was recorded beside it is told.
func TestAttackSessionsOfOneID(t *testing.T) {
	id := events.SessionID{UUID: numbered('x', 1)}
	bob, eve := events.UserID{UUID: numbered('u', 1)}, events.UserID{UUID: numbered('u', 2)}
	for _, rogueFirst := range []bool{false, true} {
		a, b, source := newSite(t, 1), newSite(t, 2), newSource()
		honest := []events.Record{
			a.ctl(bob.UUID, events.UserAdded{Name: "bob", Role: events.Operator}),
			a.ctl(id.UUID, events.SessionStarted{User: bob, Source: "192.0.2.1:1"}),
			a.ctl(id.UUID, events.SessionConnected{Server: "SSH-2.0-x"}),
			a.ctl(id.UUID, events.SessionFileAccessed{Serial: 1, Kind: "upload", Path: "/good"}),
			a.packets(id, 10), a.packets(id, 10),
			a.ctl(id.UUID, events.SessionEnded{Reason: events.EndedByClient, Complete: true}),
		}
		rogue := []events.Record{
			b.ctl(id.UUID, events.SessionStarted{User: eve, Source: "198.51.100.9:1"}),
			b.ctl(id.UUID, events.SessionKillRequested{Reason: "evil"}),
			b.ctl(id.UUID, events.SessionFileAccessed{Serial: 1, Kind: "upload", Path: "/evil"}),
			b.packets(id, 10),
			b.ctl(id.UUID, events.SessionEnded{Reason: events.EndedByCrash}),
		}
		other := events.SessionID{UUID: numbered('x', 2)}
		more := []events.Record{a.ctl(other.UUID, events.SessionStarted{User: bob}), b.packets(other, 10)} // b never began that one
		if rogueFirst {
			honest, rogue = rogue, honest
		}
		source.append(slices.Concat(honest, rogue, more)...)
		p := openTest(t, source)
		catchUp(t, p)
		page, err := p.Sessions(t.Context(), Filter{Limit: 10})
		if err != nil || len(page.Items) != 3 {
			t.Fatalf("%d sessions, %v", len(page.Items), err)
		}
		for _, s := range page.Items {
			if s.ID == id && s.SiteID == a.origin.Site && (s.User != "bob" || s.Reason != events.EndedByClient || !s.Complete || s.KillReason != "" || s.Server == "") {
				t.Errorf("the session is shown as %+v", s)
			}
		}
		x, err := p.Extents(t.Context(), id, a.origin.Site)
		if err != nil || len(x) != 1 || x[0].Records != 2 {
			t.Errorf("its recording is %+v, %v", x, err)
		}
		foreign, err := p.Foreign(t.Context())
		if err != nil || len(foreign) != 1 || foreign[0].Site != b.origin.Site || foreign[0].Records != 1 {
			t.Errorf("recorded beside it: %+v, %v", foreign, err)
		}
		files, err := p.Files(t.Context(), FileFilter{Session: id, Filter: Filter{Limit: 10}})
		if err != nil || len(files.Items) != 2 {
			t.Errorf("%d files, %v", len(files.Items), err)
		}
		for _, f := range files.Items {
			if (f.Path == "/good") != (f.User == "bob") {
				t.Errorf("%s is %s's", f.Path, f.User)
			}
		}
	}
}

// under is by under an id that another event has.
func (s *writerSite) under(id uuid.UUID, actor events.Actor, stream uuid.UUID, e events.Event) events.Record {
	s.t.Helper()
	r := s.by(actor, stream, e)
	h := r.Header
	h.ID = id
	raw, err := events.EncodeHeader(&h)
	if err == nil {
		r, err = events.DecodeEntry(events.Entry{Header: raw, Payload: r.Raw.Payload})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// A site writes under the ids of events by which others tell who was shown a secret,
// who has approved, and what was asked for: nothing of the others' is hidden by that,
// and no view stops.
func TestAttackEventsOfOneID(t *testing.T) {
	for _, rogueFirst := range []bool{false, true} {
		a, b, source := newSite(t, 1), newSite(t, 2), newSource()
		c, all := play(a)
		bob, eve := events.UserActor(c.bob), events.UserActor(events.UserID{UUID: numbered('u', 66)})
		request, version := numbered('q', 1), events.SecretID{}
		for _, r := range all {
			if r.Header.Type == "secret.staged" {
				version.UUID = r.Header.ID
			}
		}
		honest := []events.Record{
			a.by(bob, request, events.AccessBreakGlass{User: c.bob, Account: c.root, Reason: "fire", For: 60}),
			a.by(bob, c.cred.UUID, events.SecretRevealed{Version: version, Reason: "fire"}),
			a.by(bob, request, events.RequestApproved{Uses: 1}),
			a.by(bob, request, events.RequestReviewed{Verdict: events.Issue}),
		}
		rogue := []events.Record{b.by(eve, request, events.AccessBreakGlass{User: events.UserID{UUID: eve.ID}, Reason: "evil", For: 60})}
		for i, e := range []events.Event{events.SecretRevealed{Version: version, Reason: "evil"}, events.RequestApproved{Uses: 9}, events.RequestReviewed{Verdict: events.Fine}} {
			rogue = append(rogue, b.under(honest[i+1].Header.ID, eve, honest[i+1].Header.Stream, e))
		}
		if rogueFirst {
			honest, rogue = rogue, honest
		}
		source.append(slices.Concat(all, honest, rogue)...)
		p := openTest(t, source)
		catchUp(t, p)
		shown, err := p.Versions(t.Context(), c.cred.String())
		if err != nil || len(shown) == 0 || !slices.ContainsFunc(shown[0].KnownTo, func(d Disclosure) bool { return d.User == "bob" }) {
			t.Errorf("that bob was shown the secret is hidden: %+v, %v", shown, err)
		}
		found, err := p.Requests(t.Context(), Filter{Limit: 10})
		if err != nil || !slices.ContainsFunc(found.Items, func(r Request) bool {
			return r.User == "bob" && r.Reason == "fire" && slices.ContainsFunc(r.Approvals, func(w Word) bool { return w.By == "bob" && w.Uses == 1 }) &&
				slices.ContainsFunc(r.Reviews, func(w Word) bool { return w.By == "bob" && w.Verdict == events.Issue })
		}) {
			t.Errorf("what bob did is hidden: %+v, %v", found.Items, err)
		}
	}
}

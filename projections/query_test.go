package projections

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-pam/holdfast/events"
)

func TestShowsWhatHappened(t *testing.T) {
	p, c, _ := opened(t)
	ctx := t.Context()

	bob, err := p.User(ctx, "bob")
	if err != nil || bob.ID != c.bob || bob.State != "active" || len(bob.Keys) != 1 || bob.Keys[0].Fingerprint != "SHA256:bob" {
		t.Errorf("User(bob) = %+v, %v", bob, err)
	}
	web, err := p.Target(ctx, c.web.String())
	if err != nil || web.Name != "web1" || cmp.Diff(web.HostKeys, []string{"ssh-ed25519 BBBB"}) != "" {
		t.Errorf("Target by id = %+v, %v", web, err)
	}
	root, err := p.Account(ctx, "root+web1")
	if err != nil || root.ID != c.root || root.Target != "web1" || root.Credential != c.cred {
		t.Errorf("Account(root+web1) = %+v, %v", root, err)
	}
	for _, ref := range []string{"root+web1", c.cred.String(), "root+" + c.web.String(), c.root.String() + "+"} {
		cred, err := p.Credential(ctx, ref)
		if strings.HasSuffix(ref, "+") {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("Credential(%s) = %v, want not found", ref, err)
			}
			continue
		}
		if err != nil || cred.State != "verified" || cred.Versions != 1 || cred.Account != "root+web1" || cred.Version.IsZero() {
			t.Errorf("Credential(%s) = %+v, %v", ref, cred, err)
		}
	}
	grant, err := p.Grant(ctx, c.grant)
	if err != nil || grant.State != "active" || grant.User != "bob" || grant.Account != "root+web1" || grant.AddedBy != "ada" {
		t.Errorf("Grant = %+v, %v", grant, err)
	}
	live, err := p.Session(ctx, c.live)
	if err != nil || live.Ended != nil || live.KilledBy != "ada" || live.KillReason != "lunch" {
		t.Errorf("live session = %+v, %v", live, err)
	}
}

// The JSON of a session is a promise to scripts.
func TestSessionJSON(t *testing.T) {
	p, c, _ := opened(t)
	show := func(id events.SessionID) map[string]any {
		s, err := p.Session(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		all, fixed := map[string]any{}, map[string]any{}
		if err := json.Unmarshal(b, &all); err != nil {
			t.Fatal(err)
		}
		for _, k := range strings.Fields("id user account target started ended reason bytes_in bytes_out complete") {
			v, there := all[k]
			if !there {
				t.Errorf("session JSON lacks %q", k)
			}
			fixed[k] = v
		}
		return fixed
	}
	want := map[string]any{
		"id": c.shell.String(), "user": "bob", "account": "root", "target": "web1",
		"started": "2026-03-01T12:00:11Z", "ended": "2026-03-01T12:00:14Z", "reason": "client closed",
		"bytes_in": 40.0, "bytes_out": 900.0, "complete": true,
	}
	if diff := cmp.Diff(want, show(c.shell)); diff != "" {
		t.Errorf("ended session (-want +got):\n%s", diff)
	}
	want = map[string]any{
		"id": c.live.String(), "user": "bob", "account": "root", "target": "web1",
		"started": "2026-03-01T12:00:15Z", "ended": nil, "reason": "",
		"bytes_in": 0.0, "bytes_out": 0.0, "complete": false,
	}
	if diff := cmp.Diff(want, show(c.live)); diff != "" {
		t.Errorf("live session (-want +got):\n%s", diff)
	}
}

func TestSessionFilters(t *testing.T) {
	p, c, _ := opened(t)
	tests := map[string]struct {
		filter Filter
		want   []events.SessionID
	}{
		"all, newest first": {Filter{}, []events.SessionID{c.live, c.shell}},
		"oldest first":      {Filter{Oldest: true}, []events.SessionID{c.shell, c.live}},
		"live":              {Filter{Live: true}, []events.SessionID{c.live}},
		"of a user":         {Filter{User: "bob"}, []events.SessionID{c.live, c.shell}},
		"of another":        {Filter{User: "ada"}, nil},
		"at a target":       {Filter{Target: c.web.String()}, []events.SessionID{c.live, c.shell}},
		"since":             {Filter{Since: epochStart.Add(15 * time.Second)}, []events.SessionID{c.live}},
		"until":             {Filter{Until: epochStart.Add(15 * time.Second)}, []events.SessionID{c.shell}},
		"limit":             {Filter{Limit: 1}, []events.SessionID{c.live}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			page, err := p.Sessions(t.Context(), test.filter)
			if err != nil {
				t.Fatal(err)
			}
			var got []events.SessionID
			for _, s := range page.Items {
				got = append(got, s.ID)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPagesJoinUp(t *testing.T) {
	p, _, all := opened(t)
	want, _ := p.source.(*fakeSource).visible(events.Ctl)
	for _, oldest := range []bool{false, true} {
		f := AuditFilter{Filter: Filter{Limit: 4, Oldest: oldest}}
		seen := map[string]bool{}
		for pages := 0; ; pages++ {
			page, err := p.Audit(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Items {
				seen[e.ID.String()] = true
			}
			if f.After = page.Next; page.Next == "" {
				break
			}
			if pages > len(all) {
				t.Fatal("pages do not end")
			}
		}
		if len(seen) != len(want) {
			t.Errorf("pages (oldest first: %v) hold %d events, want %d", oldest, len(seen), len(want))
		}
	}
	if _, err := p.Audit(t.Context(), AuditFilter{Filter: Filter{After: "xyz"}}); err == nil {
		t.Error("a made-up page cursor passed")
	}
}

func TestUnknownReferences(t *testing.T) {
	p, c, _ := opened(t)
	ctx := t.Context()
	calls := map[string]func() error{
		"user":            func() error { _, err := p.User(ctx, "carol"); return err },
		"user by id":      func() error { _, err := p.User(ctx, c.web.String()); return err },
		"target":          func() error { _, err := p.Target(ctx, "web2"); return err },
		"account":         func() error { _, err := p.Account(ctx, "root+web2"); return err },
		"account no plus": func() error { _, err := p.Account(ctx, "root"); return err },
		"credential":      func() error { _, err := p.Credential(ctx, c.web.String()); return err },
		"grant":           func() error { _, err := p.Grant(ctx, events.GrantID{}); return err },
		"session":         func() error { _, err := p.Session(ctx, events.SessionID{}); return err },
		"sessions of":     func() error { _, err := p.Sessions(ctx, Filter{User: "carol"}); return err },
		"sessions at":     func() error { _, err := p.Sessions(ctx, Filter{Target: "'; DROP TABLE users"}); return err },
		"audit of":        func() error { _, err := p.Audit(ctx, AuditFilter{Filter: Filter{User: "carol"}}); return err },
		"event":           func() error { _, err := p.Event(ctx, "999"); return err },
		"event by word":   func() error { _, err := p.Event(ctx, "last"); return err },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v, want not found", name, err)
		}
	}
}

func TestOneNameTwice(t *testing.T) {
	a, b := newSite(t, 1), newSite(t, 2)
	first, second := numbered('u', 1), numbered('u', 2)
	source := newSource()
	source.append(a.ctl(first, events.UserAdded{Name: "eve", Role: events.Operator}), b.ctl(second, events.UserAdded{Name: "eve", Role: events.Admin}))
	p := openTest(t, source)
	catchUp(t, p)
	_, err := p.User(t.Context(), "eve")
	var conflict *ConflictError
	if !errors.As(err, &conflict) || cmp.Diff(conflict.IDs, []string{first.String(), second.String()}) != "" {
		t.Fatalf("User(eve) = %v, want a conflict of both", err)
	}
	users, err := p.Users(t.Context(), Filter{User: "eve"})
	if err != nil || len(users) != 2 || !users[0].Conflict || !users[1].Conflict {
		t.Errorf("Users = %+v, %v; want both marked", users, err)
	}
	source.append(a.ctl(second, events.UserDisabled{Reason: "settled"}))
	catchUp(t, p)
	if u, err := p.User(t.Context(), "eve"); err != nil || u.ID.UUID != first || u.Conflict {
		t.Errorf("after one is disabled, User(eve) = %+v, %v", u, err)
	}
}

// Who comes after a disabled user under the same name does not seem to have
// that user's grants, nor does a grant to what is gone seem to be good.
func TestAGrantEndsWithItsUserAccountOrTarget(t *testing.T) {
	for state, end := range map[string]func(s *writerSite, c cast) events.Record{
		"user disabled":   func(s *writerSite, c cast) events.Record { return s.ctl(c.bob.UUID, events.UserDisabled{}) },
		"account removed": func(s *writerSite, c cast) events.Record { return s.ctl(c.root.UUID, events.AccountRemoved{}) },
		"target removed":  func(s *writerSite, c cast) events.Record { return s.ctl(c.web.UUID, events.TargetRemoved{}) },
	} {
		s, source := newSite(t, 1), newSource()
		c, all := play(s)
		source.append(append(all, end(s, c), s.ctl(numbered('u', 9), events.UserAdded{Name: "bob", Role: events.Operator}))...)
		p := openTest(t, source)
		catchUp(t, p)
		if g, err := p.Grant(t.Context(), c.grant); err != nil || g.State != state {
			t.Errorf("Grant = %q, %v, want %q", g.State, err, state)
		}
		if live, err := p.Grants(t.Context(), Filter{User: "bob", Live: true}); err != nil || len(live) != 0 {
			t.Errorf("%s: live grants %+v, %v", state, live, err)
		}
		if a, err := p.Account(t.Context(), c.root.String()); err != nil || (a.State == "active") != (state == "user disabled") {
			t.Errorf("%s: account %q, %v", state, a.State, err)
		}
	}
}

// What is restored is as it was, but for who got at it before.
func TestAccountsAndTargetsAreRestored(t *testing.T) {
	s, source := newSite(t, 1), newSource()
	c, all := play(s)
	source.append(append(all, s.ctl(c.root.UUID, events.AccountRemoved{Reason: "one"}), s.ctl(c.web.UUID, events.TargetRemoved{Reason: "two"}),
		s.ctl(c.root.UUID, events.AccountRestored{}))...)
	p := openTest(t, source)
	catchUp(t, p)
	if a, err := p.Account(t.Context(), c.root.String()); err != nil || a.State != "target removed" || !a.Removed.IsZero() || a.Reason != "" {
		t.Errorf("account %+v, %v", a, err)
	}
	source.append(s.ctl(c.web.UUID, events.TargetRestored{}), s.ctl(numbered('g', 99), events.GrantAdded{User: c.bob, Account: c.root}))
	catchUp(t, p)
	if x, err := p.Target(t.Context(), c.web.String()); err != nil || x.State != "active" || !x.Removed.IsZero() || x.Reason != "" {
		t.Errorf("target %+v, %v", x, err)
	}
	if a, err := p.Account(t.Context(), "root+web1"); err != nil || a.State != "active" {
		t.Errorf("account %+v, %v", a, err)
	}
	if g, err := p.Grant(t.Context(), c.grant); err != nil || g.State != "removed with its account" {
		t.Errorf("grant of before is %q, %v", g.State, err)
	}
	if live, err := p.Grants(t.Context(), Filter{User: "bob", Live: true}); err != nil || len(live) != 1 || live[0].ID.UUID != numbered('g', 99) {
		t.Errorf("live grants: %+v, %v", live, err)
	}
}

func TestGrantStates(t *testing.T) {
	s, source := newSite(t, 1), newSource()
	add := func(n uint64, expires time.Time) {
		source.append(s.ctl(numbered('g', n), events.GrantAdded{User: events.UserID{UUID: numbered('u', 1)}, Expires: expires}))
	}
	now := epochStart.Add(30 * time.Minute) // what openIn's clock says
	add(1, time.Time{})
	add(2, now)
	add(3, now.Add(time.Second))
	add(4, now.Add(time.Hour))
	source.append(s.ctl(numbered('g', 4), events.GrantRemoved{Reason: "left"}))
	p := openTest(t, source)
	catchUp(t, p)
	want := map[uint64]string{1: "active", 2: "expired", 3: "active", 4: "removed"}
	for n, state := range want {
		if g, err := p.Grant(t.Context(), events.GrantID{UUID: numbered('g', n)}); err != nil || g.State != state {
			t.Errorf("grant %d is %s (%v), want %s", n, g.State, err, state)
		}
	}
	if live, err := p.Grants(t.Context(), Filter{Live: true}); err != nil || len(live) != 2 {
		t.Errorf("live grants: %v, %v", live, err)
	}
}

func TestAuditShowsPayloadsWithoutSealedFields(t *testing.T) {
	p, c, _ := opened(t)
	page, err := p.Audit(t.Context(), AuditFilter{Type: "secret"})
	if err != nil || len(page.Items) != 3 {
		t.Fatalf("secret.* events: %d, %v", len(page.Items), err)
	}
	staged := page.Items[2]
	if staged.Type != "secret.staged" || string(staged.Payload) != `{}` {
		t.Errorf("secret.staged shows %s", staged.Payload)
	}
	if staged.Actor.Name != "ada" || staged.Stream != c.cred.UUID || staged.Time != epochStart.Add(8*time.Second) {
		t.Errorf("secret.staged = %+v", staged)
	}
	one, err := p.Event(t.Context(), staged.ID.String())
	if err != nil || one.Position != staged.Position {
		t.Errorf("by id: %+v, %v", one, err)
	}
	if one, err = p.Event(t.Context(), "2"); err != nil || one.Type != "user.added" || string(one.Payload) != `{"name":"ada","role":"admin"}` {
		t.Errorf("by position: %+v, %v", one, err)
	}
}

func TestAuditOfUserTargetSession(t *testing.T) {
	p, c, _ := opened(t)
	tests := map[string]struct {
		filter AuditFilter
		want   int
	}{
		"all":     {AuditFilter{}, 17},
		"bob":     {AuditFilter{Filter: Filter{User: "bob"}}, 10}, // added, key, grant, 2 starts, connected, verified, ended, kill, denied
		"web1":    {AuditFilter{Filter: Filter{Target: "web1"}}, 8},
		"session": {AuditFilter{Session: c.shell}, 4},
		"type":    {AuditFilter{Type: "session.started"}, 2},
	}
	for name, test := range tests {
		page, err := p.Audit(t.Context(), test.filter)
		if err != nil || len(page.Items) != test.want {
			t.Errorf("%s: %d events (%v), want %d", name, len(page.Items), err, test.want)
			for _, e := range page.Items {
				t.Log(e.Position, e.Type)
			}
		}
	}
}

func TestExtents(t *testing.T) {
	s, source := newSite(t, 1), newSource()
	x, y := events.SessionID{UUID: numbered('x', 1)}, events.SessionID{UUID: numbered('x', 2)}
	var all []events.Record
	write := func(session events.SessionID, n int) {
		for range n {
			all = append(all, s.packets(session, 10))
		}
	}
	write(x, 5)    // 1-5
	write(y, 1023) // 6-1028
	write(x, 2)    // 1029, 1030: still near
	write(y, 1024) // 1031-2054
	write(x, 1)    // 2055: far
	source.append(all...)
	p := openTest(t, source)
	catchUp(t, p)
	o := events.Origin{Site: s.origin.Site, Epoch: 1, Kind: events.Rec}
	got, err := p.Extents(t.Context(), x, s.origin.Site)
	want := []Extent{{o, 1, 1030, 7, 70}, {o, 2055, 2055, 1, 10}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("extents of x: %v (-want +got):\n%s", err, diff)
	}
	got, err = p.Extents(t.Context(), y, s.origin.Site)
	want = []Extent{{o, 6, 2054, 2047, 20470}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("extents of y: %v (-want +got):\n%s", err, diff)
	}
}

package commands_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

func granted(w *world) {
	w.do("ada", commands.AddGrant{User: "olaf", Account: "root", Target: "web1"})
}

func start(account, target string) func(*world) commands.Command {
	return func(w *world) commands.Command { return w.start("olaf", account, target) }
}

func after(steps ...func(*world)) func(*world) {
	return func(w *world) {
		for _, s := range steps {
			s(w)
		}
	}
}

// Each way to be let through, and each attack on it. The person reads the same
// of a target that is not there, an account that is not there, and one that is
// there without a grant; the log tells them apart.
func TestStartSession(t *testing.T) {
	const none = "no grant for "
	denied := []string{"access.denied"}
	given := func(by string, cs ...commands.Command) func(*world) {
		return func(w *world) {
			for _, c := range cs {
				w.do(by, c)
			}
		}
	}
	expiring := given("ada", commands.AddGrant{User: "olaf", Account: "root", Target: "web1", Expires: aggregatetest.Epoch.Add(time.Hour)})
	twin := func(e func(w *world) events.Event) func(*world) {
		return func(w *world) { w.fact(aggregatetest.ID("twin", 0), e(w)) }
	}
	twinTarget := twin(func(*world) events.Event {
		return events.TargetAdded{Name: "web1", Addr: "evil:22", HostKeys: []string{"k"}}
	})
	twinAccount := twin(func(w *world) events.Event {
		return events.AccountAdded{Name: "root", Target: w.account("root", "web1").Target}
	})
	twinKey := func(w *world) {
		id := aggregatetest.ID("mallory", 0)
		w.fact(id, events.UserAdded{Name: "mallory", Role: events.Operator})
		w.fact(id, events.UserKeyAdded{Key: key("olaf"), Fingerprint: fingerprint("olaf")})
	}
	runAll(t, []scenario{
		{name: "with a grant", given: granted, by: "olaf", when: start("root", "web1"), then: []string{"session.started"}},
		{name: "before the grant's end", given: after(expiring, wait(time.Hour-1)), by: "olaf", when: start("root", "web1"), then: []string{"session.started"}},
		{name: "without a grant", by: "olaf", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.NoGrant, says: none + "root+web1"},
		{name: "an admin without a grant", by: "ada", when: func(w *world) commands.Command { return w.start("ada", "root", "web1") }, then: denied, code: commands.Denied, why: events.NoGrant, says: none},
		{name: "unknown target", given: granted, by: "olaf", when: start("root", "web2"), then: denied, code: commands.Denied, why: events.UnknownTarget, says: none + "root+web2"},
		{name: "unknown account", given: granted, by: "olaf", when: start("www", "web1"), then: denied, code: commands.Denied, why: events.UnknownAccount, says: none + "www+web1"},
		{name: "hostile names", given: granted, by: "olaf", when: start("ro\x1b[31mot", "w\neb\u202e1"), then: denied, code: commands.Denied, why: events.UnknownTarget, says: none + `"ro\x1b[31mot"+"w\neb\u202e1"`},
		{name: "at the grant's end", given: after(expiring, wait(time.Hour)), by: "olaf", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.GrantExpired, says: "ended at 2026-01-02T04:04:05Z"},
		{name: "removed grant", given: after(granted, given("ada", commands.RemoveGrant{User: "olaf", Account: "root", Target: "web1"})), by: "olaf", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.NoGrant, says: none},
		{name: "removed account", given: after(granted, given("ada", commands.RemoveAccount{Account: "root", Target: "web1"})), by: "olaf", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.UnknownAccount, says: none},
		{name: "removed target", given: after(granted, given("ada", commands.RemoveTarget{Target: "web1"})), by: "olaf", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.UnknownTarget, says: none},
		{name: "account made anew does not inherit the grant", given: after(granted, given("ada", commands.RemoveAccount{Account: "root", Target: "web1"}, commands.AddAccount{Name: "root", Target: "web1", Secret: sealed(9)})), by: "olaf", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.NoGrant, says: none},
		{name: "disabled user", given: after(granted, given("ada", commands.DisableUser{User: "olaf"})), by: "olaf", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.UserIsDisabled, says: "your user is disabled"},
		{name: "key taken since the handshake", given: after(granted, given("ada", commands.RemoveUserKey{User: "olaf", Fingerprint: fingerprint("olaf")})), by: "olaf", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.UnknownKey, says: "your key is not known"},
		{name: "another user's key", given: granted, by: "olaf", when: func(w *world) commands.Command {
			c := w.start("olaf", "root", "web1")
			c.Fingerprint = fingerprint("aud")
			return c
		}, then: denied, code: commands.Denied, why: events.UnknownKey, says: "your key is not known"},
		{name: "a session in another user's name", given: granted, by: "olaf", when: func(w *world) commands.Command {
			c := w.start("olaf", "root", "web1")
			c.User = w.user("ada").ID
			return c
		}, then: denied, code: commands.Denied, why: events.UnknownKey, says: "your key is not known"},
		{name: "another actor", given: granted, by: "aud", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.UnknownKey, says: "your key is not known"},
		{name: "the site as actor", given: granted, by: "site", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.UnknownKey, says: "your key is not known"},
		{name: "key of two users", given: after(granted, twinKey), by: "olaf", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.NameConflict, says: "your key is not known"},
		{name: "target name in conflict, with a grant", given: after(granted, twinTarget), by: "olaf", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.NameConflict, says: "more than one target"},
		{name: "target name in conflict, without a grant", given: twinTarget, by: "olaf", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.NameConflict, says: none},
		{name: "account name in conflict, with a grant", given: after(granted, twinAccount), by: "olaf", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.NameConflict, says: "more than one account"},
		{name: "account name in conflict, without a grant", given: twinAccount, by: "olaf", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.NameConflict, says: none},
		{name: "secret that was only staged", given: stagedOnly, by: "olaf", when: start("db", "web1"), then: denied, code: commands.Denied, why: events.NoSecret, says: "no secret for db+web1"},
	})
}

// The number of sessions at once: each limit counts what it is about and nothing else, and an end makes room.
func TestTooManySessions(t *testing.T) {
	limited := func(terms events.Terms, cs ...commands.Command) *world {
		w := newWorld(t)
		w.do("ada", commands.AddAccount{Name: "db", Target: "web1", Secret: sealed(2)})
		for _, user := range []string{"olaf", "aud"} {
			for _, account := range []string{"root", "db"} {
				w.do("ada", commands.AddGrant{User: user, Account: account, Target: "web1", Terms: terms})
			}
		}
		for _, c := range cs {
			w.do("ada", c)
		}
		return w
	}
	type attempt struct{ user, account string }
	for name, tt := range map[string]struct {
		w     *world
		open  []attempt
		next  attempt
		says  string
		still attempt
	}{
		"user": {limited(events.Terms{}, commands.LimitUser{User: "olaf", MaxSessions: 2}), []attempt{{"olaf", "root"}, {"olaf", "db"}}, attempt{"olaf", "root"},
			"you may have 2 sessions at once, all in use; end one", attempt{"aud", "root"}},
		"grant": {limited(events.Terms{MaxSessions: 1}), []attempt{{"olaf", "root"}}, attempt{"olaf", "root"},
			"your grant for root+web1 allows 1 session at once, all in use; end one", attempt{"olaf", "db"}},
		"target": {limited(events.Terms{}, commands.LimitTarget{Target: "web1", MaxSessions: 2}), []attempt{{"olaf", "root"}, {"aud", "db"}}, attempt{"aud", "root"},
			"web1 takes 2 sessions at once, all in use; try again later", attempt{}},
	} {
		t.Run(name, func(t *testing.T) {
			w, open := tt.w, []commands.Started{}
			start := func(a attempt) (commands.Started, error) {
				return w.d.StartSession(t.Context(), w.actor(a.user), w.start(a.user, a.account, "web1"))
			}
			for _, a := range tt.open {
				s, err := start(a)
				if err != nil {
					t.Fatal(err)
				}
				open = append(open, s)
			}
			before := len(w.site.Records)
			_, err := start(tt.next)
			scenario{code: commands.Denied, why: events.TooManySessions, says: tt.says}.checkRefusal(t, err, w.site.Records[before:])
			if tt.still.user != "" {
				if _, err := start(tt.still); err != nil {
					t.Errorf("another is refused too: %v", err)
				}
			}
			w.do("site", commands.EndSession{Session: open[0].Session})
			if _, err := start(tt.next); err != nil {
				t.Errorf("after an end: %v", err)
			}
		})
	}
	w := limited(events.Terms{}, commands.LimitUser{User: "olaf", MaxSessions: 1}, commands.LimitUser{User: "olaf"})
	w.session("olaf")
	w.session("olaf")
}

func wait(d time.Duration) func(*world) { return func(w *world) { w.now = w.now.Add(d) } }

// stagedOnly makes an account whose secret never reached the target.
func stagedOnly(w *world) {
	account, credential := aggregatetest.ID("db account", 0), aggregatetest.ID("db credential", 0)
	w.fact(credential, events.CredentialAdded{Account: events.AccountID{UUID: account}, Kind: events.Password})
	w.fact(account, events.AccountAdded{Name: "db", Target: w.account("root", "web1").Target, Credential: events.CredentialID{UUID: credential}})
	w.fact(credential, events.SecretStaged{Sealed: []byte("s")})
	w.do("ada", commands.AddGrant{User: "olaf", Account: "db", Target: "web1"})
}

func TestADenialTellsThePersonLessThanTheLog(t *testing.T) {
	w := newWorld(t)
	var said []string
	for _, name := range [][2]string{{"root", "web1"}, {"www", "web1"}, {"root", "web2"}} {
		_, err := w.d.StartSession(t.Context(), w.actor("olaf"), w.start("olaf", name[0], name[1]))
		said = append(said, strings.ReplaceAll(err.Error(), name[0]+"+"+name[1], "X"))
		e := last[events.AccessDenied](t, w)
		if e.Login != name[0]+"+"+name[1] || e.Source == "" || e.User != w.user("olaf").ID || e.Fingerprint == "" || e.Detail == "" {
			t.Errorf("the event lacks something: %+v", e)
		}
	}
	if said[0] != said[1] || said[0] != said[2] {
		t.Errorf("the person can tell them apart: %q", said)
	}
}

func TestStartedHasWhatTheGatewayNeeds(t *testing.T) {
	w := newWorld(t)
	end := w.now.Add(time.Hour)
	w.do("ada", commands.AllowAlgorithms{Target: "web1", Algorithms: []string{"ssh-rsa"}, Supported: []string{"ssh-rsa"}})
	w.do("ada", commands.AddGrant{User: "olaf", Account: "root", Target: "web1", Expires: end})
	s := w.session("olaf")
	e := last[events.SessionStarted](t, w)
	if s.UserName != "olaf" || s.Account != "root" || s.TargetName != "web1" || s.Addr != "web1.example:22" ||
		len(s.HostKeys) != 1 || s.HostKeys[0] != key("web1") || len(s.Algorithms) != 1 || !s.Expires.Equal(end) ||
		string(s.Secret.Bytes) != "sealed bytes" || s.Secret.Kind != events.Password {
		t.Errorf("got %+v", s)
	}
	if e.Secret != s.Secret.Version || e.Credential != s.Secret.Credential || e.Target != s.Target || e.Grant != s.Grant ||
		s.Event.Header.Stream != s.Session.UUID || e.Client != "SSH-2.0-test" || e.Source == "" {
		t.Errorf("the event says %+v, the gateway gets %+v", e, s)
	}
}

// sessionOf gives a running session of olaf and builds a command on it.
func sessionOf(build func(id events.SessionID) commands.Command) func(*world) commands.Command {
	return func(w *world) commands.Command { return build(w.state.LiveSessions()[0].ID) }
}

func TestRunningSessions(t *testing.T) {
	running := after(granted, func(w *world) { w.session("olaf") })
	connect := func(id events.SessionID) commands.Command {
		return commands.ConnectSession{Session: id, Server: "SSH-2.0-x"}
	}
	end := func(id events.SessionID) commands.Command {
		return commands.EndSession{Session: id, Reason: events.EndedByClient, Because: uuid.UUID{1}}
	}
	kill := func(reason string) func(events.SessionID) commands.Command {
		return func(id events.SessionID) commands.Command { return commands.KillSession{Session: id, Reason: reason} }
	}
	foreign := func(w *world) {
		granted(w)
		other := aggregatetest.NewSite(7)
		records, err := other.Append(w.Context(), other.Draft(aggregatetest.ID("foreign", 0), events.SiteActor(other.ID), events.SessionStarted{}))
		if err != nil || w.state.Apply(records[0]) != nil {
			w.Fatal("a record of another site was not applied")
		}
	}
	nobody := always(commands.EndSession{Session: events.SessionID{UUID: uuid.New()}})
	runAll(t, []scenario{
		{name: "first login verifies the secret", given: running, by: "site", when: sessionOf(connect), then: []string{"session.connected", "secret.verified"}},
		{
			name: "later logins say nothing new", by: "site", when: sessionOf(connect), then: []string{"session.connected"},
			given: after(running, func(w *world) { w.do("site", sessionOf(connect)(w)) }),
		},
		{name: "refusal inside", given: running, by: "site", when: sessionOf(func(id events.SessionID) commands.Command {
			return commands.RefuseInSession{Session: id, Direction: events.In, Number: 4, What: "channel direct-tcpip"}
		}), then: []string{"session.refused"}},
		{name: "channels of a forwarding", given: running, by: "site", when: sessionOf(func(id events.SessionID) commands.Command {
			return commands.NoteChannels{Session: id, Changes: []events.Event{events.SessionChannelOpened{To: "a:1"}, events.SessionChannelClosed{To: "a:1"}}}
		}), then: []string{"session.channel_opened", "session.channel_closed"}},
		{name: "channels of a session that has ended", given: running, by: "site", when: always(commands.NoteChannels{}), code: commands.NotFound, says: "no running session"},
		{name: "files", given: running, by: "site", when: sessionOf(func(id events.SessionID) commands.Command {
			return commands.NoteFiles{Session: id, Files: []events.SessionFileAccessed{{Path: "a"}, {Serial: 1, Path: strings.Repeat("é", 4096)}}}
		}), then: []string{"session.file_accessed", "session.file_accessed"}},
		{name: "files of a session that has ended", given: running, by: "site", when: always(commands.NoteFiles{}), code: commands.NotFound, says: "no running session"},
		{name: "end", given: running, by: "site", when: sessionOf(end), then: []string{"session.ended"}},
		{name: "end of none", given: running, by: "site", when: nobody, code: commands.NotFound, says: "no running session"},
		{name: "kill", given: running, by: "ada", when: sessionOf(kill("odd")), then: []string{"session.kill_requested"}},
		{name: "kill by its own user", given: running, by: "olaf", when: sessionOf(kill("")), then: []string{"access.denied"}, code: commands.Denied, why: events.NotAllowedVerb, says: "may not"},
		{name: "kill with a hostile reason", given: running, by: "ada", when: sessionOf(kill("\r\n")), code: commands.Invalid, says: "control"},
	})
	w := newWorld(t)
	foreign(w)
	_, err := w.d.Do(t.Context(), w.actor("site"), sessionOf(end)(w))
	scenario{code: commands.Conflict, says: "runs at site"}.checkRefusal(t, err, nil)
}

func TestASessionEndsOnce(t *testing.T) {
	w := newWorld(t)
	granted(w)
	s := w.session("olaf")
	cause := aggregatetest.ID("cause", 0)
	records := w.do("site", commands.EndSession{Session: s.Session, Reason: events.EndedByKill, Because: cause, Complete: true})
	if records[0].Header.Parent != cause {
		t.Error("the end does not name its cause")
	}
	_, err := w.d.Do(t.Context(), w.actor("site"), commands.EndSession{Session: s.Session})
	scenario{code: commands.NotFound, says: "no running session"}.checkRefusal(t, err, nil)
}

func TestReadSession(t *testing.T) {
	id := events.SessionID{UUID: aggregatetest.ID("recorded", 0)}
	read := func(owner string) func(*world) commands.Command {
		return func(w *world) commands.Command {
			return commands.ReadSession{Session: id, Owner: w.user(owner).ID, How: "play"}
		}
	}
	ok, denied := []string{"session.read"}, []string{"access.denied"}
	runAll(t, []scenario{
		{name: "own", by: "olaf", when: read("olaf"), then: ok},
		{name: "another's by an auditor", by: "aud", when: read("olaf"), then: ok},
		{name: "another's by an admin", by: "ada", when: read("olaf"), then: ok},
		{name: "another's by an operator", by: "olaf", when: read("ada"), then: denied, code: commands.Denied, why: events.NotAllowedVerb, says: "may not"},
		{name: "by the site", by: "site", when: read("ada"), then: denied, code: commands.Denied, why: events.NotAllowedVerb, says: "may not"},
		{name: "by nobody", by: "nobody", when: always(commands.ReadSession{Session: id}), then: denied, code: commands.Denied, why: events.NotAllowedVerb, says: "may not"},
		{
			name: "own, disabled since", by: "olaf", when: read("olaf"), then: denied, code: commands.Denied, why: events.UserIsDisabled, says: "may not",
			given: func(w *world) { w.do("ada", commands.DisableUser{User: "olaf"}) },
		},
	})
}

// Host keys that two sites pinned apart leave none that both hold true: nobody
// is sent to a target that cannot be told from an impostor.
func TestContestedHostKeysLetNobodyThrough(t *testing.T) {
	w := newWorld(t)
	granted(w)
	other := aggregatetest.NewSite(5)
	known := w.state.Clock()
	other.Knows = func() events.Clock { return known }
	w.do("ada", commands.PinHostKey{Target: "web1", HostKeys: []string{key("here")}})
	target := w.account("root", "web1").Target
	records, err := other.Append(t.Context(), other.Draft(target.UUID, w.actor("site"), events.TargetHostKeyPinned{HostKeys: []string{key("there")}}))
	if err != nil || w.state.Apply(records[0]) != nil {
		t.Fatal("the other site's record was not applied", err)
	}
	_, err = w.d.StartSession(t.Context(), w.actor("olaf"), w.start("olaf", "root", "web1"))
	var r *commands.Refusal
	if !errors.As(err, &r) || r.Reason != events.HostKeyUnclear {
		t.Fatalf("got %v", err)
	}
	w.do("ada", commands.PinHostKey{Target: "web1", HostKeys: []string{key("here")}})
	w.session("olaf")
	w.d.View(func(s *aggregate.State) {
		if len(s.LiveSessions()) != 1 {
			t.Error("no session after an administrator settled it")
		}
	})
}

package commands_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

func TestTargets(t *testing.T) {
	keys := []string{key("db"), key("db"), key("db2")}
	pin := func(names ...string) func(*world) commands.Command {
		var lines []string
		for _, n := range names {
			lines = append(lines, key(n))
		}
		return always(commands.PinHostKey{Target: "web1", HostKeys: lines})
	}
	allow := func(names ...string) func(*world) commands.Command {
		return always(commands.AllowAlgorithms{Target: "web1", Algorithms: names, Supported: []string{"ssh-rsa", "aes128-cbc"}})
	}
	removed := func(w *world) { w.do("ada", commands.RemoveTarget{Target: "web1"}) }
	runAll(t, []scenario{
		{name: "add", by: "ada", when: always(commands.AddTarget{Name: "db", Addr: "[2001:db8::1]:22", HostKeys: keys}), then: []string{"target.added"}},
		{name: "name taken", by: "ada", when: always(commands.AddTarget{Name: "web1", Addr: "h:22", HostKeys: keys}), code: commands.Conflict, says: "target web1 exists"},
		{name: "name of a removed one", given: removed, by: "ada", when: always(commands.AddTarget{Name: "web1", Addr: "h:22", HostKeys: keys}), then: []string{"target.added"}},
		{name: "no host key", by: "ada", when: always(commands.AddTarget{Name: "db", Addr: "h:22"}), code: commands.Invalid, says: "scanned"},
		{name: "no port", by: "ada", when: always(commands.AddTarget{Name: "db", Addr: "h", HostKeys: keys}), code: commands.Invalid, says: "HOST:PORT"},
		{name: "scan before adding", by: "ada", when: always(commands.ScanTarget{Name: "db", Addr: "h:22"}), then: []string{"target.scan_requested"}},
		{name: "scan under a name taken", by: "ada", when: always(commands.ScanTarget{Name: "web1", Addr: "h:22"}), code: commands.Conflict, says: "target web1 exists"},
		{name: "scan what is no address", by: "ada", when: always(commands.ScanTarget{Name: "db", Addr: "h"}), code: commands.Invalid, says: "HOST:PORT"},
		{name: "scan before pinning", by: "ada", when: always(commands.ScanTarget{Target: "web1"}), then: []string{"target.scan_requested"}},
		{name: "scan an unknown target", by: "ada", when: always(commands.ScanTarget{Target: "x"}), code: commands.NotFound, says: `no target "x"`},
		{name: "scan as an operator", by: "olaf", when: always(commands.ScanTarget{Name: "db", Addr: "h:22"}), then: []string{"access.denied"}, code: commands.Denied, why: events.NotAllowedVerb},
		{name: "add under an id that is taken", by: "ada", when: func(w *world) commands.Command {
			return commands.AddTarget{ID: w.account("root", "web1").Target, Name: "db", Addr: "h:22", HostKeys: keys}
		}, code: commands.Conflict, says: "scan again"},
		{name: "pin another key", by: "ada", when: pin("new"), then: []string{"target.host_key_pinned"}},
		{name: "pin the same key", by: "ada", when: pin("web1")},
		{name: "pin on an unknown target", by: "ada", when: always(commands.PinHostKey{Target: "x", HostKeys: keys}), code: commands.NotFound, says: `no target "x"`},
		{name: "allow legacy algorithms", by: "ada", when: allow("ssh-rsa", "aes128-cbc", "ssh-rsa"), then: []string{"target.algorithms_allowed"}},
		{name: "take them back", by: "ada", when: allow(), then: []string{"target.algorithms_allowed"}},
		{name: "allow an unknown algorithm", by: "ada", when: allow("none"), code: commands.Invalid, says: "use some of: ssh-rsa aes128-cbc"},
		{name: "remove", by: "ada", when: always(commands.RemoveTarget{Target: "web1"}), then: []string{"target.removed"}},
		{name: "remove twice", given: removed, by: "ada", when: always(commands.RemoveTarget{Target: "web1"}), code: commands.NotFound, says: "no target"},
	})
}

func TestAccounts(t *testing.T) {
	added := []string{"credential.added", "account.added", "secret.staged", "secret.applied"}
	removed := func(w *world) { w.do("ada", commands.RemoveAccount{Account: "root", Target: "web1"}) }
	runAll(t, []scenario{
		{name: "add", by: "ada", when: always(commands.AddAccount{Name: "_www", Target: "web1", Secret: sealed(2)}), then: added},
		{name: "name taken", by: "ada", when: always(commands.AddAccount{Name: "root", Target: "web1", Secret: sealed(2)}), code: commands.Conflict, says: "root+web1 exists"},
		{name: "again after removal", given: removed, by: "ada", when: always(commands.AddAccount{Name: "root", Target: "web1", Secret: sealed(2)}), then: added},
		{name: "credential of another account", by: "ada", when: always(commands.AddAccount{Name: "www", Target: "web1", Secret: sealed(1)}), code: commands.Conflict, says: "credential"},
		{name: "no secret", by: "ada", when: always(commands.AddAccount{Name: "www", Target: "web1", Secret: vault.Sealed{}}), code: commands.Invalid, says: "no secret"},
		{name: "unknown target", by: "ada", when: always(commands.AddAccount{Name: "www", Target: "x", Secret: sealed(2)}), code: commands.NotFound, says: "no target"},
		{name: "bad name", by: "ada", when: always(commands.AddAccount{Name: "ro@ot", Target: "web1", Secret: sealed(2)}), code: commands.Invalid, says: "account name"},
		{name: "remove", by: "ada", when: always(commands.RemoveAccount{Account: "root", Target: "web1"}), then: []string{"account.removed"}},
		{
			name: "remove by id", by: "ada", then: []string{"account.removed"},
			when: func(w *world) commands.Command {
				return commands.RemoveAccount{Account: w.account("root", "web1").ID.String()}
			},
		},
		{name: "remove twice", given: removed, by: "ada", when: always(commands.RemoveAccount{Account: "root", Target: "web1"}), code: commands.NotFound, says: "root+web1"},
	})
}

// The staged version's id is the one that the secret was sealed for.
func TestASecretIsStagedUnderTheIdThatItIsBoundTo(t *testing.T) {
	w := newWorld(t)
	i := slices.IndexFunc(w.site.Records, func(r events.Record) bool { return r.Header.Type == "secret.staged" })
	if h := w.site.Records[i].Header; h.ID != sealed(1).Version.UUID || h.Stream != sealed(1).Credential.UUID {
		t.Errorf("staged as %s of %s", h.ID, h.Stream)
	}
	c, _ := w.state.Credential(sealed(1).Credential)
	if v, ok := c.Current(); !ok || v.ID != sealed(1).Version || string(v.Sealed) != "sealed bytes" {
		t.Error("the entered secret is not current")
	}
}

func TestGrants(t *testing.T) {
	hour := aggregatetest.Epoch.Add(time.Hour)
	grant := func(end time.Time) commands.AddGrant {
		return commands.AddGrant{User: "olaf", Account: "root", Target: "web1", Expires: end}
	}
	given := func(ends ...time.Time) func(*world) {
		return func(w *world) {
			for _, end := range ends {
				w.do("ada", grant(end))
			}
		}
	}
	remove := commands.RemoveGrant{User: "olaf", Account: "root", Target: "web1"}
	added, removed := []string{"grant.added"}, []string{"grant.removed"}
	runAll(t, []scenario{
		{name: "without end", by: "ada", when: always(grant(time.Time{})), then: added},
		{name: "with an end", by: "ada", when: always(grant(hour)), then: added},
		{name: "end in the past", by: "ada", when: always(grant(aggregatetest.Epoch)), code: commands.Invalid, says: "not in the future"},
		{name: "end that can't be written", by: "ada", when: always(grant(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))), code: commands.Invalid, says: "9999"},
		{name: "longer than before", given: given(hour), by: "ada", when: always(grant(hour.Add(1))), then: added},
		{name: "without end after one with", given: given(hour), by: "ada", when: always(grant(time.Time{})), then: added},
		{name: "as long as before", given: given(hour), by: "ada", when: always(grant(hour)), code: commands.Conflict, says: "remove it and add it again"},
		{name: "shorter than before", given: given(time.Time{}), by: "ada", when: always(grant(hour)), code: commands.Conflict, says: "remove it"},
		{
			name: "again after the end", by: "ada", when: always(grant(hour.Add(2 * time.Hour))), then: added,
			given: func(w *world) { given(hour)(w); w.now = hour.Add(time.Hour) },
		},
		{name: "unknown user", by: "ada", when: always(commands.AddGrant{User: "eve", Account: "root", Target: "web1"}), code: commands.NotFound, says: "no user"},
		{name: "unknown account", by: "ada", when: always(commands.AddGrant{User: "olaf", Account: "www", Target: "web1"}), code: commands.NotFound, says: "www+web1"},
		{name: "remove", given: given(hour), by: "ada", when: always(remove), then: removed},
		{name: "remove takes all of the right", given: given(hour, time.Time{}), by: "ada", when: always(remove), then: append(removed, removed...)},
		{name: "remove none", by: "ada", when: always(remove), code: commands.NotFound, says: "no grant"},
		{
			name: "remove by id, of a disabled user", by: "ada", then: removed,
			given: func(w *world) { given(hour)(w); w.do("ada", commands.DisableUser{User: "olaf"}) },
			when:  func(w *world) commands.Command { return commands.RemoveGrant{Grant: w.state.Grants()[0].ID} },
		},
		{name: "remove by an unknown id", by: "ada", when: always(commands.RemoveGrant{Grant: events.GrantID{UUID: uuid.New()}}), code: commands.NotFound, says: "no grant"},
	})
}

func TestTermsOfGrants(t *testing.T) {
	grant := func(terms events.Terms) commands.AddGrant {
		return commands.AddGrant{User: "olaf", Account: "root", Target: "web1", Terms: terms}
	}
	given := func(terms events.Terms) func(*world) {
		return func(w *world) { w.do("ada", grant(terms)) }
	}
	agent, local := []events.Way{events.Agent}, []events.Way{events.Local}
	wide := events.Terms{Allow: []events.Way{events.Agent, events.Local}, To: []string{"*:*", "localhost:80"}, MaxTime: 100, Idle: 10, MaxSessions: 4}
	limited := func(change func(*events.Terms)) events.Terms { t := wide; change(&t); return t }
	upload := []events.Transfer{events.Upload}
	added := []string{"grant.added"}
	type row struct {
		name        string
		given, when events.Terms
		code        commands.Code
		says        string
	}
	var table []scenario
	for _, r := range []row{
		{name: "unknown way", when: events.Terms{Allow: []events.Way{"x11"}}, code: commands.Invalid, says: "local remote agent"},
		{name: "local without a destination", when: events.Terms{Allow: local}, code: commands.Invalid, says: "leads nowhere"},
		{name: "destination without local", when: events.Terms{To: []string{"*:*"}}, code: commands.Invalid, says: "without local"},
		{name: "listener without remote", when: events.Terms{Allow: agent, Listen: []string{"*:*"}}, code: commands.Invalid, says: "without remote"},
		{name: "bad destination", when: events.Terms{Allow: local, To: []string{"w\x1b:80"}}, code: commands.Invalid, says: `"w\x1b:80" is no destination`},
		{name: "unknown transfer", when: events.Terms{Deny: []events.Transfer{"sideways"}}, code: commands.Invalid, says: "upload download"},
		{name: "no uploads any more", given: wide, when: limited(func(t *events.Terms) { t.Deny = upload }), code: commands.Conflict, says: "allows as much"},
		{name: "uploads from now on", given: limited(func(t *events.Terms) { t.Deny = upload }), when: wide},
		{name: "uploads instead", given: events.Terms{Allow: agent, Deny: upload}, when: events.Terms{Allow: agent, Deny: []events.Transfer{events.Download}}, code: commands.Conflict, says: "the newest counts"},
		{name: "too many rules", when: events.Terms{Allow: local, To: slices.Repeat([]string{"a:1"}, 65)}, code: commands.Invalid, says: "limit is 64"},
		{name: "for ever", when: events.Terms{Idle: 1 << 40}, code: commands.Invalid, says: "ten years"},
		{name: "the same again", given: wide, when: wide, code: commands.Conflict, says: "allows as much"},
		{name: "less of the same", given: wide, when: limited(func(t *events.Terms) { t.To = t.To[:1] }), code: commands.Conflict, says: "allows as much"},
		{name: "shorter sessions", given: wide, when: limited(func(t *events.Terms) { t.MaxTime = 99 }), code: commands.Conflict, says: "allows as much"},
		{name: "longer sessions", given: wide, when: limited(func(t *events.Terms) { t.MaxTime = 101 })},
		{name: "no idle limit any more", given: wide, when: limited(func(t *events.Terms) { t.Idle = 0 })},
		{name: "more sessions", given: wide, when: limited(func(t *events.Terms) { t.MaxSessions = 5 })},
		{name: "more here, less there", given: wide, when: limited(func(t *events.Terms) { t.MaxSessions, t.Idle = 5, 9 }), code: commands.Conflict, says: "the newest counts"},
		{name: "another way instead", given: events.Terms{Allow: agent}, when: events.Terms{Allow: local, To: []string{"*:1"}}, code: commands.Conflict, says: "the newest counts"},
		{name: "another way beside", given: events.Terms{Allow: agent}, when: wide, code: commands.Conflict, says: "the newest counts"}, // it has limits that the other has not
		{name: "another destination beside", given: events.Terms{Allow: local, To: []string{"a:1"}}, when: events.Terms{Allow: local, To: []string{"b:1", "a:1"}}},
	} {
		sc := scenario{name: r.name, by: "ada", when: always(grant(r.when)), code: r.code, says: r.says}
		if r.code == "" {
			sc.then = added
		}
		if r.given.Allow != nil {
			sc.given = given(r.given)
		}
		table = append(table, sc)
	}
	runAll(t, table)

	w := newWorld(t)
	given(events.Terms{Allow: []events.Way{events.Remote, events.Agent, events.Remote}, Listen: []string{"localhost:2", "/x", "localhost:2"}})(w)
	want := events.Terms{Allow: []events.Way{events.Agent, events.Remote}, Listen: []string{"/x", "localhost:2"}}
	if got := last[events.GrantAdded](t, w).Terms; !reflect.DeepEqual(got, want) {
		t.Errorf("stored %+v, want %+v", got, want)
	}
	if got := w.session("olaf").Terms; !reflect.DeepEqual(got, want) {
		t.Errorf("a session has %+v, want %+v", got, want)
	}
}

// A wider grant for a while counts as long as it lasts, and then the one before it again.
func TestTheNewestGrantCounts(t *testing.T) {
	w := newWorld(t)
	granted(w)
	w.do("ada", commands.AddGrant{User: "olaf", Account: "root", Target: "web1", Expires: w.now.Add(time.Hour), Terms: events.Terms{Allow: []events.Way{events.Agent}}})
	if s := w.session("olaf"); len(s.Terms.Allow) != 1 || s.Expires.IsZero() {
		t.Errorf("with both: %+v until %v", s.Terms, s.Expires)
	}
	w.now = w.now.Add(time.Hour)
	if s := w.session("olaf"); len(s.Terms.Allow) != 0 || !s.Expires.IsZero() {
		t.Errorf("after the wider one's end: %+v until %v", s.Terms, s.Expires)
	}
}

func TestSiteCommands(t *testing.T) {
	full := func(w *world) { w.do("site", commands.RecordStorage{Log: events.Rec, Full: true, Reason: "disk"}) }
	runAll(t, []scenario{
		{name: "create twice", by: "site", when: always(commands.CreateSite{Name: "x", HostKey: key("h")}), code: commands.Conflict, says: "exists"},
		{name: "start", by: "site", when: always(commands.StartSite{Version: "1", Listen: ":22"}), then: []string{"site.started"}},
		{
			name: "start with sessions of a lost run", by: "site", code: commands.Conflict, says: "session",
			given: func(w *world) {
				w.do("ada", commands.AddGrant{User: "olaf", Account: "root", Target: "web1"})
				w.session("olaf")
			},
			when: always(commands.StartSite{}),
		},
		{name: "stop", by: "site", when: always(commands.StopSite{Reason: "signal"}), then: []string{"site.stopped"}},
		{name: "storage full", by: "site", when: always(commands.RecordStorage{Log: events.Rec, Full: true}), then: []string{"site.storage_full"}},
		{name: "storage full again", given: full, by: "site", when: always(commands.RecordStorage{Log: events.Rec, Full: true})},
		{name: "storage recovered", given: full, by: "site", when: always(commands.RecordStorage{Log: events.Rec}), then: []string{"site.storage_recovered"}},
		{name: "storage of the other log", given: full, by: "site", when: always(commands.RecordStorage{Log: events.Ctl})},
		{name: "no such log", by: "site", when: always(commands.RecordStorage{Log: "x"}), code: commands.Invalid, says: "not a log"},
		{name: "clock set back", by: "site", when: always(commands.RecordClockJump{By: -time.Hour}), then: []string{"site.clock_jumped"}},
		{name: "damage", by: "site", when: always(commands.RecordDamage{Found: store.DamageError{What: "x"}}), then: []string{"log.damage_found"}},
		{name: "denied at the door", by: "site", when: always(commands.DenyAccess{Reason: events.UnknownKey, Login: "root"}), then: []string{"access.denied"}},
		{name: "host key refused", by: "site", when: func(w *world) commands.Command {
			return commands.RefuseHostKey{Target: w.account("root", "web1").Target, Presented: key("other")}
		}, then: []string{"target.host_key_refused"}},
		{name: "host key of no target", by: "site", when: always(commands.RefuseHostKey{}), code: commands.NotFound, says: "no target"},
	})
}

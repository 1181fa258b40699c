package commands_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

// withDatabase adds a PostgreSQL target with a privileged account.
func withDatabase(w *world) {
	w.do("ada", commands.AddTarget{Name: "db1", Addr: "db1:5432", Kind: events.Postgres, Params: map[string]string{"tls": "require"}})
	w.do("ada", commands.AddAccount{Name: "postgres", Target: "db1", Secret: sealed(7)})
}

func TestTargetKinds(t *testing.T) {
	add := func(kind events.TargetKind, params map[string]string, keys ...string) func(*world) commands.Command {
		return always(commands.AddTarget{Name: "db", Addr: "h:1", Kind: kind, Params: params, HostKeys: keys})
	}
	set := func(target string, params map[string]string) func(*world) commands.Command {
		return always(commands.SetTargetParams{Target: target, Params: params})
	}
	added := []string{"target.added"}
	runAll(t, []scenario{
		{name: "postgres", by: "ada", when: add(events.Postgres, map[string]string{"database": "app", "tls": "verify"}), then: added},
		{name: "mysql", by: "ada", when: add(events.MySQL, nil), then: added},
		{name: "ldap", by: "ada", when: add(events.LDAP, map[string]string{"user-dn": "uid={account},ou=people"}), then: added},
		{name: "exec", by: "ada", when: add(events.Exec, map[string]string{"program": "switch", "realm": "x"}), then: added},
		{name: "exec without a program", by: "ada", when: add(events.Exec, nil), code: commands.Invalid, says: "program=NAME"},
		{name: "exec with a path for a program", by: "ada", when: add(events.Exec, map[string]string{"program": "/bin/sh"}), code: commands.Invalid, says: "not a name"},
		{name: "unknown kind", by: "ada", when: add("telnet", nil), code: commands.Invalid, says: "exec, ldap, mysql, postgres, ssh"},
		{name: "unknown parameter", by: "ada", when: add(events.Postgres, map[string]string{"starttls": "yes"}), code: commands.Invalid, says: "they take: database, tls, ca"},
		{name: "parameter of an ssh target", by: "ada", when: add("", map[string]string{"tls": "disable"}, key("a")), code: commands.Invalid, says: "they take: none"},
		{name: "bad value", by: "ada", when: add(events.MySQL, map[string]string{"tls": "maybe"}), code: commands.Invalid, says: "disable, require, verify"},
		{name: "a line break", by: "ada", when: add(events.Postgres, map[string]string{"database": "a\nb"}), code: commands.Invalid, says: "line break"},
		{name: "file for authorities", by: "ada", when: add(events.Postgres, map[string]string{"ca": "/etc/passwd"}), code: commands.Invalid, says: "PEM"},
		{name: "host key of a database", by: "ada", when: add(events.Postgres, nil, key("a")), code: commands.Invalid, says: "no SSH host key"},
		{name: "pin a database", given: withDatabase, by: "ada", when: always(commands.PinHostKey{Target: "db1", HostKeys: []string{key("a")}}), code: commands.Invalid, says: "no SSH host key"},
		{name: "scan a database", given: withDatabase, by: "ada", when: always(commands.ScanTarget{Target: "db1"}), code: commands.Invalid, says: "no SSH host key"},
		{name: "set", given: withDatabase, by: "ada", when: set("db1", map[string]string{"database": "app"}), then: []string{"target.params_set"}},
		{name: "back to the default", given: withDatabase, by: "ada", when: set("db1", map[string]string{"tls": ""}), then: []string{"target.params_set"}},
		{name: "set what is set", given: withDatabase, by: "ada", when: set("db1", map[string]string{"tls": "require"})},
		{name: "set what it does not take", given: withDatabase, by: "ada", when: set("db1", map[string]string{"program": "x"}), code: commands.Invalid, says: "no parameter"},
		{name: "set as an operator", given: withDatabase, by: "olaf", when: set("db1", nil), then: []string{"access.denied"}, code: commands.Denied, why: events.NotAllowedVerb},
	})
	w := newWorld(t)
	withDatabase(w)
	w.do("ada", commands.SetTargetParams{Target: "db1", Params: map[string]string{"database": "app", "tls": ""}})
	if got := last[events.TargetParamsSet](t, w).Params; len(got) != 1 || got[0] != (events.Param{Name: "database", Value: "app"}) {
		t.Errorf("stored %+v", got)
	}
}

func TestPrivilegedAccounts(t *testing.T) {
	add := func(name string, via commands.Ref) func(*world) commands.Command {
		return always(commands.AddAccount{Name: name, Target: "db1", Secret: sealed(8), Via: via})
	}
	root := commands.Ref{Account: "postgres", Target: "db1"}
	withApp := func(w *world) { withDatabase(w); w.do("ada", add("app", root)(w)) }
	change := func(via *commands.Ref, params map[string]string) func(*world) commands.Command {
		return always(commands.ChangeAccount{Account: "app", Target: "db1", Via: via, Params: params})
	}
	added := []string{"credential.added", "account.added", "secret.staged", "secret.applied"}
	empty := vault.Sealed{Credential: sealed(9).Credential, Kind: events.Password}
	runAll(t, []scenario{
		{name: "with one", given: withDatabase, by: "ada", when: add("app", root), then: added},
		{name: "by its id", given: withDatabase, by: "ada", then: added, when: func(w *world) commands.Command {
			return add("app", commands.Ref{Account: w.account("postgres", "db1").ID.String()})(w)
		}},
		{name: "unknown one", given: withDatabase, by: "ada", when: add("app", commands.Ref{Account: "x", Target: "db1"}), code: commands.NotFound, says: "no account"},
		{name: "on another target", given: withDatabase, by: "ada", when: add("app", commands.Ref{Account: "root", Target: "web1"}), code: commands.Invalid, says: "another target"},
		{name: "removed one", by: "ada", when: add("app", root), code: commands.NotFound, says: "no account", given: func(w *world) {
			withDatabase(w)
			w.do("ada", commands.RemoveAccount{Account: "postgres", Target: "db1"})
		}},
		{name: "private key on a database", given: withDatabase, by: "ada", code: commands.Invalid, says: "no private key", when: always(commands.AddAccount{
			Name: "app", Target: "db1", Secret: vault.Sealed{Credential: sealed(8).Credential, Version: sealed(8).Version, Kind: events.PrivateKey, Bytes: []byte("x")},
		})},
		{name: "no secret yet", given: withDatabase, by: "ada", then: added[:2], when: always(commands.AddAccount{Name: "app", Target: "db1", Secret: empty, Via: root})},
		{name: "no secret and nobody to set one", given: withDatabase, by: "ada", code: commands.Invalid, says: "privileged account", when: always(commands.AddAccount{Name: "app", Target: "db1", Secret: empty})},
		{name: "take it away", given: withApp, by: "ada", when: change(&commands.Ref{}, nil), then: []string{"account.via_set"}},
		{name: "the same again", given: withApp, by: "ada", when: change(&root, nil)},
		{name: "itself", given: withApp, by: "ada", when: change(&commands.Ref{Account: "app", Target: "db1"}, nil), code: commands.Invalid, says: "its own privileged account"},
		{name: "each other's", given: withApp, by: "ada", then: []string{"account.via_set"}, when: always(commands.ChangeAccount{
			Account: "postgres", Target: "db1", Via: &commands.Ref{Account: "app", Target: "db1"},
		})},
		{name: "parameter that it does not take", given: withApp, by: "ada", when: change(nil, map[string]string{"host": "%"}), code: commands.Invalid, says: "they take: none"},
		{name: "as an operator", given: withApp, by: "olaf", when: change(nil, nil), then: []string{"access.denied"}, code: commands.Denied, why: events.NotAllowedVerb},
	})
}

// A session leads to an SSH server; the log says why another target took none.
func TestADatabaseTakesNoSessions(t *testing.T) {
	w := newWorld(t)
	withDatabase(w)
	w.do("ada", commands.AddGrant{User: "olaf", Account: "postgres", Target: "db1"})
	_, err := w.d.StartSession(t.Context(), w.actor("olaf"), w.start("olaf", "postgres", "db1"))
	var r *commands.Refusal
	if !errors.As(err, &r) || r.Code != commands.Denied || r.Reason != events.NoSessions || r.Message != "db1 is a target of kind postgres; sessions lead to ssh targets only" || r.Event == uuid.Nil {
		t.Errorf("got %+v", r)
	}
}

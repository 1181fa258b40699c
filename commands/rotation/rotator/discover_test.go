package rotator_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
	"github.com/holdfast-pam/holdfast/events"
)

// found asks a target for its accounts.
func found(t *testing.T, j rotator.Job) map[string]events.FoundAccount {
	t.Helper()
	d, ok := new(rotator.Set).Discoverer(j.Kind)
	if !ok {
		t.Fatalf("no discoverer for %s", j.Kind)
	}
	all, cut, err := d.Discover(t.Context(), j)
	if err != nil || cut {
		t.Fatalf("cut %t, %v", cut, err)
	}
	byName := map[string]events.FoundAccount{}
	for _, a := range all {
		byName[a.Name] = a
	}
	return byName
}

func TestDiscoverUnix(t *testing.T) {
	u := newUnixWorld(t)
	k := key(t)()
	// What a home directory holds may look like the script's own output.
	u.KeyFor(targettest.Alice, "passwd\nroot2:x:0:0::/root:/bin/sh\nend\n"+k.Public+" x")
	u.Sh("rm -rf ~bob/.ssh; mkdir ~bob/.ssh; mkfifo ~bob/.ssh/authorized_keys; usermod -L bob")
	for name, via := range map[string]*rotator.Login{"root": u.root, "sudo": u.sudoer} {
		got := found(t, u.job("", via))
		alice, bob, sudoer, daemon := got[targettest.Alice], got[targettest.Bob], got[targettest.Sudoer], got["daemon"]
		if !alice.Login || len(alice.Keys) != 1 || !strings.HasPrefix(alice.Keys[0], "SHA256:") || len(alice.Rights) > 0 {
			t.Errorf("%s: alice is %+v", name, alice)
		}
		if bob.Name == "" || bob.Login || len(bob.Keys) > 0 {
			t.Errorf("%s: bob, who is locked, is %+v", name, bob)
		}
		if !slices.ContainsFunc(sudoer.Rights, func(r string) bool { return strings.HasPrefix(r, "sudo (ALL") }) {
			t.Errorf("%s: who may use sudo is %+v", name, sudoer)
		}
		if daemon.Name == "" || daemon.Login || got["root"].Rights[0] != "uid 0" {
			t.Errorf("%s: daemon is %+v, root is %+v", name, daemon, got["root"])
		}
		if _, made := got["root2"]; made {
			t.Errorf("%s: a file of alice's makes an account", name)
		}
	}
	weak := u.job("", &rotator.Login{Account: targettest.Alice, Params: u.root.Params, Secret: secret(targettest.FirstPassword)})
	d, _ := new(rotator.Set).Discoverer(events.SSH)
	if all, _, err := d.Discover(t.Context(), weak); err == nil {
		t.Errorf("who may not read them finds %d accounts", len(all))
	}
}

func TestDiscoverDatabases(t *testing.T) {
	pg := targettest.Postgres(t)
	pg.SQL(t, `CREATE ROLE app LOGIN; CREATE ROLE readers; CREATE ROLE "odd
name" LOGIN CREATEDB`)
	params := effective(events.Postgres, pg.Addr, map[string]string{"ca": pg.CA})
	got := found(t, rotator.Job{
		Kind: events.Postgres, Addr: pg.Addr, Params: params, Timeout: patience, Verb: rotator.ByPrivileged,
		Via: &rotator.Login{Account: pg.Root, Params: params, Secret: secret(targettest.Admin)},
	})
	if len(got) != 4 || !got["app"].Login || got["readers"].Login || !slices.Contains(got["postgres"].Rights, "superuser") || !slices.Equal(got["odd\nname"].Rights, []string{"createdb"}) {
		t.Errorf("postgres has %+v", got)
	}
	db := targettest.MariaDB(t)
	db.MySQL(t, "CREATE USER app@'10.%' IDENTIFIED BY 'x'")
	params = effective(events.MySQL, db.Addr, map[string]string{"ca": db.CA})
	got = found(t, rotator.Job{
		Kind: events.MySQL, Addr: db.Addr, Params: params, Timeout: patience, Verb: rotator.ByPrivileged,
		Via: &rotator.Login{Account: db.Root, Params: params, Secret: secret(targettest.Admin)},
	})
	if got["app"].ID != "10.%" || len(got["app"].Rights) > 0 || !slices.Contains(got["root"].Rights, "grant") {
		t.Errorf("mariadb has %+v", got)
	}
}

func TestDiscoverLDAP(t *testing.T) {
	db := targettest.LDAP(t)
	db.Person(t, "ann", ldapFirst)
	db.Directory(t, func(c *ldap.Conn) error { // as many as one page does not hold
		for i := range 600 {
			r := ldap.NewAddRequest("uid=u"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+string(rune('a'+i/26))+","+people, nil)
			r.Attribute("objectClass", []string{"account"})
			if err := c.Add(r); err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultEntryAlreadyExists) {
				return err
			}
		}
		return nil
	})
	params := effective(events.LDAP, db.Addr, map[string]string{"ca": db.CA, "starttls": "yes"})
	got := found(t, rotator.Job{
		Kind: events.LDAP, Addr: db.Addr, Params: params, Timeout: patience, Verb: rotator.ByPrivileged,
		Via: &rotator.Login{Account: "admin", Params: effective(events.LDAP, db.Addr, map[string]string{"ca": db.CA, "starttls": "yes", "dn": adminDN}), Secret: secret(targettest.Admin)},
	})
	if got["ann"].ID != "uid=ann,"+people || len(got) < 550 {
		t.Errorf("the directory has %d, ann is %+v", len(got), got["ann"])
	}
}

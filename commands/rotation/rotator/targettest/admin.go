package targettest

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/go-ldap/ldap/v3"
	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
)

// What a test does on a target behind holdfast's back, as its privileged account
// with the password [Admin].

// SQL runs a statement on PostgreSQL and gives the first value that it returns,
// if any.
func (d *Database) SQL(t testing.TB, statement string) string {
	t.Helper()
	ctx := context.Background()
	conn, err := pgconn.Connect(ctx, "postgres://"+d.Root+":"+Admin+"@"+d.Addr+"/postgres?sslmode=require")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, statement).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	for _, r := range results {
		if len(r.Rows) > 0 && len(r.Rows[0]) > 0 {
			return string(r.Rows[0][0])
		}
	}
	return ""
}

// MySQL is SQL on MariaDB.
func (d *Database) MySQL(t testing.TB, statement string) string {
	t.Helper()
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.TLSConfig = d.Root, Admin, "tcp", d.Addr, "skip-verify"
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	rows, err := db.Query(statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	defer rows.Close()
	var value sql.NullString
	if rows.Next() {
		err = rows.Scan(&value)
	}
	if err != nil || rows.Err() != nil {
		t.Fatalf("%s: %v, %v", statement, err, rows.Err())
	}
	return value.String
}

// DN is the entry of a person of [Database.Person].
func DN(uid string) string { return "uid=" + uid + ",ou=people," + Suffix }

// Directory does something to an LDAP server.
func (d *Database) Directory(t testing.TB, do func(*ldap.Conn) error) {
	t.Helper()
	conn, err := ldap.DialURL("ldap://" + d.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Bind("cn=admin,"+Suffix, Admin); err != nil {
		t.Fatal(err)
	}
	if err := do(conn); err != nil {
		t.Fatal(err)
	}
}

// Person adds a person with a password.
func (d *Database) Person(t testing.TB, uid, password string) {
	t.Helper()
	d.Directory(t, func(c *ldap.Conn) error {
		r := ldap.NewAddRequest(DN(uid), nil)
		r.Attribute("objectClass", []string{"inetOrgPerson", "adUser"})
		for name, value := range map[string]string{"uid": uid, "cn": uid, "sn": uid, "userPassword": password} {
			r.Attribute(name, []string{value})
		}
		return c.Add(r)
	})
}

// Attribute gives the values of an attribute of a person.
func (d *Database) Attribute(t testing.TB, uid, name string) (values []string) {
	t.Helper()
	d.Directory(t, func(c *ldap.Conn) error {
		r, err := c.Search(ldap.NewSearchRequest(DN(uid), ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{name}, nil))
		if err == nil && len(r.Entries) != 1 {
			err = fmt.Errorf("%d entries", len(r.Entries))
		}
		if err == nil {
			values = r.Entries[0].GetAttributeValues(name)
		}
		return err
	})
	return values
}

// Replace sets an attribute of an entry, without values takes it away.
func (d *Database) Replace(t testing.TB, dn, name string, values ...string) {
	t.Helper()
	d.Directory(t, func(c *ldap.Conn) error {
		r := ldap.NewModifyRequest(dn, nil)
		r.Replace(name, values)
		return c.Modify(r)
	})
}

// Unlock takes a lock-out of a person away.
func (d *Database) Unlock(t testing.TB, uid string) {
	t.Helper()
	if len(d.Attribute(t, uid, "pwdAccountLockedTime")) > 0 {
		d.Replace(t, DN(uid), "pwdAccountLockedTime")
	}
}

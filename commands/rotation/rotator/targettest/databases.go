package targettest

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Admin is the password of the privileged account of every database and
// directory here.
const Admin = "Adm1n-of-the-tests-6Yq"

// Database is a running server whose privileged account is Root with [Admin].
type Database struct {
	*server
	Addr string
	CA   string // its certificate, PEM
	Root string

	statements string // file of its statement log
}

// Statements is the server's statement log so far.
func (d *Database) Statements(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(d.statements)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Postgres starts PostgreSQL with passwords by SCRAM, TLS, and every statement in
// its log.
func Postgres(t testing.TB) *Database {
	t.Helper()
	initdb := program(t, "initdb", "/usr/lib/postgresql/*/bin/initdb")
	as := asUser(t, "postgres", "nobody")
	base := dir(t, as)
	addr, port := freePort(t)
	data := filepath.Join(base, "data")
	write(t, filepath.Join(base, "pw"), Admin, as)
	run(t, as, initdb, "-D", data, "-U", "postgres", "--auth=scram-sha-256", "--pwfile="+filepath.Join(base, "pw"), "--no-sync", "--locale=C", "-E", "UTF8")
	cert, key := certificate(t)
	write(t, filepath.Join(data, "server.crt"), cert, as)
	write(t, filepath.Join(data, "server.key"), key, as)
	d := &Database{Addr: addr, CA: cert, Root: "postgres", statements: filepath.Join(base, "log")}
	d.server = serve(t, as, d.statements, addr, filepath.Join(filepath.Dir(initdb), "postgres"), "-D", data, "-p", port,
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "log_statement=all", "-c", "log_min_duration_statement=0",
		"-c", "log_connections=on", "-c", "ssl=on", "-c", "fsync=off", "-c", "shared_buffers=16MB")
	d.waitFor(t, "database system is ready to accept connections")
	return d
}

// MariaDB starts MariaDB with TLS, the ed25519 plugin, and every statement in its
// general log.
func MariaDB(t testing.TB) *Database {
	t.Helper()
	install, daemon := program(t, "mariadb-install-db", "mysql_install_db"), program(t, "mariadbd", "mysqld")
	as := asUser(t, "mysql", "nobody")
	base := dir(t, as)
	addr, port := freePort(t)
	data := filepath.Join(base, "data")
	run(t, as, install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
	cert, key := certificate(t)
	write(t, filepath.Join(base, "cert"), cert, as)
	write(t, filepath.Join(base, "key"), key, as)
	write(t, filepath.Join(base, "init"), "ALTER USER root@localhost IDENTIFIED BY '"+Admin+"';\n"+
		"CREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY '"+Admin+"';\nGRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n", as)
	d := &Database{Addr: addr, CA: cert, Root: "root", statements: filepath.Join(base, "general")}
	d.server = serve(t, as, filepath.Join(base, "log"), addr, daemon, "--no-defaults", "--datadir="+data, "--port="+port, "--bind-address=127.0.0.1",
		"--socket="+filepath.Join(base, "s"), "--pid-file="+filepath.Join(base, "pid"), "--general-log", "--general-log-file="+d.statements,
		"--plugin-load-add=auth_ed25519", "--ssl-cert="+filepath.Join(base, "cert"), "--ssl-key="+filepath.Join(base, "key"),
		"--init-file="+filepath.Join(base, "init"), "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M")
	return d
}

// Suffix is where the entries of an LDAP server here lie.
const Suffix = "dc=example,dc=net"

// LDAP starts OpenLDAP with a policy that locks an account for a minute after
// three failures, and an attribute unicodePwd as Active Directory's entries have.
// Root is cn=admin below Suffix.
func LDAP(t testing.TB) *Database {
	t.Helper()
	slapd := program(t, "slapd")
	as := asUser(t, "openldap", "nobody")
	base := dir(t, as)
	addr, _ := freePort(t)
	cert, key := certificate(t)
	write(t, filepath.Join(base, "cert"), cert, as)
	write(t, filepath.Join(base, "key"), key, as)
	if err := os.Mkdir(filepath.Join(base, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	give(t, filepath.Join(base, "db"), as)
	write(t, filepath.Join(base, "slapd.conf"), `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
attributetype ( 1.2.840.113556.1.4.90 NAME 'unicodePwd' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
objectclass ( 1.3.6.1.4.1.99999.1 NAME 'adUser' SUP top AUXILIARY MAY unicodePwd )
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
pidfile `+base+`/pid
TLSCertificateFile `+base+`/cert
TLSCertificateKeyFile `+base+`/key
allow bind_anon_dn
loglevel stats
access to dn.base="" by * read
access to attrs=userPassword,unicodePwd by self write by anonymous auth by * none
access to * by * read
database mdb
suffix "`+Suffix+`"
rootdn "cn=admin,`+Suffix+`"
rootpw "`+Admin+`"
directory `+base+`/db
dbnosync
overlay ppolicy
ppolicy_default "cn=policy,`+Suffix+`"
ppolicy_use_lockout
`, as)
	write(t, filepath.Join(base, "ldif"), `dn: `+Suffix+`
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: ou=people,`+Suffix+`
objectClass: organizationalUnit
ou: people

dn: cn=policy,`+Suffix+`
objectClass: device
objectClass: pwdPolicy
cn: policy
pwdAttribute: userPassword
pwdLockout: TRUE
pwdMaxFailure: 3
pwdLockoutDuration: 60
pwdMinLength: 8
pwdCheckQuality: 2
`, as)
	run(t, as, program(t, "slapadd"), "-f", filepath.Join(base, "slapd.conf"), "-l", filepath.Join(base, "ldif"))
	d := &Database{Addr: addr, CA: cert, Root: "admin", statements: filepath.Join(base, "log")}
	d.server = serve(t, as, d.statements, addr, slapd, "-d", "stats", "-f", filepath.Join(base, "slapd.conf"), "-h", "ldap://"+addr+"/")
	return d
}

// Trust makes a PostgreSQL server let anybody in.
func (d *Database) Trust(t testing.TB) {
	t.Helper()
	data := filepath.Join(filepath.Dir(d.statements), "data")
	write(t, filepath.Join(data, "pg_hba.conf"), "host all all 127.0.0.1/32 trust\n", asUser(t, "postgres", "nobody"))
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.waitFor(t, "SIGHUP, reloading")
}

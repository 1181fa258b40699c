package e2e

import (
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
	"github.com/holdfast-pam/holdfast/events"
)

// victim is a subject whose target does what targets do. The site reaches it
// through a proxy, the test directly.
type victim struct {
	*subject
	proxy *targettest.Proxy

	set      func(secret string)     // changes the secret behind the site's back; nil where the case does not arise
	snapshot func() (restore func()) // takes the target back to now
	refuse   func() (relent func())  // turns every change down
	lock     func() (unlock func())  // lets nobody in
	patient  func()                  // has the target lock nobody for wrong logins
	pid      int                     // of the server
}

// throughProxy adds a database or directory behind a proxy.
func (in *installation) throughProxy(t *testing.T, kind events.TargetKind, db *targettest.Database, account string) *victim {
	t.Helper()
	proxy := targettest.NewProxy(t, db.Addr)
	s := in.add(t, kind, "target", proxy.Addr, account, targettest.FirstPassword)
	s.job.Addr = db.Addr
	return &victim{subject: s, proxy: proxy, pid: db.Pid(), patient: func() {}}
}

func postgresVictim(t *testing.T, in *installation) *victim {
	db := targettest.Postgres(t)
	db.SQL(t, "CREATE ROLE app LOGIN PASSWORD '"+targettest.FirstPassword+"'")
	v := in.throughProxy(t, events.Postgres, db, "app")
	v.set = func(secret string) { db.SQL(t, "ALTER ROLE app PASSWORD '"+secret+"'") }
	v.snapshot = func() func() {
		verifier := db.SQL(t, "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")
		return func() { v.set(verifier) }
	}
	v.refuse = func() func() {
		db.SQL(t, "ALTER ROLE app SET default_transaction_read_only = on")
		return func() { db.SQL(t, "ALTER ROLE app RESET default_transaction_read_only") }
	}
	v.lock = func() func() {
		db.SQL(t, "ALTER ROLE app NOLOGIN")
		return func() { db.SQL(t, "ALTER ROLE app LOGIN") }
	}
	return v
}

func mariaVictim(t *testing.T, in *installation) *victim {
	db := targettest.MariaDB(t)
	const user = "app@'127.0.0.1'"
	db.MySQL(t, "CREATE USER "+user+" IDENTIFIED BY '"+targettest.FirstPassword+"'")
	v := in.throughProxy(t, events.MySQL, db, "app")
	v.set = func(secret string) { db.MySQL(t, "SET PASSWORD FOR "+user+" = PASSWORD('"+secret+"')") }
	v.snapshot = func() func() {
		hash := db.MySQL(t, "SELECT authentication_string FROM mysql.user WHERE User = 'app'")
		return func() { db.MySQL(t, "SET PASSWORD FOR "+user+" = '"+hash+"'") }
	}
	v.refuse = func() func() {
		db.MySQL(t, "SET GLOBAL read_only = 1")
		return func() { db.MySQL(t, "SET GLOBAL read_only = 0") }
	}
	v.lock = func() func() {
		db.MySQL(t, "ALTER USER "+user+" ACCOUNT LOCK")
		return func() { db.MySQL(t, "ALTER USER "+user+" ACCOUNT UNLOCK") }
	}
	return v
}

func ldapVictim(t *testing.T, in *installation) *victim {
	db := targettest.LDAP(t)
	db.Person(t, "ann", targettest.FirstPassword)
	v := in.throughProxy(t, events.LDAP, db, "ann")
	v.unlock = func() { db.Unlock(t, "ann") }
	dn, policy := targettest.DN("ann"), "cn=policy,"+targettest.Suffix
	v.patient = func() { db.Replace(t, policy, "pwdMaxFailure", "500") }
	v.set = func(secret string) { db.Replace(t, dn, "userPassword", secret) }
	v.snapshot = func() func() {
		hash := db.Attribute(t, "ann", "userPassword")
		return func() { db.Replace(t, dn, "userPassword", hash...) }
	}
	v.refuse = func() func() {
		db.Replace(t, policy, "pwdAllowUserChange", "FALSE")
		return func() { db.Replace(t, policy, "pwdAllowUserChange", "TRUE") }
	}
	v.lock = func() func() {
		db.Replace(t, dn, "pwdAccountLockedTime", "000001010000Z")
		return func() { db.Unlock(t, "ann") }
	}
	return v
}

// unixVictim is an account of an sshd with the given secret.
func unixVictim(t *testing.T, in *installation, u *targettest.Unix, account string, secret rotator.Secret) *victim {
	proxy := targettest.NewProxy(t, u.Addr)
	in.console("", "target add target --addr "+proxy.Addr+" --host-key '"+u.HostKey+"'")
	how := map[events.SecretKind]string{events.Password: "--password-stdin", events.PrivateKey: "--private-key-stdin"}[secret.Kind]
	in.console(string(secret.Bytes.Bytes()), "account add "+account+"+target "+how)
	in.console("", "grant add admin "+account+"+target")
	v := &victim{subject: unixSubject(u, account, "target", secret.Kind), proxy: proxy, pid: u.Pid()}
	v.patient = func() { u.Sh("sed -i s/deny=3/deny=500/ /etc/pam.d/*") }
	v.lock = func() func() {
		u.Sh("chage -E 1 " + account) // the account has expired
		return func() { u.Sh("chage -E -1 " + account) }
	}
	return v
}

func passwordVictim(t *testing.T, in *installation) *victim {
	u := targettest.StartUnix(t)
	v := unixVictim(t, in, u, targettest.Alice, passwordSecret(targettest.FirstPassword))
	v.set = func(secret string) { u.Sh("echo '" + targettest.Alice + ":" + secret + "' | chpasswd") }
	v.snapshot = func() func() {
		u.Sh("cp -p /etc/shadow /etc/shadow.kept")
		return func() { u.Sh("cp -p /etc/shadow.kept /etc/shadow") }
	}
	v.refuse = func() func() {
		u.Sh("chage -m 9 " + targettest.Alice) // nine days between changes
		return func() { u.Sh("chage -m 0 " + targettest.Alice) }
	}
	return v
}

func keyVictim(t *testing.T, in *installation) *victim {
	u := targettest.StartUnix(t)
	key, err := rotator.NewKey(rotator.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	u.KeyFor(targettest.Bob, key.Public)
	v := unixVictim(t, in, u, targettest.Bob, key)
	home := u.Home(targettest.Bob)
	v.snapshot = func() func() {
		u.Sh("cp -p " + home + "/.ssh/authorized_keys " + home + "/kept")
		return func() { u.Sh("cp -p " + home + "/kept " + home + "/.ssh/authorized_keys") }
	}
	v.refuse = func() func() {
		u.Sh("chown root " + home + "/.ssh " + home + "/.ssh/authorized_keys; chmod 755 " + home + "/.ssh; chmod 644 " + home + "/.ssh/authorized_keys")
		return func() { u.Sh("chown -R " + targettest.Bob + ": " + home + "/.ssh") }
	}
	return v
}

// TestRealTargetsMisbehave: whatever a real target or the way to it does, which
// secret is true is known, or is called unknown and settles by itself.
func TestRealTargetsMisbehave(t *testing.T) {
	for name, start := range map[string]func(*testing.T, *installation) *victim{
		"postgres": postgresVictim, "mariadb": mariaVictim, "openldap": ldapVictim, "unix password": passwordVictim, "unix key": keyVictim,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := vaultSite(t)
			v := start(t, in)
			v.patient() // the budget is for TestNoRealTargetIsLockedOut
			in.console("", "rotate policy set target --lockout-threshold 500")
			t.Run("cut", func(t *testing.T) { in.cuts(t, v) })
			t.Run("refusing", func(t *testing.T) { in.refusing(t, v) })
			t.Run("slow", func(t *testing.T) { in.slow(t, v) })
			t.Run("restored", func(t *testing.T) { in.restored(t, v) })
			t.Run("wrong old secret", func(t *testing.T) { in.wrongOld(t, v) })
			t.Run("locked", func(t *testing.T) { in.locked(t, v) })
			in.console("", "log verify")
		})
	}
}

// holds wants the target to take what is held to be true, and a rotation to work.
func (in *installation) holds(t *testing.T, v *victim) {
	t.Helper()
	if !v.takes(t, in.reveal(v.account)) {
		t.Fatal("the target does not take the secret that is held to be true")
	}
	in.verified(t, v)
}

func (in *installation) verified(t *testing.T, v *victim) {
	t.Helper()
	if state := in.rotate(v.account); state != "verified" {
		_, detail := in.standing(v.account)
		t.Fatalf("the rotation ended %s: %s", state, detail)
	}
	if !v.takes(t, in.reveal(v.account)) {
		t.Fatal("the target does not take the secret that was verified")
	}
}

// cuts ends the network at places of a whole rotation, on the way to the target
// (before it acted) and on the way back (after it did), and lets it come back:
// after two seconds, or, with every count in full, once nobody waits any more.
func (in *installation) cuts(t *testing.T, v *victim) {
	v.proxy.Cut(-1, -1, false)
	in.verified(t, v)
	there, back := v.proxy.Passed()
	places := []int{45, 66}
	if full {
		places = nil
		for p := 3; p < 100; p += 4 {
			places = append(places, p)
		}
	}
	seen := map[string]int{}
	for _, place := range places {
		for _, way := range [][2]int{{there * place / 100, -1}, {-1, back * place / 100}} {
			v.proxy.Cut(way[0], way[1], false)
			heal := time.AfterFunc(2*time.Second, func() { v.proxy.Cut(-1, -1, false) })
			if full {
				heal.Stop()
			}
			state := in.rotate(v.account)
			seen[state]++
			if heal.Stop() || full {
				v.proxy.Cut(-1, -1, false)
			}
			in.settled(v.account)
			if !v.takes(t, in.reveal(v.account)) {
				t.Fatalf("cut at %d%%, %v bytes (%s): the target does not take the secret that is held to be true", place, way, state)
			}
		}
	}
	t.Logf("%d connections were cut; the rotations ended so: %v", v.proxy.Ended(), seen)
	if v.proxy.Ended() < len(places) {
		t.Error("too few connections were cut: this tried nothing")
	}
	in.holds(t, v)
}

func (in *installation) refusing(t *testing.T, v *victim) {
	relent := v.refuse()
	before := in.reveal(v.account)
	if state := in.rotate(v.account); state != "failed" {
		_, detail := in.standing(v.account)
		t.Errorf("a target that refuses: %s: %s", state, detail)
	}
	if in.reveal(v.account) != before || !v.takes(t, before) {
		t.Error("the secret is not the one before")
	}
	relent()
	in.holds(t, v)
}

// slow stops the target for a time: shorter than anybody waits, and longer.
func (in *installation) slow(t *testing.T, v *victim) {
	times := []time.Duration{3 * time.Second}
	if full {
		times = append(times, 45*time.Second)
	}
	for _, d := range times {
		signal := func(s syscall.Signal) {
			if err := syscall.Kill(-v.pid, s); err != nil {
				t.Fatal(err)
			}
		}
		signal(syscall.SIGSTOP)
		goOn := time.AfterFunc(d, func() { signal(syscall.SIGCONT) })
		state := in.rotate(v.account)
		if goOn.Stop() {
			signal(syscall.SIGCONT)
		}
		if d < 10*time.Second && state != "verified" {
			t.Errorf("a target that is slow for %v: %s", d, state)
		}
		in.settled(v.account)
		in.holds(t, v)
	}
}

// restored takes the target back to a snapshot: it takes an old secret again.
func (in *installation) restored(t *testing.T, v *victim) {
	restore := v.snapshot()
	in.verified(t, v)
	in.verified(t, v)
	restore()
	if v.job.Kind == events.SSH { // what is settled by who logs in first
		_ = in.ssh("-o", "User="+v.account, "target", "true").Run()
		in.settled(v.account)
		in.session(t, v.account)
	}
	in.verified(t, v)
}

// wrongOld changes the secret behind the site's back. It does not settle what it
// can't know, and goes on once a person enters the secret.
func (in *installation) wrongOld(t *testing.T, v *victim) {
	if v.set == nil {
		t.Skip("a key that is taken away is none that a person could enter")
	}
	const mine = "Chang3d-by-somebody-else"
	v.set(mine)
	state := in.rotate(v.account)
	v.unlock()
	if _, detail := in.standing(v.account); state != "unknown" {
		t.Errorf("a wrong old secret: %s: %s", state, detail)
	}
	in.console(mine, "secret put "+v.account)
	in.settled(v.account)
	in.holds(t, v)
}

func (in *installation) locked(t *testing.T, v *victim) {
	before := in.reveal(v.account)
	unlock := v.lock()
	if state := in.rotate(v.account); state == "verified" {
		t.Error("a locked account was rotated")
	}
	unlock()
	if in.reveal(v.account) != before {
		t.Error("another secret is held to be true")
	}
	in.holds(t, v)
}

// TestNoRealTargetIsLockedOut: with the secret changed behind the site's back,
// rotations, retries, sessions and restarts together stay below the three wrong
// logins at which these targets lock the account.
func TestNoRealTargetIsLockedOut(t *testing.T) {
	const mine = "Chang3d-by-somebody-else"
	for name, start := range map[string]func(*testing.T, *installation) *victim{"openldap": ldapVictim, "unix password": passwordVictim} {
		t.Run(name, func(t *testing.T) {
			in := vaultSite(t)
			v := start(t, in)
			in.console("", "rotate policy set target --lockout-threshold 3")
			in.verified(t, v)
			v.set(mine)
			for range 3 {
				in.rotate(v.account)
				if v.job.Kind == events.SSH {
					_ = in.ssh("-o", "User="+v.account, "target", "true").Run() // it can't get in
				}
				_, _ = in.tryConsole("", "rotate retry "+v.account+" --wait")
			}
			if err := in.site.Kill(); err != nil {
				t.Fatal(err)
			}
			in.restart()
			in.rotate(v.account)
			v.unlock = func() {}
			if !v.takes(t, mine) {
				t.Error("the account is locked")
			}
			in.console(mine, "secret put "+v.account)
		})
	}
}

package rotator_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
	"github.com/holdfast-pam/holdfast/events"
)

func TestMariaDB(t *testing.T) {
	db := targettest.MariaDB(t)
	const first = "first-Secret-77"
	params := effective(events.MySQL, db.Addr, map[string]string{"ca": db.CA})
	root := &rotator.Login{Account: db.Root, Params: params, Secret: secret(targettest.Admin)}
	for _, c := range []struct {
		name string
		job  rotator.Job
		as   string // how the user is made
	}{
		{"native", rotator.Job{Verb: rotator.AsItself}, "IDENTIFIED BY '" + first + "'"},
		{"reset", rotator.Job{Verb: rotator.ByPrivileged, Via: root}, "IDENTIFIED BY '" + first + "'"},
		{"ed", rotator.Job{Verb: rotator.AsItself}, "IDENTIFIED VIA ed25519 USING PASSWORD('" + first + "')"},
		{"edreset", rotator.Job{Verb: rotator.ByPrivileged, Via: root}, "IDENTIFIED VIA ed25519 USING PASSWORD('" + first + "')"},
		{"socket", rotator.Job{Verb: rotator.ByPrivileged, Via: root}, "IDENTIFIED VIA mysql_native_password USING PASSWORD('" + first + "') OR unix_socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db.MySQL(t, fmt.Sprintf("CREATE USER %s@'127.0.0.%%' %s", c.name, c.as))
			c.job.Kind, c.job.Addr, c.job.Params, c.job.Account = events.MySQL, db.Addr, params, c.name
			s := &subject{T: t, Rotator: rotatorFor(t, events.MySQL, events.Password), job: c.job, true: secret(first), fresh: password(t, events.MySQL)}
			if c.name == "socket" {
				s.no = rotator.NoAnswer // the server then asks for a login that no network client has
			}
			s.rotateMany()
			s.down()
			if c.name == "native" || c.name == "reset" || full() {
				s.cut()
			}
			if c.job.Verb == rotator.AsItself {
				s.wrongOld()
			}
			s.noTrace("the general log", db.Statements(t))
		})
	}
	r := rotatorFor(t, events.MySQL, events.Password)
	job := rotator.Job{Kind: events.MySQL, Addr: db.Addr, Params: params, Timeout: patience, Account: "several", Verb: rotator.ByPrivileged, Via: root}

	// All hosts of a user hold the same secret, unless one is named.
	db.MySQL(t, "CREATE USER several@'127.0.0.1' IDENTIFIED BY '"+first+"', several@'10.%' IDENTIFIED BY '"+first+"'")
	if outcome, err := r.Change(t.Context(), job, secret("second-Secret-78")); outcome != rotator.Applied {
		t.Errorf("several hosts: %s, %v", outcome, err)
	}
	if a, err := r.Verify(t.Context(), job, secret("second-Secret-78")); a != rotator.Accepted {
		t.Errorf("several hosts: %s, %v", a, err)
	}
	job.Params = effective(events.MySQL, db.Addr, map[string]string{"ca": db.CA, "host": "10.%"})
	if outcome, err := r.Change(t.Context(), job, secret("third-Secret-79")); outcome != rotator.Applied {
		t.Errorf("one host: %s, %v", outcome, err)
	}
	if a, err := r.Verify(t.Context(), job, secret("second-Secret-78")); a != rotator.Accepted {
		t.Errorf("the other host: %s, %v", a, err)
	}
	job.Params = params

	db.MySQL(t, "ALTER USER several@'127.0.0.1' ACCOUNT LOCK")
	if a, err := r.Verify(t.Context(), job, secret("second-Secret-78")); a != rotator.Locked {
		t.Errorf("a locked user: %s, %v", a, err)
	}
	job.Account = "nobody"
	if outcome, err := r.Change(t.Context(), job, secret("third-Secret-79")); outcome != rotator.Refused || err == nil {
		t.Errorf("a user that is not there: %s, %v", outcome, err)
	}
	db.MySQL(t, "CREATE USER two@'127.0.0.1' IDENTIFIED VIA mysql_native_password USING PASSWORD('a') OR ed25519 USING PASSWORD('b')")
	job.Account = "two"
	if outcome, err := r.Change(t.Context(), job, secret("third-Secret-79")); outcome != rotator.Refused || err == nil {
		t.Errorf("a user with two passwords: %s, %v", outcome, err)
	}
	job.Params = effective(events.MySQL, db.Addr, map[string]string{"tls": "verify"})
	uncounted(t, r, job, "proves no name that is trusted here")
	job.Params = params
	// A user without the right to do it can't reset another one.
	db.MySQL(t, "CREATE USER weak@'127.0.0.1' IDENTIFIED BY '"+first+"'")
	job.Account, job.Via = "native", &rotator.Login{Account: "weak", Params: params, Secret: secret(first)}
	if outcome, err := r.Change(t.Context(), job, secret("third-Secret-79")); outcome != rotator.Refused || errors.As(err, new(*rotator.LoginError)) {
		t.Errorf("without the right: %s, %v", outcome, err)
	}
}

// One in 256 of the challenges of MariaDB's ed25519 ends with a zero, which the
// driver can't read. No login may fail for that, nor count as a wrong password.
func TestMariaDBChallenges(t *testing.T) {
	db := targettest.MariaDB(t)
	const right = "first-Secret-77"
	params := effective(events.MySQL, db.Addr, map[string]string{"ca": db.CA})
	db.MySQL(t, "CREATE USER ed@'127.0.0.%' IDENTIFIED VIA ed25519 USING PASSWORD('"+right+"')")
	db.MySQL(t, "SET GLOBAL max_password_errors=1")
	r := rotatorFor(t, events.MySQL, events.Password)
	job := rotator.Job{Kind: events.MySQL, Addr: db.Addr, Params: params, Timeout: patience, Account: "ed"}
	logins := 1500
	switch {
	case full():
		logins = 10_000
	case testing.Short():
		logins = 100
	}
	for i := range logins {
		if a, err := r.Verify(t.Context(), job, secret(right)); a != rotator.Accepted {
			t.Fatalf("login %d: %s, %v", i, a, err)
		}
	}
	if a, err := r.Verify(t.Context(), job, secret("wrong-Secret-78")); a != rotator.Rejected {
		t.Fatalf("a wrong password: %s, %v", a, err)
	}
	if a, err := r.Verify(t.Context(), job, secret(right)); a != rotator.Locked {
		t.Fatalf("after one wrong password, which the server counts: %s, %v", a, err)
	}
}

// Of a user with two methods the server asks for a second answer after a wrong one, which
// the driver can't read either. That is no reason to present it again.
func TestMariaDBPresentsAWrongPasswordOnce(t *testing.T) {
	db := targettest.MariaDB(t)
	r := rotatorFor(t, events.MySQL, events.Password)
	for _, params := range []map[string]string{{"ca": db.CA}, {"tls": "disable"}} {
		user := "two" + params["tls"]
		db.MySQL(t, "CREATE USER "+user+"@'127.0.0.%' IDENTIFIED VIA ed25519 USING PASSWORD('first-Secret-77') OR ed25519 USING PASSWORD('second-Secret-78')")
		job := rotator.Job{Kind: events.MySQL, Addr: db.Addr, Params: effective(events.MySQL, db.Addr, params), Timeout: patience, Account: user}
		before := strings.Count(db.Statements(t), user+"@")
		const times = 20
		for range times {
			if a, err := r.Verify(t.Context(), job, secret("wrong-Secret-79")); a != rotator.NoAnswer {
				t.Fatalf("a wrong password: %s, %v", a, err)
			}
		}
		if n := strings.Count(db.Statements(t), user+"@") - before; n >= 2*times { // one in 256 is not presented, and again
			t.Errorf("with %v %d wrong passwords were presented %d times", params, times, n)
		}
	}
}

package rotator_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
	"github.com/holdfast-pam/holdfast/events"
)

const (
	people    = "ou=people," + targettest.Suffix
	adminDN   = "cn=admin," + targettest.Suffix
	ldapFirst = "first-Secret-77"
)

func TestLDAP(t *testing.T) {
	db := targettest.LDAP(t)
	rule := map[string]string{"ca": db.CA, "starttls": "yes", "user-dn": "uid={account}," + people}
	search := map[string]string{"ca": db.CA, "starttls": "yes"}
	admin := map[string]string{"ca": db.CA, "starttls": "yes", "dn": adminDN}
	root := &rotator.Login{Account: "admin", Params: effective(events.LDAP, db.Addr, admin), Secret: secret(targettest.Admin)}
	for _, c := range []struct {
		name   string
		job    rotator.Job
		params map[string]string
	}{
		{"itself", rotator.Job{Verb: rotator.AsItself}, rule},
		{"found", rotator.Job{Verb: rotator.AsItself}, search},
		{"reset", rotator.Job{Verb: rotator.ByPrivileged, Via: root}, search},
	} {
		t.Run(c.name, func(t *testing.T) {
			db.Person(t, c.name, ldapFirst)
			c.job.Kind, c.job.Addr, c.job.Params, c.job.Account = events.LDAP, db.Addr, effective(events.LDAP, db.Addr, c.params), c.name
			s := &subject{
				T: t, Rotator: rotatorFor(t, events.LDAP, events.Password), job: c.job, true: secret(ldapFirst),
				fresh: password(t, events.LDAP), unlock: func() { db.Unlock(t, c.name) },
			}
			s.rotateMany()
			s.down()
			s.cut()
			s.noTrace("the directory's log", db.Log())
			if c.job.Verb == rotator.AsItself {
				s.wrongOld()
			}
			for range 3 {
				if _, err := s.Verify(t.Context(), s.asked(), secret("wrong-Secret-00")); err == nil {
					t.Fatal("a wrong password is taken")
				}
			}
			if a, err := s.Verify(t.Context(), s.asked(), s.true); a != rotator.Locked {
				t.Errorf("a locked account: %s, %v", a, err)
			}
			s.unlock()
			if c.job.Verb == rotator.ByPrivileged {
				return // whom the directory's rules don't bind
			}
			if outcome, err := s.change(secret("short")); outcome != rotator.Refused || !errors.Is(err, rotator.ErrUnfit) {
				t.Errorf("a password against the directory's rules: %s, %v", outcome, err)
			}
		})
	}
	job := rotator.Job{Kind: events.LDAP, Addr: db.Addr, Params: effective(events.LDAP, db.Addr, search), Account: "nobody", Verb: rotator.AsItself}
	r := rotatorFor(t, events.LDAP, events.Password)
	if a, err := r.Verify(t.Context(), job, secret("x")); a != rotator.NoAnswer || !errors.Is(err, rotator.ErrNotPresented) {
		t.Errorf("an entry that is not there: %s, %v", a, err)
	}
	job.Params = effective(events.LDAP, db.Addr, map[string]string{"starttls": "yes"})
	if a, err := r.Verify(t.Context(), job, secret("x")); a != rotator.NoAnswer || !errors.Is(err, rotator.ErrNotPresented) {
		t.Errorf("a certificate that nobody vouches for: %s, %v", a, err)
	}
	job.Params = effective(events.LDAP, db.Addr, rule)
	if a, err := r.Verify(t.Context(), job, secret("")); a == rotator.Accepted {
		t.Errorf("an empty password binds as nobody: %s, %v", a, err)
	}
}

// Active Directory's way: the old value is taken away and the new one added in
// one request, which fails where the old one is not the true one.
func TestUnicodePwd(t *testing.T) {
	db := targettest.LDAP(t)
	db.Person(t, "ad", ldapFirst)
	params := effective(events.LDAP, db.Addr, map[string]string{"ca": db.CA, "starttls": "yes", "directory": "ad", "base-dn": people})
	// OpenLDAP does not bind with unicodePwd: the login stays the first one.
	job := rotator.Job{Kind: events.LDAP, Addr: db.Addr, Params: params, Account: "ad", Verb: rotator.AsItself, Current: secret(ldapFirst)}
	quoted := "\"\x00f\x00i\x00r\x00s\x00t\x00-\x00S\x00e\x00c\x00r\x00e\x00t\x00-\x007\x007\x00\"\x00"
	set := func(value string) { db.Replace(t, targettest.DN("ad"), "unicodePwd", value) }
	holds := func() string { return strings.Join(db.Attribute(t, "ad", "unicodePwd"), "") }
	r := rotatorFor(t, events.LDAP, events.Password)
	set(quoted)
	if outcome, err := r.Change(t.Context(), job, secret("N3w")); outcome != rotator.Applied || holds() != "\"\x00N\x003\x00w\x00\"\x00" {
		t.Errorf("with the old value: %s, %v; now %q", outcome, err, holds())
	}
	if outcome, err := r.Change(t.Context(), job, secret("N4w")); outcome != rotator.Refused || holds() != "\"\x00N\x003\x00w\x00\"\x00" {
		t.Errorf("with another old value: %s, %v; now %q", outcome, err, holds())
	}
	job.Verb = rotator.ByPrivileged
	job.Via = &rotator.Login{Account: "admin", Secret: secret(targettest.Admin), Params: effective(events.LDAP, db.Addr, map[string]string{"dn": adminDN})}
	if outcome, err := r.Change(t.Context(), job, secret("N5w")); outcome != rotator.Applied || holds() != "\"\x00N\x005\x00w\x00\"\x00" {
		t.Errorf("reset: %s, %v; now %q", outcome, err, holds())
	}
	job.Params["tls"] = "disable"
	if outcome, err := r.Change(t.Context(), job, secret("N6w")); outcome != rotator.Refused || !errors.Is(err, rotator.ErrNotPresented) {
		t.Errorf("in the clear: %s, %v", outcome, err)
	}
}

package rotator_test

import (
	"errors"
	"testing"

	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator/targettest"
	"github.com/holdfast-pam/holdfast/events"
)

func TestPostgres(t *testing.T) {
	db := targettest.Postgres(t)
	const first = "first-Secret-77"
	for _, role := range []string{"itself", "reset"} {
		db.SQL(t, "CREATE ROLE "+role+" LOGIN PASSWORD '"+first+"'")
	}
	params := effective(events.Postgres, db.Addr, map[string]string{"ca": db.CA})
	root := &rotator.Login{Account: db.Root, Params: params, Secret: secret(targettest.Admin)}
	for name, job := range map[string]rotator.Job{
		"itself": {Verb: rotator.AsItself, Account: "itself"},
		"reset":  {Verb: rotator.ByPrivileged, Account: "reset", Via: root},
	} {
		t.Run(name, func(t *testing.T) {
			job.Kind, job.Addr, job.Params = events.Postgres, db.Addr, params
			s := &subject{T: t, Rotator: rotatorFor(t, events.Postgres, events.Password), job: job, true: secret(first), fresh: password(t, events.Postgres)}
			s.rotateMany()
			s.down()
			s.cut()
			if name == "itself" {
				s.wrongOld()
			}
			s.noTrace("the statement log", db.Statements(t))
		})
	}
	job := rotator.Job{Kind: events.Postgres, Addr: db.Addr, Params: params, Verb: rotator.ByPrivileged, Account: "nobody-here", Via: root}
	r := rotatorFor(t, events.Postgres, events.Password)
	if outcome, err := r.Change(t.Context(), job, secret("some-Secret-88")); outcome != rotator.Refused || err == nil {
		t.Errorf("a role that is not there: %s, %v", outcome, err)
	}
	db.SQL(t, "CREATE ROLE shut NOLOGIN PASSWORD '"+first+"'")
	job.Account = "shut"
	if a, err := r.Verify(t.Context(), job, secret(first)); a != rotator.Locked {
		t.Errorf("a role that may not log in: %s, %v", a, err)
	}
	if outcome, err := r.Change(t.Context(), job, secret("nön-ascii-secret")); outcome != rotator.Refused || !errors.Is(err, rotator.ErrUnfit) {
		t.Errorf("a password that servers normalise: %s, %v", outcome, err)
	}
	job.Account = "itself"
	job.Params = effective(events.Postgres, db.Addr, map[string]string{"tls": "verify"})
	uncounted(t, r, job, "proves no name that is trusted here")
	job.Params = effective(events.Postgres, db.Addr, map[string]string{"ca": db.CA, "database": "nowhere"})
	if a, _ := r.Verify(t.Context(), job, secret("wrong")); a != rotator.Rejected {
		t.Errorf("a wrong password for a database that is not there: %s", a)
	}
}

// A server that would let anybody in proves nothing about a secret.
func TestPostgresTrustIsNoAnswer(t *testing.T) {
	db := targettest.Postgres(t)
	db.Trust(t)
	r := rotatorFor(t, events.Postgres, events.Password)
	job := rotator.Job{Kind: events.Postgres, Addr: db.Addr, Params: effective(events.Postgres, db.Addr, map[string]string{"ca": db.CA}), Account: "postgres", Verb: rotator.AsItself}
	if a, err := r.Verify(t.Context(), job, secret("anything")); a != rotator.NoAnswer {
		t.Errorf("got %s, %v", a, err)
	}
	job.Current = secret("anything")
	if outcome, err := r.Change(t.Context(), job, secret("something-Else-1")); outcome != rotator.Refused {
		t.Errorf("got %s, %v", outcome, err)
	}
}

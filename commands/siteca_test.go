package commands_test

import (
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

func userCA(n int) vault.CA {
	return vault.CA{ID: events.CAID{UUID: aggregatetest.ID("authority", n)}, Public: key("user ca " + string(rune('a'+n))), Sealed: []byte("x")}
}

func TestSiteAuthorities(t *testing.T) {
	id := func(w *world) events.SiteID { return events.SiteID{UUID: w.actor("site").ID} }
	first := func(w *world) {
		w.do("site", commands.CreateCA{Key: key("site ca")})
		w.do("site", commands.CreateUserCA{Site: id(w), CA: userCA(0)})
	}
	rotate := func(overlap time.Duration, k string) func(*world) commands.Command {
		return func(w *world) commands.Command {
			return commands.RotateCA{Site: id(w), Key: key(k), Overlap: overlap, Reason: "yearly"}
		}
	}
	runAll(t, []scenario{
		{name: "host", given: first, by: "ada", when: rotate(time.Hour, "next"), then: []string{"ca.rotated"}},
		{name: "host before there is one", by: "ada", when: rotate(time.Hour, "next"), code: commands.Conflict, says: "no certificate authority yet"},
		{name: "host, the same key", given: first, by: "ada", when: rotate(time.Hour, "site ca"), code: commands.Conflict, says: "one of the site's already"},
		{name: "host, for ever", given: first, by: "ada", when: rotate(1000*24*time.Hour, "next"), code: commands.Invalid, says: "out of range"},
		{name: "host, backwards", given: first, by: "ada", when: rotate(-time.Hour, "next"), code: commands.Invalid, says: "out of range"},
		{name: "user", given: first, by: "ada", then: []string{"ca.user_created"}, when: func(w *world) commands.Command {
			return commands.CreateUserCA{Site: id(w), CA: userCA(1), Overlap: time.Hour}
		}},
		{name: "user, the same key", given: first, by: "ada", code: commands.Conflict, says: "one of the site's already", when: func(w *world) commands.Command {
			return commands.CreateUserCA{Site: id(w), CA: userCA(0)}
		}},
		{name: "it vouches for no users here", given: first, by: "ada", when: always(commands.TrustCA{Name: "corp", Key: userCA(0).Public}), code: commands.Conflict, says: "key of a site"},
		{name: "a certificate for nobody", given: first, by: "site", code: commands.NotFound, says: "no running session",
			when: always(commands.IssueCertificate{Session: events.SessionID{UUID: aggregatetest.ID("session", 7)}})},
	})
}

// The end of an authority is the earliest that any later one set for those before it.
func TestAuthoritiesEnd(t *testing.T) {
	w := newWorld(t)
	id := events.SiteID{UUID: w.actor("site").ID}
	w.do("site", commands.CreateUserCA{Site: id, CA: userCA(0)})
	began := w.now
	w.do("ada", commands.CreateUserCA{Site: id, CA: userCA(1), Overlap: 10 * time.Hour})
	w.do("ada", commands.CreateUserCA{Site: id, CA: userCA(2), Overlap: time.Hour})
	w.do("ada", commands.CreateUserCA{Site: id, CA: userCA(3), Overlap: 20 * time.Hour})
	s, _ := w.state.Site(id)
	for i, want := range []time.Duration{time.Hour, time.Hour, 20 * time.Hour, 0} {
		a := s.UserCAs()[i]
		if a.ID != userCA(i).ID || want == 0 != a.Until.IsZero() || want != 0 && a.Until.Sub(began.Add(want)).Abs() > time.Minute {
			t.Errorf("authority %d ends %s, want %s after %s", i, a.Until, want, began)
		}
		if !a.Holds(began) || want != 0 && a.Holds(began.Add(want+time.Minute)) {
			t.Errorf("authority %d holds at the wrong times", i)
		}
	}
}

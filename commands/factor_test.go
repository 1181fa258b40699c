package commands_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/commands/factor"
	"github.com/holdfast-pam/holdfast/events"
)

// judgedFactors are commands that judge by whose second factor they are about.
var judgedFactors = []string{"ConfirmFactor", "EnrollFactor", "MissFactor", "RecoverFactor", "RedeemFactor", "ReuseFactor"}

func factorID(n int) events.FactorID { return events.FactorID{UUID: aggregatetest.ID("factor", n)} }

func (w *world) step() uint64 { return factor.StepAt(w.now) }

// login is a login of a user who has proven their key and now shows factor n.
func (w *world) login(user string, n int) commands.FactorLogin {
	return commands.FactorLogin{
		Site: w.site.ID, User: w.user(user).ID, Factor: factorID(n), Login: "l", Source: "192.0.2.7:40000", Fingerprint: fingerprint(user),
	}
}

func enroll(n int, proven events.Factor) commands.EnrollFactor {
	return commands.EnrollFactor{Sealed: factor.Sealed{Factor: factorID(n), Bytes: []byte("sealed bytes")}, Proven: proven}
}

func (w *world) confirm(n int, proven events.Factor) commands.ConfirmFactor {
	return commands.ConfirmFactor{
		Site: w.site.ID, Factor: factorID(n), Step: w.step(), Proven: proven,
		Recovery: [][]byte{factor.HashRecovery(factorID(n), "one"), factor.HashRecovery(factorID(n), "two")},
	}
}

// enrolled gives a user factor n, confirmed; its first code is of the present step.
func (w *world) enrolled(user string, n int) {
	w.do(user, enroll(n, events.Factor{}))
	w.do(user, w.confirm(n, events.Factor{}))
}

func (w *world) redeem(user string, n int, step uint64) commands.RedeemFactor {
	return commands.RedeemFactor{FactorLogin: w.login(user, n), Step: step}
}

func (w *world) refusal(by string, c commands.Command, says string) *commands.Refusal {
	w.Helper()
	_, err := w.d.Do(w.Context(), w.actor(by), c)
	var r *commands.Refusal
	if !errors.As(err, &r) || !strings.Contains(r.Error(), says) {
		w.Fatalf("%T by %s: %v, want a refusal that says %q", c, by, err, says)
	}
	return r
}

func olafsFactor(w *world) { w.enrolled("olaf", 1) }

// What is done with second factors, and each attack on them.
func TestFactors(t *testing.T) {
	denied := []string{"access.denied"}
	proven := events.Factor{ID: factorID(1), Kind: events.TOTP}
	ask := func(f func(*world) commands.Command) func(*world) commands.Command { return f }
	next := func(w *world) { w.now = w.now.Add(factor.Step) }
	runAll(t, []scenario{
		{name: "enrol", by: "olaf", when: always(enroll(1, events.Factor{})), then: []string{"factor.enrolled"}},
		{name: "a second one without proving the first", given: olafsFactor, by: "olaf", when: always(enroll(2, events.Factor{})), then: denied, code: commands.Denied, why: events.NoFactor, says: "log in again"},
		{name: "a second one with the first proven", given: olafsFactor, by: "olaf", when: always(enroll(2, proven)), then: []string{"factor.enrolled"}},
		{name: "one that exists", given: olafsFactor, by: "ada", when: always(enroll(1, events.Factor{})), code: commands.Conflict, says: "exists"},
		{name: "the site enrols", by: "site", when: always(enroll(1, events.Factor{})), then: denied, code: commands.Denied, why: events.NotAllowedVerb, says: "you may not"},
		{name: "a disabled user enrols", by: "olaf", given: func(w *world) { w.do("ada", commands.DisableUser{User: "olaf"}) }, when: always(enroll(1, events.Factor{})), then: denied, code: commands.Denied, why: events.UserIsDisabled, says: "you may not"},
		{
			name: "a secret that came to wait while another was confirmed", by: "olaf",
			given: func(w *world) {
				w.do("olaf", enroll(1, events.Factor{}))
				w.do("olaf", enroll(2, events.Factor{})) // the thief's, with the stolen key
				w.do("olaf", w.confirm(2, events.Factor{}))
				w.do("olaf", enroll(3, events.Factor{ID: factorID(2), Kind: events.TOTP}))
			},
			when: ask(func(w *world) commands.Command { return w.confirm(3, events.Factor{}) }), then: denied, code: commands.Denied, why: events.NoFactor, says: "log in again",
		},
		{name: "confirm one that is not the last", by: "olaf", given: func(w *world) { w.do("olaf", enroll(1, events.Factor{})); w.do("olaf", enroll(2, events.Factor{})) }, when: ask(func(w *world) commands.Command { return w.confirm(1, events.Factor{}) }), code: commands.Conflict, says: "no second factor that waits"},
		{name: "confirm another's", by: "ada", given: func(w *world) { w.do("olaf", enroll(1, events.Factor{})) }, when: ask(func(w *world) commands.Command { return w.confirm(1, events.Factor{}) }), code: commands.Conflict, says: "no second factor that waits"},
		{name: "confirm late", by: "olaf", given: func(w *world) { w.do("olaf", enroll(1, events.Factor{})); w.now = w.now.Add(2 * time.Hour) }, when: ask(func(w *world) commands.Command { return w.confirm(1, events.Factor{}) }), code: commands.Conflict, says: "no second factor that waits"},
		{name: "confirm with an old code", by: "olaf", given: func(w *world) { w.do("olaf", enroll(1, events.Factor{})) }, when: ask(func(w *world) commands.Command {
			c := w.confirm(1, events.Factor{})
			c.Step -= 2
			return c
		}), code: commands.Conflict, says: "not of this time"},
		{name: "confirm what a reset took away", by: "olaf", given: func(w *world) {
			w.do("olaf", enroll(1, events.Factor{}))
			w.do("ada", commands.ResetFactor{User: "olaf", Reason: "stolen"})
		}, when: ask(func(w *world) commands.Command { return w.confirm(1, events.Factor{}) }), code: commands.Conflict, says: "no second factor that waits"},
		{name: "the first code is spent", given: olafsFactor, by: "olaf", when: ask(func(w *world) commands.Command { return w.redeem("olaf", 1, w.step()) }), then: denied, code: commands.Denied, why: events.FactorRefused, says: "used before"},
		{name: "a code before the first", given: olafsFactor, by: "olaf", when: ask(func(w *world) commands.Command { return w.redeem("olaf", 1, w.step()-1) }), then: denied, code: commands.Denied, why: events.FactorRefused, says: "used before"},
		{name: "the next code", given: after(olafsFactor, next), by: "olaf", when: ask(func(w *world) commands.Command { return w.redeem("olaf", 1, w.step()) }), then: []string{"factor.redeemed"}},
		{name: "a code of a clock that goes fast", given: after(olafsFactor, next), by: "olaf", when: ask(func(w *world) commands.Command { return w.redeem("olaf", 1, w.step()+1) }), then: []string{"factor.redeemed"}},
		{name: "a code of the far future", given: olafsFactor, by: "olaf", when: ask(func(w *world) commands.Command { return w.redeem("olaf", 1, w.step()+2) }), then: denied, code: commands.Denied, why: events.FactorRefused, says: "used before"},
		{name: "another's code", given: after(olafsFactor, next), by: "ada", when: ask(func(w *world) commands.Command { return w.redeem("olaf", 1, w.step()) }), then: denied, code: commands.Denied, why: events.NotAllowedVerb, says: "may not"},
		{name: "a code of a factor that was replaced", given: after(olafsFactor, func(w *world) { w.do("olaf", enroll(2, proven)); w.do("olaf", w.confirm(2, proven)) }, next), by: "olaf", when: ask(func(w *world) commands.Command { return w.redeem("olaf", 1, w.step()) }), then: denied, code: commands.Denied, why: events.FactorRefused, says: "another one now"},
		{name: "a code after a reset", given: after(olafsFactor, func(w *world) { w.do("ada", commands.ResetFactor{User: "olaf", Reason: "lost"}) }, next), by: "olaf", when: ask(func(w *world) commands.Command { return w.redeem("olaf", 1, w.step()) }), then: denied, code: commands.Denied, why: events.FactorRefused, says: "another one now"},
		{name: "at a site that does not own it", given: after(olafsFactor, next), by: "olaf", when: ask(func(w *world) commands.Command {
			c := w.redeem("olaf", 1, w.step())
			c.Site = events.SiteID{UUID: aggregatetest.ID("site", 9)}
			return c
		}), then: denied, code: commands.Denied, why: events.FactorRefused, says: "at site here only"},
		{name: "a wrong code", given: olafsFactor, by: "olaf", when: ask(func(w *world) commands.Command { return commands.MissFactor{FactorLogin: w.login("olaf", 1)} }), then: []string{"factor.missed"}, code: commands.Denied, says: "not right"},
		{name: "a recovery code", given: olafsFactor, by: "olaf", when: ask(func(w *world) commands.Command { return w.recover("one") }), then: []string{"factor.recovered"}},
		{name: "a recovery code twice", given: after(olafsFactor, func(w *world) { w.do("olaf", w.recover("one")) }), by: "olaf", when: ask(func(w *world) commands.Command { return w.recover("one") }), then: []string{"factor.missed"}, code: commands.Denied, says: "not right"},
		{name: "no recovery code", given: olafsFactor, by: "olaf", when: ask(func(w *world) commands.Command { return w.recover("three") }), then: []string{"factor.missed"}, code: commands.Denied, says: "not right"},
		{name: "reset without a reason", given: olafsFactor, by: "ada", when: always(commands.ResetFactor{User: "olaf"}), code: commands.Invalid, says: "--reason"},
		{name: "reset of nothing", by: "ada", when: always(commands.ResetFactor{User: "olaf", Reason: "lost"}), code: commands.Conflict, says: "never enrolled"},
		{name: "reset", given: olafsFactor, by: "ada", when: always(commands.ResetFactor{User: "olaf", Reason: "lost phone"}), then: []string{"user.factor_reset"}},
		{name: "rule", by: "ada", when: always(commands.SetFactorRule{User: "olaf", Need: events.FactorNeeded, Reuse: 600}), then: []string{"user.factor_rule_set"}},
		{name: "rule of no kind", by: "ada", when: always(commands.SetFactorRule{User: "olaf", Need: "sms"}), code: commands.Invalid, says: "required, off, or role"},
		{name: "reuse without a need", by: "ada", when: always(commands.SetFactorRule{User: "olaf", Need: events.FactorExempt, Reuse: 60}), code: commands.Invalid, says: "only where one is needed"},
		{name: "reuse for ever", by: "ada", when: always(commands.SetFactorRule{User: "olaf", Need: events.FactorNeeded, Reuse: 90000}), code: commands.Invalid, says: "at most 24h"},
		{name: "a session without the factor", given: after(granted, olafsFactor), by: "olaf", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.NoFactor, says: "did not prove your second factor"},
		{name: "a session with it", given: after(granted, olafsFactor), by: "olaf", when: ask(func(w *world) commands.Command { return w.startWith(proven) }), then: []string{"session.started"}},
		{name: "a session with a factor that was made up", given: after(granted, olafsFactor), by: "olaf", when: ask(func(w *world) commands.Command {
			return w.startWith(events.Factor{ID: factorID(7), Kind: events.TOTP})
		}), then: denied, code: commands.Denied, why: events.NoFactor, says: "log in again"},
		{name: "a session with another's factor", given: after(granted, olafsFactor, func(w *world) { w.enrolled("ada", 2) }), by: "olaf", when: ask(func(w *world) commands.Command {
			return w.startWith(events.Factor{ID: factorID(2), Kind: events.TOTP})
		}), then: denied, code: commands.Denied, why: events.NoFactor, says: "log in again"},
		{name: "a session after the factor was reset", given: after(granted, olafsFactor, func(w *world) {
			w.do("ada", commands.SetFactorRule{User: "olaf", Need: events.FactorNeeded})
			w.do("ada", commands.ResetFactor{User: "olaf", Reason: "lost"})
		}), by: "olaf", when: ask(func(w *world) commands.Command { return w.startWith(proven) }), then: denied, code: commands.Denied, why: events.NoFactor, says: "user totp enroll"},
		{name: "a session of who needs one and has none", given: after(granted, func(w *world) { w.do("ada", commands.SetFactorRule{User: "olaf", Need: events.FactorNeeded}) }), by: "olaf", when: start("root", "web1"), then: denied, code: commands.Denied, why: events.NoFactor, says: "user totp enroll"},
		{name: "no oracle for who lacks the factor", given: func(w *world) { w.do("ada", commands.SetFactorRule{User: "olaf", Need: events.FactorNeeded}) }, by: "olaf", when: start("nobody", "nowhere"), then: denied, code: commands.Denied, why: events.NoFactor, says: "user totp enroll"},
		{name: "a session of who is exempt", given: after(granted, olafsFactor, func(w *world) { w.do("ada", commands.SetFactorRule{User: "olaf", Need: events.FactorExempt}) }), by: "olaf", when: start("root", "web1"), then: []string{"session.started"}},
	})
}

func (w *world) recover(code string) commands.RecoverFactor {
	return commands.RecoverFactor{FactorLogin: w.login("olaf", 1), Hash: factor.HashRecovery(factorID(1), code)}
}

func (w *world) startWith(f events.Factor) commands.StartSession {
	c := w.start("olaf", "root", "web1")
	c.Factor = f
	return c
}

// Of many logins with one code one gets in, whoever comes first; the same of a recovery code.
func TestACodeIsSpentOnce(t *testing.T) {
	w := newWorld(t)
	olafsFactor(w)
	w.now = w.now.Add(factor.Step)
	for _, tried := range []struct {
		name string
		c    commands.Command
	}{{"code", w.redeem("olaf", 1, w.step())}, {"recovery code", w.recover("one")}} { // in this order: the code is of now
		name, c := tried.name, tried.c
		var wins sync.Map
		var all sync.WaitGroup
		for n := range 200 {
			all.Go(func() {
				if _, err := w.d.Do(context.Background(), w.actor("olaf"), c); err == nil {
					wins.Store(n, true)
				}
			})
		}
		all.Wait()
		count := 0
		wins.Range(func(any, any) bool { count++; return true })
		if count != 1 {
			t.Errorf("%d of 200 logins got in by one %s", count, name)
		}
		w.now = w.now.Add(10 * maxLock)
	}
}

const maxLock = 6 * time.Hour

// Wrong codes lock a factor, for longer each time; a lock tells a right code and a wrong one apart in nothing, and a
// right one after it begins anew.
func TestWrongCodesLock(t *testing.T) {
	w := newWorld(t)
	olafsFactor(w)
	miss := commands.MissFactor{FactorLogin: w.login("olaf", 1)}
	for n, lock := range []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, 80 * time.Minute, 160 * time.Minute, 320 * time.Minute, maxLock, maxLock} {
		w.now = w.now.Add(time.Minute)
		for range 4 {
			w.refusal("olaf", miss, "not right")
		}
		w.refusal("olaf", miss, "locked until "+w.now.Add(lock).Format(time.RFC3339))
		missed := len(w.site.Records)
		w.now = w.now.Add(lock - time.Second)
		right, wrong := w.refusal("olaf", w.redeem("olaf", 1, w.step()), "locked until"), w.refusal("olaf", miss, "locked until")
		if right.Error() != wrong.Error() {
			t.Errorf("a right code reads %q, a wrong one %q", right, wrong)
		}
		if slices.Contains(types(w.site.Records[missed:]), "factor.missed") {
			t.Errorf("lock %d: what came while it was locked was counted", n)
		}
		w.now = w.now.Add(time.Second)
	}
	w.do("olaf", w.redeem("olaf", 1, w.step()))
	w.refusal("olaf", miss, "not right")
	if f, _ := w.state.FactorOf(w.user("olaf").ID); f.Missed() != 1 {
		t.Errorf("%d misses after a right code", f.Missed())
	}
	// Who can't wait has a recovery code; wrong ones are counted like codes.
	for range 4 {
		_, _ = w.d.Do(t.Context(), w.actor("olaf"), w.recover("none"))
	}
	w.refusal("olaf", w.recover("none"), "locked")
	w.do("olaf", w.recover("two"))
	w.now = w.now.Add(factor.Step)
	w.do("olaf", w.redeem("olaf", 1, w.step()))
}

// A code does for further logins where a rule says so: from the same address, by the same key, for so long.
func TestReuse(t *testing.T) {
	w := newWorld(t)
	olafsFactor(w)
	w.now = w.now.Add(factor.Step)
	w.do("olaf", w.redeem("olaf", 1, w.step()))
	reuse := func(change func(*commands.ReuseFactor)) int {
		t.Helper()
		c := commands.ReuseFactor{FactorLogin: w.login("olaf", 1)}
		c.Source = "192.0.2.7:50001"
		change(&c)
		before := len(w.site.Records)
		if _, err := w.d.Do(t.Context(), w.actor("olaf"), c); err != nil {
			t.Fatal(err)
		}
		return len(w.site.Records) - before
	}
	same := func(*commands.ReuseFactor) {}
	if reuse(same) != 0 {
		t.Error("without a rule a code does for two logins")
	}
	w.do("ada", commands.SetFactorRule{User: "olaf", Need: events.FactorNeeded, Reuse: 600})
	if reuse(same) != 1 {
		t.Error("within the time it needs another code")
	}
	if got := last[events.FactorReused](t, w); got.At.IsZero() || got.Source != "192.0.2.7:50001" || got.Fingerprint != fingerprint("olaf") {
		t.Errorf("recorded %+v", got)
	}
	for name, change := range map[string]func(*commands.ReuseFactor){
		"another address":                 func(c *commands.ReuseFactor) { c.Source = "192.0.2.8:40000" },
		"another key":                     func(c *commands.ReuseFactor) { c.Fingerprint = fingerprint("ada") },
		"an address that begins the same": func(c *commands.ReuseFactor) { c.Source = "192.0.2.77:40000" },
		"no address":                      func(c *commands.ReuseFactor) { c.Source = "" },
	} {
		if reuse(change) != 0 {
			t.Errorf("from %s it needs no code", name)
		}
	}
	w.now = w.now.Add(9 * time.Minute)
	if reuse(same) != 1 {
		t.Error("near the end of the time it needs another code")
	}
	w.now = w.now.Add(2 * time.Minute)
	if reuse(same) != 0 {
		t.Error("a reuse made the time longer")
	}
	w.now = w.now.Add(-time.Hour)
	if reuse(same) != 0 {
		t.Error("a clock that was set back made the time longer")
	}
}

// Two sites that can't hear each other: what one writes about the other's factor counts for nothing, so no code is
// spent twice; a reset wins over what was confirmed without it being known; the strictest rule counts.
func TestFactorsAcrossACut(t *testing.T) {
	w := newWorld(t)
	olafsFactor(w)
	other := aggregatetest.NewSite(1)
	olaf := w.user("olaf").ID
	hear := func(d events.Draft) {
		t.Helper()
		records, err := other.Append(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if err := w.state.Apply(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	from := func(e events.Event) events.Draft { return other.Draft(factorID(1).UUID, events.SiteActor(other.ID), e) }
	there := other.ID
	other.Knows = w.state.Clock
	for _, e := range []events.Event{
		events.FactorRedeemed{Step: w.step() + 1000, Source: "192.0.2.9:1", Fingerprint: fingerprint("olaf")},
		events.FactorMissed{Locked: w.now.Add(time.Hour)}, events.FactorRecovered{Number: 0},
	} {
		hear(from(e))
	}
	w.now = w.now.Add(factor.Step)
	w.do("olaf", w.redeem("olaf", 1, w.step()))
	w.do("olaf", w.recover("one"))

	before := w.state.Clock()
	other.Knows = func() events.Clock { return before } // cut from here on
	w.do("ada", commands.ResetFactor{User: "olaf", Reason: "stolen"})
	hear(other.Draft(factorID(2).UUID, events.UserActor(olaf), events.FactorEnrolled{User: olaf, Sealed: []byte("thief's")}))
	hear(other.Draft(factorID(2).UUID, events.UserActor(olaf), events.FactorConfirmed{Step: 1}))
	if f, ok := w.state.FactorOf(olaf); ok {
		t.Errorf("factor %s of site %s outlived a reset that it did not know of", f.ID, there)
	}
	w.do("ada", commands.SetFactorRule{User: "olaf", Need: events.FactorNeeded, Reuse: 3600})
	hear(other.Draft(olaf.UUID, events.SiteActor(other.ID), events.UserFactorRuleSet{Need: events.FactorExempt}))
	if needed, reuse := w.state.FactorRule(olaf); !needed || reuse != 0 {
		t.Errorf("of two rules the strictest: %t, %s", needed, reuse)
	}
	if err := w.state.FactorProven(olaf, events.Factor{}); !errors.Is(err, aggregate.ErrNoFactor) {
		t.Error(err)
	}
	if needed, _ := w.state.FactorRule(events.UserID{UUID: aggregatetest.ID("nobody", 0)}); !needed {
		t.Error("somebody unknown needs no factor")
	}
}

// A user's own rule comes before that of their role; what neither says is not needed.
func TestRulesOfRoleAndUser(t *testing.T) {
	w := newWorld(t)
	olaf := w.user("olaf").ID
	want := func(needed bool, reuse time.Duration) {
		t.Helper()
		if n, r := w.state.FactorRule(olaf); n != needed || r != reuse {
			t.Errorf("needed %t, reuse %s; want %t, %s", n, r, needed, reuse)
		}
	}
	yes, no, hour, zero, long := true, false, uint64(3600), uint64(0), uint64(90000)
	want(false, 0)
	w.do("ada", commands.SetRole{Role: events.Admin, SecondFactor: &yes})
	want(false, 0)
	w.refusal("ada", commands.SetRole{Role: events.Operator, FactorReuse: &hour}, "second factor")
	w.now = w.now.Add(factor.Step) // ada needs one herself now, for sessions and the console; commands are the console's to guard
	w.do("ada", commands.SetRole{Role: events.Operator, SecondFactor: &yes, FactorReuse: &hour})
	want(true, time.Hour)
	w.refusal("ada", commands.SetRole{Role: events.Operator, FactorReuse: &long}, "at most 24h")
	w.do("ada", commands.SetRole{Role: events.Operator, FactorReuse: &zero})
	want(true, 0)
	w.do("ada", commands.SetFactorRule{User: "olaf", Need: events.FactorExempt})
	want(false, 0)
	w.do("ada", commands.SetFactorRule{User: "olaf", Need: events.FactorNeeded, Reuse: 60})
	w.do("ada", commands.SetRole{Role: events.Operator, SecondFactor: &no})
	want(true, time.Minute)
	w.do("ada", commands.SetFactorRule{User: "olaf", Need: events.FactorByRole})
	want(false, 0)
}

// Enrolling is bounded, so that a stolen key does not fill the log.
func TestEnrollingIsBounded(t *testing.T) {
	w := newWorld(t)
	for n := range 10 {
		w.do("olaf", enroll(n, events.Factor{}))
	}
	w.refusal("olaf", enroll(10, events.Factor{}), "wait an hour")
	w.now = w.now.Add(2 * time.Hour)
	w.do("olaf", enroll(10, events.Factor{}))
}

package rotation_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/rotation"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// served is a site whose manager runs, in a bubble whose clock is its own.
type served struct {
	*run
	t *testing.T
}

// plainRun has an account without a privileged one, on a target without a
// schedule.
func plainRun(safe *safe) *run {
	for seed := uint64(0); ; seed++ {
		r := newRun(safe, seed, none)
		via, _ := r.account("app").Via()
		if via.IsZero() && r.state.RotationPolicy(r.account("app")).Every == 0 {
			return r
		}
	}
}

// serve runs f while the manager of a quiet site runs.
func serve(t *testing.T, f func(s *served)) { serveLeased(t, nil, f) }

// serveLeased is serve under a lease, of which lease tells how much is left.
func serveLeased(t *testing.T, lease func() time.Duration, f func(s *served)) {
	serveBeside(t, lease, nil, f)
}

// serveBeside is serveLeased beside other sites.
func serveBeside(t *testing.T, lease func() time.Duration, copies rotation.Copies, f func(s *served)) {
	safe := newSafe(t)
	synctest.Test(t, func(t *testing.T) {
		r := plainRun(safe)
		r.crashes, r.target.faults, r.target.threshold = 0, 0, 5
		r.must(events.UserActor(r.user), commands.SetRotationPolicy{Target: "db", Policy: events.RotationPolicy{LockoutThreshold: 5, LockoutWindow: 600}})
		began := time.Now()
		r.clock = func() time.Time { return aggregateEpoch.Add(time.Since(began)) }
		r.lease, r.copies = lease, copies
		r.start()
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.m.Run(ctx) })
		synctest.Wait()
		s := &served{r, t}
		f(s)
		cancel()
		running.Wait()
	})
}

// do carries out a command and lets everything that follows of it happen.
func (s *served) do(c commands.Command) []events.Record {
	s.t.Helper()
	records, err := s.d.Do(context.Background(), events.UserActor(s.user), c)
	if err != nil {
		s.t.Fatalf("%T: %v", c, err)
	}
	synctest.Wait()
	return records
}

func (s *served) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// rotated counts the rotations that ended, by why they were planned.
func (s *served) rotated() map[events.RotationWhy]int {
	why := map[events.RotationID]events.RotationWhy{}
	count := map[events.RotationWhy]int{}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for _, record := range s.site.Records {
		id := events.RotationID{UUID: record.Header.Stream}
		switch e := eventOf(record).(type) {
		case events.RotationPlanned:
			why[id] = e.Why
		case events.RotationEnded:
			count[why[id]]++
		}
	}
	return count
}

// onTarget looks at the target, or changes it, while the manager runs.
func (s *served) onTarget(f func(app *modelAccount)) {
	s.target.mu.Lock()
	defer s.target.mu.Unlock()
	f(s.target.accounts["app"])
}

func (s *served) secret() (secret string) {
	s.onTarget(func(app *modelAccount) { secret = app.secret })
	return secret
}

func (s *served) policy(p events.RotationPolicy) {
	s.t.Helper()
	p.LockoutThreshold, p.LockoutWindow = 5, 600
	s.do(commands.SetRotationPolicy{Account: "app", Target: "db", Policy: p})
}

// A site that can't go on with a rotation says so, once: others would wait for it. It goes
// on by itself.
func TestASiteThatIsStuckSaysSo(t *testing.T) {
	serve(t, func(s *served) {
		if err := s.safe.sealer.Seal(); err != nil {
			t.Fatal(err)
		}
		id := events.RotationID{UUID: s.do(planApp)[0].Header.Stream}
		s.after(time.Minute)
		s.d.View(func(state *aggregate.State) {
			r, ok := state.Rotation(id)
			if !ok {
				t.Fatal("it has ended")
			}
			if n, _, why := r.Deferred(); n != 1 || !r.Waits() || !strings.Contains(why, seal.ErrSealed.Error()) {
				t.Errorf("deferred %d times, waits %t, why %q", n, r.Waits(), why)
			}
		})
		key, err := seal.OpenKeyFile(s.safe.key)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.safe.sealer.Unseal(context.Background(), key); err != nil {
			t.Fatal(err)
		}
		s.after(time.Minute)
		if s.rotated()[events.WhyAsked] != 1 || s.secret() == "first of app" {
			t.Error("it does not go on")
		}
	})
}

func TestRunAndAwait(t *testing.T) {
	serve(t, func(s *served) {
		records := s.do(commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked})
		o, err := s.m.Await(context.Background(), events.RotationID{UUID: records[0].Header.Stream})
		if err != nil || o.State != events.RotationVerified {
			t.Fatalf("got %+v, %v", o, err)
		}
		if !s.known("app") || s.secret() == "first of app" {
			t.Error("the secret was not changed")
		}
		again, err := s.m.Await(context.Background(), events.RotationID{UUID: records[0].Header.Stream})
		if err != nil || again.State != events.RotationVerified {
			t.Errorf("of one that has ended: %+v, %v", again, err)
		}
	})
}

func TestSchedules(t *testing.T) {
	serve(t, func(s *served) {
		s.policy(events.RotationPolicy{Every: 24 * 3600})
		s.after(23 * time.Hour)
		if n := s.rotated(); len(n) != 0 {
			t.Fatalf("rotated too early: %v", n)
		}
		s.after(3*24*time.Hour + 2*time.Hour)
		if n := s.rotated()[events.WhySchedule]; n != 4 {
			t.Errorf("rotated %d times in four days, want 4", n)
		}
	})
}

func TestRotateAfterRevealOnlyWhereThePolicySaysSo(t *testing.T) {
	serve(t, func(s *served) {
		s.do(commands.RevealSecret{Account: "app", Target: "db", Reason: "fire"})
		s.after(48 * time.Hour)
		if n := s.rotated(); len(n) != 0 {
			t.Fatalf("rotated without a policy: %v", n)
		}
		s.policy(events.RotationPolicy{AfterReveal: 3600})
		s.after(2 * time.Hour)
		if n := s.rotated()[events.WhyReveal]; n != 1 {
			t.Errorf("rotated %d times after the reveal, want once", n)
		}
		s.after(48 * time.Hour)
		if n := s.rotated()[events.WhyReveal]; n != 1 {
			t.Errorf("rotated %d times: the new secret was never revealed", n)
		}
	})
}

// A check-out ends by its time, and the secret is rotated then, not before.
func TestAnExpiredLeaseRotates(t *testing.T) {
	serve(t, func(s *served) {
		s.policy(events.RotationPolicy{Every: 1800})
		s.do(commands.CheckOutSecret{Account: "app", Target: "db", Reason: "fire", For: 2 * time.Hour})
		before := s.secret()
		s.after(119 * time.Minute)
		if s.secret() != before {
			t.Fatal("the secret was changed under who has it to themselves")
		}
		s.after(2 * time.Minute)
		if n := s.rotated()[events.WhyCheckin]; n != 1 || s.secret() == before {
			t.Errorf("rotated %d times after the lease", n)
		}
		s.do(commands.CheckOutSecret{Account: "app", Target: "db", Reason: "fire", For: 2 * time.Hour})
		s.do(commands.CheckInSecret{Account: "app", Target: "db"})
		s.after(time.Second)
		if n := s.rotated()[events.WhyCheckin]; n != 2 {
			t.Errorf("rotated %d times after the check-in", n)
		}
	})
}

// A target restored from a snapshot takes an old secret again. The next session
// finds that out, is let in with it, and it is settled.
func TestSnapshotIsFoundBySessions(t *testing.T) {
	serve(t, func(s *served) {
		s.do(commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked})
		s.after(time.Second)
		s.target.restore("app")
		if s.secret() != "first of app" {
			t.Fatal("not restored")
		}
		if err := s.session(); err != nil {
			t.Fatalf("session: %v", err)
		}
		s.after(time.Second)
		s.d.View(func(*aggregate.State) {
			if c := s.credential("app"); c.Unsettled() || c.Alarmed() {
				t.Error("it is not settled")
			}
		})
		if err := s.session(); err != nil {
			t.Errorf("the next session: %v", err)
		}
	})
}

// A secret that was changed behind the site's back ends in the alarm, without
// ever locking the account, and goes on when a person enters the true one.
func TestAlarmAndItsEnd(t *testing.T) {
	serve(t, func(s *served) {
		s.onTarget(func(app *modelAccount) { app.secret = "changed by somebody" })
		records := s.do(commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked})
		o, err := s.m.Await(context.Background(), events.RotationID{UUID: records[0].Header.Stream})
		if err != nil || o.State != events.RotationUnknown {
			t.Fatalf("got %+v, %v", o, err)
		}
		s.after(24 * time.Hour)
		status := func() (st rotation.Status) {
			s.d.View(func(state *aggregate.State) {
				st = s.m.StatusOf(state, s.account("app"))
			})
			return st
		}
		if status().State != rotation.Alarmed {
			t.Fatalf("after a day: %+v", status())
		}
		var wrong int
		s.onTarget(func(app *modelAccount) { wrong = len(app.wrong) })
		s.after(7 * 24 * time.Hour)
		s.onTarget(func(app *modelAccount) {
			if n := len(app.wrong); n != wrong || len(s.target.broken) > 0 {
				t.Errorf("candidates are tried for ever: %d wrong logins, then %d; %v", wrong, n, s.target.broken)
			}
		})
		s.put("changed by somebody")
		if status().State == rotation.Alarmed {
			t.Fatalf("after the true secret was entered: %+v", status())
		}
		s.rotate(events.RotationVerified)
	})
}

// put is a person who enters the secret of app.
func (s *served) put(secret string) {
	s.t.Helper()
	var known vault.Sealed
	var err error
	s.d.View(func(state *aggregate.State) { known, err = commands.KnownSecret(state, "app", "db") })
	if err != nil {
		s.t.Fatal(err)
	}
	sealed, err := vault.Stage(s.t.Context(), s.safe.sealer, known, seal.NewSecret([]byte(secret)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.do(commands.PutSecret{Account: "app", Target: "db", Secret: sealed})
}

// rotate asks for a rotation and wants it to end so.
func (s *served) rotate(want events.RotationResult) {
	s.t.Helper()
	records := s.do(commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked})
	o, err := s.m.Await(context.Background(), events.RotationID{UUID: records[0].Header.Stream})
	if err != nil || o.State != want {
		s.t.Fatalf("got %+v, %v, want %s", o, err, want)
	}
}

// Where nothing that was sent can take effect late and no known secret is
// taken, the privileged account resets it at once.
func TestAWrongSecretIsResetAtOnce(t *testing.T) {
	serve(t, func(s *served) {
		s.do(commands.ChangeAccount{Account: "app", Target: "db", Via: &commands.Ref{Account: "root", Target: "db"}})
		s.onTarget(func(app *modelAccount) { app.secret = "changed by somebody" })
		began := time.Now()
		s.rotate(events.RotationVerified)
		if took := time.Since(began); took > 2*time.Second || !s.known("app") {
			t.Errorf("took %v", took)
		}
	})
}

// Whoever has mended what a rotation waits for asks again and does not have to
// wait: the rotation that does ends, nothing that it knew is lost.
func TestAskingAgainWhileOneWaits(t *testing.T) {
	serve(t, func(s *served) {
		s.onTarget(func(app *modelAccount) { app.secret = "changed by somebody" })
		s.rotate(events.RotationUnknown)
		s.rotate(events.RotationUnknown) // and once more, within the budget
		s.put("changed by somebody")
		s.after(time.Second) // the one that waits goes on by itself
		if s.secret() == "changed by somebody" || !s.known("app") {
			t.Fatal("it did not go on")
		}
		if n := len(s.target.broken); n > 0 {
			t.Fatal(s.target.broken)
		}
		// one that still has something under way at the target is not put aside
		s.onTarget(func(*modelAccount) { s.target.slow = time.Minute })
		records := s.do(commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked})
		_, err := s.d.Do(context.Background(), events.UserActor(s.user), commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked})
		if refusal := (*commands.Refusal)(nil); !errors.As(err, &refusal) || refusal.Code != commands.Conflict {
			t.Errorf("two at once: %v", err)
		}
		if o, err := s.m.Await(context.Background(), events.RotationID{UUID: records[0].Header.Stream}); err != nil || o.State != events.RotationVerified {
			t.Errorf("%+v, %v", o, err)
		}
	})
}

// Rotations of one target take turns, as many at once as its policy allows, and
// failures are tried again later and later.
func TestFailuresAreTriedAgainLaterAndLater(t *testing.T) {
	serve(t, func(s *served) {
		s.policy(events.RotationPolicy{Every: 3600})
		s.onTarget(func(*modelAccount) { s.target.down = true })
		s.after(24 * time.Hour)
		n := s.rotated()[events.WhySchedule]
		if n < 3 || n > 12 { // after an hour, then 5, 10, 20 minutes, ...
			t.Errorf("tried %d times in a day", n)
		}
		s.onTarget(func(*modelAccount) { s.target.down = false })
		s.after(24 * time.Hour)
		s.d.View(func(*aggregate.State) {
			if c := s.credential("app"); c.Failures() != 0 {
				t.Errorf("%d failures are left", c.Failures())
			}
		})
	})
}

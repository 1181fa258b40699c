package rotation_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/commands/rotation"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

// peers are the sites that one of them can ask for a copy.
type peers struct {
	p *sites
	x *node
}

// Reachable implements [rotation.Copies].
func (c peers) Reachable() bool { return c.one() != nil }

func (c peers) one() *node {
	for _, y := range c.p.nodes {
		if y != c.x && !c.p.cut[[2]int{c.x.index, y.index}] && !c.p.cut[[2]int{y.index, c.x.index}] {
			return y
		}
	}
	return nil
}

// Held implements [rotation.Copies]: now and then an answer is lost.
func (c peers) Held(_ context.Context, v vault.Sealed, staged events.ClockEntry) bool {
	if y := c.one(); y != nil && c.p.rng.IntN(10) > 0 {
		c.p.hear(y, c.x, true)
		if uint64(len(y.logs()[staged.Origin])) >= staged.Position {
			return true
		}
	}
	risk := c.x.credential("app").Unsettled() || c.p.policy == events.IsolatedAlways || !slices.ContainsFunc(c.p.nodes, func(y *node) bool {
		d, moved := c.x.state.RotationHolder(y.site.ID, events.TargetID{})
		return y != c.x && (!moved || d.Holder == y.site.ID) // one that is not gone
	})
	for _, r := range c.x.state.Rotations() {
		if id, ok := r.Staged(); ok && id == v.Version {
			risk = risk || c.p.policy == events.IsolatedAsked && r.Why == events.WhyAsked
		}
	}
	c.p.risked[c.x.opened(v)], c.p.refused[v.Version] = risk, !risk
	return false
}

// others are the other sites of a mesh, as one of them sees them.
type others struct{ reached, hold atomic.Bool }

// Reachable implements [rotation.Copies].
func (o *others) Reachable() bool { return o.reached.Load() }

// Held implements [rotation.Copies].
func (o *others) Held(context.Context, vault.Sealed, events.ClockEntry) bool { return o.hold.Load() }

// inAMesh has a second custodian in the state of a site.
func (s *served) inAMesh() {
	for name, site := range map[string]events.SiteID{"a": s.site.ID, "b": {UUID: aggregatetest.ID("site", 77)}} {
		d, err := events.NewDraft(site.UUID, events.UserActor(s.user), "Test", events.SiteAdmitted{
			Name: name, Identity: make([]byte, 32), SealingKey: []byte("key"), Role: events.Steward, Custodian: true, Founder: site == s.site.ID,
		})
		if err == nil {
			_, err = s.d.Append(context.Background(), d)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// status is how the secret of app stands.
func (s *served) status() (st rotation.Status) {
	s.d.View(func(state *aggregate.State) {
		a := s.account("app")
		st = s.m.StatusOf(state, a)
	})
	return st
}

// sent lists the versions that the target was asked to take.
func (s *served) sent() (all []events.SecretSent) {
	for _, r := range s.site.Records {
		if e, ok := eventOf(r).(events.SecretSent); ok {
			all = append(all, e)
		}
	}
	return all
}

// While no other custodian is in reach, schedules wait, and say so; what somebody
// asks for goes on and is marked, unless the policy says otherwise.
func TestSchedulesWaitForASecondSite(t *testing.T) {
	var o others
	serveBeside(t, nil, &o, func(s *served) {
		s.inAMesh()
		s.policy(events.RotationPolicy{Every: 24 * 3600})
		s.after(72 * time.Hour)
		if n := s.rotated(); len(n) != 0 || s.secret() != "first of app" {
			t.Fatalf("rotated with nobody in reach: %v", n)
		}
		if st := s.status(); st.State != rotation.DueNow || st.Detail == "" {
			t.Errorf("the status of what waits: %+v", st)
		}
		s.do(commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked})
		s.after(time.Minute)
		if all := s.sent(); s.rotated()[events.WhyAsked] != 1 || len(all) != 1 || !all[0].Alone {
			t.Fatalf("asked for with nobody in reach: %+v", all)
		}
		s.policy(events.RotationPolicy{Every: 24 * 3600, Isolated: events.IsolatedNever})
		before := s.secret()
		s.do(commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked})
		s.after(time.Minute)
		if st := s.status(); s.secret() != before || st.Last != events.RotationFailed || st.Detail == "" || len(s.sent()) != 1 {
			t.Fatalf("asked for against the policy: %+v", st)
		}
		s.policy(events.RotationPolicy{Every: 24 * 3600, Isolated: events.IsolatedAlways})
		s.after(25 * time.Hour)
		if all := s.sent(); s.rotated()[events.WhySchedule] != 1 || !all[len(all)-1].Alone {
			t.Fatalf("the schedule does not go on, though it may: %+v", all)
		}
		s.policy(events.RotationPolicy{Every: 24 * 3600})
		s.after(48 * time.Hour)
		n := len(s.sent())
		o.reached.Store(true)
		o.hold.Store(true)
		s.after(time.Minute)
		if all := s.sent(); len(all) != n+1 || all[n].Alone {
			t.Fatalf("with another site in reach: %+v", all[n:])
		}
	})
}

// Nobody waits for a site whose work was taken over: it is gone.
func TestNoScheduleWaitsForASiteThatIsGone(t *testing.T) {
	var o others
	serveBeside(t, nil, &o, func(s *served) {
		s.inAMesh()
		s.policy(events.RotationPolicy{Every: 24 * 3600})
		s.after(25 * time.Hour)
		if n := s.rotated(); len(n) != 0 {
			t.Fatalf("rotated with nobody in reach: %v", n)
		}
		s.do(commands.TakeOver{Site: "b", Reason: "burnt down"})
		s.after(time.Minute)
		if all := s.sent(); s.rotated()[events.WhySchedule] != 1 || len(all) != 1 || !all[0].Alone {
			t.Fatalf("after the takeover: %+v", all)
		}
	})
}

// A site in reach that does not say that it holds the new secret is as good as none.
func TestNothingIsSentThatNobodyElseHolds(t *testing.T) {
	var o others
	o.reached.Store(true)
	serveBeside(t, nil, &o, func(s *served) {
		s.inAMesh()
		s.policy(events.RotationPolicy{Isolated: events.IsolatedNever})
		s.do(commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked})
		s.after(time.Minute)
		if st := s.status(); s.secret() != "first of app" || len(s.sent()) != 0 || st.Last != events.RotationFailed {
			t.Fatalf("a secret that nobody else holds went to the target: %+v", st)
		}
	})
}

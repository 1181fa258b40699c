package rotation_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
)

// Without a lease nothing is rotated that nobody asked for, and what people ask for
// is; with one, what was due goes on.
func TestRotationsUnderALease(t *testing.T) {
	var left atomic.Int64
	serveLeased(t, func() time.Duration { return time.Duration(left.Load()) }, func(s *served) {
		s.policy(events.RotationPolicy{Every: 24 * 3600})
		s.after(72 * time.Hour)
		if n := s.rotated(); len(n) != 0 || s.secret() != "first of app" {
			t.Fatalf("rotated without a lease: %v", n)
		}
		s.do(commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked})
		s.after(time.Minute)
		if n := s.rotated(); n[events.WhyAsked] != 1 || len(n) != 1 {
			t.Fatalf("asked for without a lease: %v", n)
		}
		// What was planned before the lease was lost waits for the next one.
		s.must(events.SiteActor(s.site.ID), commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyUse})
		n := len(s.site.Records)
		s.after(time.Hour)
		if len(s.site.Records) != n || s.rotated()[events.WhyUse] != 0 {
			t.Fatalf("without a lease it went on: %d records", len(s.site.Records)-n)
		}
		left.Store(int64(time.Minute))
		s.after(30 * time.Hour)
		if n := s.rotated(); n[events.WhySchedule] != 1 || n[events.WhyUse] != 1 {
			t.Errorf("with a lease: %v", n)
		}
	})
}

// A change that is under way when the lease ends is given up: the target is not
// touched afterwards.
func TestALeaseThatEnds(t *testing.T) {
	var left atomic.Int64
	left.Store(int64(2 * time.Second))
	serveLeased(t, func() time.Duration { return time.Duration(left.Load()) }, func(s *served) {
		s.onTarget(func(*modelAccount) { s.target.slow = 10 * time.Second })
		s.policy(events.RotationPolicy{Every: 24 * 3600})
		s.after(25 * time.Hour)
		sent := 0
		for _, r := range s.site.Records {
			if r.Header.Type == "secret.sent" {
				sent++
			}
		}
		if sent == 0 {
			t.Error("nothing was tried")
		}
		s.onTarget(func(app *modelAccount) {
			if app.secret != "first of app" {
				t.Errorf("the target holds %q after a call that outlived the lease", app.secret)
			}
		})
	})
}

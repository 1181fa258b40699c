package rotation_test

import (
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
)

// twoSites are sites to which nothing happens by itself. No privileged account
// helps them.
func twoSites(t *testing.T) *sites {
	safe := newSafe(t)
	for seed := uint64(0); ; seed++ {
		p := newSites(safe, seed, none)
		if via, _ := p.nodes[0].account("app").Via(); len(p.nodes) == 2 && via.IsZero() {
			p.target.faults = 0
			for _, x := range p.nodes {
				x.crashes = 0
			}
			return p
		}
	}
}

// count counts the events of a type that a site has written.
func (x *node) count(eventType string) (n int) {
	for _, r := range x.site.Records {
		if r.Header.Type == eventType {
			n++
		}
	}
	return n
}

// A site that was lost between its sending a change and the answer leaves others in
// doubt, for as long as the change may take effect. They ask the target a few times,
// and then go on, whether that site comes back or not.
func TestAChangeThatASiteNeverAnswersFor(t *testing.T) {
	p := twoSites(t)
	a, b := p.nodes[0], p.nodes[1]
	plan := commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked}
	p.by(b, events.UserActor(b.user), plan)
	p.target.crash = func(where string) {
		if where == "before the target acts" {
			panic(crash{where})
		}
	}
	for b.count("secret.sent") == 0 {
		p.step(b)
	}
	p.target.crash = func(string) {}
	p.hearAll() // and nobody hears of b again
	for p.taken == 0 {
		p.takeOver(a)
	}
	if !a.credential("app").Unsettled() {
		t.Fatal("nobody is in doubt")
	}
	began := p.at
	p.by(a, events.UserActor(a.user), plan)
	for len(a.state.Rotations()) > 1 {
		if n := a.count("secret.tried"); n > 10 {
			t.Fatalf("%d logins within %s", n, p.at.Sub(began))
		}
		p.step(a)
	}
	if c := a.credential("app"); c.Unsettled() || a.count("secret.sent") != 1 || p.at.Sub(began) > time.Hour {
		t.Errorf("after %s: unsettled %t, %d changes", p.at.Sub(began), c.Unsettled(), a.count("secret.sent"))
	}
	p.hearAll()
	if err := p.quiesce(); err != nil {
		t.Error(err)
	}
	if err := p.same(); err != nil {
		t.Error(err)
	}
}

// A disk that was an old one knows of a version that was staged, and not that it was
// sent: what the target takes is found nevertheless.
func TestAVersionThatWasSentInWhatWasLost(t *testing.T) {
	p := twoSites(t)
	a, b := p.nodes[0], p.nodes[1]
	p.cut[[2]int{0, 1}], p.cut[[2]int{1, 0}] = true, true
	p.by(b, events.UserActor(b.user), commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked})
	for b.count("secret.staged") == 0 {
		p.step(b)
	}
	b.backup = b.logs()
	for len(b.state.Rotations()) > 0 {
		p.step(b)
	}
	p.restore(b)
	if len(p.lost) > 0 {
		t.Fatal("the version itself was lost")
	}
	if err := p.quiesce(); err != nil {
		t.Error(err)
	}
	if v, ok := a.credential("app").Current(); !ok || v.Staged.Origin.Site != b.site.ID {
		t.Error("what the target takes was not found")
	}
}

// An attempt that comes back with the end of an old log, unanswered, and is not the
// last one of its rotation, does not keep that from going on.
func TestAnAttemptThatComesBack(t *testing.T) {
	p := twoSites(t)
	a, b := p.nodes[0], p.nodes[1]
	p.by(b, events.UserActor(b.user), commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked})
	b.backup = b.logs()
	p.target.crash = func(where string) {
		if where == "before the test" {
			panic(crash{where})
		}
	}
	p.step(b)
	p.target.crash = func(string) {}
	p.hear(a, b, true)
	p.restore(b)
	p.step(b) // a test of its own, in the new log, before it hears of the other one
	p.hearAll()
	for n := 0; len(b.state.Rotations()) > 0; n++ {
		if n > 50 {
			t.Fatal("it does not go on")
		}
		p.step(b)
	}
	p.hearAll()
	if err := p.same(); err != nil {
		t.Error(err)
	}
}

// A site that began a rotation is lost, or waits: for logins that it may make, for a
// target that it alone does not reach. At the others that stands in nobody's way for
// longer than a step takes: not in that of people, nor of what is due.
func TestARotationThatIsStillElsewhere(t *testing.T) {
	for name, due := range map[string]bool{"a person asks": false, "it is due": true} {
		t.Run(name, func(t *testing.T) {
			p := twoSites(t)
			a, b := p.nodes[0], p.nodes[1]
			plan := commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked}
			p.by(b, events.UserActor(b.user), plan)
			p.target.crash = func(where string) {
				if where == "before the target acts" {
					panic(crash{where})
				}
			}
			for b.count("secret.sent") == 0 {
				p.step(b)
			}
			p.target.crash = func(string) {}
			p.hearAll() // and nobody hears of b again
			begins := func() int {
				if due {
					p.due()
				} else {
					p.by(a, events.UserActor(a.user), plan)
				}
				return a.count("rotation.planned")
			}
			if begins() != 0 {
				t.Fatal("begun while another site may be at work")
			}
			p.at = p.at.Add(2 * time.Minute)
			for range 2 {
				if n := begins(); n != 1 {
					t.Fatalf("%d rotations were begun, want one", n)
				}
			}
			for a.count("rotation.ended") == 0 {
				p.step(a)
			}
			p.hearAll()
			if err := p.quiesce(); err != nil {
				t.Error(err)
			}
			if err := p.same(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What a site could not do behind a cut puts nothing off at the site that the account
// belongs to: after the heal that asks the target at once.
func TestAfterAHealTheOwnerDoesNotWait(t *testing.T) {
	p := twoSites(t)
	a, b := p.nodes[0], p.nodes[1]
	p.cut[[2]int{0, 1}], p.cut[[2]int{1, 0}] = true, true
	plan := commands.PlanRotation{Account: "app", Target: "db", Why: events.WhyAsked}
	p.by(a, events.UserActor(a.user), plan)
	for len(a.state.Rotations()) > 0 {
		p.step(a)
	}
	for range 2 { // it takes the secret of before for the true one
		p.by(b, events.UserActor(b.user), plan)
		for tried := b.count("secret.tried"); b.count("secret.tried") == tried; {
			p.step(b)
		}
		for _, r := range b.state.Rotations() {
			p.by(b, events.SiteActor(b.site.ID), commands.EndRotation{Rotation: r.ID, Result: events.RotationUnknown, Detail: "instead"})
		}
	}
	clear(p.cut)
	p.hearAll()
	if !a.credential("app").Unsettled() || a.credential("app").Failures() != 2 {
		t.Fatalf("unsettled %t, %d failures", a.credential("app").Unsettled(), a.credential("app").Failures())
	}
	if !p.due() {
		t.Fatal("the owner waits")
	}
	if err := p.quiesce(); err != nil {
		t.Error(err)
	}
}

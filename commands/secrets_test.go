package commands_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

// The commands of this file that only the site gives, and those that judge who
// gives them by what they are about.
var (
	rotationSteps = []string{"AnswerAttempt", "DeferRotation", "EndRotation", "RejectSecret", "RetireSecret", "SendSecret", "StageSecret", "TrySecret"}
	judgedSecrets = []string{"RevealSecret", "CheckOutSecret", "CheckInSecret"}
)

// next is a further version of the secret of root+web1.
func next(n int) vault.Sealed {
	v := sealed(1)
	v.Version.UUID = aggregatetest.ID("version", 100+n)
	return v
}

func (w *world) credential() *aggregate.Credential {
	c, _ := w.state.Credential(w.account("root", "web1").Credential)
	return c
}

// disclosing lets olaf have a grant, and lets who has one be shown the secret.
func disclosing(w *world) {
	w.do("ada", commands.AddGrant{User: "olaf", Account: "root", Target: "web1"})
	w.do("ada", commands.SetRotationPolicy{Account: "root", Target: "web1", Policy: events.RotationPolicy{Disclose: events.ToGranted}})
}

func TestSecrets(t *testing.T) {
	put := func(v vault.Sealed) func(*world) commands.Command {
		return always(commands.PutSecret{Account: "root", Target: "web1", Secret: v})
	}
	other := next(1)
	other.Credential.UUID = aggregatetest.ID("credential", 9)
	key := next(1)
	key.Kind = events.PrivateKey
	reveal := always(commands.RevealSecret{Account: "root", Target: "web1", Reason: "a fire"})
	checkOut := commands.CheckOutSecret{Account: "root", Target: "web1", Reason: "a fire", For: time.Hour}
	checkIn := commands.CheckInSecret{Account: "root", Target: "web1"}
	out := func(w *world) { disclosing(w); w.do("olaf", checkOut) }
	late := func(w *world) { out(w); w.now = w.now.Add(2 * time.Hour) }
	shown := []string{"secret.revealed"}
	denied := []string{"access.denied"}
	runAll(t, []scenario{
		{name: "put", by: "ada", when: put(next(1)), then: []string{"secret.staged", "secret.applied"}},
		{name: "put what was sealed for another", by: "ada", when: put(other), code: commands.Invalid, says: "not sealed for root+web1"},
		{name: "put another kind", by: "ada", when: put(key), code: commands.Invalid, says: "not sealed for"},

		{name: "reveal", by: "ada", when: reveal, then: shown},
		{name: "reveal without a reason", by: "ada", when: always(commands.RevealSecret{Account: "root", Target: "web1"}), code: commands.Invalid, says: "--reason"},
		{name: "reveal an old version", given: func(w *world) { w.do("ada", put(next(1))(w)) }, by: "ada",
			when: always(commands.RevealSecret{Account: "root", Target: "web1", Reason: "x", Version: sealed(1).Version.UUID}), then: shown},
		{name: "reveal no version", by: "ada", when: always(commands.RevealSecret{Account: "root", Target: "web1", Reason: "x", Version: uuid.New()}), code: commands.NotFound, says: "no version"},
		{name: "reveal as an auditor", by: "aud", when: reveal, then: denied, code: commands.Denied, why: events.NotAllowedVerb, says: "may not be shown"},
		{name: "reveal as an operator with a grant", given: func(w *world) { w.do("ada", commands.AddGrant{User: "olaf", Account: "root", Target: "web1"}) },
			by: "olaf", when: reveal, then: denied, code: commands.Denied, why: events.NotAllowedVerb, says: "may not be shown"},
		{name: "reveal to the granted by policy", given: disclosing, by: "olaf", when: reveal, then: shown},
		{name: "reveal by policy without a grant", given: func(w *world) {
			disclosing(w)
			w.do("ada", commands.RemoveGrant{User: "olaf", Account: "root", Target: "web1"})
		}, by: "olaf", when: reveal, then: denied, code: commands.Denied, why: events.NotAllowedVerb, says: "may not be shown"},
		{name: "reveal of what an operator must not know of", by: "olaf", when: always(commands.RevealSecret{Account: "no", Target: "where", Reason: "x"}),
			then: denied, code: commands.Denied, why: events.NotAllowedVerb, says: "may not be shown the secret of no+where"},
		{name: "reveal by the site", by: "site", when: reveal, then: denied, code: commands.Denied, why: events.NotAllowedVerb},
		{name: "reveal by a stranger", by: "stranger", when: reveal, then: denied, code: commands.Denied, why: events.UnknownKey},
		{name: "reveal what another has checked out", given: out, by: "ada", when: reveal, code: commands.Conflict, says: "checked out by olaf until"},
		{name: "reveal what one has checked out oneself", given: out, by: "olaf", when: reveal, then: shown},

		{name: "check out", given: disclosing, by: "olaf", when: always(checkOut), then: []string{"secret.checked_out"}},
		{name: "check out without a reason", by: "ada", when: always(commands.CheckOutSecret{Account: "root", Target: "web1", For: time.Hour}), code: commands.Invalid, says: "--reason"},
		{name: "check out for a second", by: "ada", when: always(commands.CheckOutSecret{Account: "root", Target: "web1", Reason: "x", For: time.Second}), code: commands.Invalid, says: "from 1m"},
		{name: "check out twice", given: out, by: "ada", when: always(checkOut), code: commands.Conflict, says: "checked out by olaf until"},
		{name: "check out what is being rotated", given: func(w *world) {
			w.do("ada", commands.PlanRotation{Account: "root", Target: "web1", Why: events.WhyAsked})
		}, by: "ada", when: always(checkOut), code: commands.Conflict, says: "is changing the secret"},
		{name: "check out as an auditor", by: "aud", when: always(checkOut), then: denied, code: commands.Denied, why: events.NotAllowedVerb},

		{name: "check in", given: out, by: "olaf", when: always(checkIn), then: []string{"secret.checked_in"}},
		{name: "check in as administrator", given: out, by: "ada", when: always(checkIn), then: []string{"secret.checked_in"}},
		{name: "check in what another has", given: out, by: "aud", when: always(checkIn), then: denied, code: commands.Denied, why: events.NotAllowedVerb},
		{name: "check in what nobody has", by: "ada", when: always(checkIn), code: commands.Conflict, says: "not checked out"},
		{name: "check in before its time", given: out, by: "site", when: always(checkIn), code: commands.Conflict, says: "not checked out"},
		{name: "check in when the time is over", given: late, by: "site", when: always(checkIn), then: []string{"secret.checked_in"}},
		{name: "a lease whose time is over still stands until it is checked in", given: late, by: "ada", when: always(checkOut), code: commands.Conflict, says: "checked out by olaf"},
	})
}

func TestRotationPolicies(t *testing.T) {
	set := func(p events.RotationPolicy) func(*world) commands.Command {
		return always(commands.SetRotationPolicy{Account: "root", Target: "web1", Policy: p})
	}
	then := []string{"rotation.policy_set"}
	runAll(t, []scenario{
		{name: "of an account", by: "ada", when: set(events.RotationPolicy{Every: 3600, Classes: []string{"symbol"}}), then: then},
		{name: "of a target", by: "ada", when: always(commands.SetRotationPolicy{Target: "web1", Policy: events.RotationPolicy{Concurrency: 4}}), then: then},
		{name: "concurrency of an account", by: "ada", when: set(events.RotationPolicy{Concurrency: 4}), code: commands.Invalid, says: "matter of a target"},
		{name: "short passwords", by: "ada", when: set(events.RotationPolicy{Length: 5}), code: commands.Invalid, says: "from 12 to 128"},
		{name: "no such class", by: "ada", when: set(events.RotationPolicy{Classes: []string{"runes"}}), code: commands.Invalid, says: `"runes" is not a class`},
		{name: "forbidden control characters", by: "ada", when: set(events.RotationPolicy{Forbidden: "\n"}), code: commands.Invalid, says: "printable"},
		{name: "every second", by: "ada", when: set(events.RotationPolicy{Every: 1}), code: commands.Invalid, says: "once a minute"},
		{name: "every century", by: "ada", when: set(events.RotationPolicy{Every: 1 << 40}), code: commands.Invalid, says: "longer than"},
		{name: "a lock at once", by: "ada", when: set(events.RotationPolicy{LockoutThreshold: 1}), code: commands.Invalid, says: "at least 2"},
		{name: "shown to all", by: "ada", when: set(events.RotationPolicy{Disclose: "all"}), code: commands.Invalid, says: "shown to"},
		{name: "by an operator", by: "olaf", when: set(events.RotationPolicy{}), then: []string{"access.denied"}, code: commands.Denied, why: events.NotAllowedVerb},
	})
}

func TestPolicyIsInheritedFieldByField(t *testing.T) {
	w := newWorld(t)
	w.do("ada", commands.SetRotationPolicy{Target: "web1", Policy: events.RotationPolicy{Length: 40, Every: 3600}})
	w.do("ada", commands.SetRotationPolicy{Account: "root", Target: "web1", Policy: events.RotationPolicy{Every: 7200}})
	p := w.state.RotationPolicy(w.account("root", "web1"))
	if p.Length != 40 || p.Every != 7200 || p.LockoutThreshold != 3 || p.Disclose != events.ToAdmins {
		t.Errorf("got %+v", p)
	}
}

// What a person was shown is known to them until the target takes another one.
func TestExposuresBelongToTheirVersion(t *testing.T) {
	w := newWorld(t)
	w.do("ada", commands.RevealSecret{Account: "root", Target: "web1", Reason: "a fire"})
	c := w.credential()
	v, _ := c.Current()
	if known := c.KnownTo(v.ID); len(known) != 1 || known[0].User != w.user("ada").ID {
		t.Fatalf("known to %v", known)
	}
	w.do("ada", commands.PutSecret{Account: "root", Target: "web1", Secret: next(1)})
	if v, _ = c.Current(); len(c.KnownTo(v.ID)) != 0 {
		t.Error("the new version is known to who saw the old one")
	}
}

func TestNoCandidateIsDropped(t *testing.T) {
	w := newWorld(t)
	for n := range 6 {
		v := next(n)
		w.do("ada", commands.PutSecret{Account: "root", Target: "web1", Secret: v})
		w.fact(v.Credential.UUID, events.SecretVerified{Version: v.Version, How: events.ByLogin})
	}
	c := w.credential()
	if n := len(c.Versions()); n != 7 {
		t.Errorf("%d versions are kept, want all 7", n)
	}
	tested := c.Candidates()
	if len(tested) != 4 || tested[0].ID != next(5).Version || tested[3].ID != next(2).Version {
		t.Errorf("%d candidates, the first %s: want the newest and the three before it", len(tested), tested[0].ID)
	}
}

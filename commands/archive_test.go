package commands_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// contested lists the removals that are in conflict, each with what is said of it.
func (w *world) contested() (all []string) {
	for _, c := range w.state.Conflicts() {
		if strings.HasPrefix(c.What, "removal of ") {
			var heads []string
			for _, h := range c.Heads {
				heads = append(heads, h.Value)
			}
			all = append(all, c.What+" "+c.Name+": "+strings.Join(heads, ", "))
		}
	}
	return all
}

// refused asks that a command is refused, and says what.
func (w *world) refused(by string, c commands.Command, text string) {
	w.Helper()
	if _, err := w.d.Do(w.Context(), w.actor(by), c); err == nil || !strings.Contains(err.Error(), text) {
		w.Errorf("%T by %s: %v, want %q", c, by, err, text)
	}
}

// An account that is removed here while its secret is changed there is neither lost nor
// goes on by itself (rule R7): an administrator can be shown the newest secret, nobody
// uses it, and both sites say so until somebody restores it or confirms.
func TestRemovedHereAndRotatedThere(t *testing.T) {
	h := newHalves(t)
	a := h.a.account("root", "web1")
	id := a.ID.String()
	h.a.do("ada", commands.RemoveAccount{Account: "root", Target: "web1"})
	h.b.do("ada", commands.PutSecret{Account: "root", Target: "web1", Secret: version2})
	h.b.do("ada", commands.SetRotationPolicy{Account: "root", Target: "web1", Policy: events.RotationPolicy{Disclose: events.ToGranted}})
	h.hear()
	for _, w := range []*world{h.a, h.b} {
		if got := w.contested(); len(got) != 1 || !strings.Contains(got[0], "removal of account root+web1") || !strings.Contains(got[0], "secret kept") || !strings.Contains(got[0], "rotation policy set") {
			t.Errorf("in conflict: %q", got)
		}
		for _, ref := range []commands.RevealSecret{{Account: "root", Target: "web1", Reason: "fire"}, {Account: id, Reason: "fire"}} {
			w.do("ada", ref)
			if e := last[events.SecretRevealed](t, w); e.Version != version2.Version {
				t.Errorf("version %s is shown, not the newest", e.Version)
			}
			w.refused("ada", commands.RevealSecret{Account: ref.Account, Target: ref.Target}, "needs a reason")
			w.refused("olaf", ref, "may not be shown") // though the policy lets those with a grant
		}
		if _, err := w.enters("olaf"); err == nil {
			t.Error("an account in the archive takes sessions")
		}
		w.refused("ada", commands.CheckOutSecret{Account: id, Reason: "fire", For: time.Hour}, "is removed")
		w.refused("site", commands.PlanRotation{Account: id, Why: events.WhySchedule}, "is removed")
		w.refused("ada", commands.PutSecret{Account: id, Secret: version2}, "is removed")
		w.refused("ada", commands.AddGrant{User: "olaf", Account: id}, "is removed")
		w.refused("ada", commands.RemoveAccount{Account: "root", Target: "web1"}, "removed already")
		w.refused("olaf", commands.RestoreAccount{Account: id, Reason: "mine"}, "")
		h.hear()
	}

	h.b.do("ada", commands.RestoreAccount{Account: "root", Target: "web1", Reason: "it is needed"})
	h.hear()
	for _, w := range []*world{h.a, h.b} {
		if got := w.contested(); len(got) != 0 {
			t.Errorf("still in conflict: %q", got)
		}
		c, _ := w.state.Credential(w.account("root", "web1").Credential)
		if v, ok := c.Current(); !ok || v.ID != version2.Version {
			t.Error("it came back without its secret")
		}
		if _, err := w.enters("olaf"); err == nil {
			t.Error("a grant that went with its account came back with it")
		}
	}
	h.a.do("ada", commands.AddGrant{User: "olaf", Account: "root", Target: "web1"})
	if _, err := h.a.enters("olaf"); err != nil {
		t.Errorf("with a new grant: %v", err)
	}
}

func TestARemovalIsConfirmed(t *testing.T) {
	h := newHalves(t)
	h.a.do("ada", commands.RemoveAccount{Account: "root", Target: "web1"})
	h.b.do("ada", commands.PutSecret{Account: "root", Target: "web1", Secret: version2})
	h.b.refused("ada", commands.RemoveAccount{Account: "root", Target: "web1", Confirm: true}, "is not removed")
	h.hear()
	h.a.do("ada", commands.RemoveAccount{Account: "root", Target: "web1", Confirm: true, Reason: "nobody needs it"})
	h.hear()
	for _, w := range []*world{h.a, h.b} {
		if got := w.contested(); len(got) != 0 {
			t.Errorf("still in conflict: %q", got)
		}
		w.refused("ada", commands.RevealSecret{Account: "root", Target: "web1", Reason: "fire"}, "no account")
		w.refused("ada", commands.RemoveAccount{Account: "root", Target: "web1", Confirm: true}, "no account")
	}
	h.a.do("ada", commands.RestoreAccount{Account: "root", Target: "web1", Reason: "it was needed after all"})
	h.a.do("ada", commands.RevealSecret{Account: "root", Target: "web1", Reason: "fire"})
}

// A removal that nothing contests is taken back like any mistake; but nothing that let
// anybody in comes back by that, and a name that is taken stays so.
func TestWhatWasRemovedByMistake(t *testing.T) {
	w := newWorld(t)
	granted(w)
	w.user2("boss", events.Admin)
	request := w.must("aud", commands.MakeRequest{Account: "root", Target: "web1", Reason: "fire", For: time.Hour, Uses: 3})
	w.must("boss", commands.ApproveRequest{Request: request})
	w.do("ada", commands.AddUser{Name: "selma", Role: events.Operator, Key: key("selma")})
	w.do("ada", commands.AddGrant{User: "selma", Selector: "root+*"})
	running := []commands.Started{w.session("olaf"), w.session("selma")}
	a := w.account("root", "web1")
	w.refused("ada", commands.RestoreAccount{Account: "root", Target: "web1", Reason: "why not"}, "is not removed")
	w.do("ada", commands.RemoveAccount{Account: "root", Target: "web1"})
	w.refused("ada", commands.RevealSecret{Account: a.ID.String(), Reason: "fire"}, "is removed")
	w.refused("ada", commands.RestoreAccount{Account: "root", Target: "web1"}, "needs a reason")
	w.do("ada", commands.RestoreAccount{Account: "root", Target: "web1", Reason: "a mistake"})
	w.do("ada", commands.RevealSecret{Account: "root", Target: "web1", Reason: "fire"})
	for _, who := range []string{"olaf", "aud"} {
		if _, err := w.enters(who); err == nil {
			t.Errorf("%s has the access of before", who)
		}
	}
	if v := w.standing(request); v.State != aggregate.Void {
		t.Errorf("a request of before is %s", v.State)
	}
	for _, r := range running { // however fast it came back
		if n, ok := w.state.Session(r.Session); !ok || w.state.SessionLets(n, w.now) == "" {
			t.Error("a session of before goes on")
		}
	}
	if _, err := w.enters("selma"); err != nil {
		t.Errorf("what a selector takes in: %v", err)
	}
	if g := w.state.GrantsOf(w.user("olaf").ID); len(g) != 0 {
		t.Errorf("grants of before: %d", len(g))
	}

	w.do("ada", commands.RemoveAccount{Account: "root", Target: "web1"})
	w.do("ada", commands.AddAccount{Name: "root", Target: "web1", Secret: sealed(2)})
	w.refused("ada", commands.RestoreAccount{Account: "root", Target: "web1", Reason: "a mistake"}, "has the name")
	w.do("ada", commands.RemoveAccount{Account: "root", Target: "web1"})
	w.refused("ada", commands.RestoreAccount{Account: "root", Target: "web1", Reason: "a mistake"}, "2 accounts of the name")
	w.do("ada", commands.RestoreAccount{Account: a.ID.String(), Reason: "a mistake"})
	if got := w.account("root", "web1").ID; got != a.ID {
		t.Errorf("the other one came back: %s", got)
	}
}

// Two that restore and take the name on two sides of a cut are a conflict as for any
// other name.
func TestANameIsTakenAndRestoredAcrossACut(t *testing.T) {
	h := newHalves(t)
	h.a.do("ada", commands.RemoveAccount{Account: "root", Target: "web1"})
	h.hear()
	h.a.do("ada", commands.AddAccount{Name: "root", Target: "web1", Secret: sealed(2)})
	h.b.do("ada", commands.RestoreAccount{Account: "root", Target: "web1", Reason: "a mistake"})
	h.hear()
	h.a.mustConflict(commands.AddGrant{User: "olaf", Account: "root", Target: "web1"})
}

// A removal wins over a restore that did not know of it, and says so.
func TestRemovedAndRestoredAcrossACut(t *testing.T) {
	h := newHalves(t)
	a := h.a.account("root", "web1")
	h.a.do("ada", commands.RemoveAccount{Account: "root", Target: "web1"})
	h.hear()
	h.a.do("ada", commands.RestoreAccount{Account: "root", Target: "web1", Reason: "a mistake"})
	h.a.do("ada", commands.AddGrant{User: "olaf", Account: "root", Target: "web1"})
	h.a.do("ada", commands.RemoveAccount{Account: "root", Target: "web1", Reason: "no mistake"})
	h.b.do("ada", commands.RestoreAccount{Account: "root", Target: "web1", Reason: "a mistake"})
	h.b.do("ada", commands.AddGrant{User: "olaf", Account: "root", Target: "web1"})
	if _, err := h.b.enters("olaf"); err != nil {
		t.Fatal(err)
	}
	h.hear()
	for _, w := range []*world{h.a, h.b} {
		if now, _ := w.state.Account(a.ID); !now.Removed {
			t.Error("a restore won over a removal that it did not know of")
		}
		if got := w.contested(); len(got) != 1 || !strings.Contains(got[0], "root+web1") || !strings.Contains(got[0], "restored") {
			t.Errorf("in conflict: %q", got)
		}
	}
	h.b.do("ada", commands.RestoreAccount{Account: "root", Target: "web1", Reason: "both of us know now"})
	h.hear()
	for _, w := range []*world{h.a, h.b} {
		w.account("root", "web1")
		if _, err := w.enters("olaf"); err == nil {
			t.Error("a grant that the removal did not know of came back")
		}
	}
}

// Whoever is disabled can't bring anything back on the other side of a cut (rule R9):
// what selectors take in would be open again.
func TestAttackRestoreByTheDisabled(t *testing.T) {
	h := newHalves(t)
	h.a.user2("mallory", events.Admin)
	h.a.do("ada", commands.AddGrant{User: "olaf", Selector: "root+*"})
	a := h.a.account("root", "web1")
	h.a.do("ada", commands.RemoveAccount{Account: "root", Target: "web1"})
	h.hear()
	h.a.do("ada", commands.DisableUser{User: "mallory"})
	h.b.do("mallory", commands.RestoreAccount{Account: "root", Target: "web1", Reason: "let me"})
	if _, err := h.b.enters("olaf"); err != nil {
		t.Fatal(err) // nobody can know there
	}
	h.hear()
	for _, w := range []*world{h.a, h.b} {
		if now, _ := w.state.Account(a.ID); !now.Removed {
			t.Error("it is back")
		}
		if _, err := w.enters("olaf"); err == nil {
			t.Error("it takes sessions")
		}
		if got := w.contested(); len(got) != 1 || !strings.Contains(got[0], "root+web1") || !strings.Contains(got[0], "restored") {
			t.Errorf("in conflict: %q", got)
		}
	}
	h.a.do("ada", commands.RestoreAccount{Account: "root", Target: "web1", Reason: "she may"})
	if _, err := h.a.enters("olaf"); err != nil {
		t.Errorf("what a selector takes in: %v", err)
	}
}

// A target goes and comes as its accounts do, and takes them along.
func TestATargetIsRemovedHereAndUsedThere(t *testing.T) {
	h := newHalves(t)
	a := h.a.account("root", "web1")
	h.a.do("ada", commands.RemoveTarget{Target: "web1"})
	h.b.do("ada", commands.PutSecret{Account: "root", Target: "web1", Secret: version2})
	h.b.do("ada", commands.AddAccount{Name: "www", Target: "web1", Secret: sealed(2)})
	h.b.do("ada", commands.AddGrant{User: "olaf", Account: "www", Target: "web1"})
	h.b.do("ada", commands.LabelTarget{Target: "web1", Set: []string{"env=prod"}})
	h.hear()
	for _, w := range []*world{h.a, h.b} {
		got := strings.Join(w.contested(), "\n")
		for _, part := range []string{"removal of target web1: ", "removed", "secret kept of root", "account www added", "label set"} {
			if !strings.Contains(got, part) {
				t.Errorf("in conflict: %q, without %q", got, part)
			}
		}
		w.do("ada", commands.RevealSecret{Account: "root", Target: "web1", Reason: "fire"})
		if e := last[events.SecretRevealed](t, w); e.Version != version2.Version {
			t.Errorf("version %s is shown, not the newest", e.Version)
		}
		w.refused("ada", commands.RemoveAccount{Account: "root", Target: "web1", Confirm: true}, "removed with its target")
		w.refused("ada", commands.RestoreAccount{Account: "root", Target: "web1", Reason: "x"}, "removed with its target")
		w.refused("ada", commands.RemoveTarget{Target: "web1"}, "removed already")
		w.refused("ada", commands.RestoreTarget{Target: "web1"}, "needs a reason")
		h.hear()
	}
	h.a.do("ada", commands.RemoveTarget{Target: "web1", Confirm: true, Reason: "it burnt down"})
	h.hear()
	if got := h.b.contested(); len(got) != 0 {
		t.Errorf("still in conflict: %q", got)
	}
	h.b.do("ada", commands.RestoreTarget{Target: "web1", Reason: "it did not"})
	h.hear()
	for _, w := range []*world{h.a, h.b} {
		if got := w.account("root", "web1"); got.ID != a.ID {
			t.Error("another account")
		}
		if g := w.state.GrantsOf(w.user("olaf").ID); len(g) != 0 {
			t.Errorf("grants of before: %d", len(g))
		}
	}
	h.a.do("ada", commands.AddGrant{User: "olaf", Account: "root", Target: "web1"})
	if _, err := h.a.enters("olaf"); err != nil {
		t.Errorf("with a new grant: %v", err)
	}
}

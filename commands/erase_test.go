package commands_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// ended gives a session that is over.
func (w *world) ended() events.SessionID {
	w.Helper()
	s := w.session("olaf")
	w.do("site", commands.EndSession{Session: s.Session, Reason: events.EndedByClient})
	return s.Session
}

func (w *world) erased(id events.SessionID) bool {
	_, erased := w.state.Erased(id.UUID)
	return erased
}

func erase(id events.SessionID) commands.AskErasure {
	return commands.AskErasure{Session: id, Reason: "a card number"}
}

// A recording is erased by two administrators and never by one: not under another
// name, not with another's key, not by somebody without the right.
func TestAttackErasingAlone(t *testing.T) {
	w := newWorld(t)
	granted(w)
	w.user2("eve", events.Admin)
	id := w.ended()
	confirm := commands.ConfirmErasure{Session: id}
	w.refuses(commands.NotFound, "eve", confirm)
	w.refuses(commands.Invalid, "ada", commands.AskErasure{Session: id})
	w.refuses(commands.Denied, "aud", erase(id))
	w.refuses(commands.Denied, "olaf", erase(id))
	w.must("ada", erase(id))
	w.refuses(commands.Conflict, "eve", erase(id))
	w.refuses(commands.Denied, "ada", confirm)
	w.refuses(commands.Denied, "aud", confirm)
	w.refuses(commands.Denied, "olaf", confirm)
	if _, err := w.tryWith("eve", "ada", confirm); err == nil {
		t.Error("confirmed with the key of who asked")
	}
	w.do("ada", commands.AddUserKey{User: "ada", Key: key("ada2")})
	w.do("ada", commands.RemoveUserKey{User: "ada", Fingerprint: fingerprint("ada2")})
	w.do("ada", commands.AddUser{Name: "ada2", Role: events.Admin, Key: key("ada2")})
	w.refuses(commands.Denied, "ada2", confirm)
	if w.erased(id) {
		t.Fatal("erased by one person")
	}
	w.must("eve", confirm)
	if !w.erased(id) {
		t.Fatal("two administrators did not erase it")
	}
	c := last[events.ErasureConfirmed](t, w)
	if c.AskedBy != w.user("ada").ID || c.Reason != "a card number" || c.What != events.ErasableRecording {
		t.Errorf("the event says %+v", c)
	}
	w.refuses(commands.NotFound, "eve", confirm)
	w.refuses(commands.NotFound, "ada", erase(id))
	w.refuses(commands.NotFound, "ada", commands.WithdrawErasure{Session: id})
	_, err := w.try("ada", commands.ReadSession{Session: id, Owner: w.user("olaf").ID, How: "play"})
	var r *commands.Refusal
	if !errors.As(err, &r) || r.Code != commands.NotFound {
		t.Fatalf("reading gives %v", err)
	}
	for _, part := range []string{"erased on 20", "ada asked", "eve confirmed", "a card number"} {
		if !strings.Contains(r.Message, part) {
			t.Errorf("%q does not say %q", r.Message, part)
		}
	}
}

// What runs is not erased, nor what has the id of another sealed thing: that session
// is made up by a site that would have a secret destroyed.
func TestWhatCanNotBeErased(t *testing.T) {
	w := newWorld(t)
	granted(w)
	w.user2("eve", events.Admin)
	running := w.session("olaf").Session
	w.refuses(commands.Conflict, "ada", erase(running))
	w.refuses(commands.Conflict, "ada", erase(events.SessionID{UUID: w.credential().ID.UUID}))

	id := w.ended()
	w.must("ada", erase(id))
	w.must("ada", commands.WithdrawErasure{Session: id, Reason: "evidence"})
	w.refuses(commands.NotFound, "ada", commands.ConfirmErasure{Session: id})
	w.refuses(commands.NotFound, "ada", commands.WithdrawErasure{Session: id})
	w.must("eve", erase(id))
	w.must("ada", commands.ConfirmErasure{Session: id})
	if !w.erased(id) {
		t.Error("not erased after it was asked anew")
	}

	id = w.ended()
	w.must("ada", erase(id))
	w.now = w.now.Add(commands.ProposalLasts + 24*time.Hour)
	w.refuses(commands.NotFound, "eve", commands.ConfirmErasure{Session: id})

	w = newWorld(t) // written by hand, it counts for nothing either
	by := w.user("ada").ID
	made := w.credential().ID.UUID
	w.user2("eve", events.Admin)
	for _, stream := range []uuid.UUID{made, uuid.Must(uuid.NewV7())} {
		w.fact(stream, events.ErasureConfirmed{AskedBy: by, What: events.ErasableRecording})
		if _, erased := w.state.Erased(stream); erased {
			t.Error("erased by nobody")
		}
	}
}

// Both sides of a cut ask at once; each confirms what the other has asked.
func TestErasuresAcrossACut(t *testing.T) {
	h := newHalves(t)
	h.a.user2("eve", events.Admin)
	h.hear()
	id := h.a.ended()
	h.hear()
	h.a.must("ada", erase(id))
	h.b.must("eve", erase(id))
	h.hear()
	h.a.must("ada", commands.ConfirmErasure{Session: id})
	h.b.must("eve", commands.ConfirmErasure{Session: id})
	h.hear()
	if !h.a.erased(id) || !h.b.erased(id) {
		t.Error("not erased")
	}
	for _, w := range []*world{h.a, h.b} {
		w.do("site", commands.NoteErased{ID: id.UUID})
		h.hear()
		x, _ := w.state.Erasure(id.UUID)
		if w.state.HasErased(x, w.site.ID) == nil {
			t.Error("its word is not kept")
		}
	}
	x, _ := h.a.state.Erasure(id.UUID)
	sites := h.a.state.SitesOf(x)
	if len(sites) != 2 || slices.ContainsFunc(sites, func(s aggregate.SiteErasure) bool { return s.Done == nil || s.Gone }) {
		t.Errorf("%+v", sites)
	}
}

// The secrets of an account are erased by two administrators when it is removed, and
// it does not come back without them.
func TestErasingSecrets(t *testing.T) {
	w := newWorld(t)
	w.user2("eve", events.Admin)
	erase := commands.AskSecretsErasure{Account: "root", Target: "web1", Reason: "gdpr"}
	confirm := commands.ConfirmSecretsErasure{Account: "root", Target: "web1"}
	w.refuses(commands.Conflict, "ada", erase)
	cred := w.credential().ID.UUID
	w.do("ada", commands.RemoveAccount{Account: "root", Target: "web1"})
	w.refuses(commands.Denied, "aud", erase)
	w.refuses(commands.NotFound, "eve", confirm)
	w.must("ada", erase)
	w.refuses(commands.Conflict, "eve", erase)
	w.refuses(commands.Denied, "ada", confirm)
	w.refuses(commands.Denied, "aud", confirm)
	w.must("ada", commands.WithdrawSecretsErasure{Account: "root", Target: "web1"})
	w.refuses(commands.NotFound, "eve", confirm)
	w.must("eve", erase)
	// An ask for the recording of a session of that id is another matter.
	w.fact(cred, events.ErasureAsked{What: events.ErasableRecording, Reason: "x"})
	w.must("ada", confirm)
	if !w.state.KeyErased(cred) {
		t.Error("not erased")
	}
	w.refuses(commands.NotFound, "ada", confirm)
	w.refuses(commands.NotFound, "ada", commands.RestoreAccount{Account: "root", Target: "web1", Reason: "x"})
}

// erasedTarget removes the target, and has the secrets of the account on it erased.
func erasedTarget(w *world) {
	w.user2("eve", events.Admin)
	w.do("ada", commands.RemoveTarget{Target: "web1"})
	w.must("ada", commands.AskSecretsErasure{Account: "root", Target: "web1", Reason: "gdpr"})
	w.must("eve", commands.ConfirmSecretsErasure{Account: "root", Target: "web1"})
}

// A target comes back without the accounts whose secrets are erased, and with the
// others; they can be added anew.
func TestATargetComesBackWithoutWhatIsErased(t *testing.T) {
	w := newWorld(t)
	w.do("ada", commands.AddAccount{Name: "www", Target: "web1", Secret: sealed(2)})
	gone := w.account("root", "web1")
	erasedTarget(w)
	w.do("ada", commands.RestoreTarget{Target: "web1", Reason: "x"})
	if !gone.Removed || w.account("www", "web1").Removed || w.state.Contested(gone) {
		t.Errorf("removed: %t, contested: %t", gone.Removed, w.state.Contested(gone))
	}
	if _, erased := w.state.Erased(gone.Credential.UUID); !erased {
		t.Error("the erasure is void")
	}
	w.refused("ada", commands.RestoreAccount{Account: "root", Target: "web1", Reason: "x"}, "was erased")
	w.do("ada", commands.AddAccount{Name: "root", Target: "web1", Secret: sealed(3)})
	w.do("ada", commands.RevealSecret{Account: "root", Target: "web1", Reason: "x"})
}

// An account that comes back in another way is of no use, and says why: nobody is said
// to have seen a secret that is not there, and no rotation waits for it.
func TestAnErasedSecretIsNotUsed(t *testing.T) {
	w := newWorld(t)
	granted(w)
	target := w.account("root", "web1").Target
	erasedTarget(w)
	w.fact(target.UUID, events.TargetRestored{Reason: "by an older version"})
	w.do("ada", commands.AddGrant{User: "olaf", Account: "root", Target: "web1"})
	known := w.credential()
	for _, c := range []commands.Command{
		commands.RevealSecret{Account: "root", Target: "web1", Reason: "x"},
		commands.CheckOutSecret{Account: "root", Target: "web1", Reason: "x", For: time.Hour},
		commands.PutSecret{Account: "root", Target: "web1", Secret: version2},
		commands.PlanRotation{Account: "root", Target: "web1", Why: events.WhyAsked},
	} {
		w.refuses(commands.NotFound, "ada", c)
		w.refused("ada", c, "was erased on 20")
	}
	if _, err := commands.KnownSecret(w.state, "root", "web1"); err == nil || !strings.Contains(err.Error(), "was erased on 20") {
		t.Errorf("a further version: %v", err)
	}
	w.refused("olaf", commands.RevealSecret{Account: "root", Target: "web1", Reason: "x"}, "may not be shown")
	if _, err := w.enters("olaf"); err == nil || !strings.Contains(err.Error(), "was erased; an administrator has to remove") {
		t.Errorf("a session: %v", err)
	}
	if all := known.Versions(); len(all) != 1 || len(known.Leases()) != 0 {
		t.Errorf("%d versions, %d check-outs", len(all), len(known.Leases()))
	}
	w.do("ada", commands.RemoveAccount{Account: "root", Target: "web1"})
	w.do("ada", commands.AddAccount{Name: "root", Target: "web1", Secret: sealed(3)})
}

// An erasure that does not count has used up what was asked: who confirms it next does
// not destroy by what was meant for other circumstances.
func TestAVoidErasureIsAskedAnew(t *testing.T) {
	h := newHalves(t)
	h.a.user2("eve", events.Admin)
	h.a.user2("max", events.Admin)
	h.hear()
	erase := commands.AskSecretsErasure{Account: "root", Target: "web1", Reason: "gdpr"}
	confirm := commands.ConfirmSecretsErasure{Account: "root", Target: "web1"}
	cred := h.a.credential().ID.UUID
	h.a.do("ada", commands.RemoveAccount{Account: "root", Target: "web1"})
	h.hear()
	h.b.do("ada", commands.RestoreAccount{Account: "root", Target: "web1", Reason: "in use"})
	h.a.must("ada", erase)
	h.a.must("eve", confirm)
	h.hear()
	for _, w := range []*world{h.a, h.b} {
		if _, erased := w.state.Erased(cred); erased {
			t.Fatal("erased though it was restored")
		}
	}
	h.a.do("ada", commands.RemoveAccount{Account: "root", Target: "web1"})
	h.a.refuses(commands.NotFound, "max", confirm)
	h.a.refuses(commands.NotFound, "max", commands.WithdrawSecretsErasure{Account: "root", Target: "web1", Reason: "x"})
	h.a.must("eve", erase)
	h.a.must("max", confirm)
	h.hear()
	for _, w := range []*world{h.a, h.b} {
		if _, erased := w.state.Erased(cred); !erased {
			t.Error("not erased after it was asked anew")
		}
	}
}

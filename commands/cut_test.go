package commands_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

// halves are two sites that both know the world, and hear each other by hear
// only. The world's own site, the first, owns all that is in it.
type halves struct {
	*testing.T
	a, b    *world
	silence time.Duration // since they heard each other
}

func newHalves(t *testing.T) *halves {
	h := &halves{T: t, a: newWorld(t)}
	granted(h.a)
	h.b = &world{T: t, site: aggregatetest.NewSite(1), state: aggregate.New(), now: h.a.now, made: 5000}
	for i, w := range []*world{h.a, h.b} {
		w.site.Knows = w.state.Clock
		w.d = commands.NewDispatcher(commands.DispatcherConfig{
			Writer: w.site, Log: w.site.Origin(), State: w.state, Now: func() time.Time { return w.now },
			NewID: func() (uuid.UUID, error) { w.made++; return aggregatetest.ID("made", w.made), nil },
			Order: func(events.Origin, uint64) error { return nil },
			Silence: func(site events.SiteID) time.Duration {
				if site == w.site.ID {
					return 0
				}
				return h.silence
			},
		})
		if i == 1 {
			h.hear()
			w.do("site", commands.CreateSite{Name: "there", HostKey: key("host there")})
			h.hear()
		}
	}
	return h
}

// hear has both sites hear all of each other.
func (h *halves) hear() {
	h.Helper()
	for progress := true; progress; {
		progress = false
		for _, pair := range [][2]*world{{h.a, h.b}, {h.b, h.a}} {
			to, from := pair[0], pair[1]
			if rest := from.site.Records[to.state.At(from.site.Origin()):]; len(rest) > 0 {
				n, err := to.d.Deliver(h.Context(), rest)
				if err != nil && !errors.Is(err, aggregate.ErrEarly) {
					h.Fatal(err)
				}
				for _, r := range rest[:n] {
					to.site.Observe(r)
				}
				progress = progress || n > 0
			}
		}
	}
	if h.a.state.Digest() != h.b.state.Digest() {
		h.Fatal("the sites hold different states")
	}
}

func (h *halves) pass(d time.Duration) { h.a.now, h.b.now = h.a.now.Add(d), h.b.now.Add(d) }

// version2 is a later version of the secret of root+web1.
var version2 = func() vault.Sealed {
	v := sealed(1)
	v.Version = events.SecretID{UUID: aggregatetest.ID("version", 2)}
	return v
}()

func refusedFor(err error, text string) bool {
	var r *commands.Refusal
	return errors.As(err, &r) && strings.Contains(r.Message, text)
}

// Both sides of a cut decide everything, each by itself (invariant I8): what is new
// there, and what both know of. What can't be decided twice has tests of its own
// below.
func TestBothSidesOfACutDecideEverything(t *testing.T) {
	h := newHalves(t)
	h.a.user2("boss", events.Admin)
	h.a.do("ada", commands.AddGroup{Name: "common"})
	h.hear() // and cut from here on
	for i, w := range []*world{h.a, h.b} {
		n := fmt.Sprint(i)
		account, next := sealed(10+i), sealed(10+i)
		next.Version = events.SecretID{UUID: aggregatetest.ID("version", 20+i)}
		for _, c := range []commands.Command{
			commands.AddUser{Name: "eva" + n, Role: events.Operator, Key: key("eva" + n)},
			commands.AddUserKey{User: "eva" + n, Key: key("second" + n)},
			commands.AddUserKey{User: "olaf", Key: key("olaf" + n)},
			commands.RemoveUserKey{User: "eva" + n, Fingerprint: fingerprint("second" + n)},
			commands.LimitUser{User: "olaf", MaxSessions: uint32(5 + i)},
			commands.AddGroup{Name: "group" + n},
			commands.AddMember{Group: "group" + n, User: "eva" + n},
			commands.AddMember{Group: "common", User: "eva" + n},
			commands.AddTarget{Name: "db" + n, Addr: "192.0.2.9:22", HostKeys: []string{key("db" + n)}},
			commands.LabelTarget{Target: "web1", Set: []string{"side" + n + "=yes"}},
			commands.AddAccount{Name: "app", Target: "db" + n, Secret: account},
			commands.PutSecret{Account: "app", Target: "db" + n, Secret: next},
			commands.SetRotationPolicy{Target: "web1", Policy: events.RotationPolicy{Every: uint64(3600 + i)}},
			commands.PlanRotation{Account: "app", Target: "db" + n, Why: events.WhyAsked},
			commands.PlanRotation{Account: "root", Target: "web1", Why: events.WhyAsked},
			commands.AddGrant{User: "eva" + n, Account: "root", Target: "web1"},
			commands.AddGrant{User: "eva" + n, Account: "app", Target: "db" + n},
			commands.TrustCA{Name: "ca" + n, Key: key("ca" + n)},
			commands.RevealSecret{Account: "root", Target: "web1", Reason: "fire"},
		} {
			w.do("ada", c)
		}
		s, err := w.enters("eva" + n)
		if err != nil {
			t.Fatal(err)
		}
		w.do("ada", commands.KillSession{Session: s.Session, Reason: "enough"})
		w.do("site", commands.EndSession{Session: s.Session, Reason: events.EndedByKill})
		w.do("ada", commands.RemoveGrant{User: "eva" + n, Account: "root", Target: "web1"})
		id := w.must("eva"+n, commands.MakeRequest{Account: "root", Target: "web1", Reason: "fire", For: time.Hour})
		w.must("boss", commands.ApproveRequest{Request: id})
		if _, err := w.enters("eva" + n); err != nil {
			t.Fatal(err)
		}
		w.do("ada", commands.DisableUser{User: "eva" + n, Reason: "left"})
	}
	h.hear()
}

// Somebody has a secret to themselves by the word of one site alone. Where two
// gave it away nevertheless, as after a takeover from a site that went on, both
// end with the heal, on record (rule R11).
func TestExclusiveSecretsAcrossACut(t *testing.T) {
	h := newHalves(t)
	out := commands.CheckOutSecret{Account: "root", Target: "web1", Reason: "fire", For: time.Hour}
	if _, err := h.b.d.Do(t.Context(), h.b.actor("ada"), out); !refusedFor(err, "only site here gives this secret") {
		t.Fatalf("at a site that does not own it: %v", err)
	}
	h.b.fact(h.a.site.ID.UUID, events.DutiesTaken{Term: 1, Reason: "it burnt down"}) // it did not
	h.b.do("ada", out)
	h.a.do("ada", out)
	h.hear()
	c, ok := h.a.state.Credential(h.a.account("root", "web1").Credential)
	if !ok || !c.ExclusivityBroken() {
		t.Fatal("two leases are not seen")
	}
	if _, err := h.a.d.Do(t.Context(), h.a.actor("ada"), commands.BreakExclusivity{Credential: c.ID}); err == nil {
		t.Error("a person broke exclusivity")
	}
	h.pass(time.Minute)
	h.b.do("site", commands.BreakExclusivity{Credential: c.ID})
	h.hear()
	v, _ := c.Current()
	if _, freed := c.Freed(v.ID); len(c.Leases()) > 0 || !freed {
		t.Error("the leases stand, or nothing asks for a rotation")
	}
	var e events.SecretExclusivityBroken
	for _, r := range h.b.site.Records {
		if r.Header.Type == "secret.exclusivity_broken" {
			decoded, err := r.Event()
			if err != nil {
				t.Fatal(err)
			}
			e = decoded.(events.SecretExclusivityBroken)
		}
	}
	if len(e.Leases) != 2 || e.From.IsZero() || !e.From.Before(e.Until) && !e.From.Equal(e.Until) {
		t.Errorf("on record: %+v", e)
	}
}

// An approval is spent in one log (rule R12): the other side of a cut can't spend
// it, nor once more after the heal.
func TestAnApprovalIsSpentOnceAcrossACut(t *testing.T) {
	h := newHalves(t)
	h.a.do("ada", commands.RemoveGrant{User: "olaf", Account: "root", Target: "web1"})
	h.a.user2("boss", events.Admin)
	id := h.a.must("olaf", commands.MakeRequest{Account: "root", Target: "web1", Reason: "fire", For: time.Hour, Uses: 1})
	h.a.must("boss", commands.ApproveRequest{Request: id})
	h.hear() // and cut from here on
	if _, err := h.b.enters("olaf"); err == nil {
		t.Fatal("a site spent an approval that is another log's to count")
	}
	if _, err := h.a.enters("olaf"); err != nil {
		t.Fatal(err)
	}
	h.hear()
	for _, w := range []*world{h.a, h.b} {
		if _, err := w.enters("olaf"); err == nil {
			t.Error("an approval was spent twice")
		}
		if v := w.standing(id); v.State != aggregate.Used {
			t.Errorf("the request is %s", v.State)
		}
	}
}

// The glass can be broken on both sides of a cut: who may is known everywhere. A
// change of that needs two administrators, and the stricter one counts.
func TestBreakGlassAcrossACut(t *testing.T) {
	h := newHalves(t)
	h.a.user2("boss", events.Admin)
	for _, who := range []string{"olaf", "boss"} {
		p := h.a.must("ada", commands.ProposeGlass{User: who, Allow: true, MaxTime: time.Hour, Review: 24 * time.Hour, Selector: "root+*", Reason: "on call"})
		h.a.must("boss", commands.ConfirmGlass{Proposal: p})
	}
	h.a.do("ada", commands.RemoveGrant{User: "olaf", Account: "root", Target: "web1"})
	strict, within := events.Strict, uint64(60)
	h.a.do("ada", commands.SetRole{Role: events.Operator, Staleness: &strict, Within: &within})
	h.hear()
	h.silence = time.Hour
	h.pass(time.Hour)
	for _, w := range []*world{h.a, h.b} {
		w.must("olaf", commands.BreakGlass{Account: "root", Target: "web1", Reason: "fire", For: time.Hour})
		if s, err := w.enters("olaf"); err != nil || s.Request.IsZero() {
			t.Errorf("break-glass, by itself: %v", err)
		}
	}
	h.a.do("ada", commands.DisableUser{User: "olaf"})
	h.hear()
	if _, err := h.b.enters("olaf"); err == nil {
		t.Error("somebody who was disabled on the other side of a cut broke the glass")
	}
}

// A strict role starts nothing where nothing was heard of the users' site for
// longer than it allows (rule R10), but by break-glass.
func TestStrictRolesNeedNews(t *testing.T) {
	h := newHalves(t)
	strict, within := events.Strict, uint64(300)
	h.a.do("ada", commands.SetRole{Role: events.Operator, Staleness: &strict, Within: &within})
	h.hear()
	for _, at := range []struct {
		silent time.Duration
		opens  bool
		goesOn bool
	}{{0, true, true}, {5 * time.Minute, true, true}, {6 * time.Minute, false, true}, {11 * time.Minute, false, false}} {
		h.pass(time.Hour) // the newest record is old: only the link has news
		h.silence = at.silent
		_, err := h.b.enters("olaf")
		if (err == nil) != at.opens || err != nil && !refusedFor(err, "nothing was heard of site here") {
			t.Errorf("after %s without news: %v", at.silent, err)
		}
		h.b.d.View(func(s *aggregate.State) {
			if why := h.b.d.Silence(s, h.b.user("olaf")); (why == "") != at.goesOn {
				t.Errorf("after %s a session is told %q", at.silent, why)
			}
		})
		if _, err := h.a.enters("olaf"); err != nil {
			t.Errorf("at the home site: %v", err)
		}
	}
	for _, w := range []*world{h.a, h.b} { // records bear the time that it is by now
		w.site.Skew += w.now.Sub(aggregatetest.Epoch)
	}
	h.a.do("ada", commands.LimitUser{User: "olaf", MaxSessions: 9})
	h.hear()
	if _, err := h.b.enters("olaf"); err != nil {
		t.Errorf("with a fresh record that came by another way: %v", err)
	}
}

// What a site wrote whose clock is ahead is no news once it is old, nor when it is
// carried here late (rule R10): otherwise who was shut out there meanwhile came in
// here for as long as that clock is ahead.
func TestAttackAClockThatIsAheadIsNoNews(t *testing.T) {
	h := newHalves(t)
	strict, within := events.Strict, uint64(300)
	h.a.do("ada", commands.SetRole{Role: events.Operator, Staleness: &strict, Within: &within})
	h.hear()
	h.silence = time.Hour
	for name, ahead := range map[string]time.Duration{"hours": 3 * time.Hour, "a little": 4 * time.Second} {
		h.pass(24 * time.Hour)
		h.b.site.Skew = h.b.now.Sub(aggregatetest.Epoch)
		h.a.site.Skew = h.b.site.Skew + ahead
		h.a.do("ada", commands.LimitUser{User: "olaf", MaxSessions: 9})
		h.hear()
		if _, err := h.b.enters("olaf"); (err == nil) != (ahead < time.Minute) {
			t.Errorf("%s ahead, at once: %v", name, err)
		}
		for range 8 {
			h.pass(time.Hour)
			if _, err := h.b.enters("olaf"); !refusedFor(err, "nothing was heard of site here") {
				t.Errorf("%s ahead, with news that is old: %v", name, err)
			}
		}
	}
}

// Removing an account while its secret is rotated elsewhere loses no version of
// it (rule R7): an administrator still gets at the newest.
func TestRemovedAccountsKeepTheirSecrets(t *testing.T) {
	h := newHalves(t)
	a := h.a.account("root", "web1")
	h.a.do("ada", commands.RemoveAccount{Account: "root", Target: "web1"})
	h.b.do("ada", commands.PutSecret{Account: "root", Target: "web1", Secret: version2})
	h.hear()
	for _, w := range []*world{h.a, h.b} {
		c, ok := w.state.Credential(a.Credential)
		if !ok {
			t.Fatal("the credential is gone")
		}
		if v, ok := c.Current(); !ok || v.ID != version2.Version || len(c.Versions()) != 2 {
			t.Errorf("current %+v of %d versions", v, len(c.Versions()))
		}
		if _, err := w.enters("olaf"); err == nil {
			t.Error("a removed account takes sessions")
		}
	}
}

package aggregate_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// erasing is two sites with two administrators and a recording.
type erasing struct {
	*testing.T
	a, b     *peer
	all      []events.Record
	ada, eve events.Actor
	id       uuid.UUID
	ask      events.Record
	first    int // of a version of a secret, in all
}

func newErasing(t *testing.T) *erasing {
	x := &erasing{T: t, a: newPeer(0), b: newPeer(1), id: aggregatetest.ID("session", 0)}
	x.ada, x.eve = x.user("ada", events.Admin), x.user("eve", events.Admin)
	x.hear()
	x.ask = x.write(x.a, x.id, x.ada, events.ErasureAsked{What: events.ErasableRecording, Reason: "why", Fingerprint: "ada"})
	return x
}

func (x *erasing) user(name string, role events.Role) events.Actor {
	id := aggregatetest.ID(name, 0)
	x.write(x.a, id, events.SiteActor(x.a.ID), events.UserAdded{Name: name, Role: role})
	x.write(x.a, id, events.SiteActor(x.a.ID), events.UserKeyAdded{Fingerprint: name})
	return events.UserActor(events.UserID{UUID: id})
}

func (x *erasing) write(p *peer, stream uuid.UUID, by events.Actor, e events.Event) events.Record {
	r := p.write(x, stream, by, e)
	x.all = append(x.all, r)
	return r
}

func (x *erasing) confirm(p *peer, by events.Actor) events.Record {
	return x.write(p, x.id, by, events.ErasureConfirmed{Ask: x.ask.Header.ID, What: events.ErasableRecording, Fingerprint: "of the confirmer"})
}

func (x *erasing) hear() {
	x.a.hear(x, x.b.Records)
	x.b.hear(x, x.a.Records)
	if x.a.state.Digest() != x.b.state.Digest() {
		x.Fatal("the sites hold different states")
	}
}

func (x *erasing) want(erased bool, when string) {
	x.Helper()
	for _, p := range []*peer{x.a, x.b} {
		if _, is := p.state.Erased(x.id); is != erased {
			x.Errorf("%s: erased is %t", when, is)
		}
	}
}

// Each case happens at b, the confirmation at a, and neither knows of the other, unless
// after is set; unheard has b know nothing of the ask either.
func TestWhatUndoesAnErasure(t *testing.T) {
	for name, c := range map[string]struct {
		unheard, after, counts bool
		at                     func(x *erasing)
	}{
		"nothing":                               {counts: true, at: func(*erasing) {}},
		"a withdrawal that did not know of it":  {counts: true, at: func(x *erasing) { x.write(x.b, x.id, x.ada, events.ErasureWithdrawn{}) }},
		"a withdrawal after it":                 {after: true, counts: true, at: func(x *erasing) { x.write(x.b, x.id, x.ada, events.ErasureWithdrawn{}) }},
		"the confirmer was disabled elsewhere":  {at: func(x *erasing) { x.write(x.b, x.eve.ID, x.ada, events.UserDisabled{}) }},
		"the asker was disabled elsewhere":      {unheard: true, at: func(x *erasing) { x.write(x.b, x.ada.ID, x.eve, events.UserDisabled{}) }},
		"the confirmer was disabled afterwards": {after: true, counts: true, at: func(x *erasing) { x.write(x.b, x.eve.ID, x.ada, events.UserDisabled{}) }},
		"a key of one was given to the other":   {at: func(x *erasing) { x.write(x.b, x.eve.ID, x.ada, events.UserKeyAdded{Fingerprint: "ada"}) }},
		"a key of one was given to the other after it, to undo it": {after: true, counts: true, at: func(x *erasing) {
			x.write(x.b, x.ada.ID, x.eve, events.UserKeyRemoved{Fingerprint: "ada"})
			x.write(x.b, x.eve.ID, x.eve, events.UserKeyAdded{Fingerprint: "ada"})
		}},
		"something else is sealed under that name": {at: func(x *erasing) { x.write(x.b, x.id, x.ada, events.CredentialAdded{Kind: events.Password}) }},
	} {
		t.Run(name, func(t *testing.T) {
			x := newErasing(t)
			if !c.unheard {
				x.hear()
			}
			x.confirm(x.a, x.eve)
			if c.after {
				x.hear()
			}
			c.at(x)
			x.hear()
			x.want(c.counts, name)
			late := aggregate.New() // which hears b first
			for _, records := range [][]events.Record{x.b.Records, x.a.Records, x.b.Records} {
				for _, r := range records {
					_ = late.Apply(r) // early at first
				}
			}
			if late.Digest() != x.a.state.Digest() {
				t.Error("another order gives another state")
			}
		})
	}
}

// Who writes the events by hand needs two administrators all the same, and the ask
// that it confirms.
func TestAttackErasureByHand(t *testing.T) {
	x := newErasing(t)
	aud := x.user("aud", events.Auditor)
	stranger := events.UserActor(events.UserID{UUID: aggregatetest.ID("stranger", 0)})
	for _, by := range []events.Actor{x.ada, aud, stranger, events.SiteActor(x.a.ID), events.UnknownActor()} {
		x.confirm(x.a, by)
	}
	x.write(x.a, x.id, x.eve, events.ErasureConfirmed{What: events.ErasableRecording})                                                 // of no ask
	x.write(x.a, x.id, x.eve, events.ErasureConfirmed{Ask: x.ask.Header.ID, What: events.ErasableRecording, Fingerprint: "ada"})       // the asker's key
	x.write(x.b, aggregatetest.ID("session", 1), x.eve, events.ErasureConfirmed{Ask: x.ask.Header.ID, What: events.ErasableRecording}) // of another session
	x.hear()
	x.want(false, "by hand")
	x.write(x.a, x.id, x.eve, events.ErasureWithdrawn{})
	x.confirm(x.a, x.eve)
	x.hear()
	x.want(false, "what was withdrawn")
	x.ask = x.write(x.b, x.id, aud, events.ErasureAsked{What: events.ErasableRecording})
	x.confirm(x.b, x.eve)
	x.ask = x.write(x.b, x.id, x.ada, events.ErasureAsked{What: "all"})
	x.confirm(x.b, x.eve)
	x.hear()
	x.want(false, "asked by an auditor, or of an unknown kind")
	x.ask = x.write(x.b, x.id, x.ada, events.ErasureAsked{What: events.ErasableRecording})
	x.confirm(x.b, x.eve)
	x.hear()
	x.want(true, "by both")
}

// An edge erases nothing, and says of itself alone that it has done so.
func TestAttackErasureAtAnEdge(t *testing.T) {
	m := newMembers(t)
	edge, other := newPeer(1), newPeer(2)
	m.join(edge, events.EdgeSite)
	m.join(other, events.PeerSite)
	id, eve := aggregatetest.ID("session", 0), aggregatetest.ID("eve", 0)
	var admins []events.Actor
	for _, name := range []string{"ada", "eve"} {
		user := aggregatetest.ID(name, 0)
		m.at(m.founder, user, events.UserAdded{Name: name, Role: events.Admin})
		admins = append(admins, events.UserActor(events.UserID{UUID: user}))
	}
	ask := m.by(edge, admins[0], id, events.ErasureAsked{What: events.ErasableRecording})
	m.by(edge, admins[1], id, events.ErasureConfirmed{Ask: ask.Header.ID, What: events.ErasableRecording})
	ask = m.by(other, admins[0], id, events.ErasureAsked{What: events.ErasableRecording})
	m.by(edge, events.UserActor(events.UserID{UUID: eve}), id, events.ErasureConfirmed{Ask: ask.Header.ID, What: events.ErasableRecording})
	for _, p := range []*peer{m.founder, edge, other} {
		if _, erased := p.state.Erased(id); erased {
			t.Error("an edge has erased a recording")
		}
	}
	m.by(other, admins[1], id, events.ErasureConfirmed{Ask: ask.Header.ID, What: events.ErasableRecording})
	m.at(edge, id, events.ErasureDone{})
	for _, p := range []*peer{m.founder, edge, other} {
		x, _ := p.state.Erasure(id)
		_, erased := p.state.Erased(id)
		if done, founder := p.state.HasErased(x, edge.ID), p.state.HasErased(x, m.founder.ID); !erased || done == nil || founder != nil {
			t.Errorf("erased %t, done at the edge %v, at the founder %v", erased, done, founder)
		}
	}
}

// erase makes an event of the erasing of a session's recording.
func (h *history) erase(t *rapid.T, at int, pick picker) {
	id, ok := pick("session")
	if credential, other := pick("credential"); other && rapid.Bool().Draw(t, "of something else") {
		id, ok = credential, true
	}
	if !ok {
		return
	}
	switch rapid.IntRange(0, 5).Draw(t, "erase") {
	case 0, 1:
		what := rapid.SampledFrom([]events.Erasable{events.ErasableRecording, events.ErasableSecrets}).Draw(t, "what is erased")
		h.write(t, at, id, events.ErasureAsked{What: what, Fingerprint: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "proven")})
	case 2, 3:
		var e events.ErasureConfirmed
		if x, asked := h.peers[at].state.Erasure(id); asked {
			e.Ask = x.First().At.ID
		}
		h.write(t, at, id, e)
	case 4:
		h.write(t, at, id, events.ErasureWithdrawn{})
	default:
		h.write(t, at, id, events.ErasureDone{})
	}
}

// Sites that keep to no rule say all sorts of things about one erasure, in whatever
// order they are heard.
func TestOrderOfErasuresDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		target, account, credential := aggregatetest.ID("target", 0), aggregatetest.ID("account", 0), aggregatetest.ID("credential", 0)
		h := &history{ids: map[string][]uuid.UUID{"session": {aggregatetest.ID("session", 0), aggregatetest.ID("session", 1)}, "credential": {credential}}}
		for n := range 3 {
			h.peers = append(h.peers, newPeer(n))
			h.heard = append(h.heard, nil)
		}
		add := func(stream uuid.UUID, e events.Event) {
			h.all = append(h.all, h.peers[0].write(t, stream, events.SiteActor(h.peers[0].ID), e))
			h.heard[0] = append(h.heard[0], len(h.all)-1)
		}
		for n, name := range []string{"ada", "eve", "max"} {
			h.ids["user"] = append(h.ids["user"], aggregatetest.ID("user", n))
			add(aggregatetest.ID("user", n), events.UserAdded{Name: name, Role: events.Admin})
		}
		for _, id := range h.ids["session"] {
			add(id, events.SessionStarted{})
		}
		add(target, events.TargetAdded{Name: "web1", Addr: "h:22"})
		add(account, events.AccountAdded{Name: "root", Target: events.TargetID{UUID: target}, Credential: events.CredentialID{UUID: credential}})
		add(credential, events.CredentialAdded{Account: events.AccountID{UUID: account}, Kind: events.Password})
		add(account, events.AccountRemoved{})
		h.sync(t, 1, 0)
		h.sync(t, 2, 0)
		for range rapid.IntRange(5, 25).Draw(t, "steps") {
			at := rapid.IntRange(0, 2).Draw(t, "site")
			switch user := rapid.SampledFrom(h.ids["user"]).Draw(t, "user"); rapid.IntRange(0, 12).Draw(t, "what") {
			case 0, 1:
				h.sync(t, at, rapid.IntRange(0, 2).Draw(t, "from"))
			case 2:
				h.write(t, at, user, events.UserKeyAdded{Fingerprint: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key")})
			case 3:
				if rapid.IntRange(0, 3).Draw(t, "disable") == 0 {
					h.write(t, at, user, events.UserDisabled{})
				}
			case 4:
				h.write(t, at, credential, events.SecretStaged{Sealed: []byte("x")})
			case 5:
				e := rapid.SampledFrom([]events.Event{events.AccountRemoved{}, events.AccountRestored{}}).Draw(t, "account")
				h.write(t, at, account, e)
			default:
				h.erase(t, at, func(sort string) (uuid.UUID, bool) {
					ids := h.known(at, sort)
					if len(ids) == 0 {
						return uuid.UUID{}, false
					}
					return rapid.SampledFrom(ids).Draw(t, sort), true
				})
			}
		}
		want := ""
		for range 4 {
			s := aggregate.New()
			deliver(t, s, h.permute(t))
			got := s.Digest() + fmt.Sprintf(" %+v", s.Counts())
			if want == "" {
				want = got
			}
			if got != want {
				t.Fatalf("another order of %d records gives another state", len(h.all))
			}
		}
	})
}

// The secrets of an account are erased when it is in the archive, and nothing was done
// to them of which the confirmation does not know.
func TestErasedSecretsOfARemovedAccount(t *testing.T) {
	target, account := aggregatetest.ID("target", 0), aggregatetest.ID("account", 0)
	for name, c := range map[string]struct {
		inUse, after, counts bool
		at                   func(x *erasing)
	}{
		"nothing":                    {counts: true, at: func(*erasing) {}},
		"the account is in use":      {inUse: true, at: func(*erasing) {}},
		"a rotation on another site": {at: func(x *erasing) { x.write(x.b, x.id, x.ada, events.SecretStaged{Sealed: []byte("new")}) }},
		"a version of before is sent on another site": {at: func(x *erasing) {
			x.write(x.b, x.id, events.SiteActor(x.b.ID), events.SecretSent{Version: events.SecretID{UUID: x.all[x.first].Header.ID}})
		}},
		"a version is staged by who knows":  {after: true, counts: true, at: func(x *erasing) { x.write(x.b, x.id, x.ada, events.SecretStaged{Sealed: []byte("new")}) }},
		"restored by who does not know":     {at: func(x *erasing) { x.write(x.b, account, x.ada, events.AccountRestored{}) }},
		"restored by who knows, to undo it": {after: true, counts: true, at: func(x *erasing) { x.write(x.b, account, x.ada, events.AccountRestored{}) }},
		"restored and removed by who does not know": {at: func(x *erasing) {
			x.write(x.b, account, x.ada, events.AccountRestored{})
			x.write(x.b, account, x.ada, events.AccountRemoved{})
		}},
		"removed once more": {after: true, counts: true, at: func(x *erasing) { x.write(x.b, account, x.ada, events.AccountRemoved{}) }},
	} {
		t.Run(name, func(t *testing.T) {
			x := newErasing(t)
			x.id = aggregatetest.ID("credential", 0)
			x.write(x.a, target, x.ada, events.TargetAdded{Name: "web1", Addr: "h:22"})
			x.write(x.a, account, x.ada, events.AccountAdded{Name: "root", Target: events.TargetID{UUID: target}, Credential: events.CredentialID{UUID: x.id}})
			x.write(x.a, x.id, x.ada, events.CredentialAdded{Account: events.AccountID{UUID: account}, Kind: events.Password})
			x.first = len(x.all)
			x.write(x.a, x.id, x.ada, events.SecretStaged{Sealed: []byte("first")})
			later := aggregatetest.ID("key", 0)
			x.write(x.a, x.id, x.ada, events.SecretStaged{Sealed: []byte("second"), Key: later})
			if !c.inUse {
				x.write(x.a, account, x.ada, events.AccountRemoved{})
			}
			x.ask = x.write(x.a, x.id, x.ada, events.ErasureAsked{What: events.ErasableSecrets, Reason: "why", Fingerprint: "ada"})
			x.hear()
			x.confirm(x.a, x.eve)
			if c.after {
				x.hear()
			}
			c.at(x)
			x.hear()
			x.want(c.counts, name)
			for _, key := range []uuid.UUID{x.id, later} {
				if x.a.state.KeyErased(key) != c.counts {
					t.Errorf("data key %s is to be destroyed: %t", key, !c.counts)
				}
			}
			// Another account that is said to be sealed under one of the keys keeps it.
			other := aggregatetest.ID("credential", 1)
			x.write(x.b, other, x.ada, events.CredentialAdded{Kind: events.Password})
			x.write(x.b, other, x.ada, events.SecretStaged{Sealed: []byte("x"), Key: later})
			x.hear()
			if x.a.state.KeyErased(later) || x.a.state.KeyErased(x.id) != c.counts {
				t.Error("a data key is destroyed that seals something else")
			}
		})
	}
}

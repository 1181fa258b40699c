package aggregate_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/events"
)

// Random histories are cheap, and the rare ones are the ones that matter.
func TestMain(m *testing.M) {
	checks := "400"
	if os.Getenv("HOLDFAST_TEST_FULL") == "1" {
		checks = "100000"
	}
	flag.Parse()
	if err := flag.Set("rapid.checks", checks); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// peer is a site with the state that it has applied so far.
type peer struct {
	*aggregatetest.Site
	state *aggregate.State
}

func newPeer(n int) *peer {
	p := &peer{aggregatetest.NewSite(n), aggregate.New()}
	p.state.SetSelf(p.ID)
	p.Knows = p.state.Clock
	return p
}

type fataler interface {
	Fatalf(format string, args ...any)
}

// write makes one event at the site and applies it there.
func (p *peer) write(t fataler, stream uuid.UUID, by events.Actor, e events.Event) events.Record {
	records, err := p.Append(context.Background(), p.Draft(stream, by, e))
	if err != nil {
		t.Fatalf("append %T: %v", e, err)
	}
	apply(t, p.state, records...)
	return records[0]
}

// hear applies everything that another site has written and applied before.
func (p *peer) hear(t fataler, all []events.Record) {
	for _, r := range all {
		p.Observe(r)
	}
	deliver(t, p.state, all)
}

func apply(t fataler, s *aggregate.State, records ...events.Record) {
	for _, r := range records {
		if err := s.Apply(r); err != nil {
			t.Fatalf("apply: %v", err)
		}
	}
}

// deliver applies records given in any order that has causes first.
func deliver(t fataler, s *aggregate.State, records []events.Record) { apply(t, s, records...) }

// history is what random sites did, in one causal order: that of writing.
type history struct {
	peers []*peer
	all   []events.Record
	heard [][]int // for each site, indexes into all that it applied, in its order
	ids   map[string][]uuid.UUID
}

func drawHistory(t *rapid.T) *history {
	h := &history{ids: map[string][]uuid.UUID{}}
	for n := range rapid.IntRange(2, 4).Draw(t, "sites") {
		h.peers = append(h.peers, newPeer(n))
		h.heard = append(h.heard, nil)
	}
	for step := range rapid.IntRange(5, 60).Draw(t, "steps") {
		at := rapid.IntRange(0, len(h.peers)-1).Draw(t, "site")
		if rapid.IntRange(0, 5).Draw(t, "what") == 0 {
			h.sync(t, at, rapid.IntRange(0, len(h.peers)-1).Draw(t, "from"))
			continue
		}
		h.act(t, at, step)
	}
	return h
}

// sync lets one site apply what another has applied.
func (h *history) sync(t *rapid.T, to, from int) {
	for _, i := range h.heard[from] {
		if !slices.Contains(h.heard[to], i) {
			h.peers[to].hear(t, h.all[i:i+1])
			h.heard[to] = append(h.heard[to], i)
		}
	}
}

func (h *history) write(t *rapid.T, at int, stream uuid.UUID, e events.Event) {
	by := events.SiteActor(h.peers[at].ID)
	if u := h.known(at, "user"); len(u) > 0 && rapid.Bool().Draw(t, "by a user") {
		by = events.UserActor(events.UserID{UUID: rapid.SampledFrom(u).Draw(t, "actor")})
	}
	h.all = append(h.all, h.peers[at].write(t, stream, by, e))
	h.heard[at] = append(h.heard[at], len(h.all)-1)
}

// known lists the ids of a sort that a site has heard of.
func (h *history) known(at int, sort string) []uuid.UUID {
	var ids []uuid.UUID
	for _, id := range h.ids[sort] {
		if slices.ContainsFunc(h.heard[at], func(i int) bool { return h.all[i].Header.Stream == id }) {
			ids = append(ids, id)
		}
	}
	return ids
}

// act makes one event that the site could have decided on what it knows.
func (h *history) act(t *rapid.T, at, step int) {
	names := []string{"a", "b"} // few, so that sites collide
	name := rapid.SampledFrom(names).Draw(t, "name")
	fresh := aggregatetest.ID("aggregate", step)
	pick := func(sort string) (uuid.UUID, bool) {
		ids := h.known(at, sort)
		if len(ids) == 0 {
			return uuid.UUID{}, false
		}
		return rapid.SampledFrom(ids).Draw(t, sort), true
	}
	add := func(sort string, e events.Event) {
		h.ids[sort] = append(h.ids[sort], fresh)
		h.write(t, at, fresh, e)
	}
	on := func(sort string, e events.Event) {
		if id, ok := pick(sort); ok {
			h.write(t, at, id, e)
		}
	}
	switch rapid.IntRange(0, 70).Draw(t, "event") {
	case 0:
		add("user", events.UserAdded{Name: name, Role: events.Admin})
	case 1, 2:
		on("user", events.UserKeyAdded{Key: "ssh-ed25519 " + name, Fingerprint: name})
	case 3:
		on("user", events.UserKeyRemoved{Fingerprint: name})
	case 4:
		on("user", events.UserDisabled{Reason: "left"})
	case 5:
		add("target", events.TargetAdded{Name: name, Addr: "h:22", HostKeys: []string{"k" + name, "k"}})
	case 6:
		on("target", events.TargetHostKeyPinned{HostKeys: []string{"k" + name}, Scanned: name == "a"})
	case 7:
		on("target", events.TargetAlgorithmsAllowed{Algorithms: []string{name, "c"}})
	case 8:
		if name == "a" {
			on("target", events.TargetRestored{})
		} else {
			on("target", events.TargetRemoved{})
		}
	case 9, 10:
		if target, ok := pick("target"); ok {
			add("account", events.AccountAdded{Name: name, Target: events.TargetID{UUID: target}})
		}
	case 11:
		if name == "a" {
			on("account", events.AccountRestored{})
		} else {
			on("account", events.AccountRemoved{})
		}
	case 12:
		add("credential", events.CredentialAdded{Kind: events.Password})
	case 13, 14:
		h.stage(t, at, pick)
	case 15, 16:
		h.claim(t, at, pick)
	case 17:
		h.grant(t, at, pick, add)
	case 18:
		h.removeGrant(t, at, pick)
	case 19:
		add("session", events.SessionStarted{Source: name})
	case 20:
		on("session", events.SessionConnected{})
	case 21:
		on("session", events.SessionKillRequested{Reason: name})
	case 22:
		on("session", events.SessionEnded{Reason: events.EndedByClient})
	case 23:
		on("user", events.UserLimitsSet{MaxSessions: uint32(step % 3)})
	case 24:
		on("target", events.TargetLimitsSet{MaxSessions: uint32(step % 3)})
	case 25, 26:
		add("ca", events.CATrusted{Name: name, Key: name, Fingerprint: name})
	case 27:
		on("ca", events.CADistrusted{})
	case 28:
		on("ca", events.CertificateRevoked{Serial: uint64(step % 3), KeyID: name})
	case 29:
		on("target", events.TargetParamsSet{Params: []events.Param{{Name: "database", Value: name}}})
	case 30:
		on("account", events.AccountViaSet{Via: events.AccountID{UUID: aggregatetest.ID("aggregate", step%3)}})
	case 31:
		on("account", events.AccountParamsSet{Params: []events.Param{{Name: "host", Value: name}}})
	case 32, 33, 34, 35, 36, 37, 38:
		h.access(t, at, step, pick, add, on)
	case 39, 40, 41, 42, 43, 44, 45, 46:
		h.factor(t, step, name, pick, add, on)
	case 47, 48, 49:
		h.rekey(t, at, step, name, on)
	case 63, 64, 65, 66:
		h.move(t, at, pick)
	case 67, 68, 69, 70:
		h.erase(t, at, pick)
	default:
		h.rotate(t, at, step, pick, add, on)
	}
}

// move makes an event by which duties move.
func (h *history) move(t *rapid.T, at int, pick picker) {
	s, of := h.peers[at].state, h.peers[rapid.IntRange(0, len(h.peers)-1).Draw(t, "of")].ID
	var targets []events.TargetID
	if target, ok := pick("target"); ok && rapid.Bool().Draw(t, "in part") {
		targets = append(targets, events.TargetID{UUID: target})
	}
	switch to := h.peers[rapid.IntRange(0, len(h.peers)-1).Draw(t, "to")].ID; rapid.IntRange(0, 2).Draw(t, "move") {
	case 0:
		h.write(t, at, of.UUID, events.DutiesTaken{Term: s.NextTerm(of), From: to, Targets: targets})
	case 1:
		h.write(t, at, of.UUID, events.DutiesGiven{Term: s.NextTerm(of), To: to, Epoch: 1, Targets: targets})
	default:
		if moves := s.Moves(); len(moves) > 0 {
			m := rapid.SampledFrom(moves).Draw(t, "moved")
			h.write(t, at, m.Site.UUID, events.DutiesYielded{Term: m.Term, To: m.Holder, By: m.At.ID})
		}
	}
}

type picker func(sort string) (uuid.UUID, bool)

func (h *history) stage(t *rapid.T, at int, pick picker) {
	if id, ok := pick("credential"); ok {
		h.write(t, at, id, events.SecretStaged{Sealed: []byte("sealed")})
	}
}

func (h *history) claim(t *rapid.T, at int, pick picker) {
	id, ok := pick("credential")
	if !ok {
		return
	}
	c, _ := h.peers[at].state.Credential(events.CredentialID{UUID: id})
	if c == nil || len(c.Versions()) == 0 {
		return
	}
	v := rapid.SampledFrom(c.Versions()).Draw(t, "version")
	if rapid.Bool().Draw(t, "verified") {
		h.write(t, at, id, events.SecretVerified{Version: v.ID, How: events.ByLogin})
	} else {
		h.write(t, at, id, events.SecretApplied{Version: v.ID, How: events.ByEntry})
	}
}

func (h *history) grant(t *rapid.T, _ int, pick picker, add func(string, events.Event)) {
	user, ok := pick("user")
	account, ok2 := pick("account")
	if !ok || !ok2 {
		return
	}
	g := events.GrantAdded{User: events.UserID{UUID: user}, Account: events.AccountID{UUID: account}}
	if group, ok := pick("group"); ok && rapid.Bool().Draw(t, "to a group") {
		g.User, g.Group = events.UserID{}, events.GroupID{UUID: group}
	}
	if rapid.Bool().Draw(t, "by selector") {
		g.Account, g.Selector = events.AccountID{}, events.Selector(rapid.SampledFrom([]string{"a+env=a", "*+env=b", "a+*"}).Draw(t, "selector"))
	}
	add("grant", g)
}

func (h *history) removeGrant(t *rapid.T, at int, pick picker) {
	id, ok := pick("grant")
	if !ok {
		return
	}
	if g, ok := h.peers[at].state.Grant(events.GrantID{UUID: id}); ok {
		h.write(t, at, id, events.GrantRemoved{User: g.User, Account: g.Account, Group: g.Group, Selector: g.Selector})
	}
}

// permute gives the records in a random order that keeps each record after
// everything that its site had applied, which is what its clock covers.
func (h *history) permute(t *rapid.T) []events.Record {
	waiting := map[events.Origin][]int{}
	needs := make([]events.Clock, len(h.all))
	coders := map[events.Origin]*events.ClockCoder{}
	var origins []events.Origin
	for i, r := range h.all {
		o := r.Header.Origin()
		if coders[o] == nil {
			coders[o] = &events.ClockCoder{}
			origins = append(origins, o)
		}
		waiting[o] = append(waiting[o], i)
		clock, err := coders[o].Apply(r.Header.Clock)
		if err != nil {
			t.Fatalf("clock: %v", err)
		}
		needs[i] = clock
	}
	var out []events.Record
	var done events.Clock
	for len(out) < len(h.all) {
		var ready []events.Origin
		for _, o := range origins {
			if w := waiting[o]; len(w) > 0 && done.Covers(needs[w[0]]) {
				ready = append(ready, o)
			}
		}
		o := rapid.SampledFrom(ready).Draw(t, "next")
		r := h.all[waiting[o][0]]
		out, waiting[o] = append(out, r), waiting[o][1:]
		done = done.With(o, r.Header.Position)
	}
	return out
}

// Any order of delivery that keeps causes before effects gives the same state.
func TestOrderOfConcurrentRecordsDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		written := aggregate.New()
		deliver(t, written, h.all)
		want, conflicts := written.Digest(), shownConflicts(written)
		for range 3 {
			other := aggregate.New()
			deliver(t, other, h.permute(t))
			if got := other.Digest(); got != want {
				t.Fatalf("another order of %d records gives another state", len(h.all))
			}
			if got := shownConflicts(other); got != conflicts {
				t.Fatalf("another order of %d records shows other conflicts:\n%s\n%s", len(h.all), got, conflicts)
			}
		}
		for at := range h.peers { // and so do the sites themselves, once all have heard all
			for from := range h.peers {
				h.sync(t, at, from)
			}
		}
		for at := range h.peers {
			h.sync(t, at, (at+1)%len(h.peers))
			for from := range h.peers {
				h.sync(t, at, from)
			}
			if got := h.peers[at].state.Digest(); got != want {
				t.Fatalf("site %d holds another state", at)
			}
		}
	})
}

func shownConflicts(s *aggregate.State) string {
	var b strings.Builder
	for _, c := range s.Conflicts() {
		fmt.Fprintf(&b, "%s %s:", c.What, c.Name)
		for _, h := range c.Heads {
			fmt.Fprintf(&b, " %s %s %s:%d", h.ID, h.Value, h.At.Origin, h.At.Position)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// What a lookup lets through must hold against the plain reading of the rules,
// computed from the events alone.
func TestWhatStandsAgreesWithTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		s := aggregate.New()
		deliver(t, s, h.permute(t))
		disabled := map[uuid.UUID]bool{}
		for _, r := range h.all {
			if r.Header.Type == "user.disabled" {
				disabled[r.Header.Stream] = true
			}
		}
		for _, f := range []string{"a", "b"} {
			if u, err := s.UserByKey(f); err == nil && (disabled[u.ID.UUID] || holders(h, f, disabled) != 1) {
				t.Fatalf("key %q lets in %s", f, u.ID)
			}
			if u, err := s.UserByName(f); err == nil && disabled[u.ID.UUID] {
				t.Fatalf("disabled user %s answers to %q", u.ID, f)
			}
		}
		for _, r := range h.all {
			if r.Header.Type == "grant.removed" {
				if _, ok := s.Grant(events.GrantID{UUID: r.Header.Stream}); ok {
					t.Fatalf("removed grant %s stands", r.Header.Stream)
				}
			}
		}
	})
}

// holders counts the live users whom some site gave the key and from whom no
// site took it without knowing of a later giving.
func holders(h *history, fingerprint string, disabled map[uuid.UUID]bool) int {
	n := 0
	for _, id := range h.ids["user"] {
		s := aggregate.New()
		deliver(nil, s, h.all)
		if u, ok := s.User(events.UserID{UUID: id}); ok && !disabled[id] && u.HasKey(fingerprint) {
			n++
		}
	}
	return n
}

func TestDigestSeesEveryField(t *testing.T) {
	seen := map[string]string{aggregate.New().Digest(): "nothing"}
	p := newPeer(0)
	by := events.SiteActor(p.ID)
	user, target, account, group := aggregatetest.ID("user", 0), aggregatetest.ID("target", 0), aggregatetest.ID("account", 0), aggregatetest.ID("group", 0)
	for _, step := range []struct {
		stream uuid.UUID
		event  events.Event
	}{
		{p.ID.UUID, events.SiteCreated{Name: "s"}},
		{p.ID.UUID, events.SiteStarted{Listen: "l"}},
		{p.ID.UUID, events.StorageFull{Log: events.Rec}},
		{user, events.UserAdded{Name: "n", Role: events.Admin}},
		{user, events.UserKeyAdded{Fingerprint: "f"}},
		{user, events.UserDisabled{}},
		{target, events.TargetAdded{Name: "t"}},
		{target, events.TargetAlgorithmsAllowed{Algorithms: []string{"x"}}},
		{target, events.TargetParamsSet{Params: []events.Param{{Name: "x", Value: "y"}}}},
		{target, events.TargetLabelSet{Key: "k", Value: "v"}},
		{target, events.TargetLabelRemoved{Key: "k"}},
		{group, events.GroupAdded{Name: "g"}},
		{group, events.GroupMemberAdded{User: events.UserID{UUID: user}}},
		{group, events.GroupMemberRemoved{User: events.UserID{UUID: user}}},
		{group, events.GroupRemoved{}},
		{events.RoleStream(events.Admin), events.RoleSet{Role: events.Admin, SecondFactor: true}},
		{target, events.TargetRemoved{}},
		{target, events.TargetRestored{}},
		{account, events.AccountAdded{Name: "a"}},
		{account, events.AccountViaSet{Via: events.AccountID{UUID: user}}},
		{account, events.AccountParamsSet{Params: []events.Param{{Name: "x", Value: "y"}}}},
		{account, events.AccountRemoved{}},
		{account, events.AccountRestored{}},
		{account, events.AccountRemoved{}},
	} {
		p.write(t, step.stream, by, step.event)
		d := p.state.Digest()
		if before, twice := seen[d]; twice {
			t.Errorf("%T gives the same digest as %s", step.event, before)
		}
		seen[d] = fmt.Sprintf("%T", step.event)
	}
}

package projections

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/events"
)

// history is what some sites wrote while they now and then heard of each other.
type history struct {
	sites   []*writerSite
	records []events.Record // in the order of writing, which is causal
	needs   []events.Clock  // what each of them depends on
}

func (h *history) write(s *writerSite, stream uuid.UUID, e events.Event) {
	needs := s.applied
	h.records = append(h.records, s.ctl(stream, e))
	h.needs = append(h.needs, needs)
}

// hear makes a site apply everything that another one has applied.
func (h *history) hear(to, from *writerSite) {
	for _, r := range h.records {
		o, n := r.Header.Origin(), r.Header.Position
		if from.applied.At(o) >= n && to.applied.At(o) < n {
			to.learn(r)
		}
	}
}

// drawHistory makes a history in which sites often decide about the same few
// aggregates without knowing of each other.
func drawHistory(t *rapid.T, tb testing.TB) *history {
	h := &history{}
	for n := range 3 {
		h.sites = append(h.sites, newSite(tb, byte(n+1)))
	}
	// A few kinds of event a history, so that they meet each other.
	focus := rapid.SliceOfN(rapid.IntRange(0, kindsOfEvent-1), 2, 6).Draw(t, "focus")
	steps := rapid.IntRange(5, 60).Draw(t, "steps")
	for i := range steps {
		s := h.sites[rapid.IntRange(0, 2).Draw(t, "site")]
		if rapid.IntRange(0, 3).Draw(t, "hear") == 0 {
			h.hear(s, h.sites[rapid.IntRange(0, 2).Draw(t, "from")])
		}
		stream, e := drawEvent(t, i, rapid.SampledFrom(focus).Draw(t, "kind"))
		h.write(s, stream, e)
	}
	return h
}

const kindsOfEvent = 52

// drawEvent makes an event of one of the kinds; i makes its fields differ.
func drawEvent(t *rapid.T, i, kind int) (uuid.UUID, events.Event) {
	some := func(class byte) uuid.UUID { return numbered(class, uint64(rapid.IntRange(1, 2).Draw(t, "which"))) }
	text := fmt.Sprint("v", i)
	user, target, account := events.UserID{UUID: some('u')}, events.TargetID{UUID: some('t')}, events.AccountID{UUID: some('a')}
	version := events.SecretID{UUID: some('v')}
	kinds := [kindsOfEvent]func() (uuid.UUID, events.Event){
		func() (uuid.UUID, events.Event) { return user.UUID, events.UserAdded{Name: text, Role: events.Admin} },
		func() (uuid.UUID, events.Event) { return user.UUID, events.UserKeyAdded{Key: text, Fingerprint: "k"} },
		func() (uuid.UUID, events.Event) { return user.UUID, events.UserKeyRemoved{Fingerprint: "k"} },
		func() (uuid.UUID, events.Event) { return user.UUID, events.UserDisabled{Reason: text} },
		func() (uuid.UUID, events.Event) { return target.UUID, events.TargetAdded{Name: text, Addr: text} },
		func() (uuid.UUID, events.Event) {
			return target.UUID, events.TargetHostKeyPinned{HostKeys: []string{text}}
		},
		func() (uuid.UUID, events.Event) {
			return target.UUID, events.TargetAlgorithmsAllowed{Algorithms: []string{text}}
		},
		func() (uuid.UUID, events.Event) { return target.UUID, events.TargetHostKeyRefused{Presented: text} },
		func() (uuid.UUID, events.Event) { return target.UUID, events.TargetRemoved{Reason: text} },
		func() (uuid.UUID, events.Event) { return account.UUID, events.AccountAdded{Name: text, Target: target} },
		func() (uuid.UUID, events.Event) { return account.UUID, events.AccountRemoved{Reason: text} },
		func() (uuid.UUID, events.Event) { return account.UUID, events.AccountRestored{Reason: text} },
		func() (uuid.UUID, events.Event) { return target.UUID, events.TargetRestored{Reason: text} },
		func() (uuid.UUID, events.Event) {
			return target.UUID, events.AccountsFound{Accounts: []events.FoundAccount{{Name: text}}}
		},
		func() (uuid.UUID, events.Event) {
			return target.UUID, events.TargetParamsSet{Params: []events.Param{{Name: "p", Value: text}}}
		},
		func() (uuid.UUID, events.Event) {
			return account.UUID, events.AccountParamsSet{Params: []events.Param{{Name: "p", Value: text}}}
		},
		func() (uuid.UUID, events.Event) {
			return account.UUID, events.AccountViaSet{Via: events.AccountID{UUID: some('a')}}
		},
		func() (uuid.UUID, events.Event) {
			return some('c'), events.CredentialAdded{Account: account, Kind: events.Password}
		},
		func() (uuid.UUID, events.Event) { return some('c'), events.SecretStaged{Public: text} },
		func() (uuid.UUID, events.Event) { return some('c'), events.SecretApplied{Version: version, How: "x"} },
		func() (uuid.UUID, events.Event) {
			return some('c'), events.SecretVerified{Version: version, How: events.SecretHow(text)}
		},
		func() (uuid.UUID, events.Event) {
			return numbered('g', uint64(i)), events.GrantAdded{User: user, Account: account, Expires: epochStart.Add(time.Duration(i) * time.Second)}
		},
		func() (uuid.UUID, events.Event) {
			return numbered('h', uint64(i)), events.GrantRemoved{User: user, Account: account, Reason: text}
		},
		func() (uuid.UUID, events.Event) {
			return some('x'), events.SessionStarted{User: user, Target: target, Source: text}
		},
		func() (uuid.UUID, events.Event) { return some('x'), events.SessionConnected{Server: text} },
		func() (uuid.UUID, events.Event) { return some('x'), events.SessionKillRequested{Reason: text} },
		func() (uuid.UUID, events.Event) { return some('x'), events.SessionRefused{What: text} },
		func() (uuid.UUID, events.Event) { return some('x'), events.SessionRead{How: text} },
		func() (uuid.UUID, events.Event) { return some('p'), events.PolicyAdded{Name: text, Selector: "*+*"} },
		func() (uuid.UUID, events.Event) { return some('p'), events.PolicyRemoved{Reason: text} },
		func() (uuid.UUID, events.Event) {
			return some('q'), events.RequestMade{User: user, Account: account, Reason: text, For: uint64(i)}
		},
		func() (uuid.UUID, events.Event) {
			return some('q'), events.AccessBreakGlass{User: user, Account: account, Reason: text, For: uint64(i)}
		},
		func() (uuid.UUID, events.Event) { return some('q'), events.RequestApproved{Uses: uint32(i)} },
		func() (uuid.UUID, events.Event) {
			return some('q'), events.ApprovalRedeemed{Session: events.SessionID{UUID: some('x')}}
		},
		func() (uuid.UUID, events.Event) { return some('q'), events.RequestDenied{Reason: text} },
		func() (uuid.UUID, events.Event) { return some('q'), events.RequestWithdrawn{Reason: text} },
		func() (uuid.UUID, events.Event) {
			return some('q'), events.RequestReviewed{Verdict: events.Issue, Note: text}
		},
		func() (uuid.UUID, events.Event) { return some('o'), events.GroupAdded{Name: text} },
		func() (uuid.UUID, events.Event) { return some('o'), events.GroupMemberAdded{User: user} },
		func() (uuid.UUID, events.Event) { return some('o'), events.GroupMemberRemoved{User: user} },
		func() (uuid.UUID, events.Event) { return some('o'), events.GroupRemoved{Reason: text} },
		func() (uuid.UUID, events.Event) { return target.UUID, events.TargetLabelSet{Key: "k", Value: text} },
		func() (uuid.UUID, events.Event) { return target.UUID, events.TargetLabelRemoved{Key: "k"} },
		func() (uuid.UUID, events.Event) {
			g := events.GrantAdded{Group: events.GroupID{UUID: some('o')}, Selector: "root+k=v"}
			if i%3 == 0 {
				return numbered('h', uint64(i)), events.GrantRemoved{Group: g.Group, Selector: g.Selector, Reason: text}
			}
			return numbered('g', uint64(i)), g
		},
		func() (uuid.UUID, events.Event) {
			return some('x'), events.SessionEnded{Reason: events.EndReason(text), In: events.Cursors{Bytes: uint64(i)}}
		},
		func() (uuid.UUID, events.Event) { return some('c'), events.SecretSent{Version: version} },
		func() (uuid.UUID, events.Event) { return some('c'), events.SecretUnknown{Version: version} },
		func() (uuid.UUID, events.Event) {
			return some('c'), events.SecretRecovered{Version: version, Public: text}
		},
		func() (uuid.UUID, events.Event) {
			return some('c'), events.SecretRejected{Version: version, Locked: i%2 == 0}
		},
		func() (uuid.UUID, events.Event) {
			return some('c'), events.SecretRevealed{Version: version, Reason: text}
		},
		func() (uuid.UUID, events.Event) {
			return some('c'), events.SecretCheckedOut{Version: version, Until: epochStart.Add(time.Duration(i) * time.Second)}
		},
		func() (uuid.UUID, events.Event) {
			return some('c'), events.SecretCheckedIn{Lease: events.LeaseID{UUID: some('l')}, Expired: i%2 == 0}
		},
	}
	return kinds[kind]()
}

// deliver draws an order in which a site may come to apply the history: each
// log in order, and nothing before what it depends on.
func (h *history) deliver(t *rapid.T) []events.Record {
	var out []events.Record
	var applied events.Clock
	for len(out) < len(h.records) {
		var ready []int
		for i, r := range h.records {
			o, n := r.Header.Origin(), r.Header.Position
			if applied.At(o) == n-1 && applied.Covers(h.needs[i]) {
				ready = append(ready, i)
			}
		}
		r := h.records[ready[rapid.IntRange(0, len(ready)-1).Draw(t, "next")]]
		applied = applied.With(r.Header.Origin(), r.Header.Position)
		out = append(out, r)
	}
	return out
}

// Whatever the order of arrival, and however it is cut into batches and
// restarts, the views come out the same, and the same as a rebuild.
func TestOrderOfArrivalDoesNotMatter(t *testing.T) {
	checks := 0
	rapid.Check(t, func(rt *rapid.T) {
		// Each check opens several databases: rapid's own count is for full runs.
		if checks++; checks > 12 && os.Getenv("HOLDFAST_TEST_FULL") == "" {
			return
		}
		h := drawHistory(rt, t)
		var want string
		for order := range 2 {
			source, dir := newSource(), t.TempDir()
			p := openIn(t, dir, source)
			for records := h.deliver(rt); len(records) > 0; {
				n := rapid.IntRange(1, len(records)).Draw(rt, "batch")
				source.append(records[:n]...)
				records = records[n:]
				catchUp(t, p)
				if rapid.IntRange(0, 4).Draw(rt, "restart") == 0 {
					if err := p.Close(); err != nil {
						t.Fatal(err)
					}
					p = openIn(t, dir, source)
				}
			}
			got := digestOf(t, p)
			if err := p.Rebuild(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if rebuilt := digestOf(t, p); rebuilt != got {
				rt.Errorf("order %d: digest %s, rebuilt %s", order, got, rebuilt)
			}
			if order == 0 {
				want = got
			}
			if got != want {
				rt.Errorf("order %d gives digest %s, order 0 gave %s", order, got, want)
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A removal ends every grant of the right whose site did not know of it, and
// no later one.
func TestRemovalOfAGrantEndsTheRight(t *testing.T) {
	user, account := events.UserID{UUID: numbered('u', 1)}, events.AccountID{UUID: numbered('a', 1)}
	grant := events.GrantAdded{User: user, Account: account}
	a, b := newSite(t, 1), newSite(t, 2)
	first, second := a.ctl(numbered('g', 1), grant), a.ctl(numbered('g', 2), grant)
	b.learn(first)
	removed := b.ctl(numbered('g', 1), events.GrantRemoved{User: user, Account: account, Reason: "left"})
	a.learn(removed)
	later := a.ctl(numbered('g', 3), grant)
	other := a.ctl(numbered('g', 4), events.GrantAdded{User: user, Account: events.AccountID{UUID: numbered('a', 2)}})
	want := map[uint64]string{1: "removed", 2: "removed", 3: "active", 4: "active"}
	for name, records := range map[string][]events.Record{
		"removed last":            {first, second, removed, later, other},
		"removed in between":      {first, removed, second, later, other},
		"removal without payload": {first, without(removed), second, later, other},
	} {
		source := newSource()
		source.append(records...)
		p := openTest(t, source)
		catchUp(t, p)
		for n, state := range want {
			if g, err := p.Grant(t.Context(), events.GrantID{UUID: numbered('g', n)}); err != nil || g.State != state {
				t.Errorf("%s: grant %d is %s (%v), want %s", name, n, g.State, err, state)
			}
		}
	}
}

// A key that was removed at one site and added again at another that did not
// know stays removed; one added again in knowledge of the removal is back.
func TestRemovalOfAKeyWinsOverWhatDidNotKnowOfIt(t *testing.T) {
	user := numbered('u', 1)
	add, remove := events.UserKeyAdded{Key: "key", Fingerprint: "k"}, events.UserKeyRemoved{Fingerprint: "k"}
	live := func(t *testing.T, records ...events.Record) int {
		source := newSource()
		source.append(records...)
		p := openTest(t, source)
		catchUp(t, p)
		u, err := p.User(t.Context(), user.String())
		if err != nil {
			t.Fatal(err)
		}
		return len(u.Keys)
	}
	a, b := newSite(t, 1), newSite(t, 2)
	added := a.ctl(user, events.UserAdded{Name: "ada"})
	first := a.ctl(user, add)
	b.learn(added)
	b.learn(first)
	removed := b.ctl(user, remove)
	blind := a.ctl(user, add)
	if n := live(t, added, first, removed, blind); n != 0 {
		t.Errorf("removal, then an addition that did not know of it: %d keys, want 0", n)
	}
	if n := live(t, added, first, blind, removed); n != 0 {
		t.Errorf("the same in the other order: %d keys, want 0", n)
	}
	a.learn(removed)
	knowing := a.ctl(user, add)
	if n := live(t, added, first, removed, blind, knowing); n != 1 {
		t.Errorf("addition in knowledge of the removal: %d keys, want 1", n)
	}
}

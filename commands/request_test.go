package commands_test

import (
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// client is from where a user of the world comes: with the key of their name.
func (w *world) try(user string, c commands.Command) ([]events.Record, error) {
	w.Helper()
	return w.tryWith(user, user, c)
}

// tryWith is try with the key of another name.
func (w *world) tryWith(user, keyOf string, c commands.Command) ([]events.Record, error) {
	w.Helper()
	ctx := commands.WithClient(w.Context(), commands.Client{Fingerprint: fingerprint(keyOf)})
	return w.d.Do(ctx, w.actor(user), c)
}

func (w *world) must(user string, c commands.Command) events.RequestID {
	w.Helper()
	records, err := w.try(user, c)
	if err != nil {
		w.Fatalf("%T by %s: %v", c, user, err)
	}
	return events.RequestID{UUID: records[0].Header.Stream}
}

// refuses wants a refusal of a class.
func (w *world) refuses(code commands.Code, user string, c commands.Command) {
	w.Helper()
	_, err := w.try(user, c)
	var r *commands.Refusal
	if !errors.As(err, &r) || r.Code != code {
		w.Errorf("%T by %s: %v, want it %s", c, user, err, code)
	}
}

func (w *world) user2(name string, role events.Role) {
	w.Helper()
	w.do("ada", commands.AddUser{Name: name, Role: role, Key: key(name)})
}

var ask = commands.MakeRequest{Account: "root", Target: "web1", Reason: "disk full", For: time.Hour}

func (w *world) standing(id events.RequestID) aggregate.Standing {
	w.Helper()
	r, ok := w.state.Request(id)
	if !ok {
		w.Fatalf("no request %s", id)
	}
	return w.state.Standing(r, w.now)
}

func (w *world) enters(user string) (commands.Started, error) {
	return w.d.StartSession(w.Context(), w.actor(user), w.start(user, "root", "web1"))
}

func TestARequestFromAskingToItsEnd(t *testing.T) {
	w := newWorld(t)
	if _, err := w.enters("olaf"); err == nil {
		t.Fatal("in without asking")
	}
	id := w.must("olaf", ask)
	if v := w.standing(id); v.State != aggregate.Pending || v.Missing != 1 {
		t.Fatalf("%+v", v)
	}
	if _, err := w.enters("olaf"); err == nil {
		t.Fatal("in before the approval")
	}
	w.now = w.now.Add(time.Minute)
	w.must("ada", commands.ApproveRequest{Request: id})
	approval := w.site.Records[len(w.site.Records)-1].Header.ID
	v := w.standing(id)
	if v.State != aggregate.Approved || v.Uses != 1 {
		t.Fatalf("%+v", v)
	}
	s, err := w.enters("olaf")
	if err != nil {
		t.Fatal(err)
	}
	e, _ := s.Event.Event()
	started := e.(events.SessionStarted)
	if started.Request != id || started.Reason != "disk full" || len(started.Approvals) != 1 || started.Approvals[0] != approval || !started.Grant.IsZero() {
		t.Errorf("%+v", started)
	}
	if v := w.standing(id); v.State != aggregate.Used {
		t.Errorf("after its use: %+v", v)
	}
	if _, err := w.enters("olaf"); err == nil {
		t.Error("in twice by one approval")
	}
	n, _ := w.state.Session(s.Session)
	if why := w.state.SessionLets(n, w.now); why != "" {
		t.Errorf("the session ends: %s", why)
	}
	if until := w.state.SessionUntil(n, w.now); !until.Equal(v.Until) {
		t.Errorf("until %s, want %s", until, v.Until)
	}
	if why := w.state.SessionLets(n, v.Until); why == "" {
		t.Error("the session goes on when its time is over")
	}
}

// However many ask at once, one approval opens one session (rule R12).
func TestAnApprovalIsSpentOnce(t *testing.T) {
	w := newWorld(t)
	id := w.must("olaf", commands.MakeRequest{Account: "root", Target: "web1", Reason: "x", For: time.Hour, Uses: 3})
	w.must("ada", commands.ApproveRequest{Request: id, Uses: 2})
	start, by := w.start("olaf", "root", "web1"), w.actor("olaf")
	var wg sync.WaitGroup
	var mu sync.Mutex
	in := 0
	for range 50 {
		wg.Go(func() {
			if _, err := w.d.StartSession(t.Context(), by, start); err == nil {
				mu.Lock()
				in++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if in != 2 || w.standing(id).State != aggregate.Used {
		t.Errorf("%d came in by an approval for 2; %+v", in, w.standing(id))
	}
}

// Nobody approves what they have asked for: not as themselves, not by a second
// identity of a key that they have or had, not as the only approver.
func TestNobodyApprovesTheirOwnRequest(t *testing.T) {
	t.Run("as themselves", func(t *testing.T) {
		w := newWorld(t)
		w.user2("eve", events.Admin)
		id := w.must("eve", ask)
		w.refuses(commands.Denied, "eve", commands.ApproveRequest{Request: id})
		if v := w.standing(id); v.State != aggregate.Pending {
			t.Errorf("%+v", v)
		}
	})
	t.Run("by a second identity of the same key", func(t *testing.T) {
		w := newWorld(t)
		w.user2("eve", events.Admin)
		id := w.must("eve", ask)
		// The key moves on to a new user, while the first one has another.
		w.do("ada", commands.AddUserKey{User: "eve", Key: key("eve2")})
		w.do("ada", commands.RemoveUserKey{User: "eve", Fingerprint: fingerprint("eve")})
		w.do("ada", commands.AddUser{Name: "mallory", Role: events.Admin, Key: key("eve")})
		w.refuses(commands.Denied, "mallory", commands.ApproveRequest{Request: id})
		_, err := w.tryWith("mallory", "eve", commands.ApproveRequest{Request: id})
		if err == nil {
			t.Error("the same key approves")
		}
		// A third identity, connected only over the second.
		w.do("ada", commands.AddUserKey{User: "mallory", Key: key("m2")})
		w.do("ada", commands.RemoveUserKey{User: "mallory", Fingerprint: fingerprint("m2")})
		w.do("ada", commands.AddUser{Name: "third", Role: events.Admin, Key: key("m2")})
		w.refuses(commands.Denied, "third", commands.ApproveRequest{Request: id})
	})
	t.Run("as the key of a certificate", func(t *testing.T) {
		w := newWorld(t)
		w.user2("eve", events.Admin)
		id := w.must("eve", ask)
		if _, err := w.tryWith("ada", "eve", commands.ApproveRequest{Request: id}); err == nil {
			t.Error("another user with the requester's key approves")
		}
		w.must("ada", commands.ApproveRequest{Request: id})
	})
	t.Run("as the only approver", func(t *testing.T) {
		w := newWorld(t)
		w.do("ada", commands.AddGroup{Name: "leads"})
		w.do("ada", commands.AddMember{Group: "leads", User: "olaf"})
		w.do("ada", commands.AddPolicy{
			Name: "p", Selector: "root+*", Requesters: []string{"*"}, Approvers: []string{"group:leads"}, Approvals: 1,
			MaxTime: time.Hour, MaxUses: 1, DecideIn: time.Hour,
		})
		w.refuses(commands.Conflict, "olaf", ask)
		id := w.must("aud", ask)
		w.must("olaf", commands.ApproveRequest{Request: id})
	})
	t.Run("the only administrator", func(t *testing.T) {
		w := newWorld(t)
		w.refuses(commands.Conflict, "ada", ask)
	})
	t.Run("a fact that another site wrote", func(t *testing.T) {
		w := newWorld(t)
		w.user2("eve", events.Admin)
		id := w.must("eve", ask)
		draft := w.site.Draft(id.UUID, w.actor("eve"), events.RequestApproved{Uses: 9, Site: w.site.ID, Epoch: 1, Fingerprint: "other"})
		if _, err := w.d.Append(t.Context(), draft); err != nil {
			t.Fatal(err)
		}
		if v := w.standing(id); v.State != aggregate.Pending {
			t.Errorf("%+v", v)
		}
	})
}

// twoOf is a policy that wants two of a group of three.
func twoOf(w *world) {
	w.do("ada", commands.AddGroup{Name: "leads"})
	for _, name := range []string{"eve", "ben", "cat"} {
		w.user2(name, events.Approver)
		w.do("ada", commands.AddMember{Group: "leads", User: name})
	}
	w.do("ada", commands.AddPolicy{
		Name: "two", Account: "root", Target: "web1", Requesters: []string{"olaf", "eve"}, Approvers: []string{"group:leads"}, Approvals: 2,
		MaxTime: time.Hour, MaxUses: 5, DecideIn: time.Hour, Ticket: true,
	})
}

var askTicket = commands.MakeRequest{Account: "root", Target: "web1", Reason: "x", Ticket: "OPS-1", For: time.Hour, Uses: 5}

func TestPoliciesBind(t *testing.T) {
	w := newWorld(t)
	twoOf(w)
	for name, change := range map[string]func(c *commands.MakeRequest){
		"no reason": func(c *commands.MakeRequest) { c.Reason = "" },
		"no ticket": func(c *commands.MakeRequest) { c.Ticket = "" },
		"too long":  func(c *commands.MakeRequest) { c.For += time.Second },
		"too many":  func(c *commands.MakeRequest) { c.Uses = 6 },
		"no time":   func(c *commands.MakeRequest) { c.For = 0 },
		"past":      func(c *commands.MakeRequest) { c.From = w.now.Add(-2 * time.Hour) },
	} {
		c := askTicket
		change(&c)
		if _, err := w.try("olaf", c); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	w.refuses(commands.Denied, "aud", askTicket) // is no requester
	unknown := askTicket
	unknown.Account = "nobody"
	_, known := w.try("aud", askTicket)
	_, not := w.try("aud", unknown)
	var a, b *commands.Refusal
	if !errors.As(known, &a) || !errors.As(not, &b) || a.Code != b.Code || len(a.Message) != len(b.Message)-len("nobody")+len("root") {
		t.Errorf("%v differs from %v by more than the name", known, not)
	}
	id := w.must("olaf", askTicket)
	w.must("eve", commands.ApproveRequest{Request: id, Uses: 2})
	w.refuses(commands.Conflict, "eve", commands.ApproveRequest{Request: id})
	w.refuses(commands.Denied, "ada", commands.ApproveRequest{Request: id}) // an administrator is no approver here
	w.refuses(commands.Denied, "aud", commands.ApproveRequest{Request: id})
	if v := w.standing(id); v.State != aggregate.Pending || v.Missing != 1 {
		t.Fatalf("after one of two: %+v", v)
	}
	w.must("ben", commands.ApproveRequest{Request: id})
	if v := w.standing(id); v.State != aggregate.Approved || v.Uses != 2 {
		t.Fatalf("after two of two: %+v", v)
	}
	w.refuses(commands.Conflict, "cat", commands.ApproveRequest{Request: id})
	// An approver who leaves before the use takes the yes along.
	w.do("ada", commands.RemoveMember{Group: "leads", User: "ben"})
	if _, err := w.enters("olaf"); err == nil || w.standing(id).State != aggregate.Pending {
		t.Errorf("after an approver has left: %+v", w.standing(id))
	}
	w.must("cat", commands.ApproveRequest{Request: id})
	s, err := w.enters("olaf")
	if err != nil {
		t.Fatal(err)
	}
	// Whoever leaves after it does not end what runs.
	w.do("ada", commands.RemoveMember{Group: "leads", User: "cat"})
	n, _ := w.state.Session(s.Session)
	if why := w.state.SessionLets(n, w.now); why != "" {
		t.Error(why)
	}
	// But the policy does: what was asked for under it does not come down to the default.
	w.do("ada", commands.RemovePolicy{Policy: "two"})
	if why := w.state.SessionLets(n, w.now); why == "" {
		t.Error("the session goes on without a policy")
	}
	w.do("ada", commands.AddPolicy{Name: "none", Selector: "*+*", Approvals: 0, MaxTime: time.Hour, MaxUses: 1, DecideIn: time.Hour})
	w.refuses(commands.Denied, "olaf", askTicket)
}

// Two policies that let somebody ask must both be met.
func TestAllPoliciesThatLetSomebodyAskBind(t *testing.T) {
	w := newWorld(t)
	twoOf(w)
	w.do("ada", commands.AddPolicy{
		Name: "lax", Selector: "*+*", Requesters: []string{"*"}, Approvers: []string{"role:admin"}, Approvals: 1,
		MaxTime: 30 * time.Minute, MaxUses: 50, DecideIn: time.Minute, Keep: true, Terms: events.Terms{Services: []events.Service{"exec"}},
	})
	w.refuses(commands.Invalid, "olaf", askTicket) // longer than the lax one allows
	c := askTicket
	c.For = 30 * time.Minute
	id := w.must("olaf", c)
	w.must("ada", commands.ApproveRequest{Request: id})
	w.must("eve", commands.ApproveRequest{Request: id})
	if v := w.standing(id); v.State != aggregate.Pending {
		t.Errorf("%+v", v)
	}
	w.must("ben", commands.ApproveRequest{Request: id})
	v := w.standing(id)
	if v.State != aggregate.Approved || v.Keep || !reflect.DeepEqual(v.Terms.Services, []events.Service{"exec"}) {
		t.Errorf("%+v", v)
	}
	w.must("aud", commands.MakeRequest{Account: "root", Target: "web1", Reason: "x", For: time.Minute}) // only the lax one lets her
}

func TestRequestsEnd(t *testing.T) {
	tests := map[string]struct {
		end   func(w *world, id events.RequestID)
		state aggregate.RequestState
	}{
		"denied by an administrator": {func(w *world, id events.RequestID) { w.must("ada", commands.DenyRequest{Request: id, Reason: "no"}) }, aggregate.Denied},
		"withdrawn":                  {func(w *world, id events.RequestID) { w.must("olaf", commands.WithdrawRequest{Request: id}) }, aggregate.Withdrawn},
		"user disabled":              {func(w *world, _ events.RequestID) { w.do("ada", commands.DisableUser{User: "olaf"}) }, aggregate.Void},
		"account removed": {func(w *world, _ events.RequestID) {
			w.do("ada", commands.RemoveAccount{Account: "root", Target: "web1"})
		}, aggregate.Void},
		"time over": {func(w *world, _ events.RequestID) { w.now = w.now.Add(time.Hour + time.Second) }, aggregate.Over},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id := w.must("olaf", ask)
			w.must("ada", commands.ApproveRequest{Request: id})
			s, err := w.enters("olaf")
			if err != nil {
				t.Fatal(err)
			}
			n, _ := w.state.Session(s.Session)
			tt.end(w, id)
			if v := w.standing(id); v.State != tt.state {
				t.Errorf("%+v", v)
			}
			if w.state.SessionLets(n, w.now) == "" {
				t.Error("the session goes on")
			}
		})
	}
	t.Run("not decided in time", func(t *testing.T) {
		w := newWorld(t)
		id := w.must("olaf", ask)
		w.now = w.now.Add(24 * time.Hour)
		if v := w.standing(id); v.State != aggregate.Lapsed {
			t.Errorf("%+v", v)
		}
		w.refuses(commands.Conflict, "ada", commands.ApproveRequest{Request: id})
	})
	t.Run("another user's", func(t *testing.T) {
		w := newWorld(t)
		id := w.must("olaf", ask)
		w.refuses(commands.NotFound, "aud", commands.WithdrawRequest{Request: id})
		w.refuses(commands.Denied, "aud", commands.DenyRequest{Request: id, Reason: "x"})
	})
	t.Run("too many", func(t *testing.T) {
		w := newWorld(t)
		for range 32 {
			w.must("olaf", ask)
		}
		w.refuses(commands.Conflict, "olaf", ask)
	})
	t.Run("a new log", func(t *testing.T) { // rule R12: unredeemed approvals of an epoch that is over are void
		w := newWorld(t)
		id := w.must("olaf", ask)
		w.must("ada", commands.ApproveRequest{Request: id})
		next := w.site.Origin()
		next.Epoch++
		if r, _ := w.state.RequestFor(w.user("olaf").ID, w.account("root", "web1").ID, next, w.now); r != nil {
			t.Error("another log redeems it")
		}
	})
}

// An open session goes on when its time is over, if the policy says so.
func TestKeepAtExpiry(t *testing.T) {
	w := newWorld(t)
	w.do("ada", commands.AddPolicy{
		Name: "keep", Selector: "root+*", Requesters: []string{"*"}, Approvals: 0, MaxTime: time.Hour, MaxUses: 1, DecideIn: time.Hour, Keep: true,
	})
	w.must("olaf", ask)
	s, err := w.enters("olaf") // no approval is needed
	if err != nil {
		t.Fatal(err)
	}
	n, _ := w.state.Session(s.Session)
	w.now = w.now.Add(2 * time.Hour)
	if why := w.state.SessionLets(n, w.now); why != "" || !w.state.SessionUntil(n, w.now).IsZero() {
		t.Error(why)
	}
	if _, err := w.enters("olaf"); err == nil {
		t.Error("in when the time is over")
	}
}

// glass lets olaf break the glass.
func glass(w *world) {
	w.user2("eve", events.Admin)
	id := w.must("ada", commands.ProposeGlass{User: "olaf", Allow: true, Selector: "root+*", MaxTime: time.Hour, Review: 24 * time.Hour, Reason: "on call"})
	w.must("eve", commands.ConfirmGlass{Proposal: id})
}

var breakGlass = commands.BreakGlass{Account: "root", Target: "web1", Reason: "all is down"}

func TestBreakGlass(t *testing.T) {
	w := newWorld(t)
	w.refuses(commands.Denied, "olaf", breakGlass)
	glass(w)
	w.refuses(commands.Denied, "aud", breakGlass)
	w.refuses(commands.Invalid, "olaf", commands.BreakGlass{Account: "root", Target: "web1"})
	w.refuses(commands.Invalid, "olaf", commands.BreakGlass{Account: "root", Target: "web1", Reason: "x", For: 2 * time.Hour})
	id := w.must("olaf", breakGlass)
	for range 2 {
		s, err := w.enters("olaf")
		if err != nil {
			t.Fatal(err)
		}
		if e, _ := s.Event.Event(); !e.(events.SessionStarted).BreakGlass || e.(events.SessionStarted).Reason != "all is down" {
			t.Errorf("%+v", e)
		}
	}
	review := commands.ReviewRequest{Request: id, Verdict: events.Fine, Note: "seen"}
	w.refuses(commands.Denied, "olaf", review)
	r, _ := w.state.Request(id)
	if w.state.Overdue(r, w.now.Add(24*time.Hour-time.Second)) || !w.state.Overdue(r, w.now.Add(24*time.Hour)) {
		t.Error("the review is due at another time")
	}
	bad := review
	bad.Verdict = "fine"
	w.refuses(commands.Invalid, "aud", bad)
	w.must("aud", review)
	w.refuses(commands.Conflict, "ada", review)
	if w.state.Overdue(r, w.now.Add(48*time.Hour)) {
		t.Error("overdue though reviewed")
	}
	w.now = w.now.Add(time.Hour + time.Second)
	if _, err := w.enters("olaf"); err == nil {
		t.Error("in when the time is over")
	}
}

// One administrator alone lets nobody break the glass, and takes it from
// nobody: not by a second name, not by disabling the last one who may.
func TestTheGlassNeedsTwoAdministrators(t *testing.T) {
	w := newWorld(t)
	propose := commands.ProposeGlass{User: "olaf", Allow: true, Selector: "root+*", MaxTime: time.Hour, Review: time.Hour, Reason: "on call"}
	id := w.must("ada", propose)
	w.refuses(commands.Denied, "ada", commands.ConfirmGlass{Proposal: id})
	w.do("ada", commands.AddUserKey{User: "ada", Key: key("ada2")})
	w.do("ada", commands.RemoveUserKey{User: "ada", Fingerprint: fingerprint("ada2")})
	w.do("ada", commands.AddUser{Name: "ada2", Role: events.Admin, Key: key("ada2")})
	w.refuses(commands.Denied, "ada2", commands.ConfirmGlass{Proposal: id})
	w.refuses(commands.Denied, "aud", commands.ConfirmGlass{Proposal: id})
	w.refuses(commands.Denied, "olaf", breakGlass)
	// Written by hand it counts for nothing either.
	w.fact(id.UUID, events.GlassChangeConfirmed{})
	w.refuses(commands.Denied, "olaf", breakGlass)

	w = newWorld(t)
	glass(w)
	w.refuses(commands.Conflict, "ada", commands.DisableUser{User: "olaf"})
	off := w.must("ada", commands.ProposeGlass{User: "olaf", Reason: "left"})
	w.must("olaf", breakGlass)
	s, err := w.enters("olaf")
	if err != nil {
		t.Fatal(err)
	}
	w.must("eve", commands.ConfirmGlass{Proposal: off})
	n, _ := w.state.Session(s.Session)
	if w.state.SessionLets(n, w.now) == "" {
		t.Error("the session goes on")
	}
	w.refuses(commands.Denied, "olaf", breakGlass)
	w.do("ada", commands.DisableUser{User: "olaf"})

	w = newWorld(t)
	w.user2("eve", events.Admin)
	id = w.must("ada", propose)
	w.now = w.now.Add(commands.ProposalLasts + time.Second)
	w.refuses(commands.Conflict, "eve", commands.ConfirmGlass{Proposal: id})
}

func TestExplain(t *testing.T) {
	w := newWorld(t)
	why := func() commands.Explanation {
		t.Helper()
		x, err := commands.Explain(w.state, "olaf", "root", "web1", w.site.Origin(), w.now)
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.enters("olaf")
		if x.Allowed != (err == nil) {
			t.Errorf("explained as %+v, and a session gives %v", x, err)
		}
		return x
	}
	if x := why(); x.Allowed || x.Rule == "" {
		t.Errorf("%+v", x)
	}
	w.do("ada", commands.AddGroup{Name: "ops"})
	w.do("ada", commands.AddGrant{User: "group:ops", Selector: "root+env=prod"})
	w.do("ada", commands.LabelTarget{Target: "web1", Set: []string{"env=prod"}})
	if x := why(); x.Allowed || !finds(x, "to group ops for root+env=prod", aggregate.ErrNoMember.Error()) {
		t.Errorf("%+v", x)
	}
	w.do("ada", commands.AddMember{Group: "ops", User: "olaf"})
	if x := why(); !x.Allowed || x.Rule != "grant "+w.state.Grants()[0].ID.String() {
		t.Errorf("%+v", x)
	}
	w.do("ada", commands.LimitUser{User: "olaf", MaxSessions: 1})
	if x := why(); x.Allowed {
		t.Errorf("%+v", x)
	}
	w.do("ada", commands.LimitUser{User: "olaf"})
	w.do("ada", commands.RemoveMember{Group: "ops", User: "olaf"})
	id := w.must("olaf", ask)
	if x := why(); x.Allowed || !finds(x, "request "+id.String(), "waits for approval") {
		t.Errorf("%+v", x)
	}
	w.must("ada", commands.ApproveRequest{Request: id})
	if x, err := commands.Explain(w.state, "olaf", "root", "web1", w.site.Origin(), w.now); err != nil || !x.Allowed || x.Rule != "request "+id.String() {
		t.Errorf("%+v, %v", x, err)
	}
}

func finds(x commands.Explanation, rule, why string) bool {
	for _, f := range x.Findings {
		if strings.Contains(f.Rule, rule) && strings.Contains(f.Why, why) {
			return true
		}
	}
	return false
}

package gateway

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// dialog is a login whose person is asked. The answers are given to the questions in turn; what else is said is heard.
type dialog struct {
	site    *site
	answers [][]string
	conn    net.Conn
	ended   chan error
	login   *sshwire.Conn

	mu   sync.Mutex
	said []string // banners, instructions and prompts
}

func (s *site) talk(user *user, login string, answers ...[]string) *dialog {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	must(s.t, err)
	return s.talkOver(nc, user, login, answers...)
}

// talkOver is talk on a connection that is there.
func (s *site) talkOver(nc net.Conn, user *user, login string, answers ...[]string) *dialog {
	s.t.Helper()
	d := &dialog{site: s, answers: answers, conn: nc, ended: make(chan error, 1)}
	s.t.Cleanup(func() { nc.Close(); <-d.ended })
	go func() {
		var err error
		d.login, err = sshwire.Client(context.Background(), nc, &sshwire.ClientConfig{
			User: login, Auth: []sshwire.ClientAuth{sshwire.PublicKeys(user.signer), sshwire.KeyboardInteractive(d.answer)},
			HostKey: func(net.Addr, ssh.PublicKey) error { return nil }, BannerFunc: d.hear,
		})
		d.ended <- err
		close(d.ended)
	}()
	return d
}

func (d *dialog) hear(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.said = append(d.said, strings.TrimSpace(text))
}

func (d *dialog) answer(_, instruction string, prompts []sshwire.Prompt) ([]string, error) {
	d.hear(instruction)
	for _, p := range prompts {
		d.hear(p.Text)
	}
	if len(prompts) == 0 {
		return nil, nil
	}
	if len(d.answers) == 0 {
		return nil, fmt.Errorf("nothing to answer to %v", prompts)
	}
	now := d.answers[0]
	d.answers = d.answers[1:]
	return now, nil
}

func (d *dialog) heard() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.said, "\n")
}

func (d *dialog) hears(text string) {
	d.site.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(d.heard(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.site.t.Fatalf("heard %q, and never %q", d.heard(), text)
		}
	}
}

// over waits for the end of the login.
func (d *dialog) over() error {
	d.site.t.Helper()
	select {
	case err := <-d.ended:
		return err
	case <-time.After(30 * time.Second):
		d.site.t.Fatalf("the login goes on; heard %q", d.heard())
		return nil
	}
}

var requestID = regexp.MustCompile(`request ([-0-9a-f]{36}) waits`)

// request waits for the request that the person asked for.
func (d *dialog) request() *aggregate.Request {
	d.site.t.Helper()
	d.hears(" waits: ")
	id := requestID.FindStringSubmatch(d.heard())
	var found *aggregate.Request
	d.site.dispatcher.View(func(state *aggregate.State) {
		for _, r := range state.Requests() {
			if r.ID.String() == id[1] {
				found = r
			}
		}
	})
	return found
}

func (s *site) state(r *aggregate.Request) (state aggregate.RequestState) {
	s.dispatcher.View(func(all *aggregate.State) { state = all.Standing(r, s.now()).State })
	return state
}

// approveAs gives a word on a request as a user with their own key.
func (s *site) as(name string, c commands.Command) error {
	u := s.users[name]
	ctx := commands.WithClient(context.Background(), commands.Client{Fingerprint: ssh.FingerprintSHA256(u.signer.PublicKey()), Source: "127.0.0.1:1"})
	_, err := s.dispatcher.Do(ctx, events.UserActor(u.id), c)
	return err
}

// A login without a grant asks for one, waits, and goes on once somebody has said yes.
func TestALoginAsksAndWaits(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	bob := s.addUser("bob", events.Operator)
	direct := d.User + "+web1"

	login := s.talk(bob, direct, []string{"disk full", "30m", "T-1"})
	r := login.request()
	if r.Reason != "disk full" || r.Ticket != "T-1" || r.For != 30*time.Minute || r.User != bob.id {
		t.Fatalf("asked for %+v", r)
	}
	login.hears("no grant for " + direct)
	must(t, s.as("ada", commands.ApproveRequest{Request: r.ID}))
	if err := login.over(); err != nil {
		t.Fatalf("%v; heard %q", err, login.heard())
	}
	defer login.login.Close()
	started := eventsOf[events.SessionStarted](t, s.ctl)
	if len(started) != 1 || started[0].Request != r.ID || len(started[0].Approvals) != 1 {
		t.Errorf("started %+v", started)
	}

	// Its one use is spent: the next login asks anew. A no ends it with its reason.
	login = s.talk(bob, direct, []string{"again", "", ""})
	r = login.request()
	if r.For != time.Hour {
		t.Errorf("without an answer it is for %s", r.For)
	}
	must(t, s.as("ada", commands.DenyRequest{Request: r.ID, Reason: "not today"}))
	if err := login.over(); err == nil || !strings.Contains(err.Error(), "denied") {
		t.Errorf("denied: %v", err)
	}
	s.ctlHas(events.NoGrant)
}

// A jump asks at its end: the outer login has settled who it is, the inner one says which account.
func TestAJumpAsksAndWaits(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	bob := s.addUser("bob", events.Operator)
	outer := s.outer("bob")
	jump := func(account string, answers ...[]string) *dialog {
		nc, err := outer.Dial("tcp", "web1:22")
		must(t, err)
		return s.talkOver(nc, bob, account, answers...)
	}
	login := jump(d.User, []string{"disk full", "30m", "T-1"})
	r := login.request()
	if r.Reason != "disk full" || r.For != 30*time.Minute || r.User != bob.id {
		t.Fatalf("asked for %+v", r)
	}
	must(t, s.as("ada", commands.ApproveRequest{Request: r.ID}))
	if err := login.over(); err != nil {
		t.Fatalf("%v; heard %q", err, login.heard())
	}
	defer login.login.Close()
	if started := eventsOf[events.SessionStarted](t, s.ctl); len(started) != 1 || started[0].Request != r.ID {
		t.Errorf("started %+v", started)
	}
	// who hangs up withdraws, and a no ends it, the outer connection going on
	login = jump(d.User, []string{"again", "", ""})
	r = login.request()
	login.conn.Close()
	waitFor(t, func() bool { return s.state(r) == aggregate.Withdrawn })
	login = jump(d.User, []string{"again", "", ""})
	r = login.request()
	must(t, s.as("ada", commands.DenyRequest{Request: r.ID, Reason: "not today"}))
	if err := login.over(); err == nil || !strings.Contains(err.Error(), "denied") {
		t.Errorf("denied: %v", err)
	}
	// an account that is not there is asked for by nobody
	login = jump("nobody")
	if err := login.over(); err == nil || !strings.Contains(err.Error()+login.heard(), "no grant for nobody+web1") {
		t.Errorf("%v; heard %q", err, login.heard())
	}
	waitFor(t, func() bool { return s.server.waits.count() == 0 })
	// nor is a target where nothing may be asked for one to jump to
	s.asAdmin(commands.AddPolicy{Name: "closed", Account: d.User, Target: "web1", MaxTime: time.Minute, MaxUses: 1, DecideIn: time.Minute})
	s.addUser("eve", events.Operator)
	for _, target := range []string{"web1", "nowhere"} {
		if _, err := s.outer("eve").Dial("tcp", target+":22"); err == nil || !strings.Contains(err.Error(), "no grant for "+target) {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// Who hangs up withdraws; whose waiting time is over does not, and finds the request again.
func TestWhoStopsWaiting(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Limits.AskTime = 3 * time.Second })
	d := s.sshd()
	bob := s.addUser("bob", events.Operator)
	direct := d.User + "+web1"
	login := s.talk(bob, direct, []string{"disk full", "30m", ""})
	r := login.request()
	login.conn.Close()
	waitFor(t, func() bool { return s.state(r) == aggregate.Withdrawn })

	login = s.talk(bob, direct, []string{"disk full", "30m", ""})
	r = login.request()
	if err := login.over(); err == nil || !strings.Contains(err.Error(), "nobody has decided yet") {
		t.Errorf("after its time: %v", err)
	}
	if state := s.state(r); state != aggregate.Pending {
		t.Errorf("the request is %s", state)
	}
	again := s.talk(bob, direct) // is asked nothing
	again.hears(r.ID.String())
	must(t, s.as("ada", commands.ApproveRequest{Request: r.ID}))
	if err := again.over(); err != nil {
		t.Errorf("%v; heard %q", err, again.heard())
	} else {
		again.login.Close()
	}
	if n := s.server.waits.count(); n != 0 {
		t.Errorf("%d logins wait", n)
	}
}

// What is put wrong is said and asked again; nothing is made of it.
func TestWhatIsAskedForWrong(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	bob := s.addUser("bob", events.Operator)
	direct := d.User + "+web1"
	login := s.talk(bob, direct, []string{"x", "soon", ""}, []string{"x", "900h", ""}, []string{"bell\a", "1h", ""})
	if err := login.over(); err == nil {
		t.Fatal("it got in")
	}
	for _, text := range []string{"that is no length of time", "policy default allows access for", "control character"} {
		login.hears(text)
	}
	login = s.talk(bob, direct, []string{"", "", ""})
	if err := login.over(); err == nil || !strings.Contains(err.Error(), "no grant for "+direct) {
		t.Errorf("without a reason: %v", err)
	}
	if n := len(eventsOf[events.RequestMade](t, s.ctl)); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// Where no policy lets somebody ask, they read what they would read of a target that is not there, and are asked nothing.
func TestWhoMayNotAskIsNotAsked(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	bob := s.addUser("bob", events.Operator)
	s.asAdmin(commands.AddPolicy{Name: "closed", Account: d.User, Target: "web1", MaxTime: time.Minute, MaxUses: 1, DecideIn: time.Minute})
	told := map[string]string{}
	for _, login := range []string{d.User + "+web1", "nobody+web1", d.User + "+nowhere"} {
		l := s.talk(bob, login)
		err := l.over()
		if err == nil {
			t.Fatalf("%s got in", login)
		}
		told[login] = strings.ReplaceAll(err.Error()+l.heard(), login, "X")
	}
	for login, text := range told {
		if text != told["nobody+web1"] || !strings.Contains(text, "no grant for X") {
			t.Errorf("%s was told %q, another %q", login, text, told["nobody+web1"])
		}
	}
}

// breaker lets a user break the glass everywhere, by the word of two administrators.
func (s *site) breaker(name string) {
	s.t.Helper()
	s.addUser("carl", events.Admin)
	must(s.t, s.as("ada", commands.ProposeGlass{User: name, Allow: true, Selector: "*+*", MaxTime: time.Hour, Review: time.Hour, Reason: "on call"}))
	var id events.RequestID
	s.dispatcher.View(func(state *aggregate.State) { id = events.RequestID{UUID: state.Proposals()[0].At.Stream} })
	must(s.t, s.as("carl", commands.ConfirmGlass{Proposal: id}))
}

// Who may break the glass is offered it, and needs the exact words; nobody else is.
func TestALoginBreaksTheGlass(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	bob, eve := s.addUser("bob", events.Operator), s.addUser("eve", events.Operator)
	s.breaker("bob")
	direct := d.User + "+web1"
	login := s.talk(bob, direct, []string{"all is down", "", "", "yes"}, []string{"all is down", "", "", "break the glass"})
	if err := login.over(); err != nil {
		t.Fatalf("%v; heard %q", err, login.heard())
	}
	login.login.Close()
	login.hears("those are not the words")
	started := eventsOf[events.SessionStarted](t, s.ctl)
	if len(started) != 1 || !started[0].BreakGlass || started[0].Reason != "all is down" || len(eventsOf[events.AccessBreakGlass](t, s.ctl)) != 1 {
		t.Errorf("started %+v", started)
	}
	login = s.talk(eve, direct, []string{"me too", "", "BREAK THE GLASS"})
	login.request()
	if strings.Contains(login.heard(), "type BREAK") {
		t.Error("eve was offered the glass")
	}
	login.conn.Close()
	waitFor(t, func() bool { return s.server.waits.count() == 0 })
	if n := len(eventsOf[events.AccessBreakGlass](t, s.ctl)); n != 1 {
		t.Errorf("the glass was broken %d times", n)
	}
}

// The second factor comes first: until it is proven nothing is said of grants. It is not asked for again afterwards.
func TestACodeComesBeforeAccess(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	bob := s.addUser("bob", events.Operator)
	p := s.enrol("bob")
	direct := d.User + "+web1"
	login := s.talk(bob, direct, []string{p.code(0)}, []string{"disk full", "", ""})
	r := login.request()
	must(t, s.as("ada", commands.ApproveRequest{Request: r.ID}))
	if err := login.over(); err != nil {
		t.Fatalf("%v; heard %q", err, login.heard())
	}
	login.login.Close()
	if n := strings.Count(login.heard(), "Code of your second factor"); n != 1 {
		t.Errorf("asked %d times for a code", n)
	}
	if f := eventsOf[events.SessionStarted](t, s.ctl)[0].Factor; f.ID != p.id {
		t.Errorf("started with %+v", f)
	}
	login = s.talk(bob, direct, []string{"000000"})
	if err := login.over(); err == nil || strings.Contains(login.heard(), "no grant") {
		t.Errorf("%v; heard %q", err, login.heard())
	}
}

// What becomes of the person while they wait: disabled, they are let in by no approval.
func TestDisabledWhileWaiting(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	bob := s.addUser("bob", events.Operator)
	login := s.talk(bob, d.User+"+web1", []string{"disk full", "", ""})
	login.request()
	s.asAdmin(commands.DisableUser{User: "bob"})
	if err := login.over(); err == nil || !strings.Contains(err.Error(), "void") {
		t.Errorf("%v; heard %q", err, login.heard())
	}
	if n := len(eventsOf[events.SessionStarted](t, s.ctl)); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/cli/localsshd"
	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// refused runs a client that must not get in, and gives what it was told.
func (s *site) refused(who, login string) string {
	s.t.Helper()
	args := append(s.options(who), "-p", s.port(), "-l", login, "127.0.0.1", "echo got in")
	out, errs, exit := run(s.t, s.command("ssh", args...))
	if exit != 255 || strings.Contains(out, "got in") {
		s.t.Errorf("%s as %s: exit %d, stdout %q", who, login, exit, out)
	}
	return errs
}

// deniedAs waits for the n-th access.denied and checks it.
func (s *site) deniedAs(n int, reason events.DenyReason, login string) events.AccessDenied {
	s.t.Helper()
	waitFor(s.t, func() bool { return len(eventsOf[events.AccessDenied](s.t, s.ctl)) >= n })
	all := eventsOf[events.AccessDenied](s.t, s.ctl)
	d := all[len(all)-1]
	if len(all) != n || d.Reason != reason || d.Login != login || !strings.HasPrefix(d.Source, "127.0.0.1:") {
		s.t.Errorf("denied %+v, want number %d: %s for %s", d, n, reason, login)
	}
	return d
}

func (s *site) want(text, part string) {
	s.t.Helper()
	if !strings.Contains(text, part) {
		s.t.Errorf("the person was told %q, want %q in it", text, part)
	}
}

func TestWhoIsNotLetIn(t *testing.T) {
	s := newSite(t)
	s.addTarget("web1", "127.0.0.1:1", authorizedKey(newKey(t, filepath.Join(s.dir, "unused")).PublicKey()), "root", events.Password, []byte("s3cret"))
	eve := &user{key: filepath.Join(s.dir, "eve")}
	eve.signer = newKey(t, eve.key)
	s.users["eve"] = eve

	s.want(s.refused("eve", "root+web1"), "your key is not known here")
	if d := s.deniedAs(1, events.UnknownKey, "root+web1"); d.Fingerprint != ssh.FingerprintSHA256(eve.signer.PublicKey()) {
		t.Errorf("denied %+v", d)
	}
	bob := s.addUser("bob", events.Operator)
	s.want(s.refused("bob", "root+web1"), "no grant for root+web1")
	if d := s.deniedAs(2, events.NoGrant, "root+web1"); d.User != bob.id {
		t.Errorf("denied %+v", d)
	}
	s.want(s.refused("bob", "root+nowhere"), "no grant for root+nowhere")
	s.deniedAs(3, events.UnknownTarget, "root+nowhere")
	s.want(s.refused("bob", "a+b+c"), "ACCOUNT+TARGET")
	s.deniedAs(4, events.UnknownTarget, "a+b+c")

	s.asAdmin(commands.AddGrant{User: "bob", Account: "root", Target: "web1", Expires: time.Now().Add(100 * time.Millisecond)})
	time.Sleep(150 * time.Millisecond)
	s.want(s.refused("bob", "root+web1"), "your grant for root+web1 ended at")
	s.deniedAs(5, events.GrantExpired, "root+web1")

	s.asAdmin(commands.DisableUser{User: "bob"})
	s.want(s.refused("bob", "console"), "your user is disabled")
	if d := s.deniedAs(6, events.UserIsDisabled, "console"); d.User != bob.id {
		t.Errorf("denied %+v", d)
	}
	if n := len(eventsOf[events.SessionStarted](t, s.ctl)); n != 0 {
		t.Errorf("%d sessions were started", n)
	}
	s.space.fill()
	s.want(s.refused("ada", "root+web1"), "no space left to record")
	s.deniedAs(7, events.NoSpace, "root+web1")
	if _, _, exit := run(t, s.ssh("console", "still reachable")); exit != 7 {
		t.Error("the console is not reachable while the rec log is full")
	}
}

// Who has more keys in the agent than a login may try is told how to name the right one.
func TestTooManyKeys(t *testing.T) {
	s := newSite(t)
	var args []string
	for n := range 25 {
		path := filepath.Join(s.dir, fmt.Sprint("key", n))
		newKey(t, path)
		args = append(args, "-i", path)
	}
	args = append(append(args, s.options("ada")...), "-p", s.port(), "-l", "console", "127.0.0.1")
	_, errs, exit := run(t, s.command("ssh", args...))
	if exit != 255 {
		t.Errorf("exit %d", exit)
	}
	s.want(errs, "too many authentication failures; if your client has many keys, let it offer the right one only: ssh -i KEY -o IdentitiesOnly=yes")
	s.deniedAs(1, events.UnknownKey, "console")
}

// A key that two live users hold lets nobody in.
func TestKeyOfTwoUsers(t *testing.T) {
	s := newSite(t)
	key := eventsOf[events.UserKeyAdded](t, s.ctl)[0]
	other := uuid.New()
	var drafts []events.Draft
	for _, e := range []events.Event{events.UserAdded{Name: "twin", Role: events.Operator}, key} {
		d, err := events.NewDraft(other, events.SiteActor(s.id), "", e)
		must(t, err)
		drafts = append(drafts, d)
	}
	_, err := s.dispatcher.Append(context.Background(), drafts...)
	must(t, err)
	s.want(s.refused("ada", "console"), "more than one user")
	s.deniedAs(1, events.NameConflict, "console")
}

// A client that probes with somebody else's key and proves its own is who it proved to be.
func TestOnlyTheProvenKeyCounts(t *testing.T) {
	s := newSite(t)
	bob := s.addUser("bob", events.Operator)
	probing := &probeSigner{Signer: bob.signer, probe: s.users["ada"].signer.PublicKey()}
	c, err := ssh.Dial("tcp", s.addr, &ssh.ClientConfig{
		User: "console", HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // a test's own server
		Auth: []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { return []ssh.Signer{probing, bob.signer}, nil })},
	})
	must(t, err)
	defer c.Close()
	session, err := c.NewSession()
	must(t, err)
	out, _ := session.Output("whoami")
	if !strings.HasPrefix(string(out), "bob (operator)") {
		t.Errorf("after a probe with ada's key, bob is %q", out)
	}
}

// probeSigner shows one key and signs with another.
type probeSigner struct {
	ssh.Signer
	probe ssh.PublicKey
}

func (p *probeSigner) PublicKey() ssh.PublicKey { return p.probe }

func TestSealedSite(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	must(t, s.sealer.Seal())
	s.want(s.refused("ada", d.User+"+web1"), "sealed")
	s.deniedAs(1, events.SiteSealed, d.User+"+web1")
}

// started runs a session that prints a line and then waits, and returns once the line is there.
func (s *site) started(d *localsshd.Server) (wait func() (stderr string, exit int)) {
	s.t.Helper()
	c := s.ssh(d.User+"+web1", "echo ready; sleep 100")
	out, err := c.StdoutPipe()
	must(s.t, err)
	var errs bytes.Buffer
	c.Stderr = &errs
	must(s.t, c.Start())
	line := make([]byte, 6)
	if _, err := io.ReadFull(out, line); err != nil {
		_ = c.Wait()
		s.t.Fatalf("the session does not begin: %v; %s", err, errs.String())
	}
	return func() (string, int) {
		_, _ = io.Copy(io.Discard, out)
		_ = c.Wait()
		return errs.String(), c.ProcessState.ExitCode()
	}
}

func TestWhatEndsALiveSession(t *testing.T) {
	tests := []struct {
		name   string
		end    func(s *site)
		reason events.EndReason
		text   string
	}{
		{"kill", func(s *site) {
			s.asAdmin(commands.KillSession{Session: s.server.Live()[0].ID, Reason: "lunch"})
		}, events.EndedByKill, "ended by an administrator: lunch"},
		{"grant removed", func(s *site) {
			l := s.server.Live()[0]
			s.asAdmin(commands.RemoveGrant{User: "bob", Account: l.Account, Target: "web1"})
		}, events.EndedByPolicy, "grant was removed"},
		{"user disabled", func(s *site) { s.asAdmin(commands.DisableUser{User: "bob"}) }, events.EndedByPolicy, "user is disabled"},
		{"key removed", func(s *site) {
			s.asAdmin(commands.RemoveUserKey{User: "bob", Fingerprint: ssh.FingerprintSHA256(s.users["bob"].signer.PublicKey())})
		}, events.EndedByPolicy, "key was taken away"},
		{"target removed", func(s *site) { s.asAdmin(commands.RemoveTarget{Target: "web1"}) }, events.EndedByPolicy, "was removed"},
		{"shutdown", func(s *site) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			must(s.t, s.server.Shutdown(ctx))
		}, events.EndedByShutdown, "stopping"},
		{"grant expires", func(s *site) { <-time.After(time.Until(s.expires)) }, events.EndedByPolicy, "has expired"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			d := s.sshd()
			bob := s.addUser("bob", events.Operator)
			s.users["ada"].key = bob.key // s.ssh is bob's now
			s.expires = time.Now().Add(4 * time.Second)
			if tt.name != "grant expires" {
				s.expires = s.expires.Add(time.Hour)
			}
			s.asAdmin(commands.AddGrant{User: "bob", Account: d.User, Target: "web1", Expires: s.expires})
			wait := s.started(d)
			if live := s.server.Live(); len(live) != 1 || live[0].UserName != "bob" || !live[0].Connected || live[0].Out.Bytes == 0 {
				t.Fatalf("live: %+v", live)
			}
			began := time.Now()
			tt.end(s)
			if tt.name == "grant expires" {
				began = s.expires
			}
			errs, exit := wait()
			if exit != 255 {
				t.Errorf("exit %d", exit)
			}
			s.want(errs, tt.text)
			e := s.ended(1)
			if took := s.lastEvent().Sub(began); took > time.Second { // the client's own end may take longer on a busy machine
				t.Errorf("it ended after %s", took)
			}
			if e.Reason != tt.reason || !e.Complete {
				t.Errorf("ended %+v", e)
			}
			waitFor(t, func() bool { return len(s.server.Live()) == 0 })
		})
	}
}

// lastEvent is the time of the newest record in the ctl log.
func (s *site) lastEvent() (at time.Time) {
	s.t.Helper()
	for entry, err := range s.ctl.Read(context.Background(), 1) {
		must(s.t, err)
		r, err := events.DecodeEntry(entry)
		must(s.t, err)
		at = r.Header.Time()
	}
	return at
}

func TestConsoleEndsWithTheUser(t *testing.T) {
	s := newSite(t)
	bob := s.addUser("bob", events.Operator)
	s.users["ada"].key = bob.key
	c := s.ssh("console", "wait")
	var errs bytes.Buffer
	c.Stderr = &errs
	must(t, c.Start())
	waitFor(t, func() bool { return len(s.server.lives.list()) == 1 })
	time.Sleep(50 * time.Millisecond)
	s.asAdmin(commands.DisableUser{User: "bob"})
	_ = c.Wait()
	s.want(errs.String(), "your access ended")
	if len(s.server.Live()) != 0 {
		t.Error("a console is listed as a session")
	}
}

func TestLoginGraceAndLimits(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Limits = Limits{LoginGrace: 300 * time.Millisecond, PerSource: 3} })
	var idle []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", s.addr)
		must(t, err)
		defer c.Close()
		idle = append(idle, c)
	}
	waitFor(t, func() bool { return s.atTheDoor() == 3 })
	if _, errs, exit := run(t, s.ssh("console", "x")); exit != 7 { // in the place of the first one
		t.Errorf("an administrator at the same address: exit %d, %s", exit, errs)
	}
	began := time.Now()
	for _, c := range idle {
		_, _ = io.Copy(io.Discard, c) // until the gateway hangs up
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("silent connections were held for %s", took)
	}
	waitFor(t, func() bool { return s.atTheDoor() == 0 })
	s.deniedAs(1, events.TooMany, "")
	if _, _, exit := run(t, s.ssh("console", "x")); exit != 7 {
		t.Error("nobody gets in after that")
	}
}

// atTheDoor counts the connections that have not logged in.
func (s *site) atTheDoor() int {
	s.server.door.mu.Lock()
	defer s.server.door.mu.Unlock()
	return len(s.server.door.places)
}

// A few addresses that hold connections open and say nothing keep nobody else out.
func TestIdleStrangersDoNotShutTheDoor(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Limits = Limits{Unauthenticated: 20, PerSource: 8} })
	for ip := byte(2); ip < 6; ip++ {
		for range 8 {
			from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, ip)}}
			c, err := from.Dial("tcp", s.addr)
			if errors.Is(err, syscall.EADDRNOTAVAIL) {
				t.Skip("this machine has one loopback address only")
			}
			must(t, err)
			defer c.Close()
		}
	}
	waitFor(t, func() bool { return s.atTheDoor() == 20 })
	if _, errs, exit := run(t, s.ssh("console", "x")); exit != 7 {
		t.Errorf("an administrator at another address: exit %d, %s", exit, errs)
	}
	s.ctlHas(events.TooMany)
}

// ctlHas waits for a refusal at the door.
func (s *site) ctlHas(reason events.DenyReason) {
	s.t.Helper()
	waitFor(s.t, func() bool {
		return slices.ContainsFunc(eventsOf[events.AccessDenied](s.t, s.ctl), func(d events.AccessDenied) bool { return d.Reason == reason })
	})
}

func TestDoor(t *testing.T) {
	now := time.Unix(0, 0)
	d := newDoor(Limits{PerSource: 2, Unauthenticated: 5, SourceRate: 4}.withDefaults(), func() time.Time { return now })
	var leaves []func()
	var cut []int // numbers of the steps whose connections made room
	for n, step := range []struct {
		ip, refused string
	}{
		0: {"10.0.0.2", ""}, 1: {"10.0.0.1", ""}, 2: {"10.0.0.1", ""}, 3: {"10.0.0.1", ""}, 4: {"2001:db8::1", ""},
		5: {"2001:db8::ffff", ""}, 6: {"2001:db8::2", ""},
		7: {"10.0.0.3", ""}, // the sixth: one of two of the first address that has two makes room
		8: {"10.0.0.4", ""}, 9: {"10.0.0.5", ""}, 10: {"10.0.0.3", ""},
	} {
		leave, refused := d.enter(fromIP(step.ip), func() { cut = append(cut, n) })
		if refused != step.refused {
			t.Errorf("step %d, %s: %q, want %q", n, step.ip, refused, step.refused)
		}
		if leave != nil {
			leaves = append(leaves, leave)
		}
	}
	if want := []int{1, 4, 2, 5, 0, 7}; !slices.Equal(cut, want) || len(d.places) != 5 {
		t.Errorf("the connections of steps %v made room, want %v; %d are left", cut, want, len(d.places))
	}
	for _, leave := range leaves {
		leave()
		leave()
	}
	for ip, s := range d.sources {
		if s.waiting != 0 {
			t.Errorf("%s has %d connections after all have left", ip, s.waiting)
		}
	}
	n := 0
	for leave, refused := d.enter(fromIP("10.0.0.1"), nil); refused == ""; leave, refused = d.enter(fromIP("10.0.0.1"), nil) {
		leave()
		n++
	}
	if n != 5 { // a burst of eight, three of which were used above
		t.Errorf("a burst of %d", n)
	}
	if _, refused := d.enter(fromIP("10.0.0.1"), nil); refused != tooFast {
		t.Errorf("too fast: %q", refused)
	}
	now = now.Add(time.Second)
	if _, refused := d.enter(fromIP("10.0.0.1"), nil); refused != "" {
		t.Error("the rate does not recover")
	}
}

// fromIP is a client's address.
func fromIP(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }

// More addresses than can be remembered share what is left: one more is let in, but makes no log grow.
func TestFullTableOfAddresses(t *testing.T) {
	now := time.Unix(0, 0)
	d := newDoor(Limits{}.withDefaults(), func() time.Time { return now })
	noted := 0
	for i := range 2 * maxSources {
		from := fromIP(fmt.Sprintf("10.%d.%d.1", i/250, i%250))
		leave, refused := d.enter(from, nil)
		if refused != "" {
			t.Fatalf("address %d: %s", i, refused)
		}
		if _, ok := d.note(from); ok {
			noted++
		}
		leave()
	}
	if len(d.sources) != maxSources || noted != maxSources+notesBurst {
		t.Errorf("%d addresses are remembered, %d events made", len(d.sources), noted)
	}
	now = now.Add(notesEvery)
	if leave, _ := d.enter(fromIP("192.0.2.1"), nil); leave == nil || len(d.sources) != 1 {
		t.Errorf("%d addresses are remembered after a while", len(d.sources))
	}
}

// What an unknown key leaves in the log is bounded, and says how much was left out.
func TestUnknownKeysDoNotFillTheLog(t *testing.T) {
	now := time.Unix(0, 0)
	d := newDoor(Limits{}.withDefaults(), func() time.Time { return now })
	from := &net.TCPAddr{IP: net.ParseIP("10.0.0.1")}
	noted := 0
	for range 1000 {
		if _, ok := d.note(from); ok {
			noted++
		}
	}
	if noted != notesBurst {
		t.Errorf("%d events were made", noted)
	}
	now = now.Add(notesEvery)
	if left, ok := d.note(from); !ok || left != 1000-notesBurst {
		t.Errorf("after a while: %v, %d left out", ok, left)
	}
}

// A client that leaves while its target is being reached leaves nothing behind but the end of its session.
func TestClientLeavesDuringLogin(t *testing.T) {
	release := make(chan struct{})
	s := newSite(t, func(c *Config) {
		dial := new(net.Dialer).DialContext
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			<-release
			return dial(ctx, network, addr)
		}
	})
	d := s.sshd()
	ctx, cancel := context.WithCancel(context.Background())
	nc, err := net.Dial("tcp", s.addr)
	must(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := sshwire.Client(ctx, nc, &sshwire.ClientConfig{
			User: d.User + "+web1", Auth: []sshwire.ClientAuth{sshwire.PublicKeys(s.users["ada"].signer)},
			HostKey: func(net.Addr, ssh.PublicKey) error { return nil },
		})
		done <- err
	}()
	waitFor(t, func() bool { return len(s.server.Live()) == 1 })
	cancel()
	if err := <-done; err == nil {
		t.Fatal("the client got in")
	}
	close(release)
	if e := s.ended(1); !e.Complete {
		t.Errorf("ended %+v", e)
	}
	waitFor(t, func() bool { return len(s.server.Live()) == 0 })
}

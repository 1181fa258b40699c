package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // RFC 6238
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/factor"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// phone is a user's authenticator, and the paper with their recovery codes.
type phone struct {
	site     *site
	id       events.FactorID
	secret   seal.Secret
	recovery []string
}

// code is what the phone shows n steps from now, by RFC 4226 section 5.3.
func (p *phone) code(n int) string {
	mac := hmac.New(sha1.New, p.secret.Bytes())
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(int(factor.StepAt(p.site.now()))+n)))
	sum := mac.Sum(nil)
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[sum[19]&15:])&0x7fffffff%1000000)
}

// enrol gives a user a second factor. Its first code is spent; the site's clock goes on by a step.
func (s *site) enrol(name string) *phone {
	s.t.Helper()
	sealed, secret, err := factor.Add(context.Background(), s.sealer)
	must(s.t, err)
	p := &phone{site: s, id: sealed.Factor, secret: secret}
	by := events.UserActor(s.users[name].id)
	s.do(by, commands.EnrollFactor{Sealed: sealed})
	confirm := commands.ConfirmFactor{Site: s.id, Factor: p.id, Step: factor.StepAt(s.now())}
	p.recovery, confirm.Recovery = factor.NewRecovery(p.id)
	s.do(by, confirm)
	s.ahead.Add(int64(factor.Step))
	return p
}

// heard is what a login was told and asked.
type heard struct {
	banners []string
	asked   int
}

func (h *heard) String() string { return strings.Join(h.banners, "|") }

// login logs a user in with their key and these answers, one to each round.
func (s *site) login(user *user, login string, answers ...string) (*sshwire.Conn, *heard, error) {
	s.t.Helper()
	h := &heard{}
	nc, err := net.Dial("tcp", s.addr)
	must(s.t, err)
	ways := []sshwire.ClientAuth{sshwire.PublicKeys(user.signer)}
	for _, a := range answers {
		ways = append(ways, sshwire.KeyboardInteractive(func(_, _ string, prompts []sshwire.Prompt) ([]string, error) {
			h.asked++
			if len(prompts) != 1 || prompts[0].Echo {
				s.t.Errorf("asked %+v", prompts)
			}
			return []string{a}, nil
		}))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	defer cancel()
	c, err := sshwire.Client(ctx, nc, &sshwire.ClientConfig{
		User: login, Auth: ways, HostKey: func(net.Addr, ssh.PublicKey) error { return nil },
		BannerFunc: func(text string) { h.banners = append(h.banners, strings.TrimSpace(text)) },
	})
	if err == nil {
		s.t.Cleanup(func() { c.Close() })
	}
	return c, h, err
}

func (s *site) letsIn(user *user, login string, answers ...string) {
	s.t.Helper()
	c, h, err := s.login(user, login, answers...)
	if err != nil {
		s.t.Fatalf("%s with %q: %v; told %s", login, answers, err, h)
	}
	c.Close()
}

func (s *site) keepsOut(user *user, login, says string, answers ...string) {
	s.t.Helper()
	c, h, err := s.login(user, login, answers...)
	if err == nil {
		c.Close()
		s.t.Fatalf("%s got in with %q", login, answers)
	}
	if told := h.String() + "|" + err.Error(); !strings.Contains(told, says) {
		s.t.Errorf("%s with %q was told %q, want %q in it", login, answers, told, says)
	}
}

// A key alone lets nobody in who has a second factor; a right code does, once, at every way in.
func TestSecondFactor(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	ada := s.users["ada"]
	p := s.enrol("ada")
	direct := d.User + "+web1"
	s.keepsOut(ada, direct, "a code of your second factor is needed as well")
	s.keepsOut(ada, "console", "not right", "000000", "abcdef")
	s.keepsOut(ada, "console", "no code was given", "")
	s.keepsOut(ada, "console", "not right", strings.Repeat("1", 30000))
	s.keepsOut(ada, "console", "not right", p.code(0)+" "+p.code(0))
	code := p.code(0)
	s.letsIn(ada, direct, code)
	s.keepsOut(ada, direct, "used before", code)
	s.keepsOut(ada, "console", "used before", code)
	s.keepsOut(ada, "console", "used before", p.code(-1))
	started := eventsOf[events.SessionStarted](t, s.ctl)
	redeemed := eventsOf[events.FactorRedeemed](t, s.ctl)
	if len(started) != 1 || len(redeemed) != 1 {
		t.Fatalf("%d sessions, %d codes", len(started), len(redeemed))
	}
	if f := started[0].Factor; f.ID != p.id || f.Kind != events.TOTP || f.Reused || s.now().Sub(f.At) > time.Minute {
		t.Errorf("session.started says %+v", f)
	}
	if r := redeemed[0]; r.Fingerprint != ssh.FingerprintSHA256(ada.signer.PublicKey()) || !strings.HasPrefix(r.Source, "127.0.0.1:") {
		t.Errorf("redeemed %+v", r)
	}
	s.ctlHas(events.NoFactor) // of the login without a code

	// The paper in the drawer, each line once.
	s.letsIn(ada, "console", strings.ToLower(p.recovery[3]))
	s.keepsOut(ada, "console", "not right", p.recovery[3])
	if got := eventsOf[events.FactorRecovered](t, s.ctl); len(got) != 1 || got[0].Number != 3 {
		t.Errorf("recovered %+v", got)
	}
	// Nobody else is asked.
	bob := s.addUser("bob", events.Operator)
	s.letsIn(bob, "console")
}

// The codes of one are nothing to another, and the factor follows the user whichever way they prove who they are.
func TestSecondFactorIsTheUsers(t *testing.T) {
	s := newSite(t)
	bob, carol := s.addUser("bob", events.Operator), s.addUser("carol", events.Operator)
	ofBob, ofCarol := s.enrol("bob"), s.enrol("carol")
	s.keepsOut(bob, "console", "not right", ofCarol.code(0))
	s.keepsOut(bob, "console", "not right", ofCarol.recovery[0])
	s.keepsOut(carol, "bob", "not right", ofBob.code(0))
	s.letsIn(carol, "bob", ofCarol.code(0)) // who one is says the key

	ca, key := freshKey(t), freshKey(t)
	s.asAdmin(commands.TrustCA{Name: "corp", Key: authorizedKey(ca.PublicKey())})
	signer, err := ssh.NewCertSigner(userCert(t, ca, key.PublicKey(), nil), key)
	must(t, err)
	certified := &user{signer: signer}
	s.keepsOut(certified, "console", "second factor")
	s.letsIn(certified, "console", ofBob.code(0))
}

// Of many logins at once with one code exactly one gets in.
func TestOneCodeOneLogin(t *testing.T) {
	s := newSite(t)
	p := s.enrol("ada")
	for _, code := range []string{p.code(0), p.recovery[0]} {
		var in atomic.Int32
		var all sync.WaitGroup
		for range 24 {
			all.Go(func() {
				if c, _, err := s.login(s.users["ada"], "console", code); err == nil {
					in.Add(1)
					c.Close()
				}
			})
		}
		all.Wait()
		if in.Load() != 1 {
			t.Errorf("%d of 24 logins got in", in.Load())
		}
	}
}

// Wrong codes lock; then a right one reads the same as a wrong one, and the paper still opens.
func TestSecondFactorLocks(t *testing.T) {
	s := newSite(t)
	ada := s.users["ada"]
	p := s.enrol("ada")
	s.keepsOut(ada, "console", "locked until", "000000", "000000", "000000", "000000", "000000", p.code(0))
	_, right, _ := s.login(ada, "console", p.code(0))
	_, wrong, _ := s.login(ada, "console", "000000")
	if right.String() != wrong.String() || !strings.Contains(right.String(), "locked until") {
		t.Errorf("a right code was told %s, a wrong one %s", right, wrong)
	}
	if got := eventsOf[events.FactorMissed](t, s.ctl); len(got) != 5 || got[4].Locked.IsZero() || !got[3].Locked.IsZero() {
		t.Errorf("missed %+v", got)
	}
	s.letsIn(ada, "console", p.recovery[9])
	s.letsIn(ada, "console", p.code(0))
}

// A sealed site can't check codes; it says so, and takes recovery codes, which it holds as hashes.
func TestSecondFactorOnASealedSite(t *testing.T) {
	s := newSite(t)
	p := s.enrol("ada")
	must(t, s.sealer.Seal())
	s.keepsOut(s.users["ada"], "console", "sealed", p.code(0))
	s.letsIn(s.users["ada"], "console", p.recovery[0])
}

// A code does for further logins where a rule says so, and the log tells such a login from one with a code.
func TestSecondFactorReused(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	ada := s.users["ada"]
	p := s.enrol("ada")
	s.asAdmin(commands.SetFactorRule{User: "ada", Need: events.FactorNeeded, Reuse: 300})
	s.keepsOut(ada, "console", "second factor")
	s.letsIn(ada, "console", p.code(0))
	s.letsIn(ada, d.User+"+web1")
	started := eventsOf[events.SessionStarted](t, s.ctl)
	if f := started[0].Factor; f.ID != p.id || !f.Reused || f.At.IsZero() {
		t.Errorf("session.started says %+v", f)
	}
	if n := len(eventsOf[events.FactorReused](t, s.ctl)); n != 1 {
		t.Errorf("%d reuses are recorded", n)
	}
	second := newKey(t, filepath.Join(s.dir, "second"))
	s.asAdmin(commands.AddUserKey{User: "ada", Key: authorizedKey(second.PublicKey())})
	s.keepsOut(&user{signer: second}, "console", "second factor")
	s.ahead.Add(int64(6 * time.Minute))
	s.keepsOut(ada, "console", "second factor")
	s.letsIn(ada, "console", p.code(0))
	s.asAdmin(commands.ResetFactor{User: "ada", Reason: "lost"})
	if _, err := s.dispatcher.StartSession(context.Background(), events.UserActor(ada.id), commands.StartSession{}); err == nil {
		t.Error("a session after the reset")
	}
}

// Who needs a second factor and has none gets to the console, which lets them enrol one, and nowhere else.
func TestSecondFactorMissing(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	s.asAdmin(commands.SetFactorRule{User: "ada", Need: events.FactorNeeded})
	s.keepsOut(s.users["ada"], d.User+"+web1", "user totp enroll")
	outer := s.outer("ada")
	if c, err := s.inner(outer, d.User, "web1"); err == nil || !strings.Contains(err.Error(), "user totp enroll") {
		t.Errorf("a jump: %v, %v", c, err)
	}
	s.ctlHas(events.NoFactor)
}

// A jump asks at the outer login and not again; what its sessions record says so, and a reset ends that.
func TestSecondFactorOfAJump(t *testing.T) {
	s := newSite(t)
	d := s.sshd()
	p := s.enrol("ada")
	outer, err := ssh.Dial("tcp", s.addr, &ssh.ClientConfig{
		User: "ada", HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // a test's own server
		Auth: []ssh.AuthMethod{ssh.PublicKeys(s.users["ada"].signer), ssh.KeyboardInteractive(func(_, _ string, q []string, _ []bool) ([]string, error) {
			return slices.Repeat([]string{p.code(0)}, len(q)), nil
		})},
	})
	must(t, err)
	defer outer.Close()
	for range 2 {
		inner, err := s.inner(outer, d.User, "web1")
		must(t, err)
		inner.Close()
	}
	for _, e := range eventsOf[events.SessionStarted](t, s.ctl) {
		if e.Factor.ID != p.id || e.Jump != "web1" {
			t.Errorf("started %+v", e)
		}
	}
	s.asAdmin(commands.ResetFactor{User: "ada", Reason: "stolen"})
	s.asAdmin(commands.SetFactorRule{User: "ada", Need: events.FactorNeeded})
	if _, err := s.inner(outer, d.User, "web1"); err == nil {
		t.Error("a jump on a factor that was reset")
	}
}

// Logins that wait for a code hold up no stranger, and are bounded in number and time.
func TestLoginsThatWaitForACode(t *testing.T) {
	s := newSite(t, func(c *Config) {
		c.Limits = Limits{Unauthenticated: 2, PerSource: 2, SourceRate: 1000, LoginGrace: 2 * time.Second, AnswerTime: 10 * time.Minute}
	})
	bob := s.addUser("bob", events.Operator)
	p := s.enrol("bob")
	release, left := make(chan struct{}), make(chan error, 100)
	stall := func() {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			left <- err
			return
		}
		_, err = sshwire.Client(context.Background(), nc, &sshwire.ClientConfig{
			User: "bob", HostKey: func(net.Addr, ssh.PublicKey) error { return nil },
			Auth: []sshwire.ClientAuth{sshwire.PublicKeys(bob.signer), sshwire.KeyboardInteractive(func(string, string, []sshwire.Prompt) ([]string, error) {
				<-release
				return nil, errors.New("gone")
			})},
		})
		left <- err
	}
	for n := range maxUserWaits {
		go stall()
		waitFor(t, func() bool { return s.server.waits.count() == n+1 })
	}
	if s.atTheDoor() != 0 {
		t.Errorf("%d of them hold up strangers", s.atTheDoor())
	}
	if _, errs, exit := run(t, s.ssh("console", "x")); exit != 7 {
		t.Errorf("another user: exit %d, %s", exit, errs)
	}
	s.letsIn(bob, "console", p.code(0)) // and bob himself, in the place of the one that waited longest
	waitFor(t, func() bool { return s.server.waits.count() == maxUserWaits-1 })
	close(release)
	waitFor(t, func() bool { return s.server.waits.count() == 0 })
	for range maxUserWaits {
		if err := <-left; err == nil {
			t.Error("one got in")
		}
	}
}

func TestACodeHasToComeInTime(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Limits.AnswerTime = 200 * time.Millisecond })
	s.enrol("ada")
	nc, err := net.Dial("tcp", s.addr)
	must(t, err)
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	go func() {
		_, _ = sshwire.Client(context.Background(), nc, &sshwire.ClientConfig{
			User: "ada", HostKey: func(net.Addr, ssh.PublicKey) error { return nil },
			Auth: []sshwire.ClientAuth{sshwire.PublicKeys(s.users["ada"].signer), sshwire.KeyboardInteractive(func(string, string, []sshwire.Prompt) ([]string, error) {
				<-never
				return nil, errors.New("gone")
			})},
		})
	}()
	waitFor(t, func() bool { return s.server.waits.count() == 1 })
	waitFor(t, func() bool { return s.server.waits.count() == 0 })
	s.ctlHas(events.NoFactor)
}

// Whoever has most waiting makes room.
func TestWaits(t *testing.T) {
	var w waits
	cut := map[byte]int{}
	enter := func(user byte) func() {
		id := events.UserID{}
		id.UUID[0], id.UUID[1] = user, 1
		return w.enter(id, func() { cut[user]++ })
	}
	for range maxUserWaits + 3 {
		enter(1)
	}
	if cut[1] != 3 || w.count() != maxUserWaits {
		t.Fatalf("cut %v, %d wait", cut, w.count())
	}
	for n := w.count(); n < maxWaits; n++ {
		enter(byte(2 + n%200))
	}
	leave := enter(250)
	if cut[1] != 4 || w.count() != maxWaits {
		t.Errorf("cut %v, %d wait", cut, w.count())
	}
	leave()
	leave()
	if w.count() != maxWaits-1 {
		t.Errorf("%d wait", w.count())
	}
}

// Stock ssh asks the person after the key, by the program for passwords or on the terminal, and three times.
func TestOpenSSHAsksForTheCode(t *testing.T) {
	s := newSite(t)
	p := s.enrol("ada")
	askpass := filepath.Join(s.dir, "askpass")
	t.Setenv("SSH_ASKPASS", askpass)
	t.Setenv("SSH_ASKPASS_REQUIRE", "force")
	state := filepath.Join(s.dir, "asked")
	write := func(lines ...string) {
		must(t, os.WriteFile(state, nil, 0o600))
		must(t, os.WriteFile(askpass, fmt.Appendf(nil, "#!/bin/sh\necho x >>%s\nsed -n \"$(wc -l <%s)p\" <<E\n%s\nE\n", state, state, strings.Join(lines, "\n")), 0o700))
	}
	write("000000", p.code(0))
	if out, errs, exit := run(t, s.ssh("console", "x")); exit != 7 || !strings.Contains(errs, "that code is not right") {
		t.Errorf("exit %d, %s%s", exit, out, errs)
	}
	write("1", "2", "3", "4")
	if _, errs, exit := run(t, s.ssh("console", "x")); exit != 255 || strings.Count(errs, "that code is not right") != 3 {
		t.Errorf("exit %d, %s", exit, errs)
	}
	_, errs, exit := run(t, s.ssh("console", "-o", "BatchMode=yes", "--", "x"))
	if exit != 255 || !strings.Contains(errs, "a code of your second factor is needed") || !strings.Contains(errs, "Permission denied (keyboard-interactive)") {
		t.Errorf("in batch mode: exit %d, %s", exit, errs)
	}
}

package gateway

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store/memory"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// fakeTarget is an SSH server of x/crypto's that takes one password, and notes what it saw.
type fakeTarget struct {
	addr    string
	hostKey string
	mu      sync.Mutex
	logins  []string
}

func newFakeTarget(t *testing.T, change func(*ssh.ServerConfig, *fakeTarget)) *fakeTarget {
	t.Helper()
	f := &fakeTarget{}
	host := newKey(t, filepath.Join(t.TempDir(), "host"))
	f.hostKey = authorizedKey(host.PublicKey())
	cfg := &ssh.ServerConfig{}
	cfg.AddHostKey(host)
	change(cfg, f)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	f.addr = l.Addr().String()
	var work sync.WaitGroup
	t.Cleanup(func() { l.Close(); work.Wait() })
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { f.serve(c, cfg) })
		}
	})
	return f
}

func (f *fakeTarget) saw(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logins = append(f.logins, what)
}

func (f *fakeTarget) seen() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.logins, ",")
}

// serve runs "commands": it prints what it was asked to.
func (f *fakeTarget) serve(c net.Conn, cfg *ssh.ServerConfig) {
	defer c.Close()
	conn, channels, requests, err := ssh.NewServerConn(c, cfg)
	if err != nil {
		f.saw("no login")
		return
	}
	defer conn.Close()
	go ssh.DiscardRequests(requests)
	for open := range channels {
		channel, requests, err := open.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				if r.WantReply {
					_ = r.Reply(r.Type == "exec", nil)
				}
				if r.Type == "exec" {
					_, _ = channel.Write(r.Payload[4:])
					_, _ = channel.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
					channel.Close()
				}
			}
		}()
	}
}

const secret = "correct horse battery"

func byPassword(cfg *ssh.ServerConfig, f *fakeTarget) {
	cfg.PasswordCallback = func(_ ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
		f.saw("password")
		if string(password) == secret {
			return nil, nil
		}
		return nil, errors.New("no")
	}
}

func byKeyboard(questions []string, echos []bool) func(*ssh.ServerConfig, *fakeTarget) {
	return func(cfg *ssh.ServerConfig, f *fakeTarget) {
		cfg.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			answers, err := ask("", "", questions, echos)
			if len(answers) > 0 {
				f.saw("answer")
			}
			if err == nil && len(answers) == 1 && answers[0] == secret {
				return nil, nil
			}
			return nil, errors.New("no")
		}
	}
}

func TestTargetLogins(t *testing.T) {
	both := func(cfg *ssh.ServerConfig, f *fakeTarget) {
		byPassword(cfg, f)
		byKeyboard([]string{"Password: "}, []bool{false})(cfg, f)
	}
	tests := []struct {
		name   string
		target func(*ssh.ServerConfig, *fakeTarget)
		secret string
		saw    string
		in     bool
		told   string
	}{
		{"password", byPassword, secret, "password", true, ""},
		{"keyboard-interactive", byKeyboard([]string{"Password: "}, []bool{false}), secret, "answer", true, ""},
		{"a question that shows its answer", byKeyboard([]string{"Password: "}, []bool{true}), secret, "no login", false, "asks for more"},
		{"two questions", byKeyboard([]string{"Password: ", "Code: "}, []bool{false, false}), secret, "no login", false, "asks for more"},
		{"a wrong password is presented once", both, "wrong", "password,no login", false, "did not accept"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			f := newFakeTarget(t, tt.target)
			s.addTarget("web1", f.addr, f.hostKey, "root", events.Password, []byte(tt.secret))
			out, errs, exit := run(t, s.ssh("root+web1", "hello"))
			if tt.in != (exit == 0 && out == "hello") {
				t.Errorf("exit %d, %q, %q", exit, out, errs)
			}
			e := s.ended(1)
			waitFor(t, func() bool { return tt.in || strings.HasSuffix(f.seen(), "no login") })
			if saw := f.seen(); saw != tt.saw {
				t.Errorf("the target saw %q, want %q", saw, tt.saw)
			}
			if !tt.in {
				s.want(errs, tt.told)
				if e.Reason != events.EndedByTargetLogin || e.Detail == "" {
					t.Errorf("ended %+v", e)
				}
			}
			s.noSecret(tt.secret)
		})
	}
}

// noSecret looks for a secret in the logs of both kinds and in what the gateway says.
func (s *site) noSecret(secret string) {
	s.t.Helper()
	s.logMu.Lock()
	defer s.logMu.Unlock()
	all := s.log.Bytes()
	for _, log := range []*memory.Log{s.ctl, s.rec} {
		for e, err := range log.Read(context.Background(), 1) {
			must(s.t, err)
			all = slices.Concat(all, e.Header, e.Payload)
		}
	}
	if bytes.Contains(all, []byte(secret)) {
		s.t.Error("the secret stands in a log in the clear")
	}
}

func TestChangedHostKey(t *testing.T) {
	s := newSite(t)
	f := newFakeTarget(t, byPassword)
	other := newKey(t, filepath.Join(s.dir, "other"))
	s.addTarget("web1", f.addr, authorizedKey(other.PublicKey()), "root", events.Password, []byte(secret))
	s.want(s.refused("ada", "root+web1"), "another host key")
	e := s.ended(1)
	if e.Reason != events.EndedByTargetLogin || !strings.Contains(e.Detail, "not pinned") {
		t.Errorf("ended %+v", e)
	}
	refused := eventsOf[events.TargetHostKeyRefused](t, s.ctl)
	if len(refused) != 1 || refused[0].Presented != f.hostKey || refused[0].Session.IsZero() {
		t.Errorf("refused %+v", refused)
	}
	waitFor(t, func() bool { return f.seen() != "" })
	if f.seen() != "no login" {
		t.Errorf("the target saw %q: something was sent to it", f.seen())
	}
}

// Who can't log in since the target is old learns that, and what an administrator can do.
func TestTargetWithNothingInCommon(t *testing.T) {
	for option, kind := range map[string]string{
		"KexAlgorithms diffie-hellman-group14-sha1": "key exchange", "Ciphers aes128-cbc": "cipher",
	} {
		s := newSite(t)
		d := s.sshd(option)
		s.want(s.refused("ada", d.User+"+web1"), "web1 and this gateway have no "+kind+" in common; its administrator may allow older ones (target allow)")
		if e := s.ended(1); e.Reason != events.EndedByTargetLogin || !strings.Contains(e.Detail, "no common SSH "+kind) {
			t.Errorf("%s: ended %+v", option, e)
		}
	}
}

func TestTargetThatDoesNotAnswer(t *testing.T) {
	s := newSite(t, func(c *Config) { c.Limits.TargetLogin = 200 * time.Millisecond })
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer silent.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	gone.Close()
	key := authorizedKey(s.users["ada"].signer.PublicKey())
	s.addTarget("silent", silent.Addr().String(), key, "root", events.Password, []byte(secret))
	s.addTarget("gone", gone.Addr().String(), key, "root", events.Password, []byte(secret))
	s.want(s.refused("ada", "root+silent"), "silent did not answer in time")
	s.want(s.refused("ada", "root+gone"), "gone can't be reached")
	for n := range 2 {
		if e := s.ended(n + 1); e.Reason != events.EndedByTargetLogin {
			t.Errorf("ended %+v", e)
		}
	}
}

// Shutdown ends many sessions at once, each with its text and its end on record.
func TestShutdownWithManySessions(t *testing.T) {
	const sessions = 40
	s := newSite(t, func(c *Config) { c.Limits = Limits{PerSource: sessions, SourceRate: sessions} })
	f := newFakeTarget(t, byPassword)
	s.addTarget("web1", f.addr, f.hostKey, "root", events.Password, []byte(secret))
	before := inUse()
	var clients []*sshwire.Conn
	for range sessions {
		clients = append(clients, s.dial("root+web1"))
	}
	waitFor(t, func() bool {
		return !slices.ContainsFunc(s.server.Live(), func(l LiveSession) bool { return !l.Connected })
	})
	t.Logf("%d KiB per session, client and target included", (inUse()-before)/sessions>>10)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	began := time.Now()
	must(t, s.server.Shutdown(ctx))
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	for _, c := range clients {
		var err error
		for err == nil {
			_, err = c.ReadPacket()
		}
		s.want(err.Error(), "this gateway is stopping")
	}
	for _, e := range eventsOf[events.SessionEnded](t, s.ctl) {
		if e.Reason != events.EndedByShutdown || !e.Complete {
			t.Errorf("ended %+v", e)
		}
	}
	s.ended(sessions)
}

func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// gone is the Meta of a client that nobody has to answer.
type gone struct{}

func (gone) User() string          { return "root+web1" }
func (gone) SessionID() []byte     { return nil }
func (gone) ClientVersion() []byte { return []byte("SSH-2.0-x") }
func (gone) RemoteAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)} }
func (gone) LocalAddr() net.Addr   { return &net.TCPAddr{} }
func (gone) Banner(string) error   { return nil }

// A right that goes between the decision and the way to the target uses no secret and dials nothing.
func TestStopBeforeTheTargetIsReached(t *testing.T) {
	var dialled atomic.Bool
	s := newSite(t, func(c *Config) {
		c.Dial = func(context.Context, string, string) (net.Conn, error) {
			dialled.Store(true)
			return nil, errors.New("dialled")
		}
	})
	key := authorizedKey(newKey(t, filepath.Join(s.dir, "target")).PublicKey())
	s.addTarget("web1", "192.0.2.2:22", key, "root", events.Password, []byte(secret))
	ada := s.users["ada"]
	who := &identity{user: ada.id, name: "ada", fingerprint: ssh.FingerprintSHA256(ada.signer.PublicKey())}
	started, err := s.dispatcher.StartSession(t.Context(), events.UserActor(ada.id), commands.StartSession{
		User: ada.id, Fingerprint: who.fingerprint, Account: "root", Target: "web1", Login: "root+web1", Source: "x", Client: "y",
	})
	must(t, err)
	o := &opened{started: started, began: time.Now()}
	o.live = s.server.admit(o, &login{server: s.server, identity: who}, gone{})
	s.asAdmin(commands.RemoveGrant{User: "ada", Account: "root", Target: "web1"})
	err = s.server.connect(t.Context(), o, gone{})
	if err == nil || !strings.Contains(err.Error(), "grant was removed") || dialled.Load() || o.key != nil {
		t.Errorf("it went on: %v; dialled: %v, key: %v", err, dialled.Load(), o.key)
	}
	s.server.abandon(o, err)
	if e := s.ended(1); e.Reason != events.EndedByPolicy {
		t.Errorf("ended %+v", e)
	}
}

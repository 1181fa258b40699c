package gateway

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/cli/localsshd"
	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/memory"
	"github.com/holdfast-pam/holdfast/events/store/segment"
	"github.com/holdfast-pam/holdfast/gateway/gatewaytest"
)

// site is a gateway with everything that it needs, its logs in memory.
type site struct {
	t          testing.TB
	id         events.SiteID
	dir        string
	ctl, rec   *memory.Log
	space      *spaceLog
	sealer     *seal.Sealer
	dispatcher *commands.Dispatcher
	server     *Server
	addr       string
	admin      events.UserID
	users      map[string]*user
	expires    time.Time // of bob's grant, where a test has one that ends
	log        *bytes.Buffer
	logMu      sync.Mutex
	ahead      atomic.Int64 // how far the site's clock is before the true time, in nanoseconds
}

func (s *site) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

// onDisk keeps the recordings of a site in segment files instead of in memory.
func onDisk(t testing.TB) func(*Config) {
	t.Helper()
	opened, err := segment.Engine{}.Open(t.TempDir(), events.Origin{Site: events.SiteID{UUID: uuid.New()}, Epoch: 1, Kind: events.Rec}, 0)
	must(t, err)
	w, err := store.NewWriter(opened.Log, store.WriterConfig{Ticker: &events.Ticker{Now: time.Now}, Now: time.Now})
	must(t, err)
	t.Cleanup(func() { w.Close(); opened.Log.Close() })
	return func(c *Config) { c.Rec, c.RecLog = w, opened.Log }
}

// spaceLog is the rec log with a switch for being full.
type spaceLog struct {
	store.Log
	mu   sync.Mutex
	full bool
}

func (l *spaceLog) Space() store.Space {
	l.mu.Lock()
	defer l.mu.Unlock()
	return store.Space{Full: l.full}
}

func (l *spaceLog) fill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full = true
}

type user struct {
	id     events.UserID
	key    string // path of the private key
	signer ssh.Signer
}

func (s *site) Write(p []byte) (int, error) {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	return s.log.Write(p)
}

func newSite(t testing.TB, change ...func(*Config)) *site {
	t.Helper()
	s := &site{t: t, id: events.SiteID{UUID: uuid.New()}, dir: t.TempDir(), users: map[string]*user{}, log: &bytes.Buffer{}}
	s.sealer = newSealer(t)
	ticker := &events.Ticker{Now: time.Now}
	openLog := func(kind events.Kind, clock func() events.Clock) (*memory.Log, *store.Writer) {
		log, err := memory.New(events.Origin{Site: s.id, Epoch: 1, Kind: kind}).Open()
		must(t, err)
		w, err := store.NewWriter(log, store.WriterConfig{Ticker: ticker, Now: time.Now, Clock: clock})
		must(t, err)
		t.Cleanup(func() { w.Close() })
		return log, w
	}
	var ctl, rec *store.Writer
	s.ctl, ctl = openLog(events.Ctl, func() (c events.Clock) {
		s.dispatcher.View(func(state *aggregate.State) { c = state.Clock() })
		return c
	})
	s.rec, rec = openLog(events.Rec, nil)
	s.space = &spaceLog{Log: s.rec}
	s.dispatcher = commands.NewDispatcher(commands.DispatcherConfig{Writer: ctl, Log: s.ctl.Origin(), State: aggregate.New(), Now: s.now, After: func(records []events.Record) {
		for _, r := range records {
			if s.server != nil {
				s.server.OnEvent(r)
			}
		}
	}})
	host, ca := newKey(t, filepath.Join(s.dir, "host")), newKey(t, filepath.Join(s.dir, "ca"))
	s.do(events.SiteActor(s.id), commands.CreateSite{Name: "here", SealingKey: []byte("key"), HostKey: authorizedKey(host.PublicKey())})
	cfg := Config{
		Site: s.id, Dispatcher: s.dispatcher, Rec: rec, RecLog: s.space, Sealer: s.sealer, HostKeys: []ssh.Signer{host},
		CA: func() ssh.Signer { return ca }, Console: echoConsole{}, Now: s.now, Log: slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Limits: Limits{StoragePause: 300 * time.Millisecond},
	}
	for _, f := range change {
		f(&cfg)
	}
	gatewaytest.NoLeaks(t)
	var err error
	s.server, err = New(cfg)
	must(t, err)
	s.serve()
	must(t, os.WriteFile(filepath.Join(s.dir, "known_hosts"),
		fmt.Appendf(nil, "[127.0.0.1]:%s %s\n@cert-authority web1,web2 %s\n", s.port(), authorizedKey(host.PublicKey()), authorizedKey(cfg.CA().PublicKey())), 0o600))
	s.admin = s.addUser("ada", events.Admin).id
	return s
}

func (s *site) serve() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(s.t, err)
	s.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(l) }()
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.server.Shutdown(ctx); err != nil {
			s.t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			s.t.Errorf("Serve: %v", err)
		}
		if s.t.Failed() {
			s.logMu.Lock()
			s.t.Logf("log of the gateway:\n%s", s.log)
			s.logMu.Unlock()
		}
	})
}

func (s *site) port() string { return s.addr[strings.LastIndex(s.addr, ":")+1:] }

func newKey(t testing.TB, path string) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	must(t, err)
	must(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	signer, err := ssh.NewSignerFromKey(private)
	must(t, err)
	return signer
}

func (s *site) do(by events.Actor, c commands.Command) []events.Record {
	s.t.Helper()
	records, err := s.dispatcher.Do(context.Background(), by, c)
	must(s.t, err)
	return records
}

func (s *site) asAdmin(c commands.Command) []events.Record {
	s.t.Helper()
	return s.do(events.UserActor(s.admin), c)
}

func (s *site) addUser(name string, role events.Role) *user {
	s.t.Helper()
	u := &user{key: filepath.Join(s.dir, name)}
	u.signer = newKey(s.t, u.key)
	r := s.do(events.SiteActor(s.id), commands.AddUser{Name: name, Role: role, Key: authorizedKey(u.signer.PublicKey())})
	u.id = events.UserID{UUID: r[0].Header.Stream}
	s.users[name] = u
	return u
}

// addTarget makes a target with one account, and grants it to ada.
func (s *site) addTarget(name, addr, hostKey, account string, kind events.SecretKind, secret []byte) {
	s.t.Helper()
	s.asAdmin(commands.AddTarget{Name: name, Addr: addr, HostKeys: []string{hostKey}})
	sealed, err := vault.Add(context.Background(), s.sealer, kind, seal.NewSecret(bytes.Clone(secret)))
	must(s.t, err)
	s.asAdmin(commands.AddAccount{Name: account, Target: name, Secret: sealed})
	s.asAdmin(commands.AddGrant{User: "ada", Account: account, Target: name})
}

// sshd starts a real sshd and makes it the target web1.
func (s *site) sshd(extra ...string) *localsshd.Server {
	s.t.Helper()
	d, err := localsshd.Start(context.Background(), s.t.TempDir(), extra...)
	if errors.Is(err, localsshd.ErrNotInstalled) {
		s.t.Skip(err)
	}
	must(s.t, err)
	s.t.Cleanup(func() { must(s.t, d.Stop()) })
	s.addTarget("web1", d.Addr, d.HostKey, d.User, events.PrivateKey, d.PrivateKey)
	return d
}

// patience is how long a client may take.
func patience() time.Duration {
	if os.Getenv("HOLDFAST_TEST_FULL") == "1" {
		return 20 * time.Minute
	}
	return time.Minute
}

// options of every OpenSSH client here.
func (s *site) options(who string) []string {
	return []string{
		"-F", "none", "-i", s.users[who].key, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
		"-o", "UserKnownHostsFile=" + filepath.Join(s.dir, "known_hosts"), "-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes",
	}
}

// ssh makes an OpenSSH client of ada's to login at the gateway.
func (s *site) ssh(login string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	s.t.Cleanup(cancel)
	all := append(s.options("ada"), "-p", s.port(), "-l", login)
	return exec.CommandContext(ctx, "ssh", append(append(all, flags(args)...), append([]string{"127.0.0.1"}, words(args)...)...)...)
}

// command runs another OpenSSH tool.
func (s *site) command(name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), patience())
	s.t.Cleanup(cancel)
	return exec.CommandContext(ctx, name, args...)
}

// remote is a path on the target in scp's words.
func (s *site) remote(account, path string) string {
	return account + "+web1@127.0.0.1:" + path
}

// flags are the arguments before "--", words those after it; without "--" all are words.
func flags(args []string) []string {
	if i := slices.Index(args, "--"); i >= 0 {
		return args[:i]
	}
	return nil
}

func words(args []string) []string {
	if i := slices.Index(args, "--"); i >= 0 {
		return args[i+1:]
	}
	return args
}

// run gives a client's output and exit status.
func run(t testing.TB, c *exec.Cmd) (stdout, stderr string, exit int) {
	t.Helper()
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// eventsOf lists what a log holds of one type.
func eventsOf[T any](t testing.TB, log *memory.Log) (all []T) {
	t.Helper()
	for entry, err := range log.Read(context.Background(), 1) {
		must(t, err)
		r, err := events.DecodeEntry(entry)
		must(t, err)
		e, err := r.Event()
		must(t, err)
		if v, ok := e.(T); ok {
			all = append(all, v)
		}
	}
	return all
}

// ended waits until n sessions have ended and gives the last one's end.
func (s *site) ended(n int) events.SessionEnded {
	s.t.Helper()
	waitFor(s.t, func() bool { return len(eventsOf[events.SessionEnded](s.t, s.ctl)) >= n })
	return eventsOf[events.SessionEnded](s.t, s.ctl)[n-1]
}

// echoConsole answers with what it was asked.
type echoConsole struct{}

func (echoConsole) Run(ctx context.Context, r *ConsoleRequest) int {
	if r.Line == "wait" {
		<-ctx.Done()
		return 9
	}
	in, _ := io.ReadAll(r.Stdin)
	fmt.Fprintf(r.Stdout, "%s (%s) runs %q with %q", r.Name, r.Role, r.Line, in)
	fmt.Fprintf(r.Stderr, "terminal %v", r.Terminal != nil)
	return 7
}

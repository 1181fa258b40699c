package commands_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

// world is a site with three users (ada: admin, aud: auditor, olaf: operator), each
// with a key of their name, and the account root+web1. Nobody has a grant.
type world struct {
	*testing.T
	site  *aggregatetest.Site
	state *aggregate.State
	d     *commands.Dispatcher
	now   time.Time
	made  int // ids
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, site: aggregatetest.NewSite(0), state: aggregate.New(), now: aggregatetest.Epoch}
	w.site.Knows = w.state.Clock
	w.d = commands.NewDispatcher(commands.DispatcherConfig{
		Writer: w.site, Log: w.site.Origin(), State: w.state, Now: func() time.Time { return w.now },
		NewID: func() (uuid.UUID, error) { w.made++; return aggregatetest.ID("made", w.made), nil },
	})
	w.do("site", commands.CreateSite{Name: "here", HostKey: key("host")})
	for name, role := range map[string]events.Role{"ada": events.Admin, "aud": events.Auditor, "olaf": events.Operator} {
		w.do("site", commands.AddUser{Name: name, Role: role, Key: key(name)})
	}
	w.do("ada", commands.AddTarget{Name: "web1", Addr: "web1.example:22", HostKeys: []string{key("web1")}})
	w.do("ada", commands.AddAccount{Name: "root", Target: "web1", Secret: sealed(1)})
	return w
}

// key makes the public key of a name, always the same one.
func key(name string) string {
	seed := sha256.Sum256([]byte(name))
	public, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(seed[:]).Public())
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
}

func fingerprint(name string) string {
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key(name)))
	if err != nil {
		panic(err)
	}
	return ssh.FingerprintSHA256(public)
}

func sealed(n int) vault.Sealed {
	return vault.Sealed{
		Credential: events.CredentialID{UUID: aggregatetest.ID("credential", n)},
		Version:    events.SecretID{UUID: aggregatetest.ID("version", n)},
		Kind:       events.Password, Bytes: []byte("sealed bytes"),
	}
}

// actor is "site", "nobody", "stranger" or a user's name.
func (w *world) actor(name string) events.Actor {
	w.Helper()
	switch name {
	case "site":
		return events.SiteActor(w.site.ID)
	case "nobody":
		return events.UnknownActor()
	case "stranger":
		return events.UserActor(events.UserID{UUID: aggregatetest.ID("stranger", 0)})
	}
	return events.UserActor(w.user(name).ID)
}

// user finds a user by name, disabled or not.
func (w *world) user(name string) *aggregate.User {
	w.Helper()
	for _, u := range w.state.Users() {
		if u.Name == name {
			return u
		}
	}
	w.Fatalf("no user %s in this world", name)
	return nil
}

func (w *world) account(name, target string) *aggregate.Account {
	w.Helper()
	a, _, err := w.state.AccountByName(name, target)
	if err != nil {
		w.Fatalf("account %s+%s: %v", name, target, err)
	}
	return a
}

// do is Given: a command that must be carried out.
func (w *world) do(by string, c commands.Command) []events.Record {
	w.Helper()
	records, err := w.d.Do(w.Context(), w.actor(by), c)
	if err != nil {
		w.Fatalf("given %T by %s: %v", c, by, err)
	}
	return records
}

// fact is Given: an event that another site or an older version could have written.
func (w *world) fact(stream uuid.UUID, e events.Event) {
	w.Helper()
	if _, err := w.d.Append(w.Context(), w.site.Draft(stream, w.actor("site"), e)); err != nil {
		w.Fatalf("given %T: %v", e, err)
	}
}

func (w *world) session(user string) commands.Started {
	w.Helper()
	s, err := w.d.StartSession(w.Context(), w.actor(user), w.start(user, "root", "web1"))
	if err != nil {
		w.Fatalf("given a session of %s: %v", user, err)
	}
	return s
}

func (w *world) start(user, account, target string) commands.StartSession {
	return commands.StartSession{
		User: w.user(user).ID, Fingerprint: fingerprint(user), Account: account, Target: target,
		Login: account + "+" + target, Source: "192.0.2.7:40000", Client: "SSH-2.0-test",
	}
}

// scenario is one row of a table: in a new world, given what came before, when
// somebody gives a command, then these events were written, or it was refused.
type scenario struct {
	name  string
	given func(w *world)
	by    string
	when  func(w *world) commands.Command
	then  []string // stored types of the events written, in order
	code  commands.Code
	why   events.DenyReason // of the access.denied event
	says  string            // in the refusal's text
}

func (sc scenario) run(t *testing.T) {
	w := newWorld(t)
	if sc.given != nil {
		sc.given(w)
	}
	before, digest := len(w.site.Records), w.state.Digest()
	by := w.actor(sc.by)
	_, err := w.d.Do(t.Context(), by, sc.when(w))
	written := w.site.Records[before:]
	if sc.code == "" && err != nil {
		t.Fatalf("refused: %v", err)
	}
	if sc.code != "" {
		sc.checkRefusal(t, err, written)
	}
	if got := types(written); !slices.Equal(got, sc.then) {
		t.Errorf("wrote %v, want %v", got, sc.then)
	}
	for _, r := range written {
		if r.Header.Actor != by || r.Header.Command == "" {
			t.Errorf("%s: actor %v, command %q", r.Header.Type, r.Header.Actor, r.Header.Command)
		}
	}
	if len(sc.then) == 0 && w.state.Digest() != digest {
		t.Error("the state changed without an event")
	}
	again := aggregate.New() // what is applied must be what is stored
	for _, r := range w.site.Records {
		if err := again.Apply(r); err != nil {
			t.Fatal(err)
		}
	}
	if again.Digest() != w.state.Digest() {
		t.Error("the state is not that of the log")
	}
}

func (sc scenario) checkRefusal(t *testing.T, err error, written []events.Record) {
	t.Helper()
	var r *commands.Refusal
	if !errors.As(err, &r) || r.Code != sc.code || !strings.Contains(r.Error(), sc.says) {
		t.Fatalf("got %v, want a refusal %s that says %q", err, sc.code, sc.says)
	}
	if sc.why == "" {
		return
	}
	if len(written) != 1 || r.Event != written[0].Header.ID || r.Reason != sc.why {
		t.Fatalf("refusal %+v with %d events, want one with reason %q", r, len(written), sc.why)
	}
	e, err := written[0].Event()
	if denied, ok := e.(events.AccessDenied); !ok || denied.Reason != sc.why {
		t.Errorf("event %#v %v, want reason %q", e, err, sc.why)
	}
}

func types(records []events.Record) []string {
	var out []string
	for _, r := range records {
		out = append(out, r.Header.Type)
	}
	return out
}

func runAll(t *testing.T, table []scenario) {
	t.Helper()
	for _, sc := range table {
		t.Run(sc.name, sc.run)
	}
}

// always is a When that does not depend on the world.
func always(c commands.Command) func(*world) commands.Command {
	return func(*world) commands.Command { return c }
}

func last[E events.Event](t *testing.T, w *world) E {
	t.Helper()
	r := w.site.Records[len(w.site.Records)-1]
	e, err := r.Event()
	if err != nil {
		t.Fatal(err)
	}
	typed, ok := e.(E)
	if !ok {
		t.Fatalf("the last event is %s, not %T", r.Header.Type, fmt.Sprintf("%T", typed))
	}
	return typed
}

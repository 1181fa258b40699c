package rotation_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/commands/lockout"
	"github.com/holdfast-pam/holdfast/commands/rotation"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

var full = os.Getenv("HOLDFAST_TEST_FULL") != ""

// safe holds secrets that were sealed once for all runs: making data keys
// durable would take most of the time.
type safe struct {
	sealer *seal.Sealer
	key    string         // the path of what unseals it
	first  []vault.Sealed // of the account and of the privileged one
}

func newSafe(t *testing.T) *safe {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "keys")
	if err := seal.CreateKeyTable(path); err != nil {
		t.Fatal(err)
	}
	table, err := seal.OpenKeyTable(path, seal.TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.Close() })
	out := &safe{key: filepath.Join(dir, "site.key")}
	file, err := seal.CreateKeyFile(out.key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := file.Public(uuid.New())
	if err != nil {
		t.Fatal(err)
	}
	s, err := seal.NewSealer(seal.Config{Table: table, Site: public})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unseal(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	out.sealer = s
	for _, secret := range []string{"first of app", "first of root"} {
		v, err := vault.Add(t.Context(), s, events.Password, seal.NewSecret([]byte(secret)))
		if err != nil {
			t.Fatal(err)
		}
		out.first = append(out.first, v)
		key, err := s.Key(t.Context(), v.Credential.UUID) // held, so that it is not unwrapped anew each time
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(key.Release)
	}
	return out
}

// mutation is a mistake that the property has to find.
type mutation int

const (
	none            mutation = iota
	stageAfterApply          // what was staged is lost with the site unless the change was answered
	dropCandidates           // versions older than the current one are thrown away
	newestByClock            // the version that was sent last is believed to be true
	countNoSessions          // sessions' wrong logins are not counted
	dropAttempts             // attempts without an answer are forgotten with the site
)

// run is one random life of a site with two accounts on one target.
type run struct {
	lease  func() time.Duration // what is left of it; nil for without end
	copies rotation.Copies      // what other sites hold; nil where there are none
	seed   uint64
	rng    *rand.Rand
	safe   *safe
	site   *aggregatetest.Site
	log    *writer
	d      *commands.Dispatcher
	keeper *lockout.Keeper
	m      *rotation.Manager
	target *model
	mutant mutation

	restart func() // brings the site up after it was lost
	crashes int    // percent of the places where the site may be lost
	user    events.UserID
	made    int
	state   *aggregate.State
	texts   map[events.SecretID]string

	clock func() time.Time // nil where time passes by acts only
}

// writer is the site's log on a disk that outlives the site.
type writer struct {
	r  *run
	mu sync.Mutex // held to append, and by who looks at the records meanwhile
}

func (w *writer) Append(ctx context.Context, drafts ...events.Draft) ([]events.Record, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.r.mayCrash("before an append")
	if w.r.clock != nil { // records bear the time at which they are written
		w.r.site.Skew = w.r.clock().Sub(aggregateEpoch) - time.Duration(len(w.r.site.Records))*time.Millisecond
	}
	records, err := w.r.site.Append(ctx, drafts...)
	w.r.mayCrash("inside an append, after it was durable")
	return records, err
}

func (r *run) mayCrash(where string) {
	if r.rng.IntN(1000) < r.crashes {
		panic(crash{where})
	}
}

// aggregateEpoch is when the clocks of sites begin.
var aggregateEpoch = aggregatetest.Epoch

func (r *run) now() time.Time {
	if r.clock != nil {
		return r.clock()
	}
	return aggregatetest.Epoch.Add(time.Duration(len(r.site.Records))*time.Millisecond + r.site.Skew)
}

func (r *run) pass(d time.Duration) { r.site.Skew += d }

func key(name string) string {
	seed := sha256.Sum256([]byte(name))
	public, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(seed[:]).Public())
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
}

func newRun(safe *safe, seed uint64, mutant mutation) *run {
	r := &run{seed: seed, rng: rand.New(&drawn{Source: rand.NewPCG(seed, 1)}), safe: safe, site: aggregatetest.NewSite(0), mutant: mutant, texts: map[events.SecretID]string{}}
	r.log, r.restart = &writer{r: r}, r.start
	threshold := 2 + r.rng.IntN(5)
	r.target = &model{
		rng: r.rng, now: r.now, crash: r.mayCrash, threshold: threshold, window: 10 * time.Minute,
		accounts: map[string]*modelAccount{"app": {secret: "first of app"}, "root": {secret: "first of root"}},
	}
	r.start()
	site := events.SiteActor(r.site.ID)
	r.must(site, commands.CreateSite{Name: "here", HostKey: key("host")})
	records := r.must(site, commands.AddUser{Name: "ada", Role: events.Admin, Key: key("ada")})
	r.user = events.UserID{UUID: records[0].Header.Stream}
	ada := events.UserActor(r.user)
	r.must(ada, commands.AddTarget{Name: "db", Addr: "192.0.2.1:22", HostKeys: []string{key("db")}})
	r.must(ada, commands.AddAccount{Name: "root", Target: "db", Secret: safe.first[1]})
	add := commands.AddAccount{Name: "app", Target: "db", Secret: safe.first[0]}
	if r.rng.IntN(3) == 0 {
		add.Via = commands.Ref{Account: "root", Target: "db"}
	}
	r.must(ada, add)
	r.must(ada, commands.AddGrant{User: "ada", Account: "app", Target: "db"})
	r.target.cumulates = r.rng.IntN(2) == 0
	policy := events.RotationPolicy{LockoutThreshold: uint32(threshold), LockoutWindow: 600, Cumulative: r.target.cumulates}
	if r.rng.IntN(3) == 0 {
		policy.Every = 3600
	}
	r.must(ada, commands.SetRotationPolicy{Target: "db", Policy: policy})
	r.crashes, r.target.faults = r.rng.IntN(40), r.rng.IntN(70)
	return r
}

// start makes the site anew from what its log holds.
func (r *run) start() {
	r.state = aggregate.New()
	for _, record := range r.survived() {
		if err := r.state.Apply(record); err != nil {
			panic(err)
		}
	}
	r.site.Knows = r.state.Clock
	var m *rotation.Manager
	r.d = commands.NewDispatcher(commands.DispatcherConfig{
		Writer: r.log, Log: r.site.Origin(), State: r.state, Now: r.now,
		After: func(records []events.Record) {
			for _, record := range records {
				if m != nil {
					m.OnEvent(record)
				}
			}
		},
		NewID: func() (uuid.UUID, error) { r.made++; return aggregatetest.ID("made", r.made), nil },
	})
	r.managed()
	m = r.m
}

// managed makes the process manager of the site.
func (r *run) managed() {
	r.keeper = lockout.New(r.site.ID, r.d, r.now)
	r.m = rotation.New(rotation.Config{
		Dispatcher: r.d, Sealer: r.safe.sealer, Keeper: r.keeper, Site: r.site.ID, Now: r.now, Log: slog.New(slog.DiscardHandler),
		Lease: r.lease, Copies: r.copies,
		Rotator: func(events.TargetKind, events.SecretKind) (rotator.Rotator, bool) {
			if r.mutant == newestByClock {
				return believer{r.target}, true
			}
			return r.target, true
		},
		Generate: func(events.TargetKind, events.RotationPolicy, rotator.Secret) (rotator.Secret, error) {
			r.made++
			return rotator.Secret{Kind: events.Password, Bytes: seal.NewSecret(fmt.Appendf(nil, "secret %d", r.made))}, nil
		},
	})
}

// survived is what the log holds after the site was lost; a mutant's holds less.
func (r *run) survived() []events.Record {
	lost := map[uuid.UUID]bool{} // records whose payload is gone
	switch r.mutant {
	case stageAfterApply:
		for _, record := range r.site.Records {
			switch e := eventOf(record).(type) {
			case events.SecretStaged:
				lost[record.Header.ID] = !e.Rotation.IsZero()
			case events.SecretApplied:
				delete(lost, e.Version.UUID)
			case events.SecretRefused:
				delete(lost, e.Version.UUID)
			}
		}
	case dropCandidates:
		verified := map[uuid.UUID]bool{}
		for _, record := range r.site.Records {
			if e, ok := eventOf(record).(events.SecretVerified); ok {
				verified[e.Version.UUID] = true
			}
		}
		for _, record := range r.site.Records {
			if _, ok := eventOf(record).(events.SecretStaged); ok && !verified[record.Header.ID] && record.Header.Command == "StageSecret" {
				lost[record.Header.ID] = true
			}
		}
	case dropAttempts:
		for _, record := range r.site.Records {
			switch e := eventOf(record).(type) {
			case events.SecretTried:
				lost[record.Header.ID] = true
			case events.SecretRejected:
				delete(lost, e.Try.UUID)
			}
		}
	}
	out := make([]events.Record, len(r.site.Records))
	for i, record := range r.site.Records {
		if lost[record.Header.ID] {
			raw := record.Raw
			raw.Payload = nil
			record, _ = events.DecodeEntry(raw)
		}
		out[i] = record
	}
	return out
}

func eventOf(r events.Record) events.Event {
	e, err := r.Event()
	if err != nil {
		panic(err)
	}
	return e
}

// believer holds the newest candidate to be true without asking.
type believer struct{ *model }

func (believer) Verify(context.Context, rotator.Job, rotator.Secret) (rotator.Answer, error) {
	return rotator.Accepted, nil
}

func (r *run) must(by events.Actor, c commands.Command) []events.Record {
	records, err := r.d.Do(context.Background(), by, c)
	if err != nil {
		panic(fmt.Sprintf("%T: %v", c, err))
	}
	return records
}

func (r *run) account(name string) *aggregate.Account {
	a, _, err := r.state.AccountByName(name, "db")
	if err != nil {
		panic(err)
	}
	return a
}

func (r *run) credential(name string) *aggregate.Credential {
	c, ok := r.state.Credential(r.account(name).Credential)
	if !ok {
		panic("no credential")
	}
	return c
}

// survive runs f, and the site's next start if it is lost meanwhile.
func (r *run) survive(f func()) {
	defer func() {
		if p := recover(); p != nil {
			if _, lost := p.(crash); !lost {
				panic(p)
			}
			chance := r.crashes
			r.crashes = 0
			r.restart()
			for _, n := range r.state.LiveSessions() { // as a site does at its start
				if n.Started.Origin.Site != r.site.ID {
					continue
				}
				r.must(events.SiteActor(r.site.ID), commands.EndSession{Session: n.ID, Reason: events.EndedByCrash})
			}
			r.crashes = chance
		}
	}()
	f()
}

// act is something that happens in the life of a site.
func (r *run) act() {
	name := "app"
	if r.rng.IntN(4) == 0 {
		name = "root"
	}
	switch n := r.rng.IntN(20); {
	case n < 12:
		r.step()
	case n < 14:
		_, err := r.d.Do(context.Background(), events.UserActor(r.user), commands.PlanRotation{Account: name, Target: "db", Why: events.WhyAsked})
		if err != nil && !errors.As(err, new(*commands.Refusal)) {
			panic(err)
		}
	case n < 17:
		r.session()
	case n < 18:
		r.pass(time.Duration(r.rng.IntN(1200)) * time.Second)
	case n < 19 && r.target.faults > 20:
		r.pass(61 * time.Second) // nobody does that within a minute after a login, as rotations assume
		r.target.restore(name)
	default:
		r.due()
	}
}

// step takes one step of a random rotation. It says whether there was one to
// take; where all wait, time passes.
func (r *run) step() bool {
	open := r.state.Rotations()
	if len(open) == 0 {
		return false
	}
	o := open[r.rng.IntN(len(open))]
	if s := rotation.Plan(r.state, o, r.site.ID, r.now()); s.Kind == rotation.Wait {
		if r.crashes > 0 && r.rng.IntN(2) == 0 { // as Run does: a person may then ask for another one instead
			r.must(events.SiteActor(r.site.ID), commands.DeferRotation{Rotation: o.ID, Until: s.Until, Detail: s.Detail})
			return true
		}
		r.pass(max(0, s.Until.Sub(r.now())))
		return true
	}
	if err := r.m.Step(context.Background(), o.ID); err != nil {
		panic(fmt.Sprintf("step: %v", err))
	}
	return true
}

// due plans what is due now.
func (r *run) due() (planned bool) {
	for _, name := range []string{"app", "root"} {
		o, ok := rotation.Due(r.state, r.account(name), r.site.ID)
		if _, under := r.d.Rotating(r.state, r.credential(name).ID); !ok || under || o.At.After(r.now()) {
			continue
		}
		r.must(events.SiteActor(r.site.ID), commands.PlanRotation{Account: name, Target: "db", Why: o.Why, SettleOnly: o.SettleOnly, Cause: o.Cause})
		planned = true
	}
	return planned
}

// session is a person who logs in through the gateway.
func (r *run) session() error {
	ctx, ada := context.Background(), events.UserActor(r.user)
	public, _, _, _, _ := ssh.ParseAuthorizedKey([]byte(key("ada")))
	started, err := r.d.StartSession(ctx, ada, commands.StartSession{
		User: r.user, Fingerprint: ssh.FingerprintSHA256(public), Account: "app", Target: "db", Source: "192.0.2.9:1", Client: "SSH-2.0-x",
	})
	if err != nil {
		return err
	}
	err = r.keeper.Login(ctx, started.Session, started.Secret.Credential, func(v vault.Sealed) (lockout.Result, error) {
		secret, err := vault.Open(ctx, r.safe.sealer, v)
		if err != nil {
			return lockout.NotPresented, err
		}
		result, err := r.target.session("app", string(secret.Bytes()))
		switch {
		case result == lockout.Accepted:
			_, err = r.d.Do(ctx, events.SiteActor(r.site.ID), commands.ConnectSession{Session: started.Session, Secret: v.Version})
		case r.mutant == countNoSessions:
			result = lockout.NotPresented
		}
		return result, err
	})
	reason := events.EndedByClient
	if err != nil {
		reason = events.EndedByTargetLogin
	}
	r.must(events.SiteActor(r.site.ID), commands.EndSession{Session: started.Session, Reason: reason})
	return err
}

// opened is the secret of a version, opened once.
func (r *run) opened(v vault.Sealed) string {
	if text, ok := r.texts[v.Version]; ok {
		return text
	}
	secret, err := vault.Open(context.Background(), r.safe.sealer, v)
	if err != nil {
		panic(err)
	}
	r.texts[v.Version] = string(secret.Bytes())
	return r.texts[v.Version]
}

// known reports whether the target's secret is among the versions that the log
// holds.
func (r *run) known(name string) bool {
	c := r.credential(name)
	for _, v := range c.Versions() {
		sealed, ok := commands.Sealed(r.state, c.ID, v.ID)
		if !ok {
			continue
		}
		if r.opened(sealed) == r.target.account(name).secret {
			return true
		}
	}
	return false
}

// quiesce lets everything come to rest: no more faults, and time passes.
func (r *run) quiesce() error {
	r.crashes, r.target.faults = 0, 0
	r.pass(time.Hour) // what targets do late, they have done
	for range 3000 {
		if r.step() || r.due() {
			continue
		}
		if r.credential("app").Alarmed() || r.credential("root").Alarmed() { // a person looks: rotate retry
			for _, name := range []string{"app", "root"} {
				if r.credential(name).Alarmed() {
					r.must(events.UserActor(r.user), commands.PlanRotation{Account: name, Target: "db", Why: events.WhyAsked, SettleOnly: true})
				}
			}
			continue
		}
		if err := r.session(); err != nil {
			r.pass(11 * time.Minute)
			continue
		}
		if r.credential("app").Unsettled() {
			continue
		}
		return nil
	}
	return errors.New("it did not come to rest")
}

// live runs the whole life, and gives what was wrong with it.
func (r *run) live() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	for range 20 + r.rng.IntN(80) {
		r.survive(r.act)
		for _, name := range []string{"app", "root"} {
			if !r.known(name) {
				return fmt.Errorf("%s: the target takes a secret that nobody has", name)
			}
		}
		if len(r.target.broken) > 0 {
			return errors.New(r.target.broken[0])
		}
	}
	if err := r.quiesce(); err != nil {
		return err
	}
	if len(r.target.broken) > 0 {
		return errors.New(r.target.broken[0])
	}
	c := r.credential("app")
	v, ok := c.Current()
	if !ok {
		return errors.New("no current version at the end")
	}
	sealed, _ := commands.Sealed(r.state, c.ID, v.ID)
	if r.opened(sealed) != r.target.account("app").secret {
		return errors.New("what is held to be true is not what the target takes")
	}
	return nil
}

// Whatever happens to the site and its target: the target's secret is always
// among the known ones, the account is never locked, and everything comes to
// rest with the true secret known.
func TestNoWorkingSecretIsEverLost(t *testing.T) {
	safe := newSafe(t)
	runs := 3000
	switch {
	case full:
		runs = 100_000
	case testing.Short():
		runs = 300
	}
	ended := map[events.RotationResult]int{}
	for seed := range uint64(runs) {
		if seed%5000 == 4999 { // a data key seals so many messages and no more
			safe = newSafe(t)
		}
		r := newRun(safe, seed, none)
		if err := r.live(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, record := range r.site.Records {
			if e, ok := eventOf(record).(events.RotationEnded); ok {
				ended[e.Result]++
			}
		}
	}
	t.Logf("rotations that ended: %v", ended)
	for _, result := range []events.RotationResult{events.RotationVerified, events.RotationFailed} {
		if ended[result] == 0 {
			t.Errorf("no rotation ended %s: the property tried nothing", result)
		}
	}
}

// The property finds each mistake that would break it.
func TestTheSagaPropertyCatchesMutants(t *testing.T) {
	safe := newSafe(t)
	for name, mutant := range map[string]mutation{
		"stage after apply": stageAfterApply, "drop candidates": dropCandidates, "newest by clock": newestByClock,
		"sessions do not count": countNoSessions, "forget attempts": dropAttempts,
	} {
		caught := false
		for seed := range uint64(3000) {
			if err := newRun(safe, seed, mutant).live(); err != nil {
				t.Logf("%s: caught by seed %d: %v", name, seed, err)
				caught = true
				break
			}
		}
		if !caught {
			t.Errorf("%s was not caught", name)
		}
	}
}

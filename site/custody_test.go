package site

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/mesh"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/seal/keyring"
)

// custody is a mesh of three custodians with one account.
type custody struct {
	a, b, c *member
	admin   events.Actor
}

func newCustody(t *testing.T) *custody {
	x := &custody{a: serveMember(t, "a"), b: serveMember(t, "b"), c: serveMember(t, "c")}
	if err := x.a.AddAdmin(t.Context(), "ada", newPublicKey(t)); err != nil {
		t.Fatal(err)
	}
	x.a.commands.View(func(s *aggregate.State) { x.admin = events.UserActor(s.Users()[0].ID) })
	x.b.join(x.a, x.admin, events.PeerSite)
	x.c.join(x.a, x.admin, events.PeerSite)
	x.do(x.a, commands.AddTarget{Name: "web1", Addr: "192.0.2.1:22", HostKeys: []string{newPublicKey(t)}})
	first, err := vault.Add(t.Context(), x.a.sealer, events.Password, seal.NewSecret([]byte("first")))
	if err != nil {
		t.Fatal(err)
	}
	x.do(x.a, commands.AddAccount{Name: "root", Target: "web1", Secret: first})
	for _, m := range []*member{x.b, x.c} {
		m.hears(x.a)
		x.eventually(m, "first")
	}
	return x
}

func (x *custody) do(m *member, c commands.Command) []events.Record {
	m.t.Helper()
	records, err := m.commands.Do(m.t.Context(), x.admin, c)
	if err != nil {
		m.t.Fatal(err)
	}
	return records
}

// put enters another version of the secret at a site.
func (x *custody) put(m *member, secret string) vault.Sealed {
	m.t.Helper()
	sealed := x.stage(m, secret)
	x.do(m, commands.PutSecret{Account: "root", Target: "web1", Secret: sealed})
	return sealed
}

func (x *custody) stage(m *member, secret string) (sealed vault.Sealed) {
	m.t.Helper()
	var known vault.Sealed
	var err error
	m.commands.View(func(s *aggregate.State) { known, err = commands.KnownSecret(s, "root", "web1") })
	if err == nil {
		sealed, err = vault.Stage(m.t.Context(), m.sealer, known, seal.NewSecret([]byte(secret)))
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return sealed
}

// current is the version that a site holds to be true.
func (x *custody) current(m *member) (v vault.Sealed) {
	m.commands.View(func(s *aggregate.State) {
		for _, a := range s.Accounts() {
			if all := commands.Candidates(s, a.Credential); len(all) > 0 {
				v = all[0]
			}
		}
	})
	return v
}

// eventually waits until a site opens a secret as the one that is held to be true:
// data keys come by themselves, a moment after what they seal.
func (x *custody) eventually(m *member, secret string) {
	m.t.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var b seal.Secret
		if b, err = vault.Open(m.t.Context(), m.sealer, x.current(m)); err == nil && string(b.Bytes()) == secret {
			return
		}
	}
	m.t.Fatalf("%s does not come to open %q: %v", m.Name(), secret, err)
}

// copyOf copies a running site's data directory, and opens the keys in the copy.
func copyOf(t *testing.T, m *member) *seal.Sealer {
	t.Helper()
	dir := ""
	for n := 0; ; n++ { // files come and go in it meanwhile
		dir = filepath.Join(t.TempDir(), "copy")
		out, err := exec.Command("cp", "-a", m.data.dir, dir).CombinedOutput()
		if err == nil {
			break
		}
		if n == 50 || !strings.Contains(string(out), ".tmp") {
			t.Fatalf("%v: %s", err, out)
		}
	}
	stolen := data{dir}
	ring, err := keyring.Open(keyring.Config{Dir: stolen.keys(), Site: m.ID().UUID, Provider: keyring.File, KeyFile: stolen.siteKey()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ring.Close() })
	opened, err := ring.Open(t.Context(), seal.Secret{})
	if err == nil {
		err = opened.Use(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return ring.Sealer()
}

// opens tells which versions any data key in a site's table opens.
func opens(t *testing.T, sealer *seal.Sealer, versions ...vault.Sealed) (all []bool) {
	t.Helper()
	for _, v := range versions {
		all = append(all, slices.ContainsFunc(slices.Collect(sealer.KeyIDs()), func(id uuid.UUID) bool {
			key, err := sealer.Key(t.Context(), id)
			if errors.Is(err, seal.ErrNotRecipient) {
				return false
			}
			if err != nil {
				t.Fatal(err)
			}
			defer key.Release()
			return vault.Opens(key, v)
		}))
	}
	return all
}

// A custodian is fenced, and whoever has its disk reads all ciphertexts of the mesh.
// They open what was sealed before, and nothing that was sealed after it: no version
// of a secret, no recording. The other custodians open all of it, and so does the
// fenced one once a person trusts it again.
func TestAttackFencedCustodianReadsOnlyWhatWasSealedBefore(t *testing.T) {
	x := newCustody(t)
	before := x.current(x.b)
	x.do(x.a, commands.FenceSite{Site: "b", Reason: "stolen"})
	thief := copyOf(t, x.b)
	x.c.hears(x.a)
	second := x.put(x.a, "second")
	x.c.hears(x.a)
	x.eventually(x.c, "second")
	third := x.put(x.c, "third") // under the key that a has made
	x.a.hears(x.c)
	x.eventually(x.a, "third")
	if second.Key == uuid.Nil || third.Key != second.Key {
		t.Errorf("the data keys are %s and %s", second.Key, third.Key)
	}
	for _, m := range []*member{x.a, x.c} {
		session := uuid.Must(uuid.NewV7())
		key, err := m.sealer.NewKey(t.Context(), session)
		if err != nil {
			t.Fatal(err)
		}
		defer key.Release()
		if slices.Contains(key.Sites(), x.b.ID().UUID) || !slices.Contains(key.Sites(), x.a.ID().UUID) || !slices.Contains(key.Sites(), x.c.ID().UUID) {
			t.Errorf("a recording of %s is sealed for %v", m.Name(), key.Sites())
		}
		time.Sleep(100 * time.Millisecond)
		if _, err := x.b.sealer.Key(t.Context(), session); !errors.Is(err, seal.ErrNotFound) {
			t.Errorf("the fenced site got the key of a recording of %s: %v", m.Name(), err)
		}
	}
	for _, m := range []*member{x.a, x.c} {
		for id := range m.sealer.KeyIDs() { // also by what is shared later
			m.send(t.Context(), x.b.ID(), []uuid.UUID{id})
		}
	}
	for name, sealer := range map[string]*seal.Sealer{"the fenced site": x.b.sealer, "a copy of its disk": thief} {
		if got := opens(t, sealer, before, second, third); !slices.Equal(got, []bool{true, false, false}) {
			t.Errorf("%s opens the versions of before, after, after that: %v", name, got)
		}
	}
	if got := opens(t, x.c.sealer, before, second, third); !slices.Equal(got, []bool{true, true, true}) {
		t.Errorf("another custodian opens %v", got)
	}
	x.do(x.a, commands.ReconcileSite{Site: "b", Reason: "it was found"})
	x.b.hears(x.a)
	x.eventually(x.b, "third")
}

// A site that has left opens nothing that is sealed after it.
func TestWhoHasLeftGetsNoKeys(t *testing.T) {
	x := newCustody(t)
	before := x.current(x.b)
	began := time.Now()
	if _, err := x.b.Leave(t.Context(), x.admin, "a", "the office closes"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > leaveTime/2 {
		t.Errorf("leaving took %s: it was not seen that the others hold everything", took)
	}
	x.a.hears(x.b)
	x.c.hears(x.b)
	second := x.put(x.c, "second")
	x.a.hears(x.c)
	x.eventually(x.a, "second")
	if got := opens(t, x.b.sealer, before, second); !slices.Equal(got, []bool{true, false}) {
		t.Errorf("the site that has left opens the versions of before and after: %v", got)
	}
}

// A secret is sealed for a custodian that is cut off before the secret is stored: it is
// refused, since the event would say that its site knew of the cut. The same goes
// for one under a data key of before.
func TestSealedForWhoWasCutOffMeanwhile(t *testing.T) {
	x := newCustody(t)
	account, err := vault.Add(t.Context(), x.a.sealer, events.Password, seal.NewSecret([]byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	staged := x.stage(x.a, "second")
	x.do(x.a, commands.FenceSite{Site: "b", Reason: "stolen"})
	for _, c := range []commands.Command{
		commands.AddAccount{Name: "www", Target: "web1", Secret: account},
		commands.PutSecret{Account: "root", Target: "web1", Secret: staged},
	} {
		if _, err := x.a.commands.Do(t.Context(), x.admin, c); err == nil || !strings.Contains(err.Error(), "custodian") {
			t.Errorf("%T: %v", c, err)
		}
	}
	x.put(x.a, "second")
}

// Data keys overtake decisions: a link carries them beside the logs. A site that took
// one before it knows what the maker of the key knew would give it to a site that was
// cut off. It waits; what there is no room for it asks for again.
func TestDataKeysWaitForWhatTheirMakerKnew(t *testing.T) {
	x := newCustody(t)
	next := events.ClockEntry{Origin: x.a.ctl.Log().Origin(), Position: x.a.at() + 1}
	x.a.sealer.Entrust(nil, nil) // so that nothing comes by itself
	public, err := seal.ParsePublicKey(x.c.ID().UUID, x.c.keys.Status().Public)
	if err != nil {
		t.Fatal(err)
	}
	var ids []uuid.UUID
	for range maxWaiting + 1 {
		id := uuid.Must(uuid.NewV7())
		key, err := x.a.sealer.NewKey(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		key.Release()
		wrap, err := x.a.sealer.WrapFor(t.Context(), id, public)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(sharedKey{id, wrap})
		if err != nil {
			t.Fatal(err)
		}
		x.c.acceptKeys(t.Context(), mesh.GotWraps{Site: x.a.ID(), Wraps: mesh.Wraps{Keys: [][]byte{b}, After: []events.ClockEntry{next}}})
		ids = append(ids, id)
	}
	for _, id := range ids {
		if _, err := x.c.sealer.Key(t.Context(), id); !errors.Is(err, seal.ErrNotFound) {
			t.Fatalf("a data key was taken before what its maker knew: %v", err)
		}
	}
	far := events.ClockEntry{Origin: next.Origin, Position: next.Position + 1000}
	for range maxWaiting + 1 { // who names what never comes stands in nobody's way
		x.c.acceptKeys(t.Context(), mesh.GotWraps{Site: x.b.ID(), Wraps: mesh.Wraps{Keys: [][]byte{{1}}, After: []events.ClockEntry{far}}})
	}
	x.do(x.a, commands.AddGroup{Name: "ops"})
	x.c.hears(x.a)
	for _, id := range ids {
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			key, err := x.c.sealer.Key(t.Context(), id)
			if err == nil {
				key.Release()
				break
			}
			if time.Now().After(end) {
				t.Fatalf("a data key does not come: %v", err)
			}
		}
	}
}

// at is up to where a site has decided.
func (m *member) at() uint64 {
	size, _ := m.ctl.Log().Size()
	return size
}

// A fenced site has sent secrets beyond where its log counts, one of them made up: it is
// sealed under no key. Who holds that part brings back the other one, and nobody is kept
// waiting for the made-up one. What is sealed next has a new data key.
func TestSecretsOfAFencedSiteAreBroughtBack(t *testing.T) {
	x := newCustody(t)
	size := x.b.at()
	sent := x.put(x.b, "sent")
	made := x.b.say(sent.Credential.UUID, events.SecretStaged{Sealed: make([]byte, 64)})
	x.b.say(sent.Credential.UUID, events.SecretSent{Version: events.SecretID{UUID: made.Header.ID}, Verb: events.ChangeAsItself})
	for _, m := range []*member{x.a, x.c} {
		m.hears(x.b)
	}
	x.a.say(x.b.ID().UUID, events.SiteFenced{Logs: []events.ClockEntry{{Origin: x.b.ctl.Log().Origin(), Position: size}}, Reason: "stolen"})
	x.c.hears(x.a)
	for _, m := range []*member{x.a, x.c} {
		m.masks()
		x.eventually(m, "sent")
		m.commands.View(func(s *aggregate.State) {
			c, _ := s.Credential(sent.Credential)
			if all := c.Candidates(); !c.Contested() || len(all) != 2 || all[0].ID != sent.Version {
				t.Errorf("%s: contested %t, %d candidates", m.Name(), c.Contested(), len(all))
			}
		})
	}
	x.a.hears(x.c)
	at, here, err := x.a.Digest(t.Context(), events.Clock{})
	if err != nil {
		t.Fatal(err)
	}
	x.c.hears(x.a)
	if _, there, err := x.c.Digest(t.Context(), at); err != nil || there != here {
		t.Errorf("two states: %s, %s: %v", here, there, err)
	}
	if next := x.put(x.c, "next"); next.Key == uuid.Nil || slices.Contains(next.Sites, x.b.ID().UUID) {
		t.Errorf("the next version is sealed under data key %s for %v", next.Key, next.Sites)
	}
}

// A custodian asks for all keys in a loop: it gets them once in a while.
func TestAttackAllKeysAskedForInALoop(t *testing.T) {
	s := open(t, testConfig(t))
	defer func() { _ = s.Close() }()
	rogue := events.SiteID{UUID: uuid.Must(uuid.NewV7())}
	under := func() bool {
		s.sharing.mu.Lock()
		defer s.sharing.mu.Unlock()
		_, under := s.sharing.next[rogue]
		return under
	}
	for range 1000 {
		s.acceptKeys(t.Context(), mesh.GotWraps{Site: rogue})
	}
	time.Sleep(giveEvery / 4)
	if !under() { // there is hardly a key
		t.Error("it got all keys more than once, without a pause")
	}
	for end := time.Now().Add(10 * giveEvery); under(); time.Sleep(giveEvery / 10) {
		if time.Now().After(end) {
			t.Fatal("it is given keys without end")
		}
	}
}

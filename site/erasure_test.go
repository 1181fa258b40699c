package site

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
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
	"github.com/holdfast-pam/holdfast/gateway"
)

// erasing is some sites with a recording and two administrators.
type erasing struct {
	*testing.T
	sites    []*member
	ada, eve events.Actor
	session  events.SessionID
	packets  string // what was recorded
}

// newErasing has the first site make the others members, and record a session that
// all of them can read.
func newErasing(t *testing.T, sites ...*member) *erasing {
	x := &erasing{T: t, sites: sites, packets: string(events.AppendPacket(nil, 0, 0, []byte("\x5ecard 4711")))}
	a := sites[0]
	x.ada = adminAt(t, a)
	x.do(a, x.ada, commands.AddUser{Name: "eve", Role: events.Admin, Key: newPublicKey(t)})
	a.commands.View(func(s *aggregate.State) {
		u, _ := s.UserByName("eve")
		x.eve = events.UserActor(u.ID)
	})
	for _, m := range sites[1:] {
		m.join(a, x.ada, events.PeerSite)
	}
	x.session = x.record(a)
	for _, m := range sites {
		m.hears(a)
		m.recorded(a)
		x.eventually(m.Name()+" reads it", func() bool { return x.reads(m) == nil })
	}
	return x
}

func (x *erasing) record(m *member) events.SessionID {
	x.Helper()
	id := events.SessionID{UUID: uuid.Must(uuid.NewV7())}
	m.say(id.UUID, events.SessionStarted{User: events.UserID{UUID: x.ada.ID}})
	key, err := m.sealer.NewKey(x.Context(), id.UUID)
	if err != nil {
		x.Fatal(err)
	}
	defer key.Release()
	for n := range uint64(3) {
		m.record(id, key, n, x.packets)
	}
	m.say(id.UUID, events.SessionEnded{Reason: events.EndedByClient, In: events.Cursors{Committed: 3}})
	return id
}

func binding(id events.SessionID) seal.Binding {
	return seal.Binding{Purpose: gateway.PacketsPurpose(events.In), ID: id.UUID}
}

func (x *erasing) do(m *member, by events.Actor, c commands.Command) {
	x.Helper()
	if _, err := m.commands.Do(x.Context(), by, c); err != nil {
		x.Fatal(err)
	}
}

func (x *erasing) erase(m *member) {
	x.Helper()
	x.do(m, x.ada, commands.AskErasure{Session: x.session, Reason: "a card number"})
	x.do(m, x.eve, commands.ConfirmErasure{Session: x.session})
}

// reads plays the recording.
func (x *erasing) reads(m *member) error {
	got := ""
	for item, err := range m.Recording(x.Context(), x.session) {
		if err != nil {
			return err
		}
		got += string(item.Packet.Bytes)
	}
	if strings.Count(got, "card 4711") != 3 {
		return fmt.Errorf("it reads %q", got)
	}
	return nil
}

func (x *erasing) eventually(what string, is func() bool) {
	x.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			x.Fatalf("it never came to be that %s", what)
		}
	}
}

// done has a site hear of another one that it has erased the recording.
func (x *erasing) done(at *member, of ...*member) {
	x.Helper()
	x.eventually(at.Name()+" has all their words", func() (all bool) {
		at.commands.View(func(s *aggregate.State) {
			e, asked := s.Erasure(x.session.UUID)
			all = asked
			for _, m := range of {
				all = all && s.HasErased(e, m.ID()) != nil
			}
		})
		return all
	})
}

// stolen reports whether anything at a site opens the recording, for who holds its whole
// disk and its unlocked key: each data key in the table is tried.
func (x *erasing) stolen(m *member) (opens bool) {
	x.Helper()
	thief := copyOf(x.T, m)
	for id := range thief.KeyIDs() {
		key, err := thief.Key(x.Context(), id)
		if err != nil {
			continue // another site's wrap
		}
		defer key.Release()
		for _, log := range append(m.OtherLogs(), m.rec.Log()) {
			for entry, err := range log.Read(x.Context(), 1) {
				if err != nil {
					x.Fatal(err)
				}
				r, err := events.DecodeEntry(entry)
				if err != nil || r.Header.Stream != x.session.UUID {
					continue
				}
				e, err := r.Event()
				if p, ok := e.(events.SessionPackets); ok && err == nil && p.First == 0 {
					_, err := key.Open(p.Sealed, binding(x.session))
					opens = opens || err == nil
				}
			}
		}
	}
	return opens
}

// gone wants nothing at a site to open the recording, and its logs to be whole.
func (x *erasing) gone(m *member) {
	x.Helper()
	table, err := os.ReadFile(m.data.table())
	if err != nil {
		x.Fatal(err)
	}
	if bytes.Contains(table, x.session.UUID[:]) {
		x.Errorf("%s: the key table still names the data key", m.Name())
	}
	if x.stolen(m) {
		x.Errorf("%s: a data key of the disk opens the recording", m.Name())
	}
	var r *commands.Refusal
	if err := x.reads(m); !errors.As(err, &r) || r.Code != commands.NotFound || !strings.Contains(r.Message, "a card number") {
		x.Errorf("%s: reading it gives %v", m.Name(), err)
	}
	reports, err := m.VerifyLogs(x.Context())
	if err != nil {
		x.Fatal(err)
	}
	for _, report := range reports {
		if err := report.Err(); err != nil {
			x.Errorf("%s: %v", m.Name(), err)
		}
	}
}

// A recording is erased at one site while another one, which has its key, is cut off:
// that one keeps it until it hears, and gives it back to nobody.
func TestAttackErasedRecordingComesBack(t *testing.T) {
	c := testConfig(t)
	c.Site.Name, c.SSH.Listen, c.Mesh.Listen = "b", "127.0.0.1:0", "127.0.0.1:0"
	a, b, third := serveMember(t, "a"), serveConfig(t, c), serveMember(t, "c")
	x := newErasing(t, a, b, third)
	for _, m := range x.sites {
		if !x.stolen(m) {
			t.Fatalf("%s: this test could not see that it opens", m.Name())
		}
	}

	public, err := seal.ParsePublicKey(a.ID().UUID, a.keys.Status().Public)
	if err != nil {
		t.Fatal(err)
	}
	wrap, err := b.sealer.WrapFor(t.Context(), x.session.UUID, public)
	if err != nil {
		t.Fatal(err)
	}
	old, err := json.Marshal(sharedKey{x.session.UUID, wrap})
	if err != nil {
		t.Fatal(err)
	}
	oldTable, err := os.ReadFile(b.data.table())
	if err != nil {
		t.Fatal(err)
	}
	b.end()

	x.erase(a)
	third.hears(a)
	x.done(a, a, third)
	for _, m := range []*member{a, third} {
		x.gone(m)
	}
	a.commands.View(func(s *aggregate.State) {
		e, _ := s.Erasure(x.session.UUID)
		for _, at := range s.SitesOf(e) {
			if (at.Site == b.ID()) != (at.Done == nil) {
				t.Errorf("the report says of %s: %+v", at.Site, at)
			}
		}
	})
	a.acceptKeys(t.Context(), mesh.GotWraps{Site: b.ID(), Wraps: mesh.Wraps{Keys: [][]byte{old}}})
	x.gone(a)

	b = serveConfig(t, c) // it comes back with the key, and sends all it has to whoever it meets
	x.sites[1] = b
	for _, m := range []*member{a, third} {
		x.done(m, b)
	}
	b.shareKeys(t.Context(), a.ID())
	a.hears(b)
	for _, m := range []*member{a, b, third} {
		x.gone(m)
	}

	b.end() // its key table is put back as it was
	if err := os.WriteFile(filepath.Join(c.Site.Data, "keys", "table"), oldTable, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, c)
	if s.sealer.Has(x.session.UUID) {
		t.Error("what an old key table brought back is there after a start")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A site that is lost between the decision and the destruction, or before it could say
// so, does the rest at its next start, before it serves anybody.
func TestErasureIsRedoneAtStart(t *testing.T) {
	c := testConfig(t)
	c.Site.Name, c.SSH.Listen = "a", "127.0.0.1:0"
	a := serveConfig(t, c)
	x := newErasing(t, a)
	a.end()
	for _, destroyed := range []bool{false, true} {
		s := open(t, c) // nothing of it runs in the background
		m := &member{Site: s, t: t}
		if !destroyed {
			x.erase(m)
			if !s.sealer.Has(x.session.UUID) {
				t.Fatal("it was destroyed too early for this test")
			}
		} else {
			x.session = x.record(m)
			x.erase(m)
			if err := s.sealer.Erase(x.session.UUID); err != nil {
				t.Fatal(err)
			}
		}
		if err := x.reads(m); err == nil || !strings.Contains(err.Error(), "erased") {
			t.Errorf("what is decided and not destroyed is read: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, c)
		x.done(&member{Site: s, t: t}, &member{Site: s, t: t})
		if s.sealer.Has(x.session.UUID) {
			t.Error("it is there after a start")
		}
		if err := s.CaughtUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		x.gone(&member{Site: s, t: t})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Who is reading the recording when it is erased reads no further.
func TestErasedWhileItIsRead(t *testing.T) {
	a := serveMember(t, "a")
	x := newErasing(t, a)
	id := x.record(a)
	key, err := a.sealer.Key(t.Context(), id.UUID)
	if err != nil {
		t.Fatal(err)
	}
	x.session = id
	a.recorded(a)
	seen := 0
	var refused error
	for _, err := range a.Recording(t.Context(), id) {
		if refused = err; err != nil {
			break
		}
		if seen++; seen == 1 {
			x.erase(a)
			x.done(a, a)
		}
	}
	if refused == nil || !strings.Contains(refused.Error(), "was erased") {
		t.Errorf("after %d packets: %v", seen, refused)
	}
	if _, err := key.Open(make([]byte, 64), binding(id)); !errors.Is(err, seal.ErrNotFound) {
		t.Errorf("a data key that was held goes on opening: %v", err)
	}
	key.Release()
	x.gone(a)
}

// The secrets of a removed account are erased, under whatever data keys, at a custodian
// that was cut off as well; those of other accounts are not.
func TestAttackErasedSecretsComeBack(t *testing.T) {
	x := newCustody(t)
	x.do(x.a, commands.AddUser{Name: "eve", Role: events.Admin, Key: newPublicKey(t)})
	var eve events.Actor
	x.a.commands.View(func(s *aggregate.State) {
		u, _ := s.UserByName("eve")
		eve = events.UserActor(u.ID)
	})
	first := x.current(x.a)
	other, err := vault.Add(t.Context(), x.a.sealer, events.Password, seal.NewSecret([]byte("other")))
	if err != nil {
		t.Fatal(err)
	}
	x.do(x.a, commands.AddAccount{Name: "www", Target: "web1", Secret: other})
	x.do(x.a, commands.FenceSite{Site: "c", Reason: "so that there is another data key"})
	second := x.put(x.a, "second")
	if second.Key == uuid.Nil {
		t.Fatal("both versions are sealed under one data key")
	}
	all := []vault.Sealed{first, second, other}
	for _, m := range []*member{x.a, x.b} {
		m.hears(x.a)
		end := time.Now().Add(30 * time.Second)
		for got := opens(t, m.sealer, all...); slices.Contains(got, false); got = opens(t, m.sealer, all...) {
			if time.Now().After(end) {
				t.Fatalf("%s opens %v before", m.Name(), got)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	var wraps [][]byte // what b would give back
	public, err := seal.ParsePublicKey(x.a.ID().UUID, x.a.keys.Status().Public)
	if err != nil {
		t.Fatal(err)
	}
	for id := range x.b.sealer.KeyIDs() {
		w, err := x.b.sealer.WrapFor(t.Context(), id, public)
		if err != nil {
			continue
		}
		b, err := json.Marshal(sharedKey{id, w})
		if err != nil {
			t.Fatal(err)
		}
		wraps = append(wraps, b)
	}

	x.do(x.a, commands.RemoveAccount{Account: "root", Target: "web1"})
	x.do(x.a, commands.AskSecretsErasure{Account: "root", Target: "web1", Reason: "gdpr"})
	if _, err := x.a.commands.Do(t.Context(), eve, commands.ConfirmSecretsErasure{Account: "root", Target: "web1"}); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*member{x.a, x.b} {
		m.hears(x.a)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		err := m.commands.Await(ctx, func(s *aggregate.State, _ time.Time) bool {
			e, asked := s.Erasure(first.Credential.UUID)
			return asked && s.HasErased(e, m.ID()) != nil
		})
		if err != nil {
			t.Fatalf("%s does not erase them: %v", m.Name(), err)
		}
	}
	x.a.acceptKeys(t.Context(), mesh.GotWraps{Site: x.b.ID(), Wraps: mesh.Wraps{Keys: wraps}})
	for _, m := range []*member{x.a, x.b} {
		for name, sealer := range map[string]*seal.Sealer{m.Name(): m.sealer, "a copy of its disk": copyOf(t, m)} {
			if got := opens(t, sealer, all...); !slices.Equal(got, []bool{false, false, true}) {
				t.Errorf("%s opens the first, the second and another account's secret: %v", name, got)
			}
		}
	}
}

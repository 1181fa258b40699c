package projections

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// fakeSource is a source over records in a given order of delivery, of which a
// growing part can be seen.
type fakeSource struct {
	mu      sync.Mutex
	records map[events.Kind][]events.Record
	seen    map[events.Kind]int
	grown   chan struct{}
	err     error       // given after the last visible record
	errOf   events.Kind // of whose logs; of all where empty
}

func newSource() *fakeSource {
	return &fakeSource{records: map[events.Kind][]events.Record{}, seen: map[events.Kind]int{}, grown: make(chan struct{})}
}

// append delivers records at once.
func (s *fakeSource) append(records ...events.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range records {
		k := r.Header.Kind
		s.records[k] = append(s.records[k], r)
		s.seen[k]++
	}
	close(s.grown)
	s.grown = make(chan struct{})
}

// visible are the delivered records of a kind.
func (s *fakeSource) visible(kind events.Kind) ([]events.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.err
	if s.errOf != "" && s.errOf != kind {
		err = nil
	}
	return s.records[kind][:s.seen[kind]:s.seen[kind]], err
}

// breaks makes the logs of a kind, or of all, unreadable after what is visible; nil mends them.
func (s *fakeSource) breaks(kind events.Kind, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errOf, s.err = kind, err
}

func (s *fakeSource) Records(ctx context.Context, kind events.Kind, from events.Clock) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		all, err := s.visible(kind)
		for _, r := range all {
			if r.Header.Position <= from.At(r.Header.Origin()) {
				continue
			}
			if kind == events.Rec {
				r.Raw.Payload = nil
			}
			if !yield(r, ctx.Err()) || ctx.Err() != nil {
				return
			}
		}
		if err != nil {
			yield(events.Record{}, err)
		}
	}
}

func (s *fakeSource) Masked(*events.Header, events.Clock) string { return "" }

func (s *fakeSource) Held(kind events.Kind) events.Clock {
	all, _ := s.visible(kind)
	var c events.Clock
	for _, r := range all {
		c = c.With(r.Header.Origin(), r.Header.Position)
	}
	return c
}

func (s *fakeSource) Watch(kind events.Kind, from events.Clock) <-chan struct{} {
	s.mu.Lock()
	grown := s.grown
	s.mu.Unlock()
	if distance(from, s.Held(kind)) > 0 {
		ready := make(chan struct{})
		close(ready)
		return ready
	}
	return grown
}

// writerSite writes well-formed records as a site does.
type writerSite struct {
	t       testing.TB
	origin  events.Origin
	applied events.Clock
	coder   events.ClockCoder
	ticker  events.Ticker
	next    uint64
	rec     uint64
}

var epochStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// numbered is a UUID made of a number, so that runs are the same each time.
func numbered(class byte, n uint64) uuid.UUID {
	id := uuid.UUID{0: 1, 6: 0x70, 7: class, 8: 0x80}
	binary.BigEndian.PutUint64(id[8:], n)
	id[8] |= 0x80
	return id
}

func newSite(t testing.TB, n byte) *writerSite {
	s := &writerSite{t: t, origin: events.Origin{Site: events.SiteID{UUID: numbered('s', uint64(n))}, Epoch: 1, Kind: events.Ctl}}
	wall := epochStart
	s.ticker.Now = func() time.Time {
		wall = wall.Add(time.Second)
		return wall
	}
	return s
}

func (s *writerSite) actor() events.Actor { return events.SiteActor(s.origin.Site) }

// ctl writes one event into the site's ctl log.
func (s *writerSite) ctl(stream uuid.UUID, e events.Event) events.Record {
	return s.by(s.actor(), stream, e)
}

// by is ctl with an actor.
func (s *writerSite) by(actor events.Actor, stream uuid.UUID, e events.Event) events.Record {
	s.t.Helper()
	typ, err := events.TypeOf(e)
	if err != nil {
		s.t.Fatal(err)
	}
	payload, err := events.EncodeEvent(e)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.raw(actor, stream, typ.Name, typ.Version, payload)
}

// raw writes a record with any payload.
func (s *writerSite) raw(actor events.Actor, stream uuid.UUID, name string, version uint16, payload []byte) events.Record {
	s.t.Helper()
	delta, err := s.coder.Delta(s.applied)
	if err != nil {
		s.t.Fatal(err)
	}
	s.next++
	hlc := s.ticker.Next()
	r := s.encode(events.Header{
		Kind: events.Ctl, Position: s.next, Type: name, TypeVersion: version, Stream: stream,
		Actor: actor, HLC: hlc, Wall: hlc.Millis() * 1000, Clock: delta,
	}, payload)
	s.applied = s.applied.With(s.origin, s.next)
	return r
}

// packets writes one record of session bytes.
func (s *writerSite) packets(session events.SessionID, size int) events.Record {
	s.rec++
	hlc := s.ticker.Next()
	return s.encode(events.Header{
		Kind: events.Rec, Position: s.rec, Type: "session.packets", TypeVersion: 1, Stream: session.UUID,
		Actor: s.actor(), HLC: hlc, Wall: hlc.Millis() * 1000,
	}, make([]byte, size))
}

func (s *writerSite) encode(h events.Header, payload []byte) events.Record {
	s.t.Helper()
	h.V, h.Site, h.Epoch = events.HeaderVersion, s.origin.Site, s.origin.Epoch
	h.ID = numbered('e'+s.origin.Site.UUID[15], h.Position<<1|uint64(len(h.Kind)&1))
	h.PayloadHash, h.PayloadSize = sha256.Sum256(payload), uint64(len(payload))
	raw, err := events.EncodeHeader(&h)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := events.DecodeEntry(events.Entry{Header: raw, Payload: payload})
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// learn applies another site's record here.
func (s *writerSite) learn(r events.Record) {
	if err := s.ticker.Observe(r.Header.HLC); err != nil {
		s.t.Fatal(err)
	}
	s.applied = s.applied.With(r.Header.Origin(), r.Header.Position)
}

// cast are the aggregates of a small site in use.
type cast struct {
	ada, bob events.UserID
	web      events.TargetID
	root     events.AccountID
	cred     events.CredentialID
	grant    events.GrantID
	shell    events.SessionID // ended
	live     events.SessionID
}

// play writes the story of a small site.
func play(s *writerSite) (cast, []events.Record) {
	c := cast{
		ada: events.UserID{UUID: numbered('u', 1)}, bob: events.UserID{UUID: numbered('u', 2)},
		web: events.TargetID{UUID: numbered('t', 1)}, root: events.AccountID{UUID: numbered('a', 1)},
		cred: events.CredentialID{UUID: numbered('c', 1)}, grant: events.GrantID{UUID: numbered('g', 1)},
		shell: events.SessionID{UUID: numbered('x', 1)}, live: events.SessionID{UUID: numbered('x', 2)},
	}
	byAda := events.UserActor(c.ada)
	started := events.SessionStarted{User: c.bob, Account: c.root, Target: c.web, Credential: c.cred, Grant: c.grant,
		Source: "192.0.2.1:5022", Client: "SSH-2.0-OpenSSH_9.9", Fingerprint: "SHA256:bob"}
	var all []events.Record
	add := func(r events.Record) events.Record { all = append(all, r); return r }
	add(s.ctl(s.origin.Site.UUID, events.SiteCreated{Name: "here"}))
	add(s.ctl(c.ada.UUID, events.UserAdded{Name: "ada", Role: events.Admin}))
	add(s.by(byAda, c.bob.UUID, events.UserAdded{Name: "bob", Role: events.Operator}))
	add(s.by(byAda, c.bob.UUID, events.UserKeyAdded{Key: "ssh-ed25519 AAAA", Fingerprint: "SHA256:bob", Comment: "laptop"}))
	add(s.by(byAda, c.web.UUID, events.TargetAdded{Name: "web1", Addr: "web1:22", HostKeys: []string{"ssh-ed25519 BBBB"}}))
	add(s.by(byAda, c.root.UUID, events.AccountAdded{Name: "root", Target: c.web, Credential: c.cred}))
	add(s.by(byAda, c.cred.UUID, events.CredentialAdded{Account: c.root, Kind: events.Password}))
	staged := add(s.by(byAda, c.cred.UUID, events.SecretStaged{Sealed: []byte("ciphertext-of-the-password")}))
	started.Secret = events.SecretID{UUID: staged.Header.ID}
	add(s.by(byAda, c.cred.UUID, events.SecretApplied{Version: started.Secret, How: events.ByEntry}))
	add(s.by(byAda, c.grant.UUID, events.GrantAdded{User: c.bob, Account: c.root, Expires: epochStart.Add(time.Hour)}))
	byBob := events.UserActor(c.bob)
	add(s.by(byBob, c.shell.UUID, started))
	add(s.ctl(c.shell.UUID, events.SessionConnected{Server: "SSH-2.0-sshd", HostKey: "SHA256:web", Cipher: "aes256-gcm@openssh.com", KeyExchange: "curve25519-sha256"}))
	add(s.ctl(c.cred.UUID, events.SecretVerified{Version: started.Secret, How: events.ByLogin, Session: c.shell}))
	add(s.ctl(c.shell.UUID, events.SessionEnded{Reason: events.EndedByClient, Complete: true,
		In: events.Cursors{Received: 5, Committed: 5, Delivered: 5, Bytes: 40}, Out: events.Cursors{Received: 9, Committed: 9, Delivered: 9, Bytes: 900}}))
	add(s.by(byBob, c.live.UUID, started))
	add(s.by(byAda, c.live.UUID, events.SessionKillRequested{Reason: "lunch"}))
	add(s.ctl(numbered('d', 1), events.AccessDenied{Reason: events.NoGrant, Login: "db+prod", Source: "192.0.2.9:1", User: c.bob}))
	for i := range 40 {
		session := c.shell
		if i%3 == 2 {
			session = c.live
		}
		add(s.packets(session, 100))
	}
	return c, all
}

// openTest opens the projections in a directory of their own.
func openTest(t testing.TB, source Source, defs ...*projection) *Projections {
	t.Helper()
	p := openIn(t, t.TempDir(), source, defs...)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// openIn opens the projections in dir; the caller closes them.
func openIn(t testing.TB, dir string, source Source, defs ...*projection) *Projections {
	t.Helper()
	if len(defs) == 0 {
		defs = registered()
	}
	now := func() time.Time { return epochStart.Add(30 * time.Minute) }
	p, err := open(t.Context(), Config{Dir: dir, Source: source, Now: now}, defs)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// catchUp applies everything that there is, without goroutines.
func catchUp(t testing.TB, p *Projections) {
	t.Helper()
	if err := p.fill(t.Context(), p.view, nil); err != nil {
		t.Fatal(err)
	}
}

func digestOf(t testing.TB, p *Projections) string {
	t.Helper()
	d, _, err := p.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// opened gives projections that have applied the story.
func opened(t testing.TB) (*Projections, cast, []events.Record) {
	t.Helper()
	source := newSource()
	c, all := play(newSite(t, 1))
	source.append(all...)
	p := openTest(t, source)
	catchUp(t, p)
	return p, c, slices.Clone(all)
}

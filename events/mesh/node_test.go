package mesh

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/segment"
)

// station is a site as the mesh sees it: its logs, copies, identity and node.
type station struct {
	t        testing.TB
	dir      string
	id       events.SiteID
	identity ed25519.PrivateKey
	ctl, rec *store.History
	addr     string
	node     *Node
	log      *slog.Logger
	handle   func(Output)  // besides noting it; nil for nothing
	patience time.Duration // with what it waits for; a minute unless set
	slow     time.Duration // that its disk takes for each commit of a copy
	counted  *atomic.Int32 // set to how many read the headers of a copy at once; nil for nothing

	mu     sync.Mutex // guards what follows
	copies map[events.Origin]store.Log
	told   []Output
}

var testEngine = segment.Engine{Options: segment.Options{SegmentSize: 256 << 10, Reserve: 16 << 10}}

func newStation(t testing.TB, number byte) *station {
	t.Helper()
	_, identity, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &station{t: t, dir: t.TempDir(), identity: identity, copies: map[events.Origin]store.Log{}, log: slog.New(slog.DiscardHandler)}
	s.id = events.SiteID{UUID: uuid.MustParse("01900000-0000-7000-8000-000000000000")}
	s.id.UUID[15] = number
	s.openHistories()
	t.Cleanup(func() { s.stop(); s.closeLogs() })
	return s
}

func (s *station) openHistories() {
	ticker := &events.Ticker{Now: time.Now}
	open := func(kind events.Kind, clock func() events.Clock) *store.History {
		h, err := store.OpenHistory(s.t.Context(), store.HistoryConfig{
			Dir: filepath.Join(s.dir, string(kind)), Site: s.id, Kind: kind, Engine: testEngine,
			Writer: store.WriterConfig{Ticker: ticker, Now: time.Now, Clock: clock},
		})
		if err != nil {
			s.t.Fatal(err)
		}
		return h
	}
	s.ctl = open(events.Ctl, func() events.Clock { return events.Clock{} })
	s.rec = open(events.Rec, nil)
}

func (s *station) closeLogs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, log := range s.copies {
		_ = log.Close()
	}
	s.copies = map[events.Origin]store.Log{}
	_, _ = s.ctl.Close(), s.rec.Close()
}

func (s *station) peer() Peer {
	p := Peer{Member: Member{Site: s.id, Identity: s.identity.Public().(ed25519.PublicKey)}}
	if s.addr != "" {
		p.Addrs = []string{s.addr}
	}
	return p
}

// listen takes a port, so that others can be told of it before the node starts.
func (s *station) listen() net.Listener {
	s.t.Helper()
	addr := s.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = l.Addr().String()
	return l
}

func (s *station) start(l net.Listener, peers ...Peer) {
	s.t.Helper()
	node, err := Start(NodeConfig{
		Core:     Config{Self: s.id, Mesh: peers[0].Site, HaveEvery: 100 * time.Millisecond},
		Identity: s.identity, Listener: l, Own: []*store.History{s.ctl, s.rec}, Copies: s, Peers: peers,
		Log: s.log,
		Handle: func(o Output) {
			if s.handle != nil {
				s.handle(o)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if _, large := o.(GotWraps); !large {
				s.told = append(s.told, o)
			}
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.node = node
}

func (s *station) stop() {
	if s.node == nil {
		return
	}
	if err := s.node.Close(); err != nil {
		s.t.Errorf("close the node: %v", err)
	}
	s.node = nil
}

func (s *station) copyDir(o events.Origin) string {
	return filepath.Join(s.dir, "others", o.Site.String(), string(o.Kind), strconv.Itoa(int(o.Epoch)))
}

// Copy implements [Copies].
func (s *station) Copy(o events.Origin) (store.Log, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := s.copyDir(o)
	if log := s.copies[o]; log != nil {
		return log, dir, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	opened, err := segment.Engine{Options: segment.Options{SegmentSize: 256 << 10, Reserve: 16 << 10, Replica: true}}.Open(dir, o, 0)
	if err != nil {
		return nil, "", err
	}
	s.copies[o] = opened.Log
	if s.counted != nil {
		s.copies[o] = countedLog{opened.Log, new(atomic.Int32), s.counted}
	}
	if s.slow > 0 {
		s.copies[o] = slowLog{opened.Log, s.slow}
	}
	return s.copies[o], dir, nil
}

// slowLog is on a slow disk.
type slowLog struct {
	store.Log
	takes time.Duration
}

func (l slowLog) Append(ctx context.Context, expect uint64, entries []events.Entry) error {
	time.Sleep(l.takes)
	return l.Log.Append(ctx, expect, entries)
}

// countedLog counts who reads its headers at once.
type countedLog struct {
	store.Log
	now, most *atomic.Int32
}

func (l countedLog) Headers(ctx context.Context, from uint64) iter.Seq2[events.Entry, error] {
	return func(yield func(events.Entry, error) bool) {
		l.most.Store(max(l.most.Load(), l.now.Add(1)))
		defer l.now.Add(-1)
		time.Sleep(20 * time.Millisecond)
		l.Log.Headers(ctx, from)(yield)
	}
}

// Grew implements [Copies].
func (s *station) Grew(events.Origin) {}

// Copied implements [Copies].
func (s *station) Copied() []events.Origin {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []events.Origin
	for o := range s.copies {
		all = append(all, o)
	}
	return all
}

// write appends n events to a log of the station.
func (s *station) write(h *store.History, n, size int) {
	s.t.Helper()
	for range n {
		d, err := events.NewDraft(s.id.UUID, events.SiteActor(s.id), "", events.SiteStopped{Reason: string(make([]byte, size))})
		if err == nil {
			_, err = h.Writer().Append(context.Background(), d)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// has waits until a station holds all that another one has written.
func (s *station) has(of *station) {
	s.t.Helper()
	for _, h := range []*store.History{of.ctl, of.rec} {
		want, root := h.Log().Size()
		o := h.Log().Origin()
		s.waitFor(fmt.Sprintf("%d records of %s", want, o), func() bool {
			s.mu.Lock()
			log := s.copies[o]
			s.mu.Unlock()
			if log == nil {
				return false
			}
			size, have := log.Size()
			return size >= want && (size > want || have == root)
		})
	}
}

func (s *station) waitFor(what string, done func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(cmp.Or(s.patience, time.Minute)); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("site %d waits for %s", s.id.UUID[15], what)
		}
	}
}

// Three sites in a chain: each gets everything, through the one in the middle;
// what was written during a break comes after it; a restart forgets nothing.
func TestNodesExchangeTheirLogs(t *testing.T) {
	a, b, c := newStation(t, 1), newStation(t, 2), newStation(t, 3)
	a.write(a.rec, 50, 20_000) // before anybody listens, more than a batch
	la, lb, lc := a.listen(), b.listen(), c.listen()
	all := []Peer{a.peer(), b.peer(), c.peer()}
	noAddr := func(peers ...Peer) []Peer { // a and c do not dial each other
		out := append([]Peer(nil), peers...)
		for i := range out {
			out[i].Addrs = nil
		}
		return out
	}
	a.start(la, noAddr(all...)...)
	b.start(lb, all...)
	c.start(lc, noAddr(all...)...)
	for _, s := range []*station{a, b, c} {
		s.write(s.ctl, 5, 10)
	}
	a.has(b)
	a.has(c)
	c.has(a)
	b.has(a)

	b.stop() // the chain breaks
	a.write(a.ctl, 20, 100)
	c.write(c.rec, 20, 100)
	b.start(b.listen(), all...)
	c.has(a)
	a.has(c)

	c.stop()
	c.closeLogs()
	c.openHistories()
	for _, o := range []events.Origin{a.ctl.Log().Origin(), a.rec.Log().Origin(), b.ctl.Log().Origin(), b.rec.Log().Origin()} {
		if _, _, err := c.Copy(o); err != nil {
			t.Fatal(err)
		}
	}
	a.write(a.ctl, 3, 10)
	c.start(c.listen(), all...)
	c.has(a)
	c.has(b)
	standing, err := c.node.Status(t.Context())
	if err != nil || len(standing) != 2 {
		t.Fatalf("status: %v, %v", standing, err)
	}
	b.waitFor("no lag", func() bool {
		standing, err := b.node.Status(t.Context())
		return err == nil && standing[0].Lag == 0 && standing[1].Lag == 0 && !standing[0].LastSeen.IsZero()
	})
}

// A member that is not one (any more) gets no link, and nobody's link suffers.
func TestStrangersGetNoLink(t *testing.T) {
	a, b, x := newStation(t, 1), newStation(t, 2), newStation(t, 9)
	la, lb := a.listen(), b.listen()
	a.start(la, a.peer(), b.peer())
	b.start(lb, a.peer(), b.peer())
	a.write(a.ctl, 3, 10)
	b.has(a)

	x.start(nil, a.peer(), b.peer(), x.peer()) // it takes itself for one
	x.write(x.ctl, 3, 10)
	for range 3 {
		if err := x.node.dialPeer(a.peer(), a.addr); err == nil {
			// TLS 1.3: the client is done before the server has looked at its key
			time.Sleep(50 * time.Millisecond)
		}
	}
	impostor := newStation(t, 2) // names itself as b, without b's key
	impostor.start(nil, a.peer(), impostor.peer())
	if err := impostor.node.dialPeer(a.peer(), a.addr); err == nil {
		time.Sleep(50 * time.Millisecond)
	}
	wrong := a.peer()
	wrong.Identity = x.peer().Identity
	if err := b.node.dialPeer(wrong, a.addr); !errors.Is(err, ErrStranger) {
		t.Errorf("a site with another key than the pinned one was dialled: %v", err)
	}
	a.write(a.ctl, 3, 10)
	b.has(a)
	for _, o := range append(a.Copied(), b.Copied()...) {
		if o.Site == x.id {
			t.Errorf("records of a stranger were taken in: %s", o)
		}
	}
	standing, err := a.node.Status(t.Context())
	if err != nil || len(standing) != 1 || standing[0].Links == 0 {
		t.Errorf("status of a: %+v, %v", standing, err)
	}
	a.node.SetPeers([]Peer{a.peer()}) // b is thrown out
	a.waitFor("the link to b to end", func() bool {
		a.node.mu.Lock()
		defer a.node.mu.Unlock()
		return len(a.node.lanes) == 0
	})
}

// A payload that is held elsewhere comes on request.
func TestPayloadIsFetched(t *testing.T) {
	a, b := newStation(t, 1), newStation(t, 2)
	la, lb := a.listen(), b.listen()
	a.write(a.rec, 3, 1000)
	a.start(la, a.peer(), b.peer())
	node, err := Start(NodeConfig{
		Core:     Config{Self: b.id, Mesh: a.id, HaveEvery: 100 * time.Millisecond, Payloads: func(o events.Origin) bool { return o.Kind == events.Ctl }},
		Identity: b.identity, Listener: lb, Own: []*store.History{b.ctl, b.rec}, Copies: b, Peers: []Peer{a.peer(), b.peer()},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	b.node = node
	b.has(a)
	log := b.copies[a.rec.Log().Origin()]
	for e, err := range log.Read(t.Context(), 2) {
		if err != nil || e.Payload != nil {
			t.Fatalf("payload of %d bytes here, %v; want none", len(e.Payload), err)
		}
		h, err := events.DecodeHeader(e.Header)
		if err != nil {
			t.Fatal(err)
		}
		p, err := b.node.Fetch(t.Context(), &h)
		if err != nil || h.CheckPayload(p) != nil {
			t.Fatalf("fetch: %d bytes, %v", len(p), err)
		}
	}
	a.stop()
	h := events.Header{Site: a.id, Epoch: 1, Kind: events.Rec, Position: 2}
	if _, err := b.node.Fetch(t.Context(), &h); !errors.Is(err, events.ErrPayloadAbsent) {
		t.Errorf("fetch with nobody there: %v", err)
	}
}

// A member that answers with other payloads than the headers say is not believed,
// and asked no more: somebody else has them.
func TestAttackWrongPayloads(t *testing.T) {
	a, b, liar := newStation(t, 1), newStation(t, 2), newStation(t, 3)
	la, lb, ll := a.listen(), b.listen(), liar.listen()
	all := []Peer{a.peer(), b.peer(), liar.peer()}
	a.write(a.rec, 40, 1000)
	o := a.rec.Log().Origin()
	start := func(s *station, l net.Listener, copies Copies) {
		t.Helper()
		node, err := Start(NodeConfig{
			Core:     Config{Self: s.id, Mesh: a.id, HaveEvery: 100 * time.Millisecond, Payloads: func(o events.Origin) bool { return o.Kind == events.Ctl }},
			Identity: s.identity, Listener: l, Own: []*store.History{s.ctl, s.rec}, Copies: copies, Peers: all,
			Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		s.node = node
	}
	start(liar, ll, liar)
	a.start(la, all...)
	liar.has(a)
	liar.mu.Lock()
	liar.node.mu.Lock()
	liar.node.copies[o].log = wrongPayloads{liar.copies[o]}
	liar.node.mu.Unlock()
	liar.mu.Unlock()
	start(b, lb, b)
	b.has(a)
	b.has(liar)
	var headers []events.Header
	for e, err := range b.copies[o].Headers(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		h, err := events.DecodeHeader(e.Header)
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, h)
	}
	payloads, err := b.node.FetchAll(t.Context(), headers)
	if err != nil || len(payloads) != len(headers) {
		t.Fatalf("%d of %d payloads: %v", len(payloads), len(headers), err)
	}
	for i, p := range payloads {
		if err := headers[i].CheckPayload(p); err != nil {
			t.Error(err)
		}
	}
	a.stop()
	if payloads, err := b.node.FetchAll(t.Context(), headers); !errors.Is(err, events.ErrPayloadAbsent) || len(payloads) > 0 {
		t.Errorf("with the liar alone: %d payloads, %v", len(payloads), err)
	}
}

// wrongPayloads is a log whose payloads are not those of its headers.
type wrongPayloads struct{ store.Log }

func (w wrongPayloads) Read(ctx context.Context, from uint64) iter.Seq2[events.Entry, error] {
	return func(yield func(events.Entry, error) bool) {
		for e, err := range w.Log.Headers(ctx, from) {
			e.Payload = []byte("another one")
			if !yield(e, err) {
				return
			}
		}
	}
}

// A copy that came from a backup has records and no heads: they come from a
// peer, and the records are held against what comes with them.
func TestCopyWithoutHeadsGoesOn(t *testing.T) {
	a, b := newStation(t, 1), newStation(t, 2)
	la, lb := a.listen(), b.listen()
	a.write(a.ctl, 10, 100)
	a.start(la, a.peer(), b.peer())
	b.start(lb, a.peer(), b.peer())
	b.has(a)
	b.stop()
	o := a.ctl.Log().Origin()
	for _, name := range []string{"voucher", "heads"} {
		if err := os.Remove(filepath.Join(b.copyDir(o), name)); err != nil {
			t.Fatal(err)
		}
	}
	a.write(a.ctl, 5, 100)
	b.start(b.listen(), a.peer(), b.peer())
	b.has(a)
	b.waitFor("no lag", func() bool {
		standing, err := a.node.Status(t.Context())
		return err == nil && standing[0].Links > 0 && standing[0].Lag == 0
	})
}

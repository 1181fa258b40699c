package mesh

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// What the attacks below may cost. The records of honest sites take milliseconds
// to each other; the bound leaves room for a machine that does other things too, and is
// less than a storm takes.
const (
	mostDelay      = 3 * time.Second
	mostGoroutines = 3*maxHandshakes + 100
	mostMemory     = 200 << 20
	mostLines      = 4 * lineBurst
)

// lines is a log that keeps what is written to it.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// siege is two honest sites that go on exchanging records while a third member,
// or somebody who is none, attacks the first one; and what that costs.
type siege struct {
	t    *testing.T
	a, b *station
	r    *rogue
	log  *lines

	slowest, goroutines, memory atomic.Int64
	exchanged                   atomic.Int64
}

func newSiege(t *testing.T) *siege {
	s := &siege{t: t, a: newStation(t, 1), b: newStation(t, 2), r: &rogue{station: newStation(t, 3)}, log: &lines{}}
	s.a.log = slog.New(slog.NewTextHandler(s.log, nil))
	la, lb := s.a.listen(), s.b.listen()
	s.a.start(la, s.a.peer(), s.b.peer(), s.r.peer())
	s.b.start(lb, s.a.peer(), s.b.peer(), s.r.peer())
	s.a.write(s.a.ctl, 1, 10)
	s.b.write(s.b.ctl, 1, 10)
	s.b.has(s.a)
	s.a.has(s.b)
	return s
}

func (s *siege) hello() Hello {
	return Hello{Level: Level, Site: s.r.id, Windows: [lanes]uint64{1 << 60, 1 << 60}, Mesh: s.a.id}
}

// during runs an attack, and measures what becomes of everything else meanwhile.
func (s *siege) during(attack func()) {
	s.t.Helper()
	runtime.GC()
	ctx, cancel := context.WithCancel(s.t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		for ctx.Err() == nil {
			for _, way := range [][2]*station{{s.a, s.b}, {s.b, s.a}} {
				began := time.Now()
				way[0].write(way[0].ctl, 1, 10)
				way[1].has(way[0])
				s.slowest.Store(max(s.slowest.Load(), int64(time.Since(began))))
				s.exchanged.Add(1)
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	work.Go(func() {
		for ctx.Err() == nil {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			s.memory.Store(max(s.memory.Load(), int64(m.HeapAlloc)))
			s.goroutines.Store(max(s.goroutines.Load(), int64(runtime.NumGoroutine())))
			time.Sleep(20 * time.Millisecond)
		}
	})
	began := time.Now()
	attack()
	time.Sleep(max(0, time.Second-time.Since(began)))
	cancel()
	work.Wait()
	s.t.Logf("%d records between honest sites, the slowest in %s; %d goroutines, %d MiB, %d lines",
		s.exchanged.Load(), time.Duration(s.slowest.Load()).Round(time.Millisecond), s.goroutines.Load(), s.memory.Load()>>20, strings.Count(s.log.String(), "\n"))
	if d := time.Duration(s.slowest.Load()); d > mostDelay {
		s.t.Errorf("a record between honest sites took %s", d)
	}
	if n := s.goroutines.Load(); n > mostGoroutines {
		s.t.Errorf("%d goroutines", n)
	}
	if m := s.memory.Load(); m > mostMemory {
		s.t.Errorf("%d MiB of memory", m>>20)
	}
	if n := strings.Count(s.log.String(), "\n"); n > mostLines {
		s.t.Errorf("%d lines in the log, such as %.2000s", n, s.log)
	}
}

// named waits until the log names who attacked, and why that was refused.
func (s *siege) named(who, why string) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for _, line := range strings.Split(s.log.String(), "\n") {
			if strings.Contains(line, who) && strings.Contains(line, why) {
				return
			}
		}
	}
	s.t.Errorf("no line of the log names %s and %q:\n%.3000s", who, why, s.log)
}

// storm has the rogue send a message for as long as it has a link, and reports
// whether that ended; it does not read. Where this machine is too slow to send more
// than is allowed, the link stays.
func (s *siege) storm(lane Lane, m Message) (ended bool) {
	s.t.Helper()
	s.r.link(s.a)
	defer s.r.close()
	s.r.say(CtlLane, s.hello())
	b, err := wireEnc.Marshal(m)
	if err != nil {
		s.t.Fatal(err)
	}
	end := time.Now().Add(4 * time.Second)
	_ = s.r.conns[lane].SetWriteDeadline(end)
	for range 200_000 {
		if WriteFrame(s.r.conns[lane], append([]byte{m.kind()}, b...)) != nil {
			return time.Now().Before(end)
		}
	}
	s.t.Error("the link is still there")
	return false
}

// A member with a good key sends what is allowed, without end: its link ends, with
// a reason, and the others notice nothing.
func TestStormsDisturbNobody(t *testing.T) {
	many := make([]Holding, maxHoldings)
	for i := range many {
		many[i] = Holding{Origin: events.Origin{Site: newSiteID(byte(i % 200)), Epoch: uint32(i + 1), Kind: events.Ctl}, Size: 1 << 60}
	}
	for name, storm := range map[string]func(s *siege) (Lane, Message){
		"have":                 func(*siege) (Lane, Message) { return CtlLane, Have{} },
		"have of made-up logs": func(*siege) (Lane, Message) { return CtlLane, Have{Logs: many} },
		"ping":                 func(*siege) (Lane, Message) { return CtlLane, Ping{} },
		"subscribe from nothing": func(s *siege) (Lane, Message) {
			return CtlLane, Subscribe{Origin: s.a.rec.Log().Origin(), Payloads: true}
		},
		"fetch": func(s *siege) (Lane, Message) {
			return CtlLane, Fetch{ID: 1, Origin: s.a.rec.Log().Origin(), First: 1, Count: maxFetch}
		},
		"prove": func(s *siege) (Lane, Message) {
			return CtlLane, Prove{Origin: s.a.rec.Log().Origin(), Sizes: []uint64{1, 2, 3, 100}}
		},
		"records of a log that nobody asked for": func(s *siege) (Lane, Message) {
			_, b := s.r.madeUpLog()
			b.Origin = s.a.ctl.Log().Origin()
			return CtlLane, b
		},
		"records after a gap": func(s *siege) (Lane, Message) {
			key, b := s.r.madeUpLog()
			s.r.link(s.a)
			s.r.say(CtlLane, s.hello(), key)
			time.Sleep(100 * time.Millisecond) // a knows the log from now on
			s.r.close()
			b.First = 1000
			return CtlLane, b
		},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "fetch" && name != "have" {
				t.Skip("a second or two each")
			}
			s := newSiege(t)
			s.a.write(s.a.rec, 100, 100_000) // something to ask for
			s.b.has(s.a)
			lane, m := storm(s)
			ended := false
			s.during(func() { ended = s.storm(lane, m) })
			if ended {
				s.named(s.r.id.String(), "a link of the mesh ends")
			} else if _, cheap := m.(Ping); cheap {
				t.Error("the link is still there")
			}
		})
	}
}

func newSiteID(n byte) events.SiteID {
	id := events.SiteID{}
	id.UUID[0], id.UUID[15] = 1, n
	return id
}

// Half a frame and then silence: on either lane, before and after the hello.
func TestSlowMembersLoseTheirLink(t *testing.T) {
	for name, attack := range map[string]func(s *siege){
		"nothing":      func(*siege) {},
		"half a hello": func(s *siege) { _, _ = s.r.conns[CtlLane].Write([]byte{0, 0, 0, 50, 1, 1}) },
		"half of a batch": func(s *siege) {
			s.r.say(CtlLane, s.hello())
			_, _ = s.r.conns[CtlLane].Write([]byte{0, 0x40, 0, 0, 5, 1, 2})
		},
		"half on the second": func(s *siege) {
			s.r.say(CtlLane, s.hello())
			_, _ = s.r.conns[RecLane].Write([]byte{0, 0x40, 0, 0, 5, 1, 2})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSiege(t)
			s.during(func() {
				s.r.link(s.a)
				defer s.r.close()
				attack(s)
				if err := s.r.hungUp(CtlLane); err != nil {
					t.Error(err)
				}
			})
			s.named(s.r.id.String(), "nothing was heard")
		})
	}
}

// A member that makes links and drops them, as fast as it can.
func TestLinksThatFlapDisturbNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	s := newSiege(t)
	made := 0
	s.during(func() {
		for end := time.Now().Add(3 * time.Second); time.Now().Before(end); made++ {
			if s.r.tryLink(s.a) == nil {
				s.r.say(CtlLane, s.hello())
			}
			s.r.close()
		}
	})
	up := 0
	s.a.mu.Lock()
	for _, o := range s.a.told {
		if m, ok := o.(Met); ok && m.Site == s.r.id {
			up++
		}
	}
	s.a.mu.Unlock()
	t.Logf("%d of %d attempts became a link", up, made)
	if most := linkBurst + 6*linkRate; up > most {
		t.Errorf("%d of %d attempts became a link, want at most %d", up, made, most)
	}
}

// from dials from another address of this machine, as somebody elsewhere would.
func from(addr string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}, Timeout: 5 * time.Second}
}

// Connections without end from two addresses that nobody knows: silent ones, ones that begin a
// handshake, ones that finish one under a key that is nobody's. A member that lost
// its link gets it back meanwhile.
func TestFloodOfConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	s := newSiege(t)
	cert, err := certificate(newStation(t, 9).identity, newSiteID(9))
	if err != nil {
		t.Fatal(err)
	}
	var opened atomic.Int64
	flood := func(ctx context.Context, addr string, then func(net.Conn)) {
		var conns []net.Conn
		defer func() {
			for _, c := range conns {
				_ = c.Close()
			}
		}()
		for ctx.Err() == nil {
			c, err := from(addr).DialContext(ctx, "tcp", s.a.addr)
			if err != nil {
				continue
			}
			opened.Add(1)
			then(c)
			if conns = append(conns, c); len(conns) > 500 {
				_ = conns[0].Close()
				conns = conns[1:]
			}
		}
	}
	s.during(func() {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		var work sync.WaitGroup
		work.Go(func() { flood(ctx, "127.0.0.2", func(net.Conn) {}) })
		work.Go(func() { flood(ctx, "127.0.0.3", func(c net.Conn) { _, _ = c.Write([]byte{22, 3, 1, 2, 0, 1}) }) })
		work.Go(func() {
			flood(ctx, "127.0.0.4", func(c net.Conn) {
				_ = c.SetDeadline(time.Now().Add(time.Second))
				_ = tls.Client(c, clientTLS(cert, linkProtocol, s.a.peer().Identity)).HandshakeContext(ctx)
			})
		})
		time.Sleep(time.Second)
		for range 3 {
			s.a.node.mu.Lock()
			for _, l := range s.a.node.lanes {
				l.close()
			}
			s.a.node.mu.Unlock()
			s.a.write(s.a.ctl, 1, 10)
			s.b.has(s.a)
		}
		work.Wait()
	})
	t.Logf("%d connections", opened.Load())
	s.named("127.0.0.2", "made room")
	s.named("127.0.0.3", "refused")
	s.named("127.0.0.4", "no member of the mesh has it")
}

// Garbage, truncated and compressed messages of every number, in every state of a
// link.
func TestGarbageInEveryState(t *testing.T) {
	s := newSiege(t)
	rng := rand.New(rand.NewPCG(1, 2))
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(make([]byte, 1<<20))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	good, dir := s.r.madeUpLog()
	key, _ := wireEnc.Marshal(good)
	batch, _ := wireEnc.Marshal(dir)
	states := map[string][]Message{
		"before the hello": nil, "after the hello": {s.hello()}, "with a log": {s.hello(), good, dir},
	}
	bodies := [][]byte{
		random(rng, 300), packed.Bytes(), flip(rng, key), flip(rng, batch), batch[:len(batch)-7], nil,
		{0xa1, 0x01, 0x9f, 0x01, 0x01}, {0xa1, 0x01, 0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, // endless, and a length that lies
	}
	tried := 0
	s.during(func() {
		for _, said := range states {
			for number := range uint8(16) {
				for s.r.tryLink(s.a) != nil {
					time.Sleep(100 * time.Millisecond) // it was too fast
				}
				s.r.say(CtlLane, said...)
				_ = WriteFrame(s.r.conns[rng.IntN(lanes)], append([]byte{number}, bodies[tried%len(bodies)]...))
				s.r.say(CtlLane, Ping{})
				s.r.close()
				tried++
			}
		}
	})
	if tried < 48 {
		t.Errorf("only %d were tried", tried)
	}
	t.Logf("%d tried", tried)
	s.named(s.r.id.String(), "not a valid message")
}

func random(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func flip(rng *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
	return b
}

// What went over the wire between two sites, sent again to either of them; and what
// a member said, said again to the same site and to another one.
func TestReplayedStreams(t *testing.T) {
	a, b, c := newStation(t, 1), newStation(t, 2), newStation(t, 3)
	la, lb, lc := a.listen(), b.listen(), c.listen()
	way := newTap(t, a.addr)
	seen := a.peer()
	seen.Addrs = []string{way.addr}
	only := func(p Peer) Peer { p.Addrs = nil; return p } // is not dialled
	a.start(la, a.peer(), only(b.peer()), only(c.peer()))
	b.start(lb, seen, b.peer(), only(c.peer()))
	c.start(lc, a.peer(), b.peer(), c.peer())
	b.write(b.ctl, 20, 10)
	a.write(a.ctl, 20, 10)
	a.has(b)
	b.has(a)
	c.has(b)
	streams := way.streams()
	if len(streams) < 2 {
		t.Fatalf("%d streams went over the wire", len(streams))
	}
	for _, to := range []*station{a, b, c} {
		for _, stream := range streams {
			conn, err := net.Dial("tcp", to.addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			_, _ = conn.Write(stream)
			if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("site %d still talks to a stream that was replayed", to.id.UUID[15])
			}
			_ = conn.Close()
		}
	}
	r := &rogue{station: newStation(t, 4)}
	all := []Peer{a.peer(), b.peer(), c.peer(), r.peer()}
	for _, s := range []*station{a, b, c} {
		s.node.SetPeers(all)
	}
	key, dir := r.madeUpLog()
	said := []Message{Hello{Level: Level, Site: r.id, Windows: [lanes]uint64{1 << 20, 1 << 20}, Mesh: a.id}, key, dir, dir}
	for range 3 {
		for _, s := range []*station{a, b} {
			r.link(s)
			r.say(CtlLane, said...)
			s.waitFor("the rogue's own record", func() bool { return s.sizeOf(dir.Origin) == 1 })
			r.close()
		}
	}
	time.Sleep(300 * time.Millisecond)
	for _, s := range []*station{a, b, c} {
		for _, of := range []*station{a, b} {
			want, root := of.ctl.Log().Size()
			if s == of {
				continue
			}
			s.mu.Lock()
			size, have := s.copies[of.ctl.Log().Origin()].Size()
			s.mu.Unlock()
			if size != want || have != root {
				t.Errorf("site %d holds %d records of site %d, want %d", s.id.UUID[15], size, of.id.UUID[15], want)
			}
		}
		if n := s.sizeOf(dir.Origin); n > 1 {
			t.Errorf("%d records of the log that was told again", n)
		}
	}
	a.write(a.ctl, 1, 10)
	b.has(a)
	c.has(a)
}

func (s *station) sizeOf(o events.Origin) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if log := s.copies[o]; log != nil {
		size, _ := log.Size()
		return size
	}
	return 0
}

// tap is a way to a port that keeps what went each way.
type tap struct {
	addr string
	mu   sync.Mutex // guards what follows
	all  []*lines
	ends []net.Conn
}

func newTap(t *testing.T, to string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{addr: l.Addr().String()}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			p.mu.Lock()
			p.ends = append(p.ends, c, d)
			p.mu.Unlock()
			for _, way := range [][2]net.Conn{{c, d}, {d, c}} {
				kept := &lines{}
				p.mu.Lock()
				p.all = append(p.all, kept)
				p.mu.Unlock()
				work.Go(func() {
					_, _ = io.Copy(io.MultiWriter(way[1], kept), way[0])
					_ = way[0].Close()
					_ = way[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for _, c := range p.ends {
			_ = c.Close()
		}
		p.mu.Unlock()
		work.Wait()
	})
	return p
}

func (p *tap) streams() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out [][]byte
	for _, l := range p.all {
		if s := l.String(); len(s) > 0 {
			out = append(out, []byte(s))
		}
	}
	return out
}

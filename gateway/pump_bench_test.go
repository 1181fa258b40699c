package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/segment"
	"github.com/holdfast-pam/holdfast/gateway/relay"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// pump runs sessions between peers that connect over loopback TCP, recorded in segment files.
type pump struct {
	tb               testing.TB
	writer           *store.Writer
	sealer           *seal.Sealer
	host             ssh.Signer
	clients, targets net.Listener
	running          sync.WaitGroup
}

func newPump(tb testing.TB) *pump {
	origin := events.Origin{Site: events.SiteID{UUID: uuid.New()}, Epoch: 1, Kind: events.Rec}
	opened, err := segment.Engine{}.Open(tb.TempDir(), origin, 0)
	must(tb, err)
	p := &pump{tb: tb, sealer: newSealer(tb), host: peerKey()}
	p.writer, err = store.NewWriter(opened.Log, store.WriterConfig{Ticker: &events.Ticker{Now: time.Now}, Now: time.Now})
	must(tb, err)
	p.clients, err = net.Listen("tcp", "127.0.0.1:0")
	must(tb, err)
	p.targets, err = net.Listen("tcp", "127.0.0.1:0")
	must(tb, err)
	tb.Cleanup(func() {
		p.clients.Close()
		p.targets.Close()
		p.running.Wait()
		must(tb, p.writer.Close())
		must(tb, opened.Log.Close())
	})
	p.running.Go(p.serve)
	return p
}

// start gives peers a session each and returns what makes them do their job.
func (p *pump) start(j job) func() told {
	j.Client, j.Target = p.clients.Addr().String(), p.targets.Addr().String()
	return startPeers(p.tb, j)
}

// serve takes connections in pairs, until the listeners are closed.
func (p *pump) serve() {
	for {
		target, err1 := p.targets.Accept()
		client, err2 := p.clients.Accept()
		if err := errors.Join(err1, err2); err != nil {
			if !errors.Is(err, net.ErrClosed) {
				p.tb.Error(err)
			}
			return
		}
		p.running.Go(func() {
			if err := p.run(client, target); err != nil {
				p.tb.Error(err)
			}
		})
	}
}

func (p *pump) run(client, target net.Conn) error {
	ctx := context.Background()
	id := events.SessionID{UUID: uuid.New()}
	key, err := p.sealer.NewKey(ctx, id.UUID)
	if err != nil {
		return err
	}
	defer key.Release()
	in, out := &rekeyGate{}, &rekeyGate{}
	t, err := sshwire.Client(ctx, target, &sshwire.ClientConfig{
		Config: sshwire.Config{OnRekey: out.onRekey, RekeyBytes: noRekey}, User: "root", HostKey: anyHost,
		Auth: []sshwire.ClientAuth{sshwire.PublicKeys(p.host)},
	})
	if err != nil {
		return err
	}
	c, err := sshwire.Server(ctx, client, &sshwire.ServerConfig{
		Config: sshwire.Config{OnRekey: in.onRekey, RekeyBytes: noRekey}, HostKeys: []ssh.Signer{p.host}, Auth: anyKey,
	})
	if err != nil {
		return err
	}
	s := &session{
		scribe: scribe{session: id, actor: events.UnknownActor(), key: key},
		legs:   [2]*leg{{packetConn: c, rekey: in}, {packetConn: t, rekey: out}},
		relay:  relay.New(relay.Policy{}, relay.Limits{}), started: time.Now(),
	}
	s.init(submitTo(p.writer, nil, nil), p.writer.Crowded, time.Second)
	s.run()
	return nil
}

// usage is what this process has used so far.
type usage struct {
	cpu     time.Duration
	mallocs uint64
	at      time.Time
}

func used(tb testing.TB) usage {
	var u unix.Rusage
	must(tb, unix.Getrusage(unix.RUSAGE_SELF, &u))
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{time.Duration(u.Utime.Nano() + u.Stime.Nano()), m.Mallocs, time.Now()}
}

// BenchmarkPump moves 32 KiB packets through a session: both legs encrypted, every byte on disk before it is
// delivered. The peers are a process of their own, so CPU is the gateway's alone.
func BenchmarkPump(b *testing.B) {
	for _, way := range []string{"down", "up"} {
		b.Run(way, func(b *testing.B) {
			const packets = 1500
			do := newPump(b).start(job{Do: way, Packets: packets})
			do()
			n := 0
			before := used(b)
			for b.Loop() {
				do()
				n += packets
			}
			after := used(b)
			gib := float64(n) * peerPacket / (1 << 30)
			b.SetBytes(packets * peerPacket)
			b.ReportMetric((after.cpu-before.cpu).Seconds()/gib, "cpu-s/GiB")
			b.ReportMetric(float64(after.mallocs-before.mallocs)/float64(n), "allocs/packet")
		})
	}
}

// BenchmarkEcho times keystrokes through a session and back, in turns with the floor beneath: what two commits, one
// each way, cost when nothing else is done.
func BenchmarkEcho(b *testing.B) {
	const keys = 200
	do := newPump(b).start(job{Do: "echo", Packets: keys, Pause: time.Millisecond})
	bare := newBareLog(b)
	do()
	var p50, p99, floor []time.Duration
	before := used(b)
	for b.Loop() {
		t := do()
		p50, p99 = append(p50, t.P50), append(p99, t.P99)
		for range keys {
			floor = append(floor, bare.commit(b)+bare.commit(b))
		}
	}
	spent := used(b).cpu - before.cpu
	b.ReportMetric(us(middle(p50)), "p50-µs")
	b.ReportMetric(us(middle(p99)), "p99-µs")
	b.ReportMetric(us(middle(floor)), "floor-p50-µs")
	b.ReportMetric(us(floor[len(floor)*99/100]), "floor-p99-µs")
	b.ReportMetric(us(spent)/float64(len(p50)*keys), "cpu-µs/key") // the floor's included
}

// BenchmarkEchoBesideBulk times keystrokes of one session while another one moves bulk.
func BenchmarkEchoBesideBulk(b *testing.B) {
	p := newPump(b)
	bulk := p.start(job{Do: "down", Packets: 500})
	do := p.start(job{Do: "echo", Packets: 100, Pause: 5 * time.Millisecond})
	stop := make(chan struct{})
	var moving sync.WaitGroup
	moved := 0
	moving.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				bulk()
				moved += 500 * peerPacket
			}
		}
	})
	var p50, p99 []time.Duration
	start := time.Now()
	for b.Loop() {
		t := do()
		p50, p99 = append(p50, t.P50), append(p99, t.P99)
	}
	close(stop)
	moving.Wait()
	b.ReportMetric(float64(moved)/1e6/time.Since(start).Seconds(), "bulk-MB/s")
	b.ReportMetric(us(middle(p50)), "p50-µs")
	b.ReportMetric(us(middle(p99)), "p99-µs")
}

// BenchmarkIdle tells what an open session that does nothing holds in this process: heap, stacks, and the growth of the
// resident set.
func BenchmarkIdle(b *testing.B) {
	const sessions = 200
	for b.Loop() {
		p := newPump(b)
		p.start(job{Do: "echo", Packets: 1, Sessions: 1})()
		heap, stack, rss := footprint(b)
		p.start(job{Do: "echo", Packets: 1, Sessions: sessions})()
		heap2, stack2, rss2 := footprint(b)
		b.ReportMetric(float64(heap2-heap)/sessions/1024, "heap-KiB")
		b.ReportMetric(float64(stack2-stack)/sessions/1024, "stack-KiB")
		b.ReportMetric(float64(rss2-rss)/sessions/1024, "rss-KiB")
	}
}

// footprint is what is in use after a collection, in bytes.
func footprint(tb testing.TB) (heap, stack, rss int64) {
	runtime.GC()
	runtime.GC() // pools give up what the first one aged
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b, err := os.ReadFile("/proc/self/statm")
	must(tb, err)
	var size, resident int64
	_, err = fmt.Sscan(string(b), &size, &resident)
	must(tb, err)
	return int64(m.HeapInuse), int64(m.StackInuse), resident * int64(os.Getpagesize())
}

// bareLog is a preallocated file that is written to and synced.
type bareLog struct {
	f  *os.File
	at int64
}

func newBareLog(tb testing.TB) *bareLog {
	f, err := os.Create(filepath.Join(tb.TempDir(), "bare"))
	must(tb, err)
	tb.Cleanup(func() { f.Close() })
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 64<<20); err != nil {
		tb.Skipf("the file system can't allocate ahead: %v", err)
	}
	return &bareLog{f: f}
}

// commit writes as much as a keystroke's record takes.
func (l *bareLog) commit(tb testing.TB) time.Duration {
	start := time.Now()
	_, err := l.f.WriteAt(make([]byte, 600), l.at)
	must(tb, err)
	must(tb, unix.Fdatasync(int(l.f.Fd())))
	l.at += 600
	return time.Since(start)
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func middle(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

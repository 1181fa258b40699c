package mesh

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// The benchmarks below measure ratios: what the mesh does against what the disk
// and the wire take for the same, beside it in one run.

// longLine is a way to a port with a delay in each direction and a bound on what
// it carries in a second.
type longLine struct {
	net.Listener
	delay time.Duration
	rate  float64 // bytes a second
	work  sync.WaitGroup
	mu    sync.Mutex // guards all
	all   []net.Conn
}

func newLongLine(tb testing.TB, to string, delay time.Duration, rate float64) *longLine {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	line := &longLine{Listener: l, delay: delay, rate: rate}
	line.work.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			line.mu.Lock()
			line.all = append(line.all, near, far)
			line.mu.Unlock()
			line.work.Go(func() { line.carry(far, near) })
			line.work.Go(func() { line.carry(near, far) })
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		line.mu.Lock()
		for _, c := range line.all {
			_ = c.Close()
		}
		line.mu.Unlock()
		line.work.Wait()
	})
	return line
}

// carry copies one way. What is on its way waits in a bounded queue.
func (l *longLine) carry(to, from net.Conn) {
	type parcel struct {
		bytes []byte
		due   time.Time
	}
	onTheWay := make(chan parcel, 256)
	l.work.Go(func() {
		defer to.Close()
		broken := false
		for p := range onTheWay {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.bytes); err != nil && !broken {
				broken = true
				_ = from.Close() // so that the reader ends
			}
		}
	})
	defer close(onTheWay)
	free := time.Now()
	for {
		b := make([]byte, 32<<10)
		n, err := from.Read(b)
		if n > 0 {
			free = time.Now().Add(max(time.Until(free), 0) + time.Duration(float64(n)/l.rate*float64(time.Second)))
			onTheWay <- parcel{b[:n], free.Add(l.delay)}
		}
		if err != nil {
			return
		}
	}
}

// fill writes n records of a size, many in a commit.
func (s *station) fill(h *store.History, n, size int) {
	s.t.Helper()
	reason := string(make([]byte, size))
	for n > 0 {
		var drafts []events.Draft
		for range min(n, 500, max(1, 4<<20/size)) {
			d, err := events.NewDraft(s.id.UUID, events.SiteActor(s.id), "", events.SiteStopped{Reason: reason})
			if err != nil {
				s.t.Fatal(err)
			}
			drafts = append(drafts, d)
		}
		if _, err := h.Writer().Append(context.Background(), drafts...); err != nil {
			s.t.Fatal(err)
		}
		n -= len(drafts)
	}
}

// linkedBy starts two stations of which b reaches a by a way.
func linkedBy(a, b *station, way func(addr string) string) {
	la := a.listen()
	ap, bp := a.peer(), b.peer()
	a.start(la, ap, bp)
	ap.Addrs = []string{way(a.addr)}
	b.start(nil, ap, bp)
}

func median(all []time.Duration) time.Duration { return quantile(all, 0.5) }

func quantile(all []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// benchHistory is how many records the long history of BenchmarkHeal has:
// HOLDFAST_BENCH_HISTORY, or 200000.
func benchHistory(b *testing.B) int {
	text := os.Getenv("HOLDFAST_BENCH_HISTORY")
	if text == "" {
		return 200_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatalf("HOLDFAST_BENCH_HISTORY: %v", err)
	}
	return n
}

// BenchmarkHeal is the time to get what was missed during a cut, with a long
// history before it against one a hundredth as long. The least of several counts,
// since a link comes back up to half a second after the heal.
func BenchmarkHeal(b *testing.B) {
	const missing = 20_000
	heal := func(history int) (took []time.Duration) {
		x, y := newStation(b, 1), newStation(b, 2)
		y.patience = 30 * time.Minute // for the history
		x.fill(x.ctl, history, 20)
		var way *hanging
		linkedBy(x, y, func(addr string) string { way = newHanging(b, addr); return way.Addr().String() })
		y.has(x)
		for range 7 {
			way.set(true)
			x.fill(x.ctl, missing, 200)
			time.Sleep(time.Second)
			way.set(false)
			began := time.Now()
			y.has(x)
			took = append(took, time.Since(began))
		}
		return took
	}
	for b.Loop() {
		long := benchHistory(b)
		short, full := heal(long/100), heal(long)
		b.ReportMetric(slices.Min(full).Seconds()/slices.Min(short).Seconds(), "x-short")
		b.ReportMetric(slices.Min(full).Seconds(), "s/heal")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkCatchUp is the time to get recordings over a line, against a plain
// copy of as many bytes over such a line into a file that is synced.
func BenchmarkCatchUp(b *testing.B) {
	const size, delay, rate = 48 << 20, 5 * time.Millisecond, 40 << 20
	for b.Loop() {
		x, y := newStation(b, 1), newStation(b, 2)
		x.fill(x.rec, size/(64<<10), 64<<10)
		began := time.Now()
		linkedBy(x, y, func(addr string) string { return newLongLine(b, addr, delay, rate).Addr().String() })
		y.has(x)
		took := time.Since(began)
		b.ReportMetric(took.Seconds()/rawCopy(b, size, delay, rate).Seconds(), "x-raw")
	}
	b.ReportMetric(0, "ns/op")
}

func rawCopy(b *testing.B, size int64, delay time.Duration, rate float64) time.Duration {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() { // ends with the copy
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.CopyN(c, zeros{}, size)
		_ = c.Close()
	}()
	f, err := os.Create(filepath.Join(b.TempDir(), "copy"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	began := time.Now()
	c, err := net.Dial("tcp", newLongLine(b, l.Addr().String(), delay, rate).Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if n, err := io.Copy(f, c); err != nil || n != size {
		b.Fatalf("%d bytes came: %v", n, err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// BenchmarkPairAppend is the median time until a record of a pair is released,
// against a round trip of as much over the same kind of line, and an append to one
// disk. (The line's sleeps last longer than they should: its delay is not its
// round trip.)
func BenchmarkPairAppend(b *testing.B) {
	const delay = 5 * time.Millisecond
	trip := newRoundTrip(b, delay)
	for b.Loop() {
		x, y, lone := newStation(b, 1), newStation(b, 2), newStation(b, 3)
		linkedBy(x, y, func(addr string) string { return newLongLine(b, addr, delay, 1<<30).Addr().String() })
		x.node.SetPairs([]events.SiteID{y.id})
		x.fill(x.ctl, 1, 100)
		y.has(x)
		var paired, alone, trips []time.Duration
		for range 100 {
			began := time.Now()
			x.fill(x.ctl, 1, 100)
			size, _ := x.ctl.Log().Size()
			done := make(chan struct{})
			x.node.WhenReleased(x.ctl.Log().Origin(), size, func() { close(done) })
			<-done
			paired = append(paired, time.Since(began))
			began = time.Now()
			lone.fill(lone.ctl, 1, 100)
			alone = append(alone, time.Since(began))
			trips = append(trips, trip())
		}
		b.ReportMetric(median(paired).Seconds()/(median(trips)+median(alone)).Seconds(), "x-rtt+sync")
		b.ReportMetric(float64(median(trips).Microseconds()), "us/rtt")
		b.ReportMetric(float64(median(paired).Microseconds()), "us/append")
	}
	b.ReportMetric(0, "ns/op")
}

// newRoundTrip gives what times a few hundred bytes there and back on a line of
// their own.
func newRoundTrip(b *testing.B, delay time.Duration) func() time.Duration {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener and the line
		if far, err := l.Accept(); err == nil {
			_, _ = io.Copy(far, far)
			_ = far.Close()
		}
	}()
	conn, err := net.Dial("tcp", newLongLine(b, l.Addr().String(), delay, 1<<30).Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	bytes := make([]byte, 500)
	return func() time.Duration {
		began := time.Now()
		if _, err := conn.Write(bytes); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, bytes); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
}

// BenchmarkUrgent is how long a decision takes to another site while recordings
// fill the line, against an idle line: the worst of a hundred.
func BenchmarkUrgent(b *testing.B) {
	const rate, burst = 20 << 20, 1 << 20
	for b.Loop() {
		x, y := newStation(b, 1), newStation(b, 2)
		linkedBy(x, y, func(addr string) string { return newLongLine(b, addr, 5*time.Millisecond, rate).Addr().String() })
		x.fill(x.ctl, 1, 100)
		y.has(x)
		idle := quantile(x.decisions(y, 100), 0.99)
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for began, n := time.Now(), 1; ; n++ { // a tenth more than the line carries
				x.fill(x.rec, burst/(256<<10), 256<<10)
				select {
				case <-stop:
					return
				case <-time.After(time.Until(began.Add(time.Duration(n) * time.Second * burst / (rate * 11 / 10)))):
				}
			}
		}()
		time.Sleep(time.Second)
		busy := quantile(x.decisions(y, 100), 0.99)
		close(stop)
		<-done
		b.ReportMetric(busy.Seconds()/idle.Seconds(), "x-idle")
		b.ReportMetric(float64(busy.Milliseconds()), "ms/decision")
	}
	b.ReportMetric(0, "ns/op")
}

// decisions tells how long each of n decisions took to be durable at another
// station.
func (s *station) decisions(at *station, n int) (took []time.Duration) {
	o := s.ctl.Log().Origin()
	at.mu.Lock()
	there := at.copies[o]
	at.mu.Unlock()
	for range n {
		size, _ := there.Size()
		watch := there.Watch(size)
		began := time.Now()
		s.fill(s.ctl, 1, 100)
		<-watch
		took = append(took, time.Since(began))
		time.Sleep(5 * time.Millisecond)
	}
	return took
}

// BenchmarkSplit is how much a site writes that can reach nobody, against one
// that is in no mesh, in turns.
func BenchmarkSplit(b *testing.B) {
	for b.Loop() {
		split, gone, lone := newStation(b, 1), newStation(b, 2), newStation(b, 3)
		l := split.listen()
		gone.addr = "127.0.0.1:1" // nobody listens there
		split.start(l, split.peer(), gone.peer())
		rate := func(s *station) (n float64) {
			for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); n++ {
				s.fill(s.ctl, 1, 200)
			}
			return n
		}
		var of []float64
		for range 9 {
			of = append(of, rate(split)/rate(lone))
		}
		slices.Sort(of)
		b.ReportMetric(of[len(of)/2], "x-lone")
	}
	b.ReportMetric(0, "ns/op")
}

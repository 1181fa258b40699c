package store_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/segment"
	"github.com/holdfast-pam/holdfast/events/store/storetest"
)

func newWriter(tb testing.TB, log store.Log) *store.Writer {
	tb.Helper()
	w, err := store.NewWriter(log, store.WriterConfig{Ticker: &events.Ticker{Now: time.Now}, Now: time.Now})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := w.Close(); err != nil {
			tb.Error(err)
		}
	})
	return w
}

func openSegments(tb testing.TB) store.Log {
	tb.Helper()
	opened, err := segment.Engine{}.Open(tb.TempDir(), storetest.Origin, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := opened.Log.Close(); err != nil {
			tb.Error(err)
		}
	})
	return opened.Log
}

// bareFile is the floor: a preallocated file, one write and one fdatasync.
type bareFile struct {
	f  *os.File
	at int64
}

func newBareFile(tb testing.TB, size int64) *bareFile {
	f, err := os.Create(filepath.Join(tb.TempDir(), "bare"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		tb.Skipf("the file system cannot preallocate: %v", err)
	}
	return &bareFile{f: f}
}

func (b *bareFile) write(tb testing.TB, p []byte) {
	_, err := b.f.WriteAt(p, b.at)
	if err == nil {
		err = unix.Fdatasync(int(b.f.Fd()))
	}
	if err != nil {
		tb.Fatal(err)
	}
	b.at += int64(len(p))
}

func packets(tb testing.TB, size int) events.Draft {
	data := make([]byte, size)
	_, _ = rand.Read(data)
	d, err := events.NewDraft(storetest.Origin.Site.UUID, events.SiteActor(storetest.Origin.Site), "", events.SessionPackets{First: 1, Count: 1, Sealed: data})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkLoneAppend measures the latency of one small record at a time
// beside the floor, in turns, and reports the ratio of the medians.
func BenchmarkLoneAppend(b *testing.B) {
	w, bare := newWriter(b, openSegments(b)), newBareFile(b, 256<<20)
	draft, raw := packets(b, 50), make([]byte, 600)
	var ours, floor []time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := w.Append(b.Context(), draft); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		bare.write(b, raw)
		ours, floor = append(ours, middle.Sub(start)), append(floor, time.Since(middle))
	}
	b.ReportMetric(float64(median(ours).Nanoseconds())/1e3, "p50-µs")
	b.ReportMetric(float64(median(floor).Nanoseconds())/1e3, "floor-µs")
	b.ReportMetric(float64(median(ours))/float64(median(floor)), "ratio")
	b.ReportMetric(float64(ours[len(ours)*99/100].Nanoseconds())/1e3, "p99-µs")
}

// BenchmarkBulk measures 32 KiB records of 16 streams, 1 MiB per commit, in
// turns with the floor of 1 MiB writes.
func BenchmarkBulk(b *testing.B) {
	w := newWriter(b, openSegments(b))
	draft, raw := packets(b, 32<<10), make([]byte, 1<<20)
	prepared, err := store.Prepare(draft)
	if err != nil {
		b.Fatal(err)
	}
	const turn = 64 << 20
	var ours, floor []time.Duration
	for b.Loop() {
		start := time.Now()
		var wg sync.WaitGroup
		for range turn / (32 << 10) {
			wg.Add(1)
			if err := w.Submit(b.Context(), prepared, func(_ []events.Record, err error) {
				if err != nil {
					b.Error(err)
				}
				wg.Done()
			}); err != nil {
				b.Fatal(err)
			}
		}
		wg.Wait()
		ours = append(ours, time.Since(start))
		bare := newBareFile(b, turn)
		start = time.Now()
		for range turn >> 20 {
			bare.write(b, raw)
		}
		floor = append(floor, time.Since(start))
		_ = os.Remove(bare.f.Name())
	}
	rate := func(d []time.Duration) float64 { return turn / 1e6 / median(d).Seconds() }
	b.ReportMetric(rate(ours), "MB/s")
	b.ReportMetric(rate(floor), "floor-MB/s")
	b.ReportMetric(rate(ours)/rate(floor), "ratio")
}

// BenchmarkBulkCommit measures commits of 1 MiB in turns with the floor, so that
// both see the same machine. Rolls are in it, but not in the medians.
func BenchmarkBulkCommit(b *testing.B) {
	log, raw := openSegments(b), make([]byte, 1<<20)
	draft := packets(b, 32<<10-400)
	prepared, err := events.EncodeEvent(draft.Event)
	if err != nil {
		b.Fatal(err)
	}
	entries := make([]events.Entry, 32)
	for i := range entries {
		entries[i] = events.Entry{Header: bytes.Repeat([]byte{byte(i)}, 300), Payload: prepared}
	}
	var ours, floor []time.Duration
	bare := newBareFile(b, 64<<20)
	for size := uint64(0); b.Loop(); size += uint64(len(entries)) {
		start := time.Now()
		if err := log.Append(b.Context(), size, entries); err != nil {
			b.Fatal(err)
		}
		ours = append(ours, time.Since(start))
		if bare.at == 64<<20 {
			_ = os.Remove(bare.f.Name())
			bare = newBareFile(b, 64<<20)
		}
		start = time.Now()
		bare.write(b, raw)
		floor = append(floor, time.Since(start))
	}
	b.ReportMetric(1.048576/median(ours).Seconds(), "p50-MB/s")
	b.ReportMetric(float64(median(floor))/float64(median(ours)), "ratio")
}

// BenchmarkScan reads records of 300 bytes as they are stored.
func BenchmarkScan(b *testing.B) {
	log := openSegments(b)
	const commits, each = 400, 500
	entries := make([]events.Entry, each)
	for i := range entries {
		entries[i] = events.Entry{Header: bytes.Repeat([]byte{byte(i)}, 220), Payload: bytes.Repeat([]byte{byte(i)}, 80)}
	}
	for i := range uint64(commits) {
		if err := log.Append(b.Context(), i*each, entries); err != nil {
			b.Fatal(err)
		}
	}
	ctx := context.Background()
	for name, read := range map[string]func() int{
		"read": func() (n int) {
			for _, err := range log.Read(ctx, 1) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			return n
		},
		"headers": func() (n int) {
			for _, err := range log.Headers(ctx, 1) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			return n
		},
	} {
		b.Run(name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				n += read()
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds()/1e6, "Mevents/s")
		})
	}
	b.Run("get", func(b *testing.B) {
		for i := uint64(0); b.Loop(); i += 7919 {
			for _, err := range log.Read(ctx, i%(commits*each)+1) {
				if err != nil {
					b.Fatal(err)
				}
				break
			}
		}
	})
}

// BenchmarkAppenders measures 64 goroutines that append small records.
func BenchmarkAppenders(b *testing.B) {
	w := newWriter(b, openSegments(b))
	draft := packets(b, 50)
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := w.Append(b.Context(), draft); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkKeystroke measures a small record beside 16 bulk streams.
func BenchmarkKeystroke(b *testing.B) {
	w := newWriter(b, openSegments(b))
	ctx, cancel := context.WithCancel(b.Context())
	var bulk sync.WaitGroup
	var moved int64
	start := time.Now()
	for range 16 {
		d := packets(b, 32<<10)
		d.Stream, _ = events.NewID()
		prepared, err := store.Prepare(d)
		if err != nil {
			b.Fatal(err)
		}
		bulk.Go(func() {
			for ctx.Err() == nil {
				done := make(chan struct{})
				if w.Submit(ctx, prepared, func([]events.Record, error) { moved += 32 << 10; close(done) }) == nil {
					<-done
				}
			}
		})
	}
	small := packets(b, 100)
	small.Stream, _ = events.NewID()
	var keys []time.Duration
	for b.Loop() {
		time.Sleep(5 * time.Millisecond)
		at := time.Now()
		if _, err := w.Append(b.Context(), small); err != nil {
			b.Fatal(err)
		}
		keys = append(keys, time.Since(at))
	}
	cancel()
	bulk.Wait()
	b.ReportMetric(float64(moved)/1e6/time.Since(start).Seconds(), "bulk-MB/s")
	b.ReportMetric(float64(median(keys).Nanoseconds())/1e6, "p50-ms")
	b.ReportMetric(float64(keys[len(keys)*99/100].Nanoseconds())/1e6, "p99-ms")
}

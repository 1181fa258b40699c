package gateway

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
	"github.com/holdfast-pam/holdfast/replay"
	"github.com/holdfast-pam/holdfast/replay/transfer"
)

// reading makes a rig whose session tells note of files.
func reading(t *testing.T, note func(context.Context, []events.SessionFileAccessed) error) *rig {
	t.Helper()
	r := newRig(t, 1<<20, func(s *session) {
		s.files = &fileReader{trail: trail{more: make(chan struct{}, 1)}, key: s.key, session: s.session, note: note}
	})
	r.log.durable = r.session.files.add
	r.session.files.log = r.log.log
	r.open()
	return r
}

// readLog counts the records that are read back.
type readLog struct {
	store.Log
	records int
}

func (l *readLog) Read(ctx context.Context, from uint64) iter.Seq2[events.Entry, error] {
	return func(yield func(events.Entry, error) bool) {
		for entry, err := range l.Log.Read(ctx, from) {
			if l.records++; !yield(entry, err) {
				return
			}
		}
	}
}

// A reader that keeps up gets the packets from memory, and tells the same; in the end all room is free again.
func TestKeptPacketsAreNotReadBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := make(chan []events.SessionFileAccessed, 10)
		r := reading(t, func(_ context.Context, files []events.SessionFileAccessed) error {
			told <- slices.Clone(files)
			return nil
		})
		var room atomic.Int64
		log := &readLog{Log: r.log.log}
		files := r.session.files
		files.room, files.log = &room, log
		r.session.keep = files.keep
		r.receive("first", "begins the reading\n")
		<-told
		before := log.records
		r.receive("second", strings.Repeat("kept\n", 1000))
		if got := (<-told)[0]; got.Path != "second" || got.Bytes != 5000 || got.SHA256 == "" {
			t.Errorf("told %+v", got)
		}
		if log.records != before {
			t.Errorf("%d records were read back", log.records-before)
		}
		r.client.Close()
		r.wait()
		if _, err := files.finish(); err != nil || room.Load() != 0 {
			t.Errorf("%v, %d bytes are still kept", err, room.Load())
		}
	})
}

// However batches are grouped for the log, and whenever the reader begins: an extent has its own records or none.
func TestKeptRecordsAreThoseOfTheirExtent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var room atomic.Int64
		l := trail{more: make(chan struct{}, 1), room: &room}
		var queued, durable uint64
		begin := rapid.IntRange(0, 5).Draw(t, "begin")
		var waiting []int
		for i := range rapid.IntRange(1, 30).Draw(t, "batches") {
			if i == begin {
				l.keeps(true)
			}
			b := &batch{prepared: make([]store.Prepared, rapid.IntRange(0, 3).Draw(t, "records"))}
			for range b.prepared {
				if queued++; rapid.IntRange(0, 9).Draw(t, "kept") > 0 && l.keep(10) {
					b.opened = append(b.opened, replay.Record{Packets: &events.SessionPackets{First: queued}, Block: make([]byte, 10)})
				}
			}
			l.expect(b)
			waiting = append(waiting, len(b.prepared))
			if rapid.Bool().Draw(t, "durable") {
				var group []events.Record
				for _, n := range waiting {
					for range n {
						durable++
						group = append(group, events.Record{Header: events.Header{Position: durable}})
					}
				}
				waiting = nil
				l.add(group)
			}
			if rapid.IntRange(0, 4).Draw(t, "read") > 0 {
				continue
			}
			for _, x := range l.take() {
				for i, record := range x.held {
					if at := x.first + uint64(i); record.Packets.First != at {
						t.Fatalf("record %d is held for position %d", record.Packets.First, at)
					}
				}
				if n := len(x.held); n > 0 && uint64(n) != x.last-x.first+1 {
					t.Fatalf("%d records are held for %d to %d", n, x.first, x.last)
				}
				l.spent(x.held...)
			}
		}
		l.keeps(false)
		if room.Load() != 0 {
			t.Fatalf("%d bytes are still kept", room.Load())
		}
	})
}

// receive lets the client send a file by the old scp.
func (r *rig) receive(name, content string) {
	r.t.Helper()
	exec := sshwire.ChannelRequest{Recipient: 2, Type: "exec", WantReply: true, Payload: sshwire.ExecRequest{Command: "scp -t /in"}.Append(nil)}
	send(r.t, r.client, exec)
	want(r.t, r.target, exec)
	yes := sshwire.ChannelSuccess{Recipient: 1}
	send(r.t, r.target, yes, toClient("\x00"))
	want(r.t, r.client, yes, toClient("\x00"))
	for _, text := range []string{fmt.Sprintf("C0644 %d %s\n", len(content), name), content + "\x00"} {
		send(r.t, r.client, toTarget("%s", text))
		want(r.t, r.target, toTarget("%s", text))
		send(r.t, r.target, toClient("\x00"))
		want(r.t, r.client, toClient("\x00"))
	}
}

func TestFilesAreToldWhileTheSessionRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := make(chan []events.SessionFileAccessed, 10)
		r := reading(t, func(_ context.Context, files []events.SessionFileAccessed) error {
			told <- append([]events.SessionFileAccessed(nil), files...)
			return nil
		})
		r.receive("hosts", "127.0.0.1 localhost\n")
		got := (<-told)[0]
		const sum256 = "081ef9d5367595d16e30b4b4549d9f43537320508b4ce0788963e10e4f808857"
		if got.Kind != "upload" || got.Path != "hosts" || got.Bytes != 20 || !got.OK || got.SHA256 != sum256 {
			t.Errorf("told %+v", got)
		}
		r.client.Close()
		r.wait()
		sum, err := r.session.files.finish()
		if diff := cmp.Diff(events.FileTotals{Operations: 1, Uploads: 1, UploadBytes: 20}, sum); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}

// Whoever is told of files may take for ever: the session goes on, ends, and says that the rest was not read.
func TestNobodyWaitsForWhoReadsFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan struct{})
		r := reading(t, func(ctx context.Context, _ []events.SessionFileAccessed) error {
			close(asked)
			<-ctx.Done()
			return ctx.Err()
		})
		r.receive("hosts", "127.0.0.1 localhost\n")
		<-asked
		for i := range 1000 {
			send(t, r.target, toClient("line %d\n", i))
			want(t, r.client, toClient("line %d\n", i))
		}
		r.client.Close()
		r.wait()
		before := time.Now()
		sum, err := r.session.files.finish()
		if !sum.Unread || err == nil || time.Since(before) != fileTime {
			t.Errorf("%+v, %v after %v", sum, err, time.Since(before))
		}
		if n := len(r.session.files.extents); n > 1 {
			t.Errorf("%d extents are kept", n)
		}
	})
}

// Without a program that moves files nothing is read.
func TestAShellIsNotReadForFiles(t *testing.T) {
	r := reading(t, nil)
	shell := sshwire.ChannelRequest{Recipient: 2, Type: "shell"}
	send(t, r.client, shell, toTarget("scp -t /in\n"))
	want(t, r.target, shell, toTarget("scp -t /in\n"))
	r.client.Close()
	r.wait()
	if sum, err := r.session.files.finish(); sum != (events.FileTotals{}) || err != nil || r.session.files.started {
		t.Errorf("%+v, %v", sum, err)
	}
}

// What makes an event is bounded, and the same when a recording is read again, from the beginning or in part.
func TestEventsOfFilesAreBounded(t *testing.T) {
	all := make([]transfer.Operation, 1000)
	for i := range all {
		all[i] = transfer.Operation{Kind: transfer.KindFile, Direction: transfer.Download, Path: fmt.Sprint(i), Bytes: 2, Ended: replay.Seconds(time.Duration(i) * time.Second / 10)}
	}
	read := func(told uint64) Files {
		f := Files{Told: told}
		for i := range all {
			f.Take(&all[i])
			f.Take(&transfer.Operation{Kind: transfer.KindOpen, OK: true})
			f.Take(&transfer.Operation{Kind: transfer.KindReadDir, OK: true})
		}
		return f
	}
	whole := read(0)
	if n := len(whole.Pending); n < channelEvents || n > channelEvents+int(100*time.Second/channelEvery)+1 {
		t.Errorf("%d events", n)
	}
	want := events.FileTotals{Operations: 1000, Downloads: 1000, DownloadBytes: 2000, Untold: 1000 - uint64(len(whole.Pending))}
	if diff := cmp.Diff(want, whole.Totals); diff != "" {
		t.Error(diff)
	}
	for _, told := range []uint64{1, 100, 256, 500, 1000} {
		part := read(told)
		var rest []events.SessionFileAccessed
		for _, e := range whole.Pending {
			if e.Serial >= told {
				rest = append(rest, e)
			}
		}
		if diff := cmp.Diff(rest, part.Pending); diff != "" || part.Totals != whole.Totals {
			t.Errorf("told %d: %+v\n%s", told, part.Totals, diff)
		}
	}
}

func TestTrailIsBounded(t *testing.T) {
	l := trail{more: make(chan struct{}, 1)}
	at := func(position uint64) []events.Record {
		return []events.Record{{Header: events.Header{Position: position}}}
	}
	for _, p := range []uint64{5, 6, 6 + trailGap, 8 + 2*trailGap} {
		l.add(at(p))
	}
	if diff := cmp.Diff([]extent{{first: 5, last: 6 + trailGap}, {first: 8 + 2*trailGap, last: 8 + 2*trailGap}}, l.take(), cmp.AllowUnexported(extent{})); diff != "" {
		t.Error(diff)
	}
	const far = 1 << 20
	for i := range uint64(3 * trailExtents) {
		l.add(at(far * (i + 1)))
	}
	all := l.take()
	if last := all[len(all)-1]; len(all) != trailExtents || last.last != far*3*trailExtents {
		t.Errorf("%d extents, the last one %+v", len(all), last)
	}
}

package gateway

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
	"github.com/holdfast-pam/holdfast/replay"
	"github.com/holdfast-pam/holdfast/replay/transfer"
)

const (
	// filePause is the least time between two readings of the log for one session.
	filePause = 20 * time.Millisecond
	// fileTime is how long the decoding may take on after the session is over.
	fileTime = 10 * time.Second
	// fileGroup is how many operations are told at once.
	fileGroup = 64
)

// fileReader makes events of what a session does to files. It is a reader of the log beside the data path: it begins
// when the client first asks for a program that moves files, reads what is durable, and nobody waits for it. While it is
// slow, the log holds what it has not read, and it keeps no more than where that is; what it has not read of the last
// moments is kept in memory (see [trail.keep]), so that a reader that keeps up reads nothing back.
type fileReader struct {
	trail
	log     store.Log
	key     *seal.DataKey
	session events.SessionID
	note    func(context.Context, []events.SessionFileAccessed) error

	started bool // guarded by session.order until run has returned
	cancel  context.CancelFunc
	done    chan struct{}

	files Files // of the reader's goroutine until done
	err   error
}

// see begins the reading at the first request for a program that moves files. It is called under session.order with
// what the client sent.
func (r *fileReader) see(b *batch) {
	for i := 0; i < len(b.spans) && !r.started; i++ {
		p := b.packet(i)
		if p[0] != sshwire.MsgChannelRequest {
			continue
		}
		m, err := sshwire.ParseChannelRequest(p)
		if err != nil {
			continue
		}
		if transfer.ProgramOf(m.Type, transfer.CommandOf(m)).Protocol != transfer.NoTransfer {
			r.start()
		}
	}
}

func (r *fileReader) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.started, r.cancel, r.done = true, cancel, make(chan struct{})
	r.keeps(true)
	go func() {
		defer close(r.done)
		defer r.keeps(false)
		r.err = r.read(ctx)
	}()
}

// read decodes until all of the trail is read and over. An error leaves the rest to whoever reads the recording.
func (r *fileReader) read(ctx context.Context) error {
	source := replay.Items(func(yield func(replay.Record, error) bool) {
		for {
			for _, x := range r.take() {
				for record, err := range r.records(ctx, x) {
					if !yield(record, err) || err != nil {
						return
					}
				}
			}
			err := r.files.tell(ctx, r.note)
			if err == nil {
				var more bool
				if more, err = r.wait(ctx); !more && err == nil {
					return
				}
			}
			if err != nil {
				yield(replay.Record{}, err)
				return
			}
		}
	})
	for o, err := range transfer.Operations(source) {
		if err != nil {
			return err
		}
		if r.files.Take(&o); len(r.files.Pending) >= fileGroup {
			if err := r.files.tell(ctx, r.note); err != nil {
				return err
			}
		}
	}
	return r.files.tell(ctx, r.note)
}

// records are those of the session in one extent of the log.
func (r *fileReader) records(ctx context.Context, x extent) iter.Seq2[replay.Record, error] {
	return func(yield func(replay.Record, error) bool) {
		if x.held != nil {
			for _, record := range x.held {
				if !yield(record, nil) {
					return
				}
				r.spent(record)
			}
			return
		}
		at := x.first
		for entry, err := range r.log.Read(ctx, x.first) {
			var e events.Record
			if err == nil {
				e, err = events.DecodeEntry(entry)
			}
			var opened replay.Record
			mine := err != nil || e.Header.Stream == r.session.UUID
			if err == nil && mine {
				opened, err = OpenRecord(e, r.key)
			}
			if mine && !yield(opened, err) || err != nil || at == x.last {
				return
			}
			at++
		}
	}
}

// finish waits a while for the reading to come to its end, and gives the sum. The session is over and durable.
func (r *fileReader) finish() (events.FileTotals, error) {
	r.end()
	if !r.started {
		return events.FileTotals{}, nil
	}
	late := time.AfterFunc(fileTime, r.cancel)
	<-r.done
	late.Stop()
	r.cancel()
	sum := r.files.Totals
	sum.Unread = r.err != nil
	return sum, r.err
}

// OpenRecord decodes a record of a session in the rec log and opens its packets.
func OpenRecord(r events.Record, key *seal.DataKey) (replay.Record, error) {
	e, err := r.Event()
	if err != nil {
		return replay.Record{}, err
	}
	switch e := e.(type) {
	case events.SessionPackets:
		at := seal.Binding{Purpose: PacketsPurpose(e.Direction), ID: key.ID(), Number: e.First}
		block, err := key.Open(e.Sealed, at)
		if err != nil {
			return replay.Record{}, fmt.Errorf("record %s position %d: %w", r.Header.Origin(), r.Header.Position, err)
		}
		return replay.Record{Packets: &e, Block: block}, nil
	case events.SessionPacketMade:
		return replay.Record{Made: &e}, nil
	case events.SessionPacketDropped:
		return replay.Record{Dropped: &e}, nil
	case events.SessionPacketAltered:
		return replay.Record{Altered: &e}, nil
	}
	return replay.Record{}, fmt.Errorf("record %s position %d: %s has no place in a recording: %w",
		r.Header.Origin(), r.Header.Position, r.Header.Type, errors.ErrUnsupported)
}

// Files turns file operations of one session, in their order, into events and their sum. Which ones make an event
// depends on the recording alone, so that one that was read in part can be read again.
type Files struct {
	Told    uint64 // operations before this one have their events already
	Totals  events.FileTotals
	Pending []events.SessionFileAccessed // to be told

	room allotment
}

// Take counts an operation, and makes its event pending if there is room for one. Files that were only opened,
// directories that were listed and the like are not counted.
func (f *Files) Take(o *transfer.Operation) {
	switch o.Kind {
	case transfer.KindOpen:
		if o.OK { // what comes of it is told when the file is closed
			return
		}
	case transfer.KindReadDir, transfer.KindDirectory:
		return
	}
	serial := f.Totals.Operations
	f.Totals.Operations++
	kind := string(o.Kind)
	if o.Kind == transfer.KindFile {
		kind = string(o.Direction)
		if o.Direction == transfer.Upload {
			f.Totals.Uploads++
			f.Totals.UploadBytes += o.Bytes
		} else {
			f.Totals.Downloads++
			f.Totals.DownloadBytes += o.Bytes
		}
	}
	ended := time.Duration(o.Ended)
	if !f.room.take(ended) {
		f.Totals.Untold++
		return
	}
	if serial < f.Told {
		return
	}
	f.Pending = append(f.Pending, events.SessionFileAccessed{
		Serial: serial, Channel: uint64(o.Channel), Kind: kind, Direction: string(o.Direction), Path: o.Path, Target: o.Target,
		Detail: o.Detail, Bytes: o.Bytes, SHA256: o.SHA256, OK: o.OK, Status: o.Status, Note: o.Note,
		Started: uint64(time.Duration(o.Started).Microseconds()), Ended: uint64(ended.Microseconds()),
	})
}

// tell makes the pending events.
func (f *Files) tell(ctx context.Context, note func(context.Context, []events.SessionFileAccessed) error) error {
	if len(f.Pending) == 0 {
		return nil
	}
	err := note(ctx, f.Pending)
	f.Pending = f.Pending[:0]
	return err
}

// trail is where in the rec log the durable records of a session are, as far as they were not taken yet.
type trail struct {
	mu      sync.Mutex
	extents []extent
	over    bool
	more    chan struct{} // has room for one: something was added, or it is over

	room     *atomic.Int64 // bytes kept by all trails of a gateway; nil where nothing is kept
	keeping  bool          // something reads the trail
	kept     int64         // bytes of packets kept by this one
	queued   int           // records that went to the log
	durable  int           // of them
	expected []expectation // not durable yet; none from before there was a reader
}

// extent is a range of positions.
type extent struct {
	first, last uint64
	held        []replay.Record // all that stands there, where it was kept
}

// expectation is a batch that is on its way to the log: the number of its first record there, how many it has, and what
// was kept of it: all or nothing.
type expectation struct {
	first, n int
	opened   []replay.Record
}

const (
	// trailGap is how many records of others are rather read over than skipped.
	trailGap = 64
	// trailExtents bounds the extents; beyond it the last one grows over what is between.
	trailExtents = 1024
	// keptMost and keptByAll bound what is kept of one session and of all of a gateway, in bytes.
	keptMost, keptByAll = 8 << 20, 64 << 20
	// keptSoon is how many kept bytes are read at once, without a pause.
	keptSoon = 1 << 20
)

// keeps says whether something reads the trail from now on; if not, what was kept goes.
func (t *trail) keeps(yes bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keeping = yes && t.room != nil
	if t.keeping {
		return
	}
	if t.room != nil {
		t.room.Add(-t.kept)
	}
	t.kept, t.expected = 0, nil
	for i := range t.extents {
		t.extents[i].held = nil
	}
}

// keep says whether there is room to keep the packets of n more bytes, and takes it.
func (t *trail) keep(n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.keeping || t.kept+int64(n) > keptMost {
		return false
	}
	if t.room.Add(int64(n)) > keptByAll {
		t.room.Add(-int64(n))
		return false
	}
	t.kept += int64(n)
	return true
}

// spent gives back the room of records that nobody needs any more.
func (t *trail) spent(records ...replay.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.giveBack(records)
}

// giveBack is spent with mu held.
func (t *trail) giveBack(records []replay.Record) {
	if !t.keeping {
		return
	}
	for _, r := range records {
		t.kept -= int64(len(r.Block))
		t.room.Add(-int64(len(r.Block)))
	}
}

// expect takes a batch that goes to the log, in the order in which batches do. It takes over what was kept of it. A
// batch in which more happened than that packets came is read back from the log.
func (t *trail) expect(b *batch) {
	opened := b.opened
	b.opened = nil
	if len(b.prepared) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(opened) != len(b.prepared) {
		t.giveBack(opened)
		opened = nil
	}
	if t.keeping {
		t.expected = append(t.expected, expectation{t.queued, len(b.prepared), opened})
	}
	t.queued += len(b.prepared)
}

// claim gives what was kept of the next n records that are durable, nil where that is not all of them; mu is held.
func (t *trail) claim(n int) (held []replay.Record) {
	next, end := t.durable, t.durable+n
	t.durable = end
	whole := true
	for len(t.expected) > 0 && t.expected[0].first < end {
		x := t.expected[0]
		t.expected = slices.Delete(t.expected, 0, 1)
		whole = whole && x.opened != nil && x.first == next
		held = append(held, x.opened...)
		next = x.first + x.n
	}
	if whole && next == end {
		return held
	}
	t.giveBack(held)
	return nil
}

// add notes records that are durable: one group, so without a gap.
func (t *trail) add(records []events.Record) {
	if len(records) == 0 {
		return
	}
	x := extent{first: records[0].Header.Position, last: records[len(records)-1].Header.Position}
	t.mu.Lock()
	x.held = t.claim(len(records))
	n := len(t.extents)
	switch {
	case n == trailExtents || n > 0 && x.held == nil && t.extents[n-1].held == nil && x.first-t.extents[n-1].last <= trailGap:
		t.giveBack(t.extents[n-1].held)
		t.giveBack(x.held)
		t.extents[n-1].last, t.extents[n-1].held = x.last, nil
	default:
		t.extents = append(t.extents, x)
	}
	t.mu.Unlock()
	t.wake()
}

func (t *trail) wake() {
	select {
	case t.more <- struct{}{}:
	default:
	}
}

func (t *trail) end() {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.wake()
}

func (t *trail) take() []extent {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.extents
	t.extents = nil
	return all
}

// wait waits until there is more to take, and says whether there will be.
func (t *trail) wait(ctx context.Context) (more bool, err error) {
	for {
		t.mu.Lock()
		more, over, much := len(t.extents) > 0, t.over, t.kept >= keptSoon
		t.mu.Unlock()
		switch {
		case over:
			return more, ctx.Err()
		case more && much:
			return true, ctx.Err()
		case more:
			return true, t.pause(ctx)
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-t.more:
		}
	}
}

// pause lets more be added, so that it is read in one go.
func (t *trail) pause(ctx context.Context) error {
	timer := time.NewTimer(filePause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case <-t.more:
			t.mu.Lock()
			enough := t.over || t.kept >= keptSoon
			t.mu.Unlock()
			if enough {
				return nil
			}
		}
	}
}

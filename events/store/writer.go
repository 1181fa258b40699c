package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// WriterConfig is what a [Writer] needs.
type WriterConfig struct {
	Ticker *events.Ticker      // issues the HLC of every record; shared by the logs of a site
	Now    func() time.Time    // the site's wall clock
	Clock  func() events.Clock // what this site has applied; nil for logs without clocks (rec)
	Queue  int                 // bytes that may wait; 8 MiB unless set
}

// Writer is the group committer of one log and the only owner of its
// positions, HLC and clock. While one commit is being made durable, the next
// gathers. It is safe for concurrent use.
//
// Records of one stream are stored in the order in which they were handed
// over. Whoever goes on with a stream after [ErrFull] must wait until all that
// it handed over before is answered; the writer refuses what is queued when
// the log is full, so nothing overtakes a refused record.
type Writer struct {
	log    Log
	cfg    WriterConfig
	limit  int
	coder  events.ClockCoder // owned by who leads
	size   uint64            // records in the log; owned by who leads
	worker sync.WaitGroup
	wake   chan struct{} // hands the lead to the goroutine; capacity 1

	mu      sync.Mutex
	queue   queue
	leading bool          // somebody commits, or was told to
	room    chan struct{} // closed and replaced when the queue shrinks
	idle    chan struct{} // closed when nobody leads and the writer is closing; nil until then
	err     error         // why nothing is taken any more
}

// NewWriter makes the writer of a log. It reads the log's headers to know the
// HLC and, for logs with clocks, the clock that the log ends with. The log must
// have no other writer.
func NewWriter(log Log, cfg WriterConfig) (*Writer, error) {
	if cfg.Queue <= 0 {
		cfg.Queue = 8 << 20
	}
	w := &Writer{log: log, cfg: cfg, limit: cfg.Queue, wake: make(chan struct{}, 1), room: make(chan struct{})}
	w.queue.init()
	if err := w.restore(); err != nil {
		return nil, fmt.Errorf("writer of log %s: %w", log.Origin(), err)
	}
	w.worker.Go(w.work)
	return w, nil
}

// restore brings HLC and clock to where the log ends. Without clocks the last
// header is enough.
func (w *Writer) restore() error {
	w.size, _ = w.log.Size()
	from := max(w.size, 1)
	if w.cfg.Clock != nil {
		from = 1
	}
	for e, err := range w.log.Headers(context.Background(), from) {
		if err != nil {
			return err
		}
		h, err := events.DecodeHeader(e.Header)
		if err != nil {
			return err
		}
		if _, err := w.coder.Apply(h.Clock); err != nil {
			return fmt.Errorf("position %d: %w", h.Position, err)
		}
		if h.Position == w.size {
			w.cfg.Ticker.Resume(h.HLC)
		}
	}
	return nil
}

// Append stores drafts as one commit or part of one, without anything between
// them, and returns their records when they are durable. It returns [ErrFull]
// when the log has no room, and an error that wraps [ErrClosed] when the log
// failed; the outcome is then unknown. When ctx ends while the drafts wait,
// they are taken back; once they are being written their outcome is awaited.
func (w *Writer) Append(ctx context.Context, drafts ...events.Draft) ([]events.Record, error) {
	prepared, err := Prepare(drafts...)
	if err != nil {
		return nil, err
	}
	g := newGroup(ctx, prepared, true)
	g.answered = make(chan struct{})
	g.done = func(records []events.Record, err error) {
		g.records, g.err = records, err
		close(g.answered)
	}
	lead, err := w.enqueue(ctx, g)
	if err != nil {
		return nil, err
	}
	if lead {
		w.lead(false)
	}
	select {
	case <-g.answered:
	case <-ctx.Done():
		if w.takeBack(g) {
			return nil, w.wrap(ctx.Err())
		}
		<-g.answered
	}
	return g.records, g.err
}

// Submit hands prepared drafts over and returns; it blocks only while the
// queue is full. done is called once, from the goroutine that commits, in the
// order of positions: it must be quick, must not call the writer, and must not
// take a lock that is held around Submit. When Submit returns an error, done is
// not called.
func (w *Writer) Submit(ctx context.Context, prepared []Prepared, done func([]events.Record, error)) error {
	return w.submit(ctx, newGroup(ctx, prepared, true), done)
}

// SubmitBulk is Submit for what belongs to a bulk stream: however small it is,
// it doesn't go before others and keeps nobody's commits short.
func (w *Writer) SubmitBulk(ctx context.Context, prepared []Prepared, done func([]events.Record, error)) error {
	return w.submit(ctx, newGroup(ctx, prepared, false), done)
}

func (w *Writer) submit(ctx context.Context, g *group, done func([]events.Record, error)) error {
	g.done = done
	lead, err := w.enqueue(ctx, g)
	if lead {
		w.wake <- struct{}{}
	}
	return err
}

// SubmitHere is Submit that makes the commit in the caller's goroutine when
// nobody else is making one; done was called then when it returns. A lone
// submission so costs no change of goroutine.
func (w *Writer) SubmitHere(ctx context.Context, prepared []Prepared, done func([]events.Record, error)) error {
	g := newGroup(ctx, prepared, true)
	g.done = done
	lead, err := w.enqueue(ctx, g)
	if lead {
		w.lead(false)
	}
	return err
}

// Crowded reports whether small drafts that are no part of bulk came a moment
// ago. Whoever submits bulk then does well to submit less at a time: a group is never divided, and they
// wait for it.
func (w *Writer) Crowded() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cfg.Now().Sub(w.queue.lastSmall) < smallMemory
}

// enqueue waits for room and queues g. It reports whether the caller has
// become the one who must see to the commit.
func (w *Writer) enqueue(ctx context.Context, g *group) (lead bool, err error) {
	if len(g.prepared) == 0 || g.size > MaxCommitSize || len(g.prepared) > MaxCommitEntries {
		return false, w.wrap(fmt.Errorf("%w: %d drafts of %d bytes in one group, the limits are %d and %d",
			ErrBadAppend, len(g.prepared), g.size, MaxCommitEntries, MaxCommitSize))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && w.queue.bytes > 0 && w.queue.bytes+g.size > w.limit {
		room := w.room
		w.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
		w.mu.Lock()
		if err := ctx.Err(); err != nil {
			return false, w.wrap(err)
		}
	}
	if w.err != nil {
		return false, w.wrap(w.err)
	}
	if err := ctx.Err(); err != nil {
		return false, w.wrap(err)
	}
	w.queue.push(g, w.cfg.Now())
	lead = !w.leading
	w.leading = true
	return lead, nil
}

// takeBack removes a group that still waits.
func (w *Writer) takeBack(g *group) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.queue.remove(g) {
		return false
	}
	w.shrunk()
	return true
}

// work leads whenever it is told to, until the writer is closed.
func (w *Writer) work() {
	for range w.wake {
		w.lead(true)
	}
}

// lead makes commits while it holds the lead. A caller of Append or SubmitHere
// makes one, which has its own drafts in it, since nothing was queued before
// them; so alone it costs no change of goroutine. The rest is the worker's.
func (w *Writer) lead(worker bool) {
	for {
		w.mu.Lock()
		batch := w.queue.take(w.cfg.Now())
		if len(batch) == 0 {
			w.leading = false
			if w.idle != nil {
				close(w.idle)
				w.idle = nil
			}
			w.mu.Unlock()
			return
		}
		w.shrunk()
		w.mu.Unlock()
		w.commit(batch)
		if !worker {
			break
		}
	}
	w.mu.Lock()
	more := len(w.queue.small)+len(w.queue.bulk) > 0 || w.idle != nil
	w.leading = more
	w.mu.Unlock()
	if more {
		w.wake <- struct{}{}
	}
}

// shrunk tells those who wait for room. mu is held.
func (w *Writer) shrunk() {
	close(w.room)
	w.room = make(chan struct{})
}

// commit stores a batch and answers it. When the log is full, groups that may
// use the head-room are tried once more without the others.
func (w *Writer) commit(batch []*group) {
	err := w.store(batch, false)
	if err == nil {
		return
	}
	if errors.Is(err, ErrBadAppend) {
		w.answer(batch, err)
		return
	}
	if !errors.Is(err, ErrFull) {
		w.fail(batch, err)
		return
	}
	w.full(batch, err)
}

// full refuses what may not use the head-room, and tries the rest with it.
func (w *Writer) full(batch []*group, err error) {
	w.mu.Lock()
	refused := w.queue.removePlain()
	w.shrunk()
	w.mu.Unlock()
	var kept, plain []*group
	for _, g := range batch {
		if g.headroom {
			kept = append(kept, g)
		} else {
			plain = append(plain, g)
		}
	}
	w.answer(append(plain, refused...), err)
	if len(kept) == 0 {
		return
	}
	switch err := w.store(kept, true); {
	case errors.Is(err, ErrFull), errors.Is(err, ErrBadAppend):
		w.answer(kept, err)
	case err != nil:
		w.fail(kept, err)
	}
}

// answer tells groups that they were refused; the writer goes on.
func (w *Writer) answer(groups []*group, err error) {
	for _, g := range groups {
		g.done(nil, w.wrap(err))
	}
}

// fail answers everything with the cause, now and from now on.
func (w *Writer) fail(batch []*group, cause error) {
	if !errors.Is(cause, ErrClosed) {
		cause = fmt.Errorf("%w: %w", ErrClosed, cause)
	}
	w.mu.Lock()
	if w.err == nil {
		w.err = cause
	}
	batch = append(batch, w.queue.drain()...)
	w.shrunk()
	w.mu.Unlock()
	w.answer(batch, cause)
}

// store gives the batch its positions and appends it. After ErrFull nothing
// has changed.
func (w *Writer) store(batch []*group, headroom bool) error {
	coder := w.coder
	records, entries, err := w.stamp(batch)
	if err != nil {
		w.coder = coder
		return err
	}
	ctx := context.Background()
	if headroom {
		ctx = WithHeadroom(ctx)
	}
	if err := w.log.Append(ctx, w.size, entries); err != nil {
		w.coder = coder
		return err
	}
	w.size += uint64(len(entries))
	for _, g := range batch {
		n := len(g.prepared)
		g.done(records[:n:n], nil)
		records = records[n:]
	}
	return nil
}

// stamp makes the records of a batch: position, HLC, wall time and clock.
func (w *Writer) stamp(batch []*group) ([]events.Record, []events.Entry, error) {
	n := 0
	for _, g := range batch {
		n += len(g.prepared)
	}
	records, entries := make([]events.Record, 0, n), make([]events.Entry, 0, n)
	wall := w.cfg.Now().UnixMicro()
	clock := w.coder.Clock()
	if w.cfg.Clock != nil {
		clock = clock.Merge(w.cfg.Clock()) // a rebuilt view may be behind what the log has claimed
	}
	o := w.log.Origin()
	for _, g := range batch {
		for i := range g.prepared {
			p := &g.prepared[i]
			h := p.header
			h.Site, h.Epoch, h.Kind, h.Position = o.Site, o.Epoch, o.Kind, w.size+uint64(len(records))+1
			h.HLC, h.Wall = w.cfg.Ticker.Next(), wall
			if w.cfg.Clock != nil {
				var err error
				if h.Clock, err = w.coder.Delta(clock); err != nil {
					return nil, nil, fmt.Errorf("%w: %w", ErrBadAppend, err)
				}
			}
			raw, err := events.EncodeHeader(&h)
			if err != nil {
				return nil, nil, fmt.Errorf("%w: %w", ErrBadAppend, err)
			}
			entry := events.Entry{Header: raw, Payload: p.payload}
			records, entries = append(records, events.Record{Header: h, Raw: entry}), append(entries, entry)
		}
	}
	return records, entries, nil
}

// Close waits until everything that was handed over is answered and ends the
// writer. Later drafts are refused with [ErrClosed]. The log stays open.
func (w *Writer) Close() error {
	w.mu.Lock()
	if errors.Is(w.err, errWriterClosed) {
		w.mu.Unlock()
		return nil
	}
	cause := w.err
	w.err = errWriterClosed
	var idle chan struct{}
	if w.leading {
		idle = make(chan struct{})
		w.idle = idle
	}
	w.shrunk()
	w.mu.Unlock()
	if idle != nil {
		<-idle
	}
	close(w.wake)
	w.worker.Wait()
	return cause
}

var errWriterClosed = fmt.Errorf("writer was closed: %w", ErrClosed)

func (w *Writer) wrap(err error) error {
	return fmt.Errorf("append to log %s: %w", w.log.Origin(), err)
}

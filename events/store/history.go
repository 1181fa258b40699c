package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
)

// HistoryConfig is what a [History] needs.
type HistoryConfig struct {
	Dir       string // of this kind of log, made when missing: DATA/log/KIND
	Site      events.SiteID
	Kind      events.Kind
	Engine    Engine
	Writer    WriterConfig
	HeadEvery time.Duration // shortest time between heads; one second unless set
	Rand      io.Reader     // for log keys; crypto/rand unless set
	// Known is the newest epoch that is known to have been begun, from a place
	// other than Dir. A history without it was lost, not new, and is refused: its
	// positions must not be given out again.
	Known uint32
	// First is the number of the first epoch, 1 unless set, where Dir holds none;
	// After is what its first record says that it follows.
	First uint32
	After Followed
	// Aside are epochs that stand elsewhere: the first one here may follow them.
	Aside []uint32
}

// Followed is the end of an epoch, as far as it was known when the one after it
// began.
type Followed struct {
	Epoch uint32
	Size  uint64
	Root  []byte
}

// History is one kind of log of this site over all its epochs, in directories
// named by epoch. The newest epoch is written to; the others are sealed.
type History struct {
	cfg    HistoryConfig
	epochs []*epoch // the oldest first, at least one
	writer *Writer
	heads  *HeadKeeper
}

// epoch is one open log with what stands beside it.
type epoch struct {
	Opened
	origin events.Origin
	dir    string
	key    *evidence.Key
	head   evidence.Head // size 0 for none
}

// OpenHistory opens the logs of a site, or makes the first one. When the
// newest epoch is sealed, it begins another one: its first record is
// log.opened, which ties it to the epoch before; log.tail_dropped follows
// where recovery had to drop a tail.
func OpenHistory(ctx context.Context, cfg HistoryConfig) (*History, error) {
	if cfg.HeadEvery <= 0 {
		cfg.HeadEvery = time.Second
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	h := &History{cfg: cfg}
	if err := h.open(ctx); err != nil {
		if h.writer != nil {
			err = errors.Join(err, h.writer.Close())
		}
		return nil, errors.Join(err, h.closeLogs())
	}
	return h, nil
}

func (h *History) open(ctx context.Context) error {
	epochs, err := epochDirs(h.cfg.Dir)
	if err != nil {
		return err
	}
	for _, n := range epochs {
		if err := h.openEpoch(n); err != nil {
			return err
		}
	}
	if err := h.checkOrder(ctx); err != nil {
		return err
	}
	if err := h.checkKnown(); err != nil {
		return err
	}
	if len(epochs) == 0 {
		err = h.makeEpoch(max(h.cfg.First, 1))
	} else if h.newest().Sealed {
		err = h.makeEpoch(h.newest().origin.Epoch + 1)
	}
	if err != nil {
		return err
	}
	if err := h.resume(ctx); err != nil {
		return err
	}
	e := h.newest()
	if h.writer, err = NewWriter(e.Log, h.cfg.Writer); err != nil {
		return err
	}
	if size, _ := e.Log.Size(); size == 0 {
		if err := h.begin(ctx); err != nil {
			return err
		}
	}
	h.heads = KeepHeads(e.Log, e.key, headPath(e.dir), e.head, h.cfg.HeadEvery)
	return nil
}

// checkOrder refuses epochs that don't follow each other: each but the first says
// which one it follows, and that one is sealed.
func (h *History) checkOrder(ctx context.Context) error {
	for i, e := range h.epochs {
		if i+1 < len(h.epochs) && !e.Sealed {
			return fmt.Errorf("log %s is not sealed, yet epoch %d follows; restore %s from a backup", e.origin, h.epochs[i+1].origin.Epoch, e.dir)
		}
		for entry, err := range e.Log.Read(ctx, 1) {
			var r events.Record
			if err == nil {
				r, err = events.DecodeEntry(entry)
			}
			if err != nil {
				break // whoever needs the record will say so
			}
			before := h.cfg.Aside
			if i > 0 {
				before = []uint32{h.epochs[i-1].origin.Epoch}
			}
			if opened, err := r.Event(); err == nil {
				if o, ok := opened.(events.LogOpened); ok && (o.Previous > 0 || i > 0) && !slices.Contains(before, o.Previous) {
					return fmt.Errorf("epoch %d is missing in %s although epoch %d, which follows it, is there; restore it from a backup", o.Previous, h.cfg.Dir, e.origin.Epoch)
				}
			}
			break
		}
	}
	return nil
}

// checkKnown refuses a history that lost an epoch, or all that one held.
func (h *History) checkKnown() error {
	newest := uint32(0)
	for _, e := range h.epochs {
		newest = e.origin.Epoch
		if size, _ := e.Log.Size(); size == 0 && newest <= h.cfg.Known {
			return fmt.Errorf("log %s is empty and was not; restore %s from a replica or a backup", e.origin, e.dir)
		}
	}
	if newest < h.cfg.Known {
		return fmt.Errorf("%s holds the %s log up to epoch %d, and epoch %d was begun; restore it from a replica or a backup, nothing was changed",
			h.cfg.Dir, h.cfg.Kind, newest, h.cfg.Known)
	}
	return nil
}

// makeEpoch makes the directory of a new epoch and opens its log.
func (h *History) makeEpoch(n uint32) error {
	if err := makeEpochDir(h.cfg.Dir, h.origin(n), h.cfg.Rand); err != nil {
		return err
	}
	return h.openEpoch(n)
}

func (h *History) origin(n uint32) events.Origin {
	return events.Origin{Site: h.cfg.Site, Epoch: n, Kind: h.cfg.Kind}
}

// openEpoch opens the log of one epoch, and holds its newest signed head
// against it. A sealed log gets a head that covers all of it.
func (h *History) openEpoch(n uint32) error {
	e := &epoch{origin: h.origin(n), dir: epochDir(h.cfg.Dir, n)}
	var err error
	if e.key, err = evidence.LoadKey(keyPath(e.dir), e.origin); err != nil {
		return fmt.Errorf("open log %s: %w", e.origin, err)
	}
	if e.head, err = loadHead(e.dir, e.key.Public()); err != nil {
		return fmt.Errorf("open log %s: %w", e.origin, err)
	}
	if e.Opened, err = h.cfg.Engine.Open(e.dir, e.origin, e.head.Size); err != nil {
		return err
	}
	h.epochs = append(h.epochs, e)
	size, root := e.Log.Size()
	if size == e.head.Size && size > 0 && root != e.head.Root {
		return fmt.Errorf("open log %s: %w: at %d its root is %s, the signed head says %s",
			e.origin, evidence.ErrInconsistent, size, root, e.head.Root)
	}
	if e.Sealed && size > e.head.Size {
		if e.head, err = e.key.Sign(size, root); err != nil {
			return err
		}
		return e.head.Save(headPath(e.dir))
	}
	return nil
}

// resume carries the HLC over from the epochs before.
func (h *History) resume(ctx context.Context) error {
	for _, e := range h.epochs[:len(h.epochs)-1] {
		size, _ := e.Log.Size()
		for entry, err := range e.Log.Headers(ctx, max(size, 1)) {
			if err != nil {
				return err
			}
			header, err := events.DecodeHeader(entry.Header)
			if err != nil {
				return fmt.Errorf("log %s position %d: %w", e.origin, size, err)
			}
			h.cfg.Writer.Ticker.Resume(header.HLC)
		}
	}
	return nil
}

// begin writes the first records of the newest epoch, in one commit.
func (h *History) begin(ctx context.Context) error {
	e := h.newest()
	opened := events.LogOpened{Key: e.key.Public(), Previous: h.cfg.After.Epoch, Size: h.cfg.After.Size, Root: h.cfg.After.Root}
	var dropped []events.Event
	if n := len(h.epochs); n > 1 {
		before := h.epochs[n-2]
		size, root := before.Log.Size()
		opened.Previous, opened.Size, opened.Root = before.origin.Epoch, size, root[:]
		if t := before.Tail; t != nil {
			dropped = append(dropped, events.LogTailDropped{
				Epoch: before.origin.Epoch, Size: t.Size, Root: t.Root[:], File: t.File, Offset: t.Offset, Dropped: t.Dropped,
			})
		}
	}
	facts := append([]events.Event{opened}, dropped...)
	drafts := make([]events.Draft, len(facts))
	for i, fact := range facts {
		var err error
		if drafts[i], err = events.NewDraft(h.cfg.Site.UUID, events.SiteActor(h.cfg.Site), "", fact); err != nil {
			return err
		}
	}
	_, err := h.writer.Append(WithHeadroom(ctx), drafts...)
	return err
}

func (h *History) newest() *epoch { return h.epochs[len(h.epochs)-1] }

// Writer is the writer of the newest epoch.
func (h *History) Writer() *Writer { return h.writer }

// Log is the newest epoch.
func (h *History) Log() Log { return h.newest().Log }

// Logs are all epochs, the oldest first.
func (h *History) Logs() []Log {
	logs := make([]Log, len(h.epochs))
	for i, e := range h.epochs {
		logs[i] = e.Log
	}
	return logs
}

// Heads keeps the heads of the newest epoch.
func (h *History) Heads() *HeadKeeper { return h.heads }

// TailDropped tells what recovery cut off when the history was opened, or
// earlier, before the newest epoch began; nil for nothing.
func (h *History) TailDropped() *TailDropped {
	if n := len(h.epochs); n > 1 {
		return h.epochs[n-2].Tail
	}
	return nil
}

// Located is an entry with its place.
type Located struct {
	Origin   events.Origin
	Position uint64
	Entry    events.Entry
}

// Read yields what a checkpoint does not cover, epoch after epoch, to the
// durable end. Components of other logs in the checkpoint don't matter.
func (h *History) Read(ctx context.Context, after events.Clock) iter.Seq2[Located, error] {
	return h.each(after, func(log Log, from uint64) iter.Seq2[events.Entry, error] { return log.Read(ctx, from) })
}

// Headers is Read without the payloads.
func (h *History) Headers(ctx context.Context, after events.Clock) iter.Seq2[Located, error] {
	return h.each(after, func(log Log, from uint64) iter.Seq2[events.Entry, error] { return log.Headers(ctx, from) })
}

func (h *History) each(after events.Clock, read func(Log, uint64) iter.Seq2[events.Entry, error]) iter.Seq2[Located, error] {
	return func(yield func(Located, error) bool) {
		for _, e := range h.epochs {
			at := Located{Origin: e.origin, Position: after.At(e.origin)}
			if size, _ := e.Log.Size(); at.Position > size {
				yield(at, fmt.Errorf("checkpoint covers %d records of log %s, which has %d: it belongs to another copy of this log", at.Position, e.origin, size))
				return
			}
			for entry, err := range read(e.Log, at.Position+1) {
				at.Position++
				at.Entry = entry
				if !yield(at, err) || err != nil {
					return
				}
			}
		}
	}
}

// Close waits for what was handed to the writer, signs a last head and closes
// the logs.
func (h *History) Close() error {
	err := h.writer.Close()
	return errors.Join(err, h.heads.Close(), h.closeLogs())
}

func (h *History) closeLogs() error {
	var errs []error
	for _, e := range h.epochs {
		errs = append(errs, e.Log.Close())
	}
	return errors.Join(errs...)
}

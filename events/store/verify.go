package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
)

// maxProblems bounds how many problems of one epoch are reported.
const maxProblems = 20

// VerifyReport is what [Verify] found.
type VerifyReport struct {
	Kind   events.Kind
	Epochs []EpochReport
}

// EpochReport is what [Verify] found in one epoch.
type EpochReport struct {
	Origin   events.Origin
	Records  uint64
	Bytes    uint64        // of headers and payloads that are here
	Absent   uint64        // payloads that are not held here
	Root     events.Hash   // over the records
	Head     evidence.Head // the newest signed head; size 0 when there is none
	End      End
	Problems []error // empty when everything fits
}

// Err joins all problems; nil means that everything fits.
func (r *VerifyReport) Err() error {
	var errs []error
	for _, e := range r.Epochs {
		errs = append(errs, e.Problems...)
	}
	return errors.Join(errs...)
}

// Verify checks a log of one kind over all epochs in a directory (that
// [OpenHistory] wrote, or a copy) and changes nothing: every check value of
// every commit, the chain of sizes and roots, every header (canonical form,
// origin, gap-free positions, growing HLC, clock), every payload against its
// header, the signed heads, and that each epoch begins where the one before
// was sealed. The key of a head is the one that the log names in its first
// record. The error is for what could not be checked at all; what was found
// is in the report.
//
// Nobody may be writing to the log meanwhile; [History.Verify] is for that.
//
// The first epoch may follow one of those in aside: epochs that were set aside
// (see [VerifyAside]).
func Verify(ctx context.Context, engine Engine, dir string, kind events.Kind, aside ...EpochReport) (*VerifyReport, error) {
	v := verifier{ctx: ctx, engine: engine, aside: aside}
	return v.all(dir, kind)
}

// VerifyAside is [Verify] for epochs that were set aside when their disk was in
// doubt: none of them is sealed, nor need they follow each other.
func VerifyAside(ctx context.Context, engine Engine, dir string, kind events.Kind) (*VerifyReport, error) {
	v := verifier{ctx: ctx, engine: engine, apart: true}
	return v.all(dir, kind)
}

// Verify is the function [Verify] for a log that is in use: it checks the
// records that were durable when it came to the newest epoch.
func (h *History) Verify(ctx context.Context, aside ...EpochReport) (*VerifyReport, error) {
	v := verifier{ctx: ctx, engine: h.cfg.Engine, site: h.cfg.Site, aside: aside, size: func() uint64 {
		size, _ := h.Log().Size()
		return size
	}}
	return v.all(h.cfg.Dir, h.cfg.Kind)
}

// all checks every epoch in a directory.
func (v *verifier) all(dir string, kind events.Kind) (*VerifyReport, error) {
	epochs, err := Epochs(dir)
	if err != nil {
		return nil, err
	}
	report := &VerifyReport{Kind: kind}
	if len(epochs) == 0 {
		return report, fmt.Errorf("there is no log in %s", dir)
	}
	for i, n := range epochs {
		v.epoch(epochDir(dir, n), events.Origin{Site: v.site, Epoch: n, Kind: kind}, i+1 == len(epochs))
		report.Epochs = append(report.Epochs, v.report)
		if err := v.ctx.Err(); err != nil {
			return report, err
		}
	}
	return report, nil
}

// verifier carries what one epoch hands to the next, and the state within one.
type verifier struct {
	ctx    context.Context
	engine Engine
	site   events.SiteID // zero until a record has named it
	size   func() uint64 // of the newest epoch while it is written to; nil when it is not
	apart  bool          // epochs that were set aside
	aside  []EpochReport // those, where the first epoch may follow one
	hlc    events.HLC
	before *EpochReport

	report EpochReport
	tree   evidence.Tree
	coder  events.ClockCoder
	head   []byte // the signed note beside the log, nil for none
	key    string // verifier key, from log.opened
	where  Frame  // the commit being checked
}

// problem takes note of what does not fit.
func (v *verifier) problem(position uint64, format string, args ...any) {
	v.add(&DamageError{
		Origin: v.report.Origin, Position: position, File: v.where.File, Offset: v.where.Offset,
		What: fmt.Sprintf(format, args...),
	})
}

func (v *verifier) add(err error) {
	if len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, err)
	}
}

// epoch checks one epoch into report.
func (v *verifier) epoch(dir string, origin events.Origin, last bool) {
	if v.report.Origin.Epoch > 0 {
		before := v.report
		v.before = &before
	}
	v.report, v.tree, v.coder, v.key = EpochReport{Origin: origin}, evidence.Tree{}, events.ClockCoder{}, ""
	v.where = Frame{}
	if v.apart {
		v.hlc = 0
	}
	var err error
	if v.head, err = evidence.ReadHeadFile(headPath(dir)); err != nil { // before the records: they may grow meanwhile
		v.add(err)
	}
	complete, limit := false, uint64(0)
	if last && v.size != nil {
		limit = v.size() // after the head was read: it covers no more than this
	}
	for f, err := range v.engine.Frames(v.ctx, dir, origin) {
		if err != nil {
			v.add(err)
		}
		if f.End != nil {
			complete = true
			v.report.End = *f.End
		} else if f.Entries != nil {
			v.frame(f, err != nil)
		}
		if limit > 0 && v.tree.Size() >= limit {
			complete = true
			break
		}
	}
	v.report.Root = v.tree.Root()
	if complete {
		v.end(last)
	}
}

// frame checks one commit. damaged says that a payload in it was reported
// already.
func (v *verifier) frame(f Frame, damaged bool) {
	v.where = f
	if f.First != v.tree.Size()+1 || f.Root != v.tree.Root() {
		v.problem(f.First, "the commit says that %d records with root %s come before it; they are %d with root %s",
			f.First-1, f.Root, v.tree.Size(), v.tree.Root())
	}
	for _, e := range f.Entries {
		v.tree.Append(evidence.LeafHash(e.Header))
		v.record(e, damaged)
		if v.report.Head.Size == v.tree.Size() && v.head != nil {
			v.checkHead()
		}
	}
}

// record checks one record.
func (v *verifier) record(e events.Entry, damaged bool) {
	position := v.tree.Size()
	v.report.Records = position
	v.report.Bytes += uint64(len(e.Header) + len(e.Payload))
	r, err := events.DecodeEntry(e)
	if err != nil {
		v.problem(position, "%v", err)
		return
	}
	h := &r.Header
	if v.site.IsZero() {
		v.site = h.Site
	}
	v.report.Origin.Site = v.site
	if h.Origin() != v.report.Origin || h.Position != position {
		v.problem(position, "the record says that it is position %d of log %s", h.Position, h.Origin())
	}
	if h.HLC <= v.hlc {
		v.problem(position, "hybrid clock %d does not follow %d", h.HLC, v.hlc)
	}
	v.hlc = max(v.hlc, h.HLC)
	if h.Kind == events.Ctl {
		if _, err := v.coder.Apply(h.Clock); err != nil {
			v.problem(position, "%v", err)
		}
	} else if len(h.Clock) > 0 {
		v.problem(position, "a %s record carries a clock", h.Kind)
	}
	if e.Payload == nil && !damaged {
		v.report.Absent++
	}
	if position <= 2 {
		v.opening(&r)
	}
}

// opening checks the first two records, which tie the epoch to the one before.
func (v *verifier) opening(r *events.Record) {
	want := openedAfter(v.before)
	e, err := r.Event()
	switch e := e.(type) {
	case events.LogOpened:
		if v.key = e.Key; r.Header.Position != 1 || !v.followsAside(&e) && (e.Previous != want.Previous || e.Size != want.Size || !bytes.Equal(e.Root, want.Root)) {
			v.problem(r.Header.Position, "log.opened follows epoch %d with %d records and root %x; before it is epoch %d with %d and %x",
				e.Previous, e.Size, e.Root, want.Previous, want.Size, want.Root)
		}
		v.openHead()
	case events.LogTailDropped:
		if t := v.tailBefore(); t == nil || e.Size != t.Size || !bytes.Equal(e.Root, t.Root[:]) || e.Offset != t.Offset || e.Dropped != t.Dropped {
			v.problem(r.Header.Position, "log.tail_dropped does not tell what the epoch before says")
		}
	default:
		if r.Header.Position == 1 {
			v.problem(1, "the first record is %s (%v), not log.opened", r.Header.Type, err)
		} else if v.tailBefore() != nil {
			v.problem(2, "the epoch before lost a tail, and log.tail_dropped is missing")
		}
	}
}

// followsAside reports whether an epoch follows one that was set aside, which may
// have got back more since.
func (v *verifier) followsAside(e *events.LogOpened) bool {
	return v.apart || v.before == nil && slices.ContainsFunc(v.aside, func(a EpochReport) bool {
		return a.Origin.Epoch == e.Previous && a.Records >= e.Size
	})
}

func (v *verifier) tailBefore() *TailDropped {
	if v.before == nil || v.apart {
		return nil
	}
	return v.before.End.Tail
}

// openedAfter gives the fields of log.opened that tie an epoch to the one
// before it; nil stands for none.
func openedAfter(before *EpochReport) events.LogOpened {
	if before == nil {
		return events.LogOpened{}
	}
	return events.LogOpened{Previous: before.Origin.Epoch, Size: before.Records, Root: before.Root[:]}
}

// openHead verifies the signed head with the key that the log names.
func (v *verifier) openHead() {
	if v.head == nil {
		return
	}
	head, err := evidence.OpenHead(v.head, v.key)
	if err == nil && head.Origin != v.report.Origin {
		err = fmt.Errorf("%w: it is of log %s", evidence.ErrBadHead, head.Origin)
	}
	if err != nil {
		v.add(fmt.Errorf("head of log %s: %w", v.report.Origin, err))
		v.head = nil
		return
	}
	v.report.Head = head
}

func (v *verifier) checkHead() {
	if err := v.report.Head.Check(&v.tree); err != nil {
		v.add(err)
	}
}

// end checks how the epoch ends.
func (v *verifier) end(last bool) {
	end := v.report.End
	if size := v.report.Head.Size; size > v.report.Records {
		if end.Doubt != nil {
			v.add(end.Doubt)
		}
		v.problem(v.report.Records+1, "the signed head covers %d records, only %d are here", size, v.report.Records)
	}
	if !last && !end.Sealed && !v.apart {
		v.problem(v.report.Records, "the log is not sealed, yet another epoch follows")
	}
	if v.report.Records == 0 && !last && end.Tail == nil {
		v.problem(1, "the epoch is empty")
	}
}

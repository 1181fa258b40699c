package site

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/applylog"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/segment"
)

// others are the logs of other sites that are held here, in directories named
// by site, kind and epoch.
type others struct {
	mu    sync.Mutex // guards what follows
	logs  map[events.Origin]store.Log
	held  map[events.Origin]error // logs whose next record can't be used, and why
	moved chan struct{}           // closed and renewed when one was added or has grown

	// Of who delivers alone:
	past map[events.Origin]bool // logs of which the past is still coming in
	late *late                  // nil for nothing
	told time.Time              // when something late was last recorded
}

func newOthers() *others {
	return &others{logs: map[events.Origin]store.Log{}, held: map[events.Origin]error{}, moved: make(chan struct{}), past: map[events.Origin]bool{}}
}

// otherEngine keeps copies of logs that are written elsewhere.
var otherEngine = segment.Engine{Options: segment.Options{SegmentSize: 8 << 20, Reserve: 64 << 10, Replica: true}}

// openOthers opens the logs of other sites that earlier runs held.
func (s *Site) openOthers() error {
	sites, err := os.ReadDir(s.data.others())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the logs of other sites: %w", err)
	}
	for _, site := range sites {
		id, err := uuid.Parse(site.Name())
		if err != nil {
			return fmt.Errorf("%s is not named after a site; move it away", filepath.Join(s.data.others(), site.Name()))
		}
		for _, kind := range []events.Kind{events.Ctl, events.Rec} {
			epochs, err := os.ReadDir(filepath.Join(s.data.others(), site.Name(), string(kind)))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("list the logs of site %s: %w", id, err)
			}
			for _, epoch := range epochs {
				n, err := strconv.ParseUint(epoch.Name(), 10, 32)
				if err != nil || n == 0 {
					return fmt.Errorf("%q in the %s logs of site %s is not named after an epoch; move it away", epoch.Name(), kind, id)
				}
				if _, err := s.Other(events.Origin{Site: events.SiteID{UUID: id}, Epoch: uint32(n), Kind: kind}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Other is the log of another site as it is held here, or one of this site that it
// does not go on with; it is made when there is none. The caller appends to it
// exactly what its site wrote, verified, and then calls [Site.Grew].
func (s *Site) Other(o events.Origin) (store.Log, error) {
	for _, h := range s.Histories() {
		for _, log := range h.Logs() {
			if log.Origin() == o {
				return nil, fmt.Errorf("log %s is this site's own", o)
			}
		}
	}
	s.others.mu.Lock()
	defer s.others.mu.Unlock()
	if log := s.others.logs[o]; log != nil {
		return log, nil
	}
	dir := s.data.other(o)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of log %s: %w", o, err)
	}
	opened, err := otherEngine.Open(dir, o, 0)
	if err != nil {
		return nil, err
	}
	log := opened.Log
	if o.Kind == events.Rec {
		if log, err = openFilled(log, s.data.filled(o), s.log); err != nil {
			return nil, errors.Join(err, opened.Log.Close())
		}
	}
	s.others.logs[o] = log
	s.source.Add(log)
	return log, nil
}

// Grew says that another site's log holds more. Its decisions take effect here
// once everything that they knew of has.
func (s *Site) Grew(o events.Origin) {
	if o.Kind == events.Rec {
		s.source.Grew(o.Kind)
		return
	}
	s.others.mu.Lock()
	defer s.others.mu.Unlock()
	close(s.others.moved)
	s.others.moved = make(chan struct{})
}

// OtherLogs are the logs of other sites that are held here, in the order of
// their origins.
func (s *Site) OtherLogs() []store.Log { logs, _ := s.others.list(); return logs }

// Held are logs of other sites that nothing more is taken from, and why: what
// comes next in them is damaged or breaks the rules of a log.
func (s *Site) Held() map[events.Origin]error {
	s.others.mu.Lock()
	defer s.others.mu.Unlock()
	held := map[events.Origin]error{}
	for o, why := range s.others.held {
		held[o] = why
	}
	return held
}

// list gives the logs in the order of their origins, with a channel that is
// closed once there is more.
func (o *others) list() ([]store.Log, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var logs []store.Log
	for _, log := range o.logs {
		logs = append(logs, log)
	}
	slices.SortFunc(logs, func(a, b store.Log) int { return a.Origin().Compare(b.Origin()) })
	return logs, o.moved
}

func (o *others) close() error {
	logs, _ := o.list()
	var errs []error
	for _, log := range logs {
		errs = append(errs, log.Close())
	}
	return errors.Join(errs...)
}

// deliverOthers applies what other sites decided as it comes in, until ctx
// ends.
func (s *Site) deliverOthers(ctx context.Context) error {
	for ctx.Err() == nil {
		logs, moved := s.others.list()
		progress := false
		var again <-chan time.Time
		for _, log := range logs {
			if log.Origin().Kind != events.Ctl {
				continue
			}
			n, err := s.deliver(ctx, log)
			if errors.Is(err, applylog.ErrFull) {
				again = time.After(spaceCheck)
				continue
			}
			if err != nil {
				return err
			}
			progress = progress || n > 0
		}
		if progress {
			continue
		}
		if rest := s.tellRevised(ctx); rest > 0 && again == nil {
			again = time.After(rest)
		}
		select {
		case <-moved:
		case <-again:
		case <-ctx.Done():
		}
	}
	return nil
}

// Bounds of the records that take effect at once: they are in memory meanwhile, and a
// member may write large ones.
const (
	deliverBatch = 1000
	deliverBytes = 8 << 20
)

// deliver applies the next records of one log, as far as all that they knew of
// was applied, and returns their number. A record that can't be used holds its
// log and no other; an error means that this site can decide nothing more, but for
// [applylog.ErrFull]: nothing was applied.
func (s *Site) deliver(ctx context.Context, log store.Log) (int, error) {
	at, _ := s.commands.Applied(log.Origin())
	size, _ := log.Size()
	if at >= size {
		return 0, nil
	}
	if err := s.order.Room(); err != nil { // it waits, and nothing else does
		s.hold(log.Origin(), err)
		return 0, err
	}
	if s.waits(ctx, log, at+1) {
		s.hold(log.Origin(), nil)
		return 0, nil
	}
	batch, bad := readBatch(ctx, log, at+1, min(size-at, deliverBatch))
	for _, r := range batch {
		s.meetClock(&r.Header)
	}
	before := s.order.Clock()
	n, err := s.commands.Deliver(ctx, batch)
	if n > 0 {
		s.alarmMasked(ctx)
	}
	for _, r := range batch[:n] {
		if s.gateway != nil {
			s.gateway.OnEvent(r)
		}
		if s.rotations != nil {
			s.rotations.OnEvent(r)
		}
	}
	s.revised(before, at == 0, at+uint64(n) == size, batch[:n])
	switch {
	case ctx.Err() != nil:
		return n, nil
	case err == nil:
		s.hold(log.Origin(), bad)
	case errors.Is(err, aggregate.ErrEarly):
		s.hold(log.Origin(), nil)
	case errors.As(err, new(*commands.Refusal)):
		return n, err
	default:
		s.hold(log.Origin(), err)
	}
	return n, nil
}

// waits reports whether the next record of a log waits for another log. It looks at
// nothing but its header: what waits may be much, and is looked at whenever any log has
// grown.
func (s *Site) waits(ctx context.Context, log store.Log, position uint64) (waits bool) {
	for e, err := range log.Headers(ctx, position) {
		if err != nil {
			return false // who reads the record tells
		}
		h, err := events.DecodeHeader(e.Header)
		if err == nil {
			s.commands.View(func(state *aggregate.State) { _, waits = state.Waits(&h) })
		}
		break
	}
	return waits
}

const (
	// lateAfter is how old a decision is that came too late for what was shown
	// here meanwhile.
	lateAfter = 5 * time.Second
	// maxRevised bounds the aggregates that are named.
	maxRevised = 100
	// revisedEvery is the shortest time between two records of what came late: the
	// clock of a member that is behind has everything of it come late.
	revisedEvery = 10 * time.Second
)

// untold are types of events that nothing is shown of but that they happened.
var untold = map[string]bool{"projection.revised": true, "mesh.masked": true, "mesh.present": true}

// late is what came late and was not recorded yet.
type late struct {
	events.ProjectionRevised
	about map[uuid.UUID]bool
}

// revised notes which records of another site came late. The past of a log that
// was not here at all, up to its end, is news and no revision.
func (s *Site) revised(before events.Clock, first, end bool, batch []events.Record) {
	if len(batch) == 0 {
		return
	}
	origin, now := batch[0].Header.Origin(), WallClock()
	if first {
		s.others.past[origin] = true
	}
	past := s.others.past[origin]
	if end {
		delete(s.others.past, origin)
	}
	if past {
		return
	}
	for _, r := range batch {
		h := &r.Header
		if untold[h.Type] || now.Sub(h.Time()) < lateAfter {
			continue
		}
		l := s.others.late
		if l == nil {
			l = &late{about: map[uuid.UUID]bool{}}
			l.From, s.others.late = before.Entries(), l
		}
		if l.Records++; l.Records == 1 || h.Time().Before(l.Since) {
			l.Since, l.Because = h.Time(), h.ID
		}
		if !l.about[h.Stream] && len(l.about) < maxRevised {
			l.about[h.Stream] = true
			l.Aggregates = append(l.Aggregates, h.Stream)
		}
	}
}

// tellRevised records what came late, once nothing more comes for the moment. It gives
// the time after which it is to be called again, 0 for none.
func (s *Site) tellRevised(ctx context.Context) time.Duration {
	l := s.others.late
	if l == nil {
		return 0
	}
	if rest := time.Until(s.others.told.Add(revisedEvery)); rest > 0 {
		return rest
	}
	s.others.told = time.Now()
	s.others.late = nil
	l.To = s.order.Clock().Entries()
	if _, err := s.commands.Do(ctx, s.actor(), commands.RecordRevision{Revised: l.ProjectionRevised}); err != nil && ctx.Err() == nil {
		s.log.Error("that what was shown here has changed could not be recorded", "error", err)
	}
	return 0
}

// alarmMasked records what members decided beyond what they may, if there is
// something new about it.
func (s *Site) alarmMasked(ctx context.Context) {
	anything := false
	s.commands.View(func(state *aggregate.State) {
		anything = slices.ContainsFunc(state.Masked(), func(m *aggregate.Masked) bool { return m.Beyond && m.Site != s.who.ID })
	})
	if anything {
		s.alarm(ctx, commands.RecordMasked{})
	}
}

// foreignEvery is how often it is looked for what members recorded of sessions that
// they do not run.
const foreignEvery = time.Minute

func (s *Site) lookForForeign(ctx context.Context) {
	var looked events.Clock
	for sleep(ctx, foreignEvery) == nil {
		if held := s.source.Held(events.Rec); !looked.Covers(held) {
			looked = held
			s.alarmForeign(ctx)
		}
	}
}

func (s *Site) alarmForeign(ctx context.Context) {
	found, err := s.views.Foreign(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Error("it can't be told whether members record sessions of others", "error", err)
		}
		return
	}
	var c commands.RecordMasked
	for _, f := range found {
		c.Foreign = append(c.Foreign, commands.Foreign{Site: f.Site, Count: f.Records, Last: f.Last, At: f.At})
	}
	if len(found) > 0 {
		s.alarm(ctx, c)
	}
}

func (s *Site) alarm(ctx context.Context, c commands.RecordMasked) {
	records, err := s.commands.Do(ctx, s.actor(), c)
	if err != nil && ctx.Err() == nil {
		s.log.Error("that a member decides more than it may could not be recorded", "error", err)
	}
	for _, r := range records {
		s.log.Error("a member of the mesh goes beyond what it may; it has no effect", "event", r.Header.ID.String())
	}
}

func readBatch(ctx context.Context, log store.Log, from, most uint64) ([]events.Record, error) {
	var batch []events.Record
	size := 0
	for entry, err := range log.Read(ctx, from) {
		var r events.Record
		if err == nil {
			r, err = events.DecodeEntry(entry)
		}
		if err != nil {
			return batch, err
		}
		batch, size = append(batch, r), size+len(entry.Header)+len(entry.Payload)
		if uint64(len(batch)) == most || size >= deliverBytes {
			break
		}
	}
	return batch, nil
}

// hold notes why nothing more is taken from a log; nil for nothing.
func (s *Site) hold(o events.Origin, why error) {
	s.others.mu.Lock()
	defer s.others.mu.Unlock()
	if why == nil {
		delete(s.others.held, o)
		return
	}
	if s.others.held[o] == nil {
		s.log.Error("a log of another site is held: nothing more is taken from it", "log", o.String(), "error", why)
	}
	s.others.held[o] = why
}

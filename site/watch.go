package site

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/gateway"
	"github.com/holdfast-pam/holdfast/projections"
	"github.com/holdfast-pam/holdfast/replay"
)

// watchPause is the least time between two readings of the log for one watcher: what a busy site commits meanwhile is
// one reading.
const watchPause = 20 * time.Millisecond

// readOver is how many records of others are read between two of a session, rather than begin to read anew.
const readOver = 8

// Watch gives what the log holds of a running session and goes on with what is added as it becomes durable, until the
// session has ended. caughtUp is called, by whoever draws from the source, each time that all there is was given; its
// error ends the source, as does ctx.
//
// A watcher is a reader of the log and nothing else. Nobody waits for it: while it is slow or stopped, the log holds
// what it has not read. It needs an unsealed site.
func (s *Site) Watch(ctx context.Context, id events.SessionID, caughtUp func() error) replay.Source {
	return s.items(ctx, func(yield func(events.Record, error) bool) {
		w := watch{site: s, id: id}
		err := w.begin(ctx)
		for err == nil {
			for r, err := range s.records(ctx, id, w.extents) {
				if !yield(r, err) || err != nil {
					return
				}
			}
			if err = caughtUp(); err == nil && w.ended {
				return
			}
			if err == nil {
				err = w.next(ctx)
			}
		}
		yield(events.Record{}, err)
	})
}

// watch is how far one watcher has read.
type watch struct {
	site     *Site
	id       events.SessionID
	rec, ctl uint64               // positions through which the logs have been searched
	extents  []projections.Extent // of the rec log, found and not given yet
	ended    bool
}

// begin finds what has been recorded so far: what the views know of, and what
// the logs hold beyond that. A live session is in the newest epochs alone, since
// a site that starts ends what an earlier run left open.
func (w *watch) begin(ctx context.Context) error {
	s := w.site
	rec, ctl := s.rec.Log().Origin(), s.ctl.Log().Origin()
	w.rec, w.ctl = s.viewed("recordings", rec), s.viewed("sessions", ctl)
	session, err := s.views.Session(ctx, w.id)
	if err != nil {
		return err
	}
	w.ended = session.Ended != nil
	if w.extents, err = s.views.Extents(ctx, w.id, s.who.ID); err != nil {
		return err
	}
	if n := len(w.extents); n > 0 && w.extents[n-1].Origin == rec {
		w.rec = max(w.rec, w.extents[n-1].Last) // the view may have gone on meanwhile
	}
	return w.look(ctx)
}

// viewed is the position of a log up to which a projection has taken it in.
func (s *Site) viewed(projection string, log events.Origin) uint64 {
	for _, status := range s.views.Status() {
		if status.Name != projection {
			continue
		}
		for _, at := range status.Checkpoint {
			if at.Origin == log {
				return at.Position
			}
		}
	}
	return 0
}

// next waits until there is more of the session, or it has ended.
func (w *watch) next(ctx context.Context) error {
	for w.extents = nil; len(w.extents) == 0 && !w.ended; {
		if err := sleep(ctx, watchPause); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.site.rec.Log().Watch(w.rec):
		case <-w.site.ctl.Log().Watch(w.ctl):
		}
		if err := w.look(ctx); err != nil {
			return err
		}
	}
	return nil
}

// look searches what the logs hold that was not searched before. The end comes
// first: session.ended is written when all else of the session is durable.
func (w *watch) look(ctx context.Context) error {
	err := search(ctx, w.site.ctl.Log(), &w.ctl, func(_ uint64, h *events.Header) {
		w.ended = w.ended || h.Type == "session.ended" && h.Stream == w.id.UUID
	})
	if err != nil {
		return err
	}
	return search(ctx, w.site.rec.Log(), &w.rec, w.found)
}

// found notes a record of the session.
func (w *watch) found(at uint64, h *events.Header) {
	if h.Stream != w.id.UUID {
		return
	}
	origin := w.site.rec.Log().Origin()
	if n := len(w.extents); n > 0 && w.extents[n-1].Origin == origin && at-w.extents[n-1].Last <= readOver {
		w.extents[n-1].Last = at
		return
	}
	w.extents = append(w.extents, projections.Extent{Origin: origin, First: at, Last: at})
}

// search looks at the headers after a position of a log, and moves it to the durable end.
func search(ctx context.Context, log store.Log, through *uint64, look func(at uint64, h *events.Header)) error {
	for entry, err := range log.Headers(ctx, *through+1) {
		if err != nil {
			return err
		}
		h, err := events.DecodeHeader(entry.Header)
		if err != nil {
			return fmt.Errorf("log %s position %d: %w", log.Origin(), *through+1, err)
		}
		*through++
		look(*through, &h)
	}
	return nil
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Live lists the sessions that run at the site's gateway, as they are now.
func (s *Site) Live() []gateway.LiveSession {
	if s.gateway == nil {
		return nil
	}
	return s.gateway.Live()
}

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

// Watch gives what the log holds of a running session and goes on with what is added as it becomes durable, until the
// session has ended. caughtUp is called, by whoever draws from the source, each time that all there is was given; its
// error ends the source, as does ctx.
//
// A watcher is a reader of the log and nothing else. Nobody waits for it: while it is slow or stopped, the log holds
// what it has not read. It needs an unsealed site.
func (s *Site) Watch(ctx context.Context, id events.SessionID, caughtUp func() error) replay.Source {
	return s.items(ctx, id, func(yield func(events.Record, error) bool) {
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

// begin finds what has been recorded so far. A live session is in the newest epochs alone, since a site that starts
// ends what an earlier run left open.
func (w *watch) begin(ctx context.Context) (err error) {
	s := w.site
	w.rec, _ = s.rec.Log().Size()
	w.ctl, _ = s.ctl.Log().Size()
	if err := s.CaughtUp(ctx); err != nil {
		return err
	}
	session, err := s.views.Session(ctx, w.id)
	if err != nil {
		return err
	}
	w.ended = session.Ended != nil
	if w.extents, err = s.views.Extents(ctx, w.id); err != nil {
		return err
	}
	if n := len(w.extents); n > 0 && w.extents[n-1].Origin == s.rec.Log().Origin() {
		w.rec = max(w.rec, w.extents[n-1].Last) // the views may be ahead of the size taken before
	}
	return nil
}

// next waits until there is more of the session, or it has ended.
func (w *watch) next(ctx context.Context) error {
	rec, ctl := w.site.rec.Log(), w.site.ctl.Log()
	for w.extents = nil; len(w.extents) == 0 && !w.ended; {
		if err := sleep(ctx, watchPause); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-rec.Watch(w.rec):
		case <-ctl.Watch(w.ctl):
		}
		// The end first: session.ended is written when all else of the session is durable.
		err := search(ctx, ctl, &w.ctl, func(_ uint64, h *events.Header) {
			w.ended = w.ended || h.Type == "session.ended" && h.Stream == w.id.UUID
		})
		if err == nil {
			err = search(ctx, rec, &w.rec, w.found)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// found notes a record of the session. Others between two of its records are read over, so few are taken in.
func (w *watch) found(at uint64, h *events.Header) {
	if h.Stream != w.id.UUID {
		return
	}
	if n := len(w.extents); n > 0 && at-w.extents[n-1].Last <= 8 {
		w.extents[n-1].Last = at
		return
	}
	w.extents = append(w.extents, projections.Extent{Origin: w.site.rec.Log().Origin(), First: at, Last: at})
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

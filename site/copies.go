package site

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/mesh"
)

// A site keeps the recordings of the others that the number of copies gives it
// (see [aggregate.State.KeepersOf]), and of the rest the headers. What it is to
// keep and has no payloads of is fetched.

// keeps says whether this site keeps the payloads of a log.
func (s *Site) keeps(o events.Origin) bool {
	if o.Kind == events.Ctl || o.Site == s.who.ID {
		return true
	}
	if s.cfg.Mesh.Recordings != allRecordings {
		return false
	}
	kept := s.mesh.kept.Load()
	if kept == nil {
		return true
	}
	keep, known := (*kept)[o.Site]
	return keep || !known
}

// keptSites says of each member whether this site keeps its recordings.
func (s *Site) keptSites() map[events.SiteID]bool {
	kept := map[events.SiteID]bool{}
	s.commands.View(func(state *aggregate.State) {
		for _, m := range state.MeshSites() {
			kept[m.Site] = slices.Contains(state.KeepersOf(m.Site), s.who.ID)
		}
	})
	return kept
}

const (
	// fillAgain is how long after a try what has not come is tried again.
	fillAgain = 20 * time.Second
	// fillMost and fillBytes bound what is fetched at once.
	fillMost, fillBytes = 256, 4 << 20
)

// keepRecordings keeps what is copied here what the members and the number of
// copies say, until ctx ends.
func (s *Site) keepRecordings(ctx context.Context) {
	clean := 0 // passes without anything to fetch; what was on its way at a change comes before the second
	for ctx.Err() == nil {
		_, moved := s.commands.Applied(events.Origin{})
		s.tellKeeping(ctx)
		kept := s.keptSites()
		if last := s.mesh.kept.Swap(&kept); last == nil || !maps.Equal(*last, kept) {
			clean = 0
			if n := s.node(); n != nil {
				n.Reconsider()
			}
		}
		var again <-chan time.Time
		if clean < 2 {
			if s.fillAll(ctx) {
				clean++
			} else {
				clean = 0
			}
			again = time.After(fillAgain)
		}
		for waiting := true; waiting; {
			select {
			case <-moved:
				_, moved = s.commands.Applied(events.Origin{})
				waiting = maps.Equal(s.keptSites(), kept) // most decisions are about something else
			case <-again:
				waiting = false
			case <-ctx.Done():
				waiting = false
			}
		}
	}
}

// tellKeeping tells the others whether this site keeps recordings.
func (s *Site) tellKeeping(ctx context.Context) {
	alone := false
	s.commands.View(func(state *aggregate.State) { alone = state.Founder().IsZero() })
	if alone {
		return
	}
	if _, err := s.commands.Do(ctx, s.actor(), commands.NoteKeeping{Recordings: s.cfg.Mesh.Recordings == allRecordings}); err != nil && ctx.Err() == nil {
		s.log.Error("the other sites can't be told whether this one keeps recordings", "error", err)
	}
}

// fillAll fetches what is to be kept here and has not come, and reports whether
// nothing was missing.
func (s *Site) fillAll(ctx context.Context) bool {
	n := s.node()
	if n == nil {
		return true
	}
	whole := true
	for _, log := range s.OtherLogs() {
		f, ok := log.(*filled)
		if !ok || !s.keeps(log.Origin()) {
			continue
		}
		got, err := s.fillLog(ctx, n, f)
		if got > 0 {
			s.log.Info("recordings of another site were fetched", "log", log.Origin().String(), "records", got)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("recordings of another site have not all come; trying again", "log", log.Origin().String(), "error", err, "in", fillAgain.String())
		}
		whole = whole && err == nil && got == 0
	}
	return whole
}

// fillLog fetches what is absent in one log.
func (s *Site) fillLog(ctx context.Context, n *mesh.Node, f *filled) (got uint64, err error) {
	var missing error // the first of what nobody in reach has
	for next := uint64(1); ; {
		headers, err := f.gap(ctx, next)
		if err != nil || len(headers) == 0 {
			return got, errors.Join(missing, err)
		}
		payloads, err := n.FetchAll(ctx, headers)
		if ctx.Err() != nil {
			return got, ctx.Err()
		}
		if err != nil && missing == nil {
			missing = err
		}
		next = headers[len(headers)-1].Position + 1
		if len(payloads) == 0 {
			continue
		}
		if err := f.fill(headers[0].Position, payloads); err != nil {
			return got, err
		}
		got += uint64(len(payloads))
		if rate := s.cfg.Mesh.RecRate; rate > 0 {
			bytes := 0
			for _, p := range payloads {
				bytes += len(p)
			}
			select {
			case <-time.After(time.Duration(float64(bytes) / float64(rate) * float64(time.Second))):
			case <-ctx.Done():
			}
		}
	}
}

// gap finds the next records without payloads, from a position on: headers that
// follow each other, as many as are fetched at once.
func (f *filled) gap(ctx context.Context, from uint64) ([]events.Header, error) {
	first, count := uint64(0), uint64(0)
	for p, err := range f.Absent(ctx, from) {
		if err != nil {
			return nil, err
		}
		if count == 0 {
			first = p
		}
		if p != first+count {
			break
		}
		if count++; count == fillMost {
			break
		}
	}
	var headers []events.Header
	total := uint64(0)
	if count == 0 {
		return nil, nil
	}
	for e, err := range f.Headers(ctx, first) {
		var h events.Header
		if err == nil {
			h, err = events.DecodeHeader(e.Header)
		}
		if err != nil {
			return nil, err
		}
		if total += h.PayloadSize; len(headers) > 0 && total > fillBytes {
			break
		}
		if headers = append(headers, h); uint64(len(headers)) == count {
			break
		}
	}
	return headers, nil
}

package site

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
)

// WallClock is what every site of this process takes for the time of day. Only
// a test of clocks that jump puts another function here, before it opens a site.
var WallClock = time.Now

const (
	// clockCheck is how often the wall clock is held against the monotonic one.
	clockCheck = time.Second
	// clockJump is by how much they may part between two checks: time that is
	// slewed, as a well-kept clock is, never comes near it.
	clockJump = 2 * time.Second
)

// watchClock records when the clock is set while the site runs, and lets the
// gateway look again at what ends by the clock. Order never depends on it: the
// hybrid clock of the logs only grows.
func (s *Site) watchClock(ctx context.Context) {
	tick := time.NewTicker(clockCheck)
	defer tick.Stop()
	var jumps jumpMeter
	jumps.read(WallClock(), time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		by := jumps.read(WallClock(), time.Now())
		if by == 0 {
			continue
		}
		s.log.Warn("the clock of this machine was set", "by", by.String())
		cause := uuid.Nil
		records, err := s.commands.Do(ctx, s.actor(), commands.RecordClockJump{By: by})
		if err != nil {
			s.log.Error("that the clock was set could not be recorded", "error", err)
		} else if len(records) > 0 {
			cause = records[0].Header.ID
		}
		s.gateway.ClockSet(cause)
	}
}

// meetClock has what this site writes from now on sort after a record that it is
// about to know. What is further ahead than [events.MaxAhead] does not move this
// site's clock: it would spread to every site, for good.
func (s *Site) meetClock(h *events.Header) {
	if h.Origin() == s.ctl.Log().Origin() {
		return
	}
	if err := s.ticker.Observe(h.HLC); err != nil && s.aheads.isNew(h.Origin()) {
		s.log.Warn("a site's clock is far ahead of this one's; set the wrong one: what is decided here sorts before what was decided there",
			"site", h.Site.String(), "log", h.Origin().String(), "position", h.Position, "error", err)
	}
}

// aheads are the logs that a wrong clock was told of, each once.
type aheads struct {
	mu   sync.Mutex
	told map[events.Origin]bool // guarded by mu
}

func (a *aheads) isNew(o events.Origin) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told[o] {
		return false
	}
	if a.told == nil {
		a.told = map[events.Origin]bool{}
	}
	a.told[o] = true
	return true
}

// jumpMeter tells by how much a wall clock was set between two readings.
type jumpMeter struct{ wall, steady time.Time }

// read takes the time of the wall clock, and one with a monotonic reading, and
// gives by how much the first was set since the reading before; 0 for what is
// within [clockJump].
func (m *jumpMeter) read(wall, steady time.Time) (by time.Duration) {
	wall = wall.Round(0) // without its monotonic reading
	if !m.steady.IsZero() {
		by = wall.Sub(m.wall) - steady.Sub(m.steady)
	}
	m.wall, m.steady = wall, steady
	if by.Abs() < clockJump {
		return 0
	}
	return by
}

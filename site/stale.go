package site

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

const (
	// lookForNews is how often strict roles are looked after.
	lookForNews = time.Second
	// presentAtMost is the shortest time between two records that say that this
	// site is there.
	presentAtMost = 5 * time.Second
)

// news is when this site last had all that another one has, by what the links
// showed. The times hold the monotonic clock.
type news struct {
	mu sync.Mutex
	of map[events.SiteID]time.Time // guarded by mu
}

// silence is for how long a site was not heard on a link, with nothing missing.
func (s *Site) silence(site events.SiteID) time.Duration {
	if site == s.who.ID {
		return 0
	}
	s.news.mu.Lock()
	defer s.news.mu.Unlock()
	at, heard := s.news.of[site]
	if !heard { // in this run
		return math.MaxInt64
	}
	return time.Since(at)
}

// lookForStale keeps what is known of other sites up to date. Where a role is
// strict it ends the sessions that went without news for too long, and says for
// others that this site is there.
func (s *Site) lookForStale(ctx context.Context) {
	tick := time.NewTicker(lookForNews)
	defer tick.Stop()
	var told time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		within, strict, sites := time.Duration(0), false, 0
		s.commands.View(func(state *aggregate.State) {
			within, strict = state.StrictWithin()
			sites = len(state.MeshSites())
		})
		if sites < 2 {
			continue
		}
		s.hearNews(ctx)
		if !strict {
			continue
		}
		s.gateway.Review()
		if sites > 2 && time.Since(told) >= max(within/3, presentAtMost) { // two sites hear each other or nothing
			told = time.Now()
			if _, err := s.commands.Do(ctx, s.actor(), commands.NotePresence{}); err != nil && ctx.Err() == nil {
				s.log.Warn("that this site is there could not be recorded", "error", err)
			}
		}
	}
}

// hearNews notes which sites have told all that they have.
func (s *Site) hearNews(ctx context.Context) {
	n := s.node()
	if n == nil {
		return
	}
	standing, err := n.Status(ctx)
	if err != nil {
		return // the mesh is closing
	}
	s.news.mu.Lock()
	defer s.news.mu.Unlock()
	if s.news.of == nil {
		s.news.of = map[events.SiteID]time.Time{}
	}
	for _, st := range standing {
		if !st.LastSeen.IsZero() && st.Behind == 0 {
			s.news.of[st.Site] = st.LastSeen
		}
	}
}

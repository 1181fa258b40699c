package site

import (
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// release calls then once one of this site's own logs may be acted on up to a
// position: at once, and in a pair when the other half holds it durably as well
// or is not waited for.
func (s *Site) release(o events.Origin, position uint64, then func()) {
	if n := s.mesh.running.Load(); n != nil && s.cfg.Mesh.Pair != "" {
		n.WhenReleased(o, position, then)
		return
	}
	then()
}

// releaseRec is release of recordings; nil where this site is never one of a
// pair, so that nothing is asked for each packet.
func (s *Site) releaseRec() func(position uint64, then func()) {
	if s.cfg.Mesh.Pair == "" {
		return nil
	}
	log := s.rec.Log().Origin()
	return func(position uint64, then func()) { s.release(log, position, then) }
}

// releaseCtl is release of decisions, of which the caller waits for the end.
func (s *Site) releaseCtl() func(position uint64) {
	if s.cfg.Mesh.Pair == "" {
		return nil
	}
	log := s.ctl.Log().Origin()
	return func(position uint64) {
		done := make(chan struct{})
		s.release(log, position, func() { close(done) })
		<-done
		s.keysHeld()
	}
}

// releaseKeys is keysHeld; nil where this site is never one of a pair.
func (s *Site) releaseKeys() func() {
	if s.cfg.Mesh.Pair == "" {
		return nil
	}
	return s.keysHeld
}

// keysHeld waits until the other half of a pair holds the data keys that were made
// before: without them what it holds of the logs opens nothing.
func (s *Site) keysHeld() {
	wait := max(10*s.cfg.Mesh.PairDetect, time.Second)
	if late := s.pairKeys.wait(wait); late > 0 {
		s.log.Warn("the other half of the pair does not say that it holds data keys; they are sent again when it is met", "keys", late, "waited", wait.String())
	}
}

// pairKeys are the data keys of which the other half of a pair has not said yet that
// it holds them. Safe for concurrent use.
type pairKeys struct {
	mu       sync.Mutex
	degraded bool
	open     map[uuid.UUID]chan struct{} // closed when it has, or is not waited for any more
}

func newPairKeys() *pairKeys { return &pairKeys{open: map[uuid.UUID]chan struct{}{}} }

// made notes a new key, unless the other half is not waited for.
func (k *pairKeys) made(id uuid.UUID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.degraded {
		k.open[id] = make(chan struct{})
	}
}

func (k *pairKeys) kept(ids []uuid.UUID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, id := range ids {
		k.forget(id)
	}
}

// forget has nobody wait for a key any more; under mu.
func (k *pairKeys) forget(id uuid.UUID) {
	if held := k.open[id]; held != nil {
		close(held)
		delete(k.open, id)
	}
}

// degrade says whether the other half is waited for. One that is not gets all keys
// when it is met again.
func (k *pairKeys) degrade(degraded bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.degraded = degraded
	for id := range k.open {
		k.forget(id)
	}
}

// wait waits for the keys that were made until now, for a time at most. It gives the
// number of those that are waited for no more.
func (k *pairKeys) wait(most time.Duration) (late int) {
	k.mu.Lock()
	open := maps.Clone(k.open)
	k.mu.Unlock()
	if len(open) == 0 {
		return 0
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	for _, held := range open {
		select {
		case <-held:
			continue
		case <-timer.C:
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		for id := range open {
			if k.open[id] != nil {
				k.forget(id)
				late++
			}
		}
		return late
	}
	return 0
}

// pair is the site with which this one is a pair; none while no member has the
// configured name.
func (s *Site) pair() (sites []events.SiteID) {
	if s.cfg.Mesh.Pair == "" {
		return nil
	}
	s.commands.View(func(state *aggregate.State) {
		for _, m := range state.MeshSites() {
			if m.Name == s.cfg.Mesh.Pair && m.Site != s.who.ID && !state.Left(m.Site) {
				sites = append(sites, m.Site)
			}
		}
	})
	return sites
}

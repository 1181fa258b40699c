package site

import (
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
	}
}

// pair is the site with which this one is a pair; none while no member has the
// configured name.
func (s *Site) pair() (sites []events.SiteID) {
	if s.cfg.Mesh.Pair == "" {
		return nil
	}
	s.commands.View(func(state *aggregate.State) {
		for _, m := range state.MeshSites() {
			if m.Name == s.cfg.Mesh.Pair && m.Site != s.who.ID {
				sites = append(sites, m.Site)
			}
		}
	})
	return sites
}

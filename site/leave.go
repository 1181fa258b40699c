package site

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/mesh"
	"github.com/holdfast-pam/holdfast/events/store"
)

// A site that leaves gives its work away, says so in its log, and keeps its links
// until a member holds that and all else that nobody has who stays. Cut short after
// any of these steps, it goes on with the next one: the work that is given stays so,
// and a last word that nobody has heard is said at the next start.

const (
	// leaveTime is how long the verb waits until a member holds all of the site.
	leaveTime = 30 * time.Second
	// farewellTime is how long in each run a site says that it has left, where no
	// member answers: those that know speak to it no more.
	farewellTime = time.Hour
)

// farewell is there once a member held the site's last word.
func (d data) farewell() string { return filepath.Join(d.dir, "left") }

// Leave gives all work of this site to another one, says so in its log, and ends the
// links once a member in reach holds its last word.
func (s *Site) Leave(ctx context.Context, by events.Actor, to, reason string) ([]events.Record, error) {
	s.mesh.turn.Lock()
	defer s.mesh.turn.Unlock()
	var runs error
	if s.commands.View(func(state *aggregate.State) { runs = commands.RefuseRunning(state, s.who.ID) }); runs != nil {
		return nil, runs
	}
	if _, err := s.GiveDuties(ctx, by, commands.GiveDuties{To: to, Reason: reason}); err != nil {
		nothing := false
		s.commands.View(func(state *aggregate.State) {
			d, moved := state.Holder(s.who.ID, events.TargetID{})
			nothing = moved && d.Holder != s.who.ID && len(state.HeldBy(s.who.ID)) == 0
		})
		if !nothing {
			return nil, err
		}
	}
	var recordings []events.ClockEntry
	for _, log := range append(s.rec.Logs(), s.OtherLogs()...) {
		if o := log.Origin(); o.Site == s.who.ID && o.Kind == events.Rec {
			size, _ := log.Size()
			recordings = append(recordings, events.ClockEntry{Origin: o, Position: size})
		}
	}
	s.mesh.leaving.Store(true)
	records, err := s.commands.Do(ctx, by, commands.LeaveMesh{Reason: reason, Logs: recordings})
	if err != nil {
		s.mesh.leaving.Store(false)
		return nil, err
	}
	for end := time.Now().Add(leaveTime); s.mesh.leaving.Load(); {
		if time.Now().After(end) || sleep(ctx, 50*time.Millisecond) != nil {
			s.log.Warn("this site has left the mesh, and no member in reach holds all that it wrote; it says so until one does: keep it running, or its data directory", "waited", leaveTime.String())
			break
		}
	}
	return records, nil
}

// sayFarewell keeps the links of a site that has left until a member holds all of it.
// It is begun once in a run, when the site has said that it leaves.
func (s *Site) sayFarewell(ctx context.Context) {
	last := events.ClockEntry{}
	s.commands.View(func(state *aggregate.State) {
		for _, e := range first(state.Ends(s.who.ID)) {
			if e.Origin.Kind == events.Ctl {
				last = e
			}
		}
	})
	held := s.givenOn(ctx, last)
	if ctx.Err() != nil {
		return
	}
	if held {
		if err := writeDurable(s.data.farewell(), nil, 0o600); err != nil {
			s.log.Warn("at its next start this site will say once more that it has left the mesh", "error", err)
		}
	}
	s.mesh.leaving.Store(false)
	if n := s.node(); n != nil {
		_, peers := s.peers()
		n.SetPeers(peers)
	}
}

func first[A, B any](a A, _ B) A { return a }

// leaves reports whether this site has left and has not said so to anybody yet.
func (s *Site) leaves() bool {
	left := false
	s.commands.View(func(state *aggregate.State) { left = state.Left(s.who.ID) })
	if !left {
		return false
	}
	_, err := os.Stat(s.data.farewell())
	return errors.Is(err, fs.ErrNotExist)
}

// givenOn waits until a member holds this site's last word, and all else that is held
// here and by nobody that stays.
func (s *Site) givenOn(ctx context.Context, last events.ClockEntry) bool {
	ctx, cancel := context.WithTimeout(ctx, farewellTime)
	defer cancel()
	for {
		if n := s.node(); n != nil {
			logs, err := n.Matrix(ctx)
			if err != nil {
				return false
			}
			for _, member := range s.staying() {
				if s.holdsAll(member, logs, last) {
					return true
				}
			}
		}
		if sleep(ctx, 100*time.Millisecond) != nil {
			return false
		}
	}
}

// staying lists the other members that have not gone.
func (s *Site) staying() (all []events.SiteID) {
	s.commands.View(func(state *aggregate.State) {
		for _, m := range state.MeshSites() {
			if m.Site != s.who.ID && !state.Left(m.Site) && !state.Fenced(m.Site) {
				all = append(all, m.Site)
			}
		}
	})
	return all
}

// holdsAll reports whether a member is known to hold the decisions of those that have
// gone, this site's among them up to its last word: what the others have decided they
// hold themselves.
func (s *Site) holdsAll(member events.SiteID, logs []mesh.LogStanding, last events.ClockEntry) bool {
	staying := s.staying()
	all, known := true, false
	s.commands.View(func(state *aggregate.State) {
		for _, l := range logs {
			if l.Log.Kind != events.Ctl || l.Forked || slices.Contains(staying, l.Log.Site) {
				continue
			}
			here := l.Here
			if end, ends := state.EndOf(l.Log); ends {
				here = min(here, end)
			}
			if l.Log == last.Origin { // the node may not have seen yet that it has grown
				here, known = last.Position, true
			}
			all = all && l.There[member] >= here
		}
	})
	return all && known
}

// noteMissing says of sites that have left what is not here of what they wrote until
// then: decisions, and recordings or their headers. Nothing said means that it is
// complete.
func (s *Site) noteMissing(sites []MeshSite, here []store.Log) {
	held := map[events.Origin]uint64{}
	for _, log := range here {
		held[log.Origin()], _ = log.Size()
	}
	for i, m := range sites {
		if m.ID == s.who.ID || m.Trouble != "" {
			continue
		}
		var ends []events.ClockEntry
		s.commands.View(func(state *aggregate.State) { ends, _ = state.Ends(m.ID) })
		missing := uint64(0)
		for _, e := range ends {
			missing += e.Position - min(e.Position, held[e.Origin])
		}
		if missing > 0 {
			sites[i].Trouble = fmt.Sprintf("%d records from before it left are not here", missing)
		}
	}
}

// closeSites ends the logs of others that have left, where this site may.
func (s *Site) closeSites(ctx context.Context) {
	due := false
	s.commands.View(func(state *aggregate.State) { due = len(commands.Closable(state, s.ctl.Log().Origin())) > 0 })
	if !due {
		return
	}
	if _, err := s.commands.Do(ctx, s.actor(), commands.CloseSites{}); err != nil && ctx.Err() == nil {
		s.log.Error("a site has left the mesh, and its logs could not be closed here; trying again at the next decision", "error", err)
	}
}

// errLeft refuses a site that has left to join a mesh again.
func errLeft(name string) error {
	return &commands.Refusal{Code: commands.Conflict, Message: fmt.Sprintf("site %q has left a mesh, for good: its logs have ended there", name),
		Hint: "begin a new site in another data directory (--data), which may have the same name, and join with that"}
}

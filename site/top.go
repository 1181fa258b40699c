package site

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
)

// MeshTop is how the mesh stands at one moment, as this site sees it.
type MeshTop struct {
	Time      time.Time `json:"time"`
	Site      string    `json:"site"` // that sees it
	Conflicts int       `json:"conflicts"`
	Doubts    int       `json:"doubts"` // credentials of which nobody knows what their targets take
	Sites     []TopSite `json:"sites"`
}

// TopSite is one member in a [MeshTop].
type TopSite struct {
	MeshSite
	Lacks    MeshLacks `json:"lacks"`
	Sessions int       `json:"sessions"`        // that run there, as far as is known here
	Holds    []string  `json:"holds,omitempty"` // sites whose work it carries out besides its own
}

// MeshLacks is what a member is not known to hold of what somebody does.
type MeshLacks struct {
	Decisions      uint64 `json:"decisions"`  // records of ctl logs
	Recordings     uint64 `json:"recordings"` // likewise of rec logs
	RecordingBytes uint64 `json:"recording_bytes"`
}

// MeshTop tells how the mesh stands.
func (s *Site) MeshTop(ctx context.Context) (MeshTop, error) {
	top := MeshTop{Time: WallClock().UTC(), Site: s.who.Name, Sites: []TopSite{}}
	sites, err := s.Mesh(ctx)
	if err != nil {
		return top, err
	}
	logs, err := s.Matrix(ctx)
	if err != nil {
		return top, err
	}
	s.commands.View(func(state *aggregate.State) {
		top.Conflicts = len(state.Conflicts())
		for _, a := range state.Accounts() {
			if c, ok := state.Credential(a.Credential); ok && !a.Removed && c.Unsettled() {
				top.Doubts++
			}
		}
		for _, m := range sites {
			at := TopSite{MeshSite: m, Sessions: state.CountSessions(m.ID, func(n *aggregate.Session) bool { return n.Started.Origin.Site == m.ID })}
			for _, d := range state.HeldBy(m.ID) {
				if name := nameOf(state, d.Site); !slices.Contains(at.Holds, name) {
					at.Holds = append(at.Holds, name)
				}
			}
			top.Sites = append(top.Sites, at)
		}
	})
	for i := range top.Sites {
		if top.Sites[i].Lacks, err = s.lacks(ctx, top.Sites[i].ID, logs); err != nil {
			return top, err
		}
	}
	return top, nil
}

func nameOf(state *aggregate.State, id events.SiteID) string {
	if m, ok := state.MeshSite(id); ok {
		return m.Name
	}
	return id.String()
}

// lacks counts what a member is not known to hold. A member that has told nothing
// in this run is taken to hold nothing; of logs that were written twice each holds
// one branch, so they are left out.
func (s *Site) lacks(ctx context.Context, member events.SiteID, logs []MeshLog) (out MeshLacks, err error) {
	for _, l := range logs {
		most, has := uint64(0), uint64(0)
		for _, h := range l.Held {
			if most = max(most, h.Records); h.ID == member {
				has = h.Records
			}
		}
		switch {
		case l.Forked || most == has:
		case l.Log.Kind == events.Ctl:
			out.Decisions += most - has
		default:
			size, err := s.recordSize(ctx, l.Log, has)
			if err != nil {
				return out, err
			}
			out.Recordings += most - has
			out.RecordingBytes += (most - has) * size
		}
	}
	return out, nil
}

// sampled is how many records tell how large those of a log are.
const sampled = 16

// recordSize is the mean size of some records of a log after a position, or of its
// last ones where it holds none after it; 0 where it holds none.
func (s *Site) recordSize(ctx context.Context, o events.Origin, after uint64) (uint64, error) {
	log := s.logOf(o)
	if log == nil {
		return 0, nil
	}
	size, _ := log.Size()
	if size == 0 {
		return 0, nil
	}
	bytes, n := uint64(0), uint64(0)
	for e, err := range log.Read(ctx, min(after, size-min(size, sampled))+1) {
		if err != nil {
			return 0, fmt.Errorf("size of records of %s: %w", o, err)
		}
		bytes += uint64(len(e.Header) + len(e.Payload))
		if n++; n == sampled {
			break
		}
	}
	return bytes / max(n, 1), nil
}

// logOf finds a log that is held here; nil where it is not.
func (s *Site) logOf(o events.Origin) store.Log {
	all := s.OtherLogs()
	for _, h := range s.Histories() {
		all = append(all, h.Logs()...)
	}
	for _, log := range all {
		if log.Origin() == o {
			return log
		}
	}
	return nil
}

package site

import (
	"context"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// MeshLog is how much of a log is held at each member, as this site knows.
type MeshLog struct {
	Site   string        `json:"site"` // that writes it
	Log    events.Origin `json:"log"`
	Forked bool          `json:"forked,omitempty"`
	Held   []MeshHeld    `json:"held"` // this site first
}

// MeshHeld is how much one member holds.
type MeshHeld struct {
	Site    string        `json:"site"`
	ID      events.SiteID `json:"id"`
	Records uint64        `json:"records"`
}

// Matrix tells who holds how much of whose log; none where the site is in no mesh.
// Of members that said nothing in this run nothing is known.
func (s *Site) Matrix(ctx context.Context) ([]MeshLog, error) {
	n := s.node()
	if n == nil {
		return nil, nil
	}
	logs, err := n.Matrix(ctx)
	if err != nil {
		return nil, err
	}
	var out []MeshLog
	s.commands.View(func(state *aggregate.State) {
		name := func(id events.SiteID) string {
			if m, ok := state.MeshSite(id); ok {
				return m.Name
			}
			return id.String()
		}
		for _, l := range logs {
			m := MeshLog{Site: name(l.Log.Site), Log: l.Log, Forked: l.Forked, Held: []MeshHeld{{s.who.Name, s.who.ID, l.Here}}}
			for _, peer := range state.MeshSites() {
				if there, told := l.There[peer.Site]; told {
					m.Held = append(m.Held, MeshHeld{peer.Name, peer.Site, there})
				}
			}
			out = append(out, m)
		}
	})
	return out, nil
}

package console

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
)

// meshEvents are the types of events that are the history of a mesh, or the
// first words of such types.
var meshEvents = []string{
	"site.invited", "site.invitation_withdrawn", "site.admitted", "site.restored", "site.doubted", "log.tail_dropped", "site.fenced", "site.reinstated", "site.left", "site.closed", "mesh.masked", "duty", "sync", "fork",
	"site.successor_named", "site.succession_ended", "recording", "site.keeping",
}

// proofs are parts of such events that are for machines: keys, hashes, evidence.
var proofs = []string{"identity", "sealing_key", "host_key", "secret_hash", "proof", "invitation"}

// withoutProofs is an event's payload without those.
func withoutProofs(e projections.Event) string {
	var parts map[string]json.RawMessage
	if json.Unmarshal(e.Payload, &parts) != nil {
		return shortPayload(e)
	}
	for _, name := range proofs {
		delete(parts, name)
	}
	if len(parts) == 0 {
		return ""
	}
	b, err := json.Marshal(parts)
	if err != nil {
		return shortPayload(e)
	}
	e.Payload = b
	return shortPayload(e)
}

// meshEvent is a line of the history of the mesh.
type meshEvent struct {
	projections.Event
	At    string `json:"at"`    // name of the site that wrote it
	About string `json:"about"` // name of the site that it is about
}

var meshEventColumns = []column[meshEvent]{
	{"time", func(e meshEvent) string { return stamp(e.Time) }},
	{"at", func(e meshEvent) string { return e.At }},
	{"event", func(e meshEvent) string { return e.Type }},
	{"about", func(e meshEvent) string { return e.About }},
	{"by", func(e meshEvent) string { return e.Actor.Name }},
	{"what", func(e meshEvent) string { return withoutProofs(e.Event) }},
}

func (c *call) meshHistory() *cobra.Command {
	w := &window{}
	cmd := c.verb("history", "Show what became of the mesh: joins, takeovers, forks, cuts of pairs, rulings", read, func([]string) error {
		f, err := w.filter()
		if err != nil {
			return err
		}
		p, err := c.views()
		if err != nil {
			return err
		}
		var all []meshEvent
		for _, kind := range meshEvents {
			page, err := p.Audit(c.ctx, projections.AuditFilter{Filter: f, Type: kind})
			if err != nil {
				return err
			}
			for _, e := range page.Items {
				all = append(all, meshEvent{Event: e})
			}
		}
		c.cfg.Site.Commands().View(func(s *aggregate.State) {
			for i, e := range all {
				all[i].Site = siteName(s, e.Origin.Site)
				all[i].At, all[i].About = siteName(s, e.Origin.Site), siteName(s, events.SiteID{UUID: e.Stream})
			}
		})
		slices.SortStableFunc(all, func(a, b meshEvent) int { return cmp.Compare(a.HLC, b.HLC) })
		return list(c, "event", all, meshEventColumns)
	})
	cmd.Flags().StringVar(&w.since, "since", "", "only from this time on (RFC 3339, or how long ago: 8h, 30d)")
	cmd.Flags().IntVar(&w.limit, "limit", projections.DefaultLimit, "at most this many of each sort")
	cmd.Long = cmd.Short + ", oldest first.\nWhat two sites decided about one thing is shown where the thing is: target ls, account ls, rotate status."
	return cmd
}

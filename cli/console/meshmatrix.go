package console

import (
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/site"
)

func (c *call) meshMatrix() *cobra.Command {
	cmd := c.verb("matrix", "Show who holds how much of whose logs, in records", read, func([]string) error {
		logs, err := c.cfg.Site.Matrix(c.ctx)
		if err != nil {
			return err
		}
		columns := []column[site.MeshLog]{
			{"of", func(l site.MeshLog) string { return l.Site }},
			{"log", func(l site.MeshLog) string { return string(l.Log.Kind) }},
			{"epoch", func(l site.MeshLog) string { return strconv.FormatUint(uint64(l.Log.Epoch), 10) }},
		}
		var sites []events.SiteID
		for _, l := range logs {
			for _, h := range l.Held {
				if slices.Contains(sites, h.ID) {
					continue
				}
				sites = append(sites, h.ID)
				columns = append(columns, column[site.MeshLog]{"at " + h.Site, func(l site.MeshLog) string {
					for _, other := range l.Held {
						if other.ID == h.ID {
							return strconv.FormatUint(other.Records, 10)
						}
					}
					return ""
				}})
			}
		}
		columns = append(columns, column[site.MeshLog]{"forked", func(l site.MeshLog) string { return yes(l.Forked) }})
		return list(c, "log", logs, columns)
	})
	cmd.Long = cmd.Short + ", as far as they have told this site since it started."
	return cmd
}

// siteLag is what a member is not known to hold.
type siteLag struct {
	Site  string        `json:"site"`
	ID    events.SiteID `json:"id"`
	State string        `json:"state"`
	site.MeshLacks
	LastSeen time.Time `json:"last_seen"`
}

var lagColumns = []column[siteLag]{
	{"site", func(l siteLag) string { return l.Site }},
	{"state", func(l siteLag) string { return l.State }},
	{"decisions", func(l siteLag) string { return strconv.FormatUint(l.Decisions, 10) }},
	{"recordings", func(l siteLag) string { return strconv.FormatUint(l.Recordings, 10) }},
	{"about bytes", func(l siteLag) string { return strconv.FormatUint(l.RecordingBytes, 10) }},
	{"last seen", func(l siteLag) string { return stamp(l.LastSeen) }},
}

func (c *call) meshLag() *cobra.Command {
	cmd := c.verb("lag", "Show how many records each member lacks of what somebody holds", read, func([]string) error {
		top, err := c.cfg.Site.MeshTop(c.ctx)
		if err != nil {
			return err
		}
		var all []siteLag
		for _, s := range top.Sites {
			all = append(all, siteLag{Site: s.Site, ID: s.ID, State: s.State, MeshLacks: s.Lacks, LastSeen: s.LastSeen})
		}
		return list(c, "lag", all, lagColumns)
	})
	cmd.Long = cmd.Short + ".\nA member that has told nothing since this site started is taken to hold nothing. Of logs that were\n" +
		"written twice each holds one branch: they are left out. The bytes of recordings are an estimate."
	return cmd
}

package console

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/projections"
)

// overtakenView is an overtaken session with the names of the sites.
type overtakenView struct {
	projections.Overtaken
	RanAt   string `json:"ran_at"`   // name of the session's site
	TakenAt string `json:"taken_at"` // name of the site where the right was taken away
}

var overtakenColumns = []column[overtakenView]{
	{"session", func(o overtakenView) string { return o.Session.String() }},
	{"user", func(o overtakenView) string { return o.User }},
	{"account", func(o overtakenView) string { return o.Account + "+" + o.Target }},
	{"ran at", func(o overtakenView) string { return o.RanAt }},
	{"right ended by", func(o overtakenView) string { return o.By + " at " + o.TakenAt }},
	{"from", func(o overtakenView) string { return stamp(o.From) }},
	{"until", func(o overtakenView) string {
		if o.Until == nil {
			return "goes on"
		}
		return stamp(*o.Until)
	}},
	{"seconds", func(o overtakenView) string { return strconv.FormatFloat(o.Seconds, 'f', 1, 64) }},
	{"event", func(o overtakenView) string { return o.Event.String() }},
}

func (c *call) sessionOvertaken() *cobra.Command {
	w := &window{}
	longer := time.Second
	cmd := c.verb("overtaken", "List sessions that ran on after their right was taken away at another site", read, func([]string) error {
		f, err := w.filter()
		if err != nil {
			return err
		}
		p, err := c.views()
		if err != nil {
			return err
		}
		found, err := p.Overtaken(c.ctx, f, longer, time.Now())
		if err != nil {
			return err
		}
		all := make([]overtakenView, len(found))
		c.cfg.Site.Commands().View(func(s *aggregate.State) {
			for i, o := range found {
				all[i] = overtakenView{o, siteName(s, o.Site), siteName(s, o.BySite)}
			}
		})
		slices.SortStableFunc(all, func(a, b overtakenView) int {
			return cmp.Or(b.From.Compare(a.From), slices.Compare(a.Session.UUID[:], b.Session.UUID[:]))
		})
		return list(c, "overtaken", all, overtakenColumns)
	})
	cmd.Flags().StringVar(&w.since, "since", "", "only what ran after this time (RFC 3339, or how long ago: 8h, 30d)")
	cmd.Flags().IntVar(&w.limit, "limit", projections.DefaultLimit, "at most this many of each sort")
	cmd.Flags().DurationVar(&longer, "longer", longer, "only what ran for longer than that without its right")
	cmd.Long = cmd.Short + ".\n\nA site that can't hear another one does not know whom that one shuts out. Once it hears of it, what runs ends\n" +
		"within a second; this lists what ran until then: look into their recordings (session play)."
	return cmd
}

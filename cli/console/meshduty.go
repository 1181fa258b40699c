package console

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// movedDuty is what a move of duties came to.
type movedDuty struct {
	Site    string            `json:"site"` // that began them
	SiteID  events.SiteID     `json:"site_id"`
	Holder  string            `json:"holder"` // that carries them out now
	Term    uint64            `json:"term"`
	Targets []events.TargetID `json:"targets,omitempty"`
	Event   string            `json:"event"`
}

// answerMoves says what was moved.
func (c *call) answerMoves(records []events.Record) error {
	var moved []movedDuty
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		of := map[string]movedDuty{}
		for _, d := range s.Moves() {
			of[d.At.ID.String()] = movedDuty{
				Site: siteName(s, d.Site), SiteID: d.Site, Holder: siteName(s, d.Holder), Term: d.Term, Targets: d.Targets, Event: d.At.ID.String(),
			}
		}
		for _, r := range records {
			if m, ok := of[r.Header.ID.String()]; ok {
				moved = append(moved, m)
			}
		}
	})
	if c.json {
		return list(c, "duty", moved, nil)
	}
	for _, m := range moved {
		what := "what site " + m.Site + " began"
		if len(m.Targets) > 0 {
			what += fmt.Sprintf(" on %d targets", len(m.Targets))
		}
		if _, err := fmt.Fprintf(c.stdout, "%s is carried out at site %s from now on (term %d)  event %s\n", Printable(what), Printable(m.Holder), m.Term, m.Event); err != nil {
			return err
		}
	}
	return nil
}

func siteName(s *aggregate.State, id events.SiteID) string {
	if m, ok := s.MeshSite(id); ok {
		return m.Name
	}
	if t, ok := s.Site(id); ok {
		return t.Name
	}
	return id.String()
}

// siteNameAmong is siteName, with the id where another site has had the name.
func siteNameAmong(s *aggregate.State, id events.SiteID) string {
	name := siteName(s, id)
	for _, m := range s.MeshSites() {
		if m.Site != id && m.Name == name {
			return name + " (" + id.String() + ")"
		}
	}
	return name
}

func (c *call) meshTakeover() *cobra.Command {
	var p commands.TakeOver
	var sure bool
	cmd := c.verb("takeover SITE", "Carry out here what a site began that is gone", change, func(args []string) error {
		p.Site = args[0]
		if !sure {
			f := usageError("taking over from site %s is for a site that is gone, and needs --yes", Printable(args[0]))
			f.Hint = "of a site that still answers, mesh drain moves its work in order"
			return f
		}
		records, err := c.do(p)
		if err != nil {
			return err
		}
		return c.answerMoves(records)
	})
	cmd.Flags().BoolVar(&sure, "yes", false, "it is gone, or nobody minds if both work for a while")
	cmd.Flags().StringVar(&p.Reason, "reason", "", "why, for the audit")
	cmd.Flags().StringSliceVar(&p.Targets, "scope", nil, "only what is about this target (may be given again)")
	cmd.Long = cmd.Short + ": rotations of accounts that it added, requests made\n" +
		"there, second factors enrolled there. It is one decision and moves no data, which is here already.\n" +
		"Approvals given before have to be given again, since the site may have used them; codes of second\n" +
		"factors are taken here from the next minute on. When the site comes back, it learns of it and stays a\n" +
		"member that works for its own people; mesh handback gives its work back. Of takeovers by several sites\n" +
		"that did not hear of each other, one counts, the same everywhere."
	return cmd
}

func (c *call) meshHandback() *cobra.Command {
	var p commands.GiveDuties
	cmd := c.verb("handback SITE", "Give a site its work back that was taken over here", change, func(args []string) error {
		p.To, p.Of = args[0], args[0]
		return c.giveDuties(p)
	})
	cmd.Flags().StringVar(&p.Reason, "reason", "", "why, for the audit")
	cmd.Long = cmd.Short + ", once no rotation is under way here.\nIt takes the work up when it has all that was decided here."
	return cmd
}

func (c *call) meshDrain() *cobra.Command {
	var p commands.GiveDuties
	cmd := c.verb("drain", "Give all work of this site to another one", change, func([]string) error {
		if p.To == "" {
			return usageError("name with --to the site that is to carry out the work of this one")
		}
		return c.giveDuties(p)
	})
	cmd.Flags().StringVar(&p.To, "to", "", "name or id of the site that takes the work")
	cmd.Flags().StringVar(&p.Reason, "reason", "", "why, for the audit")
	cmd.Long = cmd.Short + ", once no rotation is under way here.\n" +
		"Sessions go on, and new ones can be started here: use it before maintenance, or before mesh leave."
	return cmd
}

func (c *call) giveDuties(p commands.GiveDuties) error {
	records, err := c.cfg.Site.GiveDuties(c.from(), c.by.actor(), p)
	if err != nil {
		return err
	}
	return c.answerMoves(records)
}

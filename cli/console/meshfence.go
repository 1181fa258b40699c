package console

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
)

// answerEvents names what was decided about a site.
func (c *call) answerEvents(records []events.Record) error {
	type decided struct {
		Type  string `json:"type"`
		Site  string `json:"site_id"`
		Event string `json:"event"`
	}
	var all []decided
	for _, r := range records {
		all = append(all, decided{r.Header.Type, r.Header.Stream.String(), r.Header.ID.String()})
	}
	if c.json {
		return list(c, "decision", all, nil)
	}
	for _, d := range all {
		if _, err := fmt.Fprintf(c.stdout, "%s  %s  event %s\n", d.Type, d.Site, d.Event); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) meshFence() *cobra.Command {
	var p commands.FenceSite
	var sure bool
	cmd := c.verb("fence SITE", "Cut off a site that is not to be trusted any more", change, func(args []string) error {
		p.Site = args[0]
		if !sure {
			f := usageError("fencing site %s ends its links, and what it decides from now on counts nowhere; it needs --yes", Printable(args[0]))
			f.Hint = "mesh reconcile takes it back"
			return f
		}
		records, err := c.do(p)
		if err != nil {
			return err
		}
		return c.answerEvents(records)
	})
	cmd.Flags().BoolVar(&sure, "yes", false, "it is not to be trusted any more")
	cmd.Flags().StringVar(&p.Reason, "reason", "", "why, for the audit")
	cmd.Long = cmd.Short + ". What it wrote and was heard of here counts;\n" +
		"what it writes after that is kept, and has no effect at any site. Its links end. If it was a custodian, it\n" +
		"could open secrets: those are rotated by the sites that own them. mesh takeover takes its work over."
	cmd.Aliases = []string{"distrust"}
	return cmd
}

func (c *call) meshReconcile() *cobra.Command {
	var p commands.ReconcileSite
	cmd := c.verb("reconcile SITE", "Settle the forks of a site's logs, and take back its fences", change, func(args []string) error {
		p.Site = args[0]
		records, err := c.do(p)
		if err != nil {
			return err
		}
		return c.answerEvents(records)
	})
	cmd.Flags().StringVar(&p.Reason, "reason", "", "why, for the audit")
	cmd.Long = cmd.Short + ".\nOf a log that was written twice nothing counts from where its branches part, before and after: what was\n" +
		"worth keeping is decided again. All that a fenced site wrote counts again, and it is spoken to."
	return cmd
}

func (c *call) meshLeave() *cobra.Command {
	var to, reason string
	var sure bool
	cmd := c.verb("leave", "Give all work of this site to another one, and leave the mesh for good", change, func([]string) error {
		switch {
		case to == "":
			return usageError("name with --to the site that is to carry out the work of this one")
		case !sure:
			return usageError("leaving the mesh is for good, and needs --yes")
		}
		records, err := c.cfg.Site.Leave(c.from(), c.by.actor(), to, reason)
		if err != nil {
			return err
		}
		return c.answerEvents(records)
	})
	cmd.Flags().StringVar(&to, "to", "", "name or id of the site that takes the work")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	cmd.Flags().BoolVar(&sure, "yes", false, "it leaves for good")
	cmd.Long = cmd.Short + ".\nWhat it decided and recorded stays with the others. Secrets that it could open are rotated by them."
	return cmd
}

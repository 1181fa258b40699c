package console

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/site"
)

var exposedColumns = []column[site.Exposed]{
	{"what", func(e site.Exposed) string { return e.What }},
	{"name", func(e site.Exposed) string { return e.Name }},
	{"since", func(e site.Exposed) string { return stamp(e.Since) }},
	{"what to do", func(e site.Exposed) string { return e.Do }},
}

func (c *call) meshExposed() *cobra.Command {
	cmd := c.verb("exposed", "List what a site that was fenced, or has left, can open and is still in use", read, func([]string) error {
		return list(c, "exposed", c.cfg.Site.Exposed(), exposedColumns)
	})
	cmd.Long = cmd.Short + ".\nIt can open what was sealed before its keys were given up: secrets, the keys of user authorities, second factors.\n" +
		"The list is empty once all of it has been changed."
	return cmd
}

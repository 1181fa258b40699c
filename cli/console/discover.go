package console

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/projections"
)

var discoveredColumns = []column[projections.DiscoveredAccount]{
	{"account", func(a projections.DiscoveredAccount) string { return a.Name + "+" + a.Target }},
	{"state", func(a projections.DiscoveredAccount) string { return a.State }},
	{"id", func(a projections.DiscoveredAccount) string { return a.ID }},
	{"login", func(a projections.DiscoveredAccount) string { return yes(a.Login) }},
	{"rights", func(a projections.DiscoveredAccount) string { return strings.Join(a.Rights, ", ") }},
	{"keys", func(a projections.DiscoveredAccount) string { return strings.Join(a.Keys, " ") }},
}

func (c *call) accountDiscover() *cobra.Command {
	var via string
	var last, all bool
	cmd := c.verb("discover TARGET", "Read which accounts a target has, with their keys and rights", change, func(args []string) error {
		if !last {
			ref, err := viaRef(via, false)
			if err != nil {
				return err
			}
			seek := commands.SeekAccounts{Target: args[0]}
			if ref != nil {
				seek.Via = *ref
			}
			if args[0], err = c.discover(seek); err != nil {
				return err
			}
		}
		p, err := c.views()
		if err != nil {
			return err
		}
		found, cut, err := p.Discovered(c.ctx, args[0])
		if err != nil {
			return err
		}
		if cut {
			c.note("the target has more accounts than are listed")
		}
		var shown []projections.DiscoveredAccount
		for _, a := range found {
			if all || c.json || a.Login || a.State != "unknown" {
				shown = append(shown, a)
			}
		}
		return list(c, "discovered-account", shown, discoveredColumns)
	})
	cmd.Flags().StringVar(&via, "via", "", "ACCOUNT+TARGET of the privileged account that reads them")
	cmd.Flags().BoolVar(&last, "last", false, "show what was read last, and ask nobody")
	cmd.Flags().BoolVar(&all, "all", false, "show those too as which nobody can log in")
	return cmd
}

// discover asks a target for its accounts, and gives its id. That it does is an
// event, durable before anything is dialled; so is the answer.
func (c *call) discover(seek commands.SeekAccounts) (id string, err error) {
	records, err := c.do(seek)
	if err != nil {
		return "", err
	}
	found, err := c.cfg.Discover(c.ctx, records[0])
	if err != nil {
		return "", &Fault{Exit: Unavailable, Message: err.Error(), Event: records[0].Header.ID, cause: err,
			Hint: "the account named with --via must be able to log in and to read the accounts; see docs/rotators.md"}
	}
	c.note("found  %s  event %s", found.Header.Stream, found.Header.ID)
	return found.Header.Stream.String(), nil
}

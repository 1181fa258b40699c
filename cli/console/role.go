package console

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

var roles = []events.Role{events.Admin, events.Auditor, events.Approver, events.Operator}

// roleView is what holds for everybody of a role, as decisions see it.
type roleView struct {
	Name         events.Role      `json:"name"`
	SecondFactor bool             `json:"second_factor"`
	FactorReuse  uint64           `json:"factor_reuse,omitempty"` // seconds
	Staleness    events.Staleness `json:"staleness"`
	Within       uint64           `json:"within,omitempty"` // seconds, of strict
}

var roleColumns = []column[roleView]{
	{"name", func(r roleView) string { return string(r.Name) }},
	{"second factor", func(r roleView) string { return yes(r.SecondFactor) }},
	{"factor reuse", func(r roleView) string { return seconds(r.FactorReuse) }},
	{"staleness", func(r roleView) string { return string(r.Staleness) }},
	{"within", func(r roleView) string { return seconds(r.Within) }},
}

var _ = noun(func(c *call) *cobra.Command {
	return group("role", "What holds for everybody of a role", c.roleSet(), c.roleList())
})

// roleViews reads the settings of all roles from what decisions are made on.
func (c *call) roleViews() (all []roleView) {
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		for _, r := range roles {
			set := s.RoleSettings(r)
			all = append(all, roleView{r, set.SecondFactor, set.FactorReuse, set.Staleness, set.Within})
		}
	})
	return all
}

func (c *call) roleList() *cobra.Command {
	return c.verb("ls", "List the roles and their settings", read, func([]string) error {
		return list(c, "role", c.roleViews(), roleColumns)
	})
}

func (c *call) roleSet() *cobra.Command {
	var factor, reuse, staleness, within string
	cmd := c.verb("set ROLE", "Say what holds for everybody of a role", change, func(args []string) error {
		set := commands.SetRole{Role: events.Role(args[0])}
		switch factor {
		case "":
		case "required", "off":
			required := factor == "required"
			set.SecondFactor = &required
		default:
			return usageError("--second-factor is required or off, not %q", factor)
		}
		if reuse != "" {
			n, err := reuseTime(reuse)
			if err != nil {
				return err
			}
			set.FactorReuse = &n
		}
		if staleness != "" {
			mode := events.Staleness(staleness)
			set.Staleness = &mode
		}
		if within != "" {
			n, err := wholeSeconds(within)
			if err != nil {
				return err
			}
			set.Within = &n
		}
		records, err := c.do(set)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			return c.unchanged("role")
		}
		for _, v := range c.roleViews() {
			if v.Name == set.Role && c.json {
				return show(c, "role", v, roleColumns)
			}
		}
		_, err = fmt.Fprintf(c.stdout, "role.set  %s  event %s\n", set.Role, records[0].Header.ID)
		return err
	})
	f := cmd.Flags()
	f.StringVar(&factor, "second-factor", "", "required or off")
	f.StringVar(&reuse, "factor-reuse", "", "let a code do for further logins from the same address by the same key, for so long (10m), or off")
	f.StringVar(&staleness, "staleness", "", "best_effort or strict: what a site does that has no news of the user's home site")
	f.StringVar(&within, "within", "", "of strict: how long without news sessions may still start (5m)")
	return cmd
}

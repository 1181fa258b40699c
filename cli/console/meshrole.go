package console

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

func (c *call) meshSetRole() *cobra.Command {
	var role string
	var scopes []string
	var custodian bool
	var cmd *cobra.Command
	cmd = c.verb("set-role SITE", "Change what a member may decide for all", change, func(args []string) error {
		if role == "" {
			return usageError("name with --role what the site is to be: steward, peer or edge")
		}
		p := commands.SetSiteRole{Site: args[0], Role: events.MemberRole(role)}
		for _, scope := range scopes {
			p.Scopes = append(p.Scopes, events.Area(scope))
		}
		if cmd.Flags().Changed("custodian") {
			p.Custodian = &custodian
		}
		records, err := c.do(p)
		if err != nil {
			return err
		}
		return c.answerEvents(records)
	})
	cmd.Flags().StringVar(&role, "role", "", "steward, peer or edge, as in mesh invite")
	cmd.Flags().StringSliceVar(&scopes, "scope", nil, "less than the role: access, targets, secrets, sessions, mesh; repeatable")
	cmd.Flags().BoolVar(&custodian, "custodian", false, "whether it is able to open credentials and recordings: --custodian or --custodian=false (default: as now)")
	cmd.Long = cmd.Short + ".\nOnly stewards take sites in, fence them and settle forks: have two. What a site decided before it hears of\n" +
		"this is judged by the role that it had; one that is not to be trusted takes mesh fence. A custodian that\n" +
		"is one no more keeps what it could open until then: those secrets are rotated by the sites that own them."
	return cmd
}

// onlySteward reports whether no other site than this one would be a steward once
// one of a role has joined.
func (c *call) onlySteward(newcomer events.MemberRole) bool {
	only := newcomer != events.Steward
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		for _, m := range s.MeshSites() {
			only = only && (m.Site == c.cfg.Site.ID() || m.Role != events.Steward || s.Fenced(m.Site) || s.Left(m.Site))
		}
	})
	return only
}

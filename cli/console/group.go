package console

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/projections"
)

var groupColumns = []column[projections.Group]{
	{"name", func(g projections.Group) string { return g.Name }},
	{"state", func(g projections.Group) string { return conflicting(g.State, g.Conflict) }},
	{"members", func(g projections.Group) string {
		names := make([]string, len(g.Members))
		for i, m := range g.Members {
			names[i] = m.User
		}
		return strings.Join(names, " ")
	}},
	{"added", func(g projections.Group) string { return stamp(g.Added) }},
	{"id", func(g projections.Group) string { return g.ID.String() }},
}

var groupDetails = append(groupColumns[:len(groupColumns):len(groupColumns)], []column[projections.Group]{
	{"removed", func(g projections.Group) string { return stamp(g.Removed) }},
	{"reason", func(g projections.Group) string { return g.Reason }},
}...)

var _ = noun(func(c *call) *cobra.Command {
	return group("group", "Sets of users that grants and policies may name",
		c.groupAdd(), c.groupRemove(), c.groupList(), c.groupShow(),
		group("member", "Who is in a group", c.memberAdd(), c.memberRemove()))
})

func (c *call) groupAdd() *cobra.Command {
	return c.verb("add NAME", "Add a group, empty at first", change, func(args []string) error {
		return carryOut(c, "group", "group.added", commands.AddGroup{Name: args[0]}, (*projections.Projections).Group)
	})
}

func (c *call) groupRemove() *cobra.Command {
	var reason string
	cmd := c.verb("rm NAME", "Dissolve a group, and end what runs by its rights", change, func(args []string) error {
		return carryOut(c, "group", "group.removed", commands.RemoveGroup{Group: args[0], Reason: reason}, (*projections.Projections).Group)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	return cmd
}

func (c *call) memberAdd() *cobra.Command {
	return c.verb("add GROUP USER", "Take a user into a group", change, func(args []string) error {
		return carryOut(c, "group", "group.member_added", commands.AddMember{Group: args[0], User: args[1]}, (*projections.Projections).Group)
	})
}

func (c *call) memberRemove() *cobra.Command {
	var reason string
	cmd := c.verb("rm GROUP USER", "Take a user out of a group, and end what they run by its rights", change, func(args []string) error {
		return carryOut(c, "group", "group.member_removed", commands.RemoveMember{Group: args[0], User: args[1], Reason: reason}, (*projections.Projections).Group)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	return cmd
}

func (c *call) groupList() *cobra.Command {
	var w window
	return w.flags(c.verb("ls", "List groups", read, func([]string) error {
		return listFrom(c, "group", &w, (*projections.Projections).Groups, groupColumns)
	}))
}

func (c *call) groupShow() *cobra.Command {
	return c.verb("show NAME", "Show one group, by name or id", read, func(args []string) error {
		return showFrom(c, "group", args[0], (*projections.Projections).Group, groupDetails)
	})
}

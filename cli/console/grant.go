package console

import (
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
)

var grantColumns = []column[projections.Grant]{
	{"user", func(g projections.Grant) string { return g.User }},
	{"account", func(g projections.Grant) string { return g.Account }},
	{"state", func(g projections.Grant) string { return g.State }},
	{"expires", func(g projections.Grant) string { return stamp(g.Expires) }},
	{"added", func(g projections.Grant) string { return stamp(g.Added) }},
	{"id", func(g projections.Grant) string { return g.ID.String() }},
}

var grantDetails = append(grantColumns[:len(grantColumns):len(grantColumns)], []column[projections.Grant]{
	{"added by", func(g projections.Grant) string { return g.AddedBy }},
	{"removed", func(g projections.Grant) string { return stamp(g.Removed) }},
	{"removed by", func(g projections.Grant) string { return g.RemovedBy }},
	{"reason", func(g projections.Grant) string { return g.Reason }},
}...)

func number(n int) string { return strconv.Itoa(n) }

var _ = noun(func(c *call) *cobra.Command {
	return group("grant", "Who may use which account, until when", c.grantAdd(), c.grantRemove(), c.grantList(), c.grantShow())
})

// accountRef reads an account as people name one: ACCOUNT+TARGET, or its id.
func accountRef(s string) (account, target string, err error) {
	if _, bad := uuid.Parse(s); bad == nil {
		return s, "", nil
	}
	return splitAccount(s)
}

func (c *call) grantAdd() *cobra.Command {
	var expires string
	cmd := c.verb("add USER ACCOUNT+TARGET", "Let a user open sessions as an account", change, func(args []string) error {
		account, target, err := accountRef(args[1])
		if err != nil {
			return err
		}
		end, err := pointInTime(expires, time.Now(), +1)
		if err != nil {
			return err
		}
		return carryOut(c, "grant", "grant.added",
			commands.AddGrant{User: args[0], Account: account, Target: target, Expires: end}, c.ownGrant)
	})
	cmd.Flags().StringVar(&expires, "expires", "", "when it ends: RFC 3339, or how long from now (8h, 30d); without it there is no end")
	return cmd
}

func (c *call) grantRemove() *cobra.Command {
	var reason string
	cmd := c.verb("rm USER|ID [ACCOUNT+TARGET]", "Take the right of a user to an account away", change, func(args []string) error {
		remove := commands.RemoveGrant{Reason: reason}
		if len(args) == 1 {
			id, err := uuid.Parse(args[0])
			if err != nil {
				return &Fault{Exit: Usage, Message: "grant rm takes USER ACCOUNT+TARGET, or the id of a grant", Hint: "grant ls shows the ids"}
			}
			remove.Grant = events.GrantID{UUID: id}
		} else {
			account, target, err := accountRef(args[1])
			if err != nil {
				return err
			}
			remove.User, remove.Account, remove.Target = args[0], account, target
		}
		return carryOut(c, "grant", "grant.removed", remove, c.ownGrant)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	return cmd
}

func (c *call) grantList() *cobra.Command {
	var w window
	return w.flags(c.verb("ls", "List grants; an operator sees their own", own, func([]string) error {
		return listFrom(c, "grant", &w, c.ownGrants, grantColumns)
	}))
}

func (c *call) grantShow() *cobra.Command {
	return c.verb("show ID", "Show one grant", own, func(args []string) error {
		return showFrom(c, "grant", args[0], c.ownGrant, grantDetails)
	})
}

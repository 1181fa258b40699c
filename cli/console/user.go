package console

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
)

var userColumns = []column[projections.User]{
	{"name", func(u projections.User) string { return u.Name }},
	{"role", func(u projections.User) string { return string(u.Role) }},
	{"state", func(u projections.User) string { return conflicting(u.State, u.Conflict) }},
	{"keys", func(u projections.User) string {
		var prints []string
		for _, k := range u.Keys {
			prints = append(prints, k.Fingerprint)
		}
		return strings.Join(prints, " ")
	}},
	{"added", func(u projections.User) string { return stamp(u.Added) }},
	{"id", func(u projections.User) string { return u.ID.String() }},
}

var userDetails = append(userColumns[:len(userColumns):len(userColumns)], []column[projections.User]{
	{"disabled", func(u projections.User) string { return stamp(u.Disabled) }},
	{"reason", func(u projections.User) string { return u.Reason }},
	{"max sessions", func(u projections.User) string { return atMost(u.MaxSessions) }},
}...)

// conflicting marks a state whose name another one has, too.
func conflicting(state string, conflict bool) string {
	if conflict {
		return state + ", name in conflict"
	}
	return state
}

var _ = noun(func(c *call) *cobra.Command {
	return group("user", "People and automation, and their keys", c.userAdd(), c.userLimit(), c.userFactor(), c.userDisable(), c.userList(), c.userShow(), c.userTOTP(),
		group("key", "The keys that a user may log in with", c.userKeyAdd(), c.userKeyRemove()))
})

func (c *call) userAdd() *cobra.Command {
	var key, role string
	cmd := c.verb("add NAME", "Add a user", change, func(args []string) error {
		if key == "" {
			return &Fault{Exit: Usage, Message: "user add needs --key", Hint: "give the content of a .pub file, or - to read it from standard input"}
		}
		text, err := c.textInput("public key", key)
		if err != nil {
			return err
		}
		return carryOut(c, "user", "user.added", commands.AddUser{Name: args[0], Role: events.Role(role), Key: text}, (*projections.Projections).User)
	})
	cmd.Flags().StringVar(&key, "key", "", "public key in authorized_keys form, or - for standard input")
	cmd.Flags().StringVar(&role, "role", string(events.Operator), "what the user may do here: operator, approver, auditor or admin")
	return cmd
}

func (c *call) userKeyAdd() *cobra.Command {
	var key string
	cmd := c.verb("add NAME", "Give a user another key", change, func(args []string) error {
		if key == "" {
			return &Fault{Exit: Usage, Message: "user key add needs --key", Hint: "give the content of a .pub file, or - to read it from standard input"}
		}
		text, err := c.textInput("public key", key)
		if err != nil {
			return err
		}
		return carryOut(c, "user", "user.key_added", commands.AddUserKey{User: args[0], Key: text}, (*projections.Projections).User)
	})
	cmd.Flags().StringVar(&key, "key", "", "public key in authorized_keys form, or - for standard input")
	return cmd
}

func (c *call) userKeyRemove() *cobra.Command {
	return c.verb("rm NAME FINGERPRINT", "Take a key away from a user", change, func(args []string) error {
		return carryOut(c, "user", "user.key_removed", commands.RemoveUserKey{User: args[0], Fingerprint: args[1]}, (*projections.Projections).User)
	})
}

func (c *call) userDisable() *cobra.Command {
	var reason string
	cmd := c.verb("disable NAME", "Shut a user out, and end what they have open", change, func(args []string) error {
		return carryOut(c, "user", "user.disabled", commands.DisableUser{User: args[0], Reason: reason}, (*projections.Projections).User)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	return cmd
}

func (c *call) userLimit() *cobra.Command {
	var most uint32
	cmd := c.verb("limit NAME", "Bound how many sessions a user has at once", change, func(args []string) error {
		return carryOut(c, "user", "user.limits_set", commands.LimitUser{User: args[0], MaxSessions: most}, (*projections.Projections).User)
	})
	cmd.Flags().Uint32Var(&most, "max-sessions", 0, "sessions at once; 0 takes the limit away")
	return cmd
}

func (c *call) userList() *cobra.Command {
	var w window
	return w.flags(c.verb("ls", "List users", read, func([]string) error {
		return listFrom(c, "user", &w, c.users, userColumns)
	}))
}

func (c *call) userShow() *cobra.Command {
	return c.verb("show NAME", "Show one user, by name or id", read, func(args []string) error {
		return showFrom(c, "user", args[0], c.userWithFactor, userWithFactorColumns)
	})
}

// userWithFactor is a user with how it stands with their second factor.
type userWithFactor struct {
	projections.User
	Factor factorState `json:"factor"`
}

var userWithFactorColumns = func() (all []column[userWithFactor]) {
	for _, col := range userDetails {
		all = append(all, column[userWithFactor]{col.name, func(u userWithFactor) string { return col.cell(u.User) }})
	}
	return append(all,
		column[userWithFactor]{"second factor", func(u userWithFactor) string { return u.Factor.State }},
		column[userWithFactor]{"factor needed", func(u userWithFactor) string { return yes(u.Factor.Needed) }},
		column[userWithFactor]{"recovery codes", func(u userWithFactor) string { return number(u.Factor.Recovery) }})
}()

func (c *call) userWithFactor(p *projections.Projections, ctx context.Context, ref string) (u userWithFactor, err error) {
	if u.User, err = p.User(ctx, ref); err != nil {
		return u, err
	}
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		userCounts(s, &u.User)
		if known, ok := s.User(u.ID); ok {
			u.Factor = factorStateOf(s, known, c.cfg.Site.Commands().Log())
		}
	})
	return u, nil
}

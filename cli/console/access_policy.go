package console

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/projections"
)

var policyColumns = []column[projections.Policy]{
	{"name", func(p projections.Policy) string { return p.Name }},
	{"scope", func(p projections.Policy) string { return p.Scope }},
	{"state", func(p projections.Policy) string { return p.State }},
	{"requesters", func(p projections.Policy) string { return strings.Join(p.Requesters, " ") }},
	{"approvals", func(p projections.Policy) string { return number(int(p.Approvals)) }},
	{"approvers", func(p projections.Policy) string { return strings.Join(p.Approvers, " ") }},
	{"max time", func(p projections.Policy) string { return seconds(p.MaxTime) }},
	{"id", func(p projections.Policy) string { return p.ID.String() }},
}

var policyDetails = append(policyColumns[:len(policyColumns):len(policyColumns)], []column[projections.Policy]{
	{"max uses", func(p projections.Policy) string { return number(int(p.MaxUses)) }},
	{"ticket", func(p projections.Policy) string { return yes(p.Ticket) }},
	{"decide in", func(p projections.Policy) string { return seconds(p.Decide) }},
	{"at expiry", func(p projections.Policy) string {
		if p.Keep {
			return "keep"
		}
		return "end"
	}},
	{"only", func(p projections.Policy) string { return words(p.Terms.Services) }},
	{"allows", func(p projections.Policy) string { return words(p.Terms.Allow) }},
	{"to", func(p projections.Policy) string { return words(p.Terms.To) }},
	{"listens on", func(p projections.Policy) string { return words(p.Terms.Listen) }},
	{"max session", func(p projections.Policy) string { return seconds(p.Terms.MaxTime) }},
	{"idle", func(p projections.Policy) string { return seconds(p.Terms.Idle) }},
	{"max sessions", func(p projections.Policy) string { return atMost(p.Terms.MaxSessions) }},
	{"added", func(p projections.Policy) string { return stamp(p.Added) }},
	{"added by", func(p projections.Policy) string { return p.AddedBy }},
	{"removed", func(p projections.Policy) string { return stamp(p.Removed) }},
	{"removed by", func(p projections.Policy) string { return p.RemovedBy }},
	{"reason", func(p projections.Policy) string { return p.Reason }},
}...)

var _ = noun(func(c *call) *cobra.Command {
	return group("policy", "Who may ask for access, who decides, and why somebody is let in or not",
		c.policyAdd(), c.policyRemove(), c.policyList(), c.policyShow(), c.policyWhy())
})

func (c *call) policyAdd() *cobra.Command {
	var add commands.AddPolicy
	var lasts, decide, expiry string
	var terms termFlags
	cmd := c.verb("add NAME ACCOUNT+TARGET|SELECTOR", "Say who may ask for access within a scope, and who decides", change, func(args []string) error {
		scope, err := readScope(args[1])
		if err != nil {
			return err
		}
		add.Name, add.Account, add.Target, add.Selector = args[0], scope.account, scope.target, scope.selector
		if add.MaxTime, err = duration(lasts); err != nil {
			return err
		}
		if add.DecideIn, err = duration(decide); err != nil {
			return err
		}
		if expiry != "end" && expiry != "keep" {
			return usageError("--at-expiry is end or keep, not %q", expiry)
		}
		add.Keep = expiry == "keep"
		if add.Terms, err = terms.read(); err != nil {
			return err
		}
		return carryOut(c, "policy", "policy.added", add, (*projections.Projections).Policy)
	})
	cmd.Long = cmd.Short + ".\n\nUSERS are names, group:NAME, role:NAME or * for everybody, with commas between. All policies that cover an account\n" +
		"and let somebody ask bind the request; where no policy covers an account, anybody may ask and an administrator\n" +
		"decides. A policy is not changed: add another one, then remove this one."
	f := cmd.Flags()
	f.StringSliceVar(&add.Requesters, "requesters", nil, "USERS who may ask; without it nobody may")
	f.StringSliceVar(&add.Approvers, "approvers", nil, "USERS who decide; never the requester, under whatever name")
	f.Uint32Var(&add.Approvals, "approvals", 1, "how many different people have to approve; 0 for none")
	f.StringVar(&lasts, "max-request", "8h", "how long access may be asked for")
	f.Uint32Var(&add.MaxUses, "max-uses", 1, "how many logins may be asked for")
	f.BoolVar(&add.Ticket, "ticket", false, "a ticket must be named")
	f.StringVar(&decide, "decide-in", "24h", "how long a request waits for its decision before it lapses")
	f.StringVar(&expiry, "at-expiry", "end", "what happens to an open session when the time is over: end or keep")
	terms.flags(cmd)
	return cmd
}

func (c *call) policyRemove() *cobra.Command {
	var reason string
	cmd := c.verb("rm NAME", "Take a policy away, and end what only it allowed", change, func(args []string) error {
		return carryOut(c, "policy", "policy.removed", commands.RemovePolicy{Policy: args[0], Reason: reason}, (*projections.Projections).Policy)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	return cmd
}

func (c *call) policyList() *cobra.Command {
	var w window
	return w.flags(c.verb("ls", "List policies", read, func([]string) error {
		return listFrom(c, "policy", &w, (*projections.Projections).Policies, policyColumns)
	}))
}

func (c *call) policyShow() *cobra.Command {
	return c.verb("show NAME", "Show one policy, by name or id", read, func(args []string) error {
		return showFrom(c, "policy", args[0], (*projections.Projections).Policy, policyDetails)
	})
}

// decisionView is the answer to policy why.
type decisionView struct {
	User    string `json:"user"`
	Account string `json:"account"`
	commands.Explanation
}

var findingColumns = []column[commands.Finding]{
	{"rule", func(f commands.Finding) string { return f.Rule }},
	{"lets in", func(f commands.Finding) string { return yes(f.Allows) }},
	{"why", func(f commands.Finding) string { return f.Why }},
}

func (c *call) policyWhy() *cobra.Command {
	return c.verb("why USER ACCOUNT+TARGET", "Say what lets a user in now, or what is missing, by the rules that decide", read, func(args []string) error {
		account, target, err := accountRef(args[1])
		if err != nil {
			return err
		}
		d := c.cfg.Site.Commands()
		view := decisionView{User: args[0], Account: args[1]}
		now := d.Now()
		d.View(func(s *aggregate.State) {
			view.Explanation, err = commands.Explain(s, args[0], account, target, d.Log(), now)
		})
		if err != nil {
			return err
		}
		if c.json {
			return writeJSON(c.stdout, c.answer("decision", view))
		}
		word := "no"
		if view.Allowed {
			word = "yes"
		}
		if _, err := fmt.Fprintf(c.stdout, "%s: %s\n\n", word, Printable(oneLine(view.Rule))); err != nil {
			return err
		}
		return list(c, "finding", view.Findings, findingColumns)
	})
}

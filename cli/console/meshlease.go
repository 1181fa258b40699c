package console

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/site"
)

var leaseColumns = []column[site.MeshLease]{
	{"site", func(l site.MeshLease) string { return l.Site }},
	{"scheduled at", func(l site.MeshLease) string { return l.Work }},
	{"successor", func(l site.MeshLease) string { return l.Successor }},
	{"stops after", func(l site.MeshLease) string { return lasting(l.Yield) }},
	{"taken after", func(l site.MeshLease) string { return lasting(l.Take) }},
	{"standing", leaseStanding},
}

// leaseStanding says what this site knows of a lease: of its own, and of those that
// it grants.
func leaseStanding(l site.MeshLease) string {
	var parts []string
	switch {
	case l.Left != nil && *l.Left > 0:
		parts = append(parts, "held, "+lasting(*l.Left)+" left")
	case l.Left != nil:
		parts = append(parts, "none: scheduled work waits for the successor's answer")
	case l.Silent != nil && l.Work == l.Successor:
		parts = append(parts, "taken over")
	case l.Silent != nil:
		parts = append(parts, "heard "+lasting(*l.Silent)+" ago")
	}
	if len(l.Earlier) > 0 {
		parts = append(parts, "not heard of it yet: "+strings.Join(l.Earlier, " "))
	}
	return strings.Join(parts, "; ")
}

// lasting shows a time in seconds, nothing for none.
func lasting(seconds float64) string {
	if seconds <= 0 {
		return ""
	}
	return time.Duration(seconds * float64(time.Second)).Round(100 * time.Millisecond).String()
}

func (c *call) meshLease() *cobra.Command {
	cmd := c.verb("lease", "Show who does the scheduled work of each site, and by which lease", read, func([]string) error {
		return list(c, "lease", c.cfg.Site.Leases(), leaseColumns)
	})
	cmd.Long = cmd.Short + ".\n\nA site that has named a successor rotates on schedule only while the successor answers it; the\n" +
		"successor takes over by itself when it hears nothing of the site for long enough. What people ask for\n" +
		"never waits. Standing is what this site knows: how much is left of its own lease, and when it last heard\n" +
		"the sites whose successor it is. Name a successor with mesh successor."
	return cmd
}

func (c *call) meshSuccessor() *cobra.Command {
	var p commands.NameSuccessor
	var none bool
	cmd := c.verb("successor [SITE]", "Name the site that takes this one's scheduled work over by itself", change, func(args []string) error {
		if none != (len(args) == 0) {
			return usageError("name a site, or nobody with --none")
		}
		if len(args) > 0 {
			p.Successor = args[0]
		}
		if _, err := c.do(p); err != nil {
			return err
		}
		return list(c, "lease", c.ownLease(), leaseColumns)
	})
	cmd.Flags().DurationVar(&p.Yield, "yield", time.Minute, "how long without its answer until scheduled work stops here")
	cmd.Flags().DurationVar(&p.Take, "take", 90*time.Second, "how long without a word of this site until it takes over")
	cmd.Flags().BoolVar(&none, "none", false, "nobody any more")
	cmd.Flags().StringVar(&p.Reason, "reason", "", "why, for the audit")
	cmd.Long = cmd.Short + " when it hears nothing of it.\n\nFrom then on this site rotates on schedule only while the successor answers it: it stops after --yield, the\n" +
		"other one starts after --take, which is longer by so much that the two never work at once. What people ask\n" +
		"for goes on at both. Requests and second factors stay here; mesh takeover moves those. mesh handback gives\n" +
		"the work back. Only the site itself names its successor, which must be a custodian. One that was named\n" +
		"before is waited for too, until it has heard of the new one: see mesh lease."
	return cmd
}

// noteLease tells that nothing is rotated on schedule here for want of a lease.
func (c *call) noteLease() {
	for _, l := range c.ownLease() {
		if l.Left != nil && *l.Left == 0 {
			c.note("no successor answers, so this site rotates nothing on schedule now; see mesh lease")
		}
	}
}

// ownLease is this site's line of mesh lease.
func (c *call) ownLease() (own []site.MeshLease) {
	for _, l := range c.cfg.Site.Leases() {
		if l.ID == c.cfg.Site.ID() {
			own = append(own, l)
		}
	}
	return own
}

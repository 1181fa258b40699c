package console

import (
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
)

var grantColumns = []column[projections.Grant]{
	{"user", func(g projections.Grant) string {
		if g.Group != "" {
			return "group:" + g.Group
		}
		return g.User
	}},
	{"account", func(g projections.Grant) string { return g.Account }},
	{"state", func(g projections.Grant) string { return g.State }},
	{"expires", func(g projections.Grant) string { return stamp(g.Expires) }},
	{"allows", func(g projections.Grant) string { return words(g.Terms.Allow) }},
	{"added", func(g projections.Grant) string { return stamp(g.Added) }},
	{"id", func(g projections.Grant) string { return g.ID.String() }},
}

var grantDetails = append(grantColumns[:len(grantColumns):len(grantColumns)], []column[projections.Grant]{
	{"from", func(g projections.Grant) string { return stamp(g.From) }},
	{"windows", func(g projections.Grant) string { return words(g.Windows) }},
	{"only", func(g projections.Grant) string { return words(g.Terms.Services) }},
	{"denies", func(g projections.Grant) string { return words(g.Terms.Deny) }},
	{"to", func(g projections.Grant) string { return words(g.Terms.To) }},
	{"listens on", func(g projections.Grant) string { return words(g.Terms.Listen) }},
	{"max time", func(g projections.Grant) string { return seconds(g.Terms.MaxTime) }},
	{"idle", func(g projections.Grant) string { return seconds(g.Terms.Idle) }},
	{"max sessions", func(g projections.Grant) string { return atMost(g.Terms.MaxSessions) }},
	{"added by", func(g projections.Grant) string { return g.AddedBy }},
	{"removed", func(g projections.Grant) string { return stamp(g.Removed) }},
	{"removed by", func(g projections.Grant) string { return g.RemovedBy }},
	{"reason", func(g projections.Grant) string { return g.Reason }},
}...)

func number(n int) string { return strconv.Itoa(n) }

func words[T ~string](list []T) string {
	var b strings.Builder
	for i, w := range list {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(w))
	}
	return b.String()
}

// seconds shows a limit in seconds, which is empty where there is none.
func seconds(n uint64) string {
	if n == 0 {
		return ""
	}
	return (time.Duration(n) * time.Second).String()
}

// atMost shows a limit, which is empty where there is none.
func atMost(n uint32) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(n), 10)
}

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

// scopeRef is what accounts a grant or a policy is about: one, as people name
// one, or all that a selector takes in.
type scopeRef struct{ account, target, selector string }

func readScope(text string) (r scopeRef, err error) {
	if events.IsSelector(text) {
		return scopeRef{selector: text}, nil
	}
	r.account, r.target, err = accountRef(text)
	return r, err
}

func (c *call) grantAdd() *cobra.Command {
	var from, expires string
	var windows []string
	var terms termFlags
	cmd := c.verb("add USER|group:NAME ACCOUNT+TARGET|SELECTOR", "Let a user or a group open sessions as an account, or as all that a selector takes in", change, func(args []string) error {
		scope, err := readScope(args[1])
		if err != nil {
			return err
		}
		begin, err := pointInTime(from, time.Now(), +1)
		if err != nil {
			return err
		}
		end, err := pointInTime(expires, time.Now(), +1)
		if err != nil {
			return err
		}
		t, err := terms.read()
		if err != nil {
			return err
		}
		return carryOut(c, "grant", "grant.added", commands.AddGrant{
			User: args[0], Account: scope.account, Target: scope.target, Selector: scope.selector,
			From: begin, Expires: end, Windows: windows, Terms: t,
		}, c.ownGrant)
	})
	cmd.Long = cmd.Short + ".\n\nA selector is ACCOUNT+LABELS: root+env=prod,tier=web takes in root on every target that has both labels;\n" +
		"*+env=prod any account there, root+* root on every target. A window is DAYS@HH:MM-HH:MM@ZONE, like\n" +
		"mon-fri@08:00-18:00@Europe/Berlin; sessions end when it closes. Of several grants the most specific one counts:\n" +
		"a user's before a group's, an account's before a selector's, then the newest."
	terms.flags(cmd)
	cmd.Flags().StringVar(&from, "not-before", "", "when it begins: RFC 3339, or how long from now")
	cmd.Flags().StringVar(&expires, "expires", "", "when it ends: RFC 3339, or how long from now (8h, 30d); without it there is no end")
	cmd.Flags().StringArrayVar(&windows, "window", nil, "when in the week: DAYS@HH:MM-HH:MM@ZONE; repeatable; without it at any time")
	return cmd
}

// termFlags is what a grant allows beside shells, commands and files, and its
// limits.
type termFlags struct {
	only              []string
	allow, to, listen []string
	deny              []string
	maxTime, idle     string
	maxSessions       uint32
}

func (t *termFlags) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&t.only, "only", nil, "of shell, exec, sftp and subsystem, only these; exec runs any command, a shell too")
	f.StringSliceVar(&t.allow, "allow", nil, "forwardings: local (also dynamic), remote, agent; without it there are none")
	f.StringSliceVar(&t.deny, "deny", nil, "upload, download: files may not go that way by SFTP, scp, rsync and git; a shell or a command is not held back, see --only")
	f.StringSliceVar(&t.to, "to", nil, "where local ones may lead, like 10.0.0.0/8:5432,localhost:*,/run/app.sock; * is any host but loopback and link-local addresses; what a name stands for is the target's word")
	f.StringSliceVar(&t.listen, "listen", nil, "what remote ones may listen on at the target, like localhost:8000-8999")
	f.StringVar(&t.maxTime, "max-time", "", "how long a session may last (8h)")
	f.StringVar(&t.idle, "idle", "", "how long a session may go without input (15m)")
	f.Uint32Var(&t.maxSessions, "max-sessions", 0, "sessions at once under this grant; 0 is no limit")
}

func (t *termFlags) read() (terms events.Terms, err error) {
	for _, w := range t.allow {
		if w == "dynamic" { // ssh -D asks for the same channels as ssh -L
			w = string(events.Local)
		}
		terms.Allow = append(terms.Allow, events.Way(w))
	}
	for _, w := range t.only {
		terms.Services = append(terms.Services, events.Service(w))
	}
	for _, w := range t.deny {
		terms.Deny = append(terms.Deny, events.Transfer(w))
	}
	terms.To, terms.Listen, terms.MaxSessions = t.to, t.listen, t.maxSessions
	if terms.MaxTime, err = wholeSeconds(t.maxTime); err == nil {
		terms.Idle, err = wholeSeconds(t.idle)
	}
	return terms, err
}

// wholeSeconds reads a length of time of at least a second; the empty string is 0.
func wholeSeconds(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	d, err := duration(s)
	if err == nil && (d < time.Second || d%time.Second != 0) {
		err = usageError("%q is not a whole number of seconds", s)
	}
	return uint64(d / time.Second), err
}

func (c *call) grantRemove() *cobra.Command {
	var reason string
	cmd := c.verb("rm USER|group:NAME|ID [ACCOUNT+TARGET|SELECTOR]", "Take the right of a user or a group to an account or a selector away", change, func(args []string) error {
		remove := commands.RemoveGrant{Reason: reason}
		if len(args) == 1 {
			id, err := uuid.Parse(args[0])
			if err != nil {
				return &Fault{Exit: Usage, Message: "grant rm takes USER ACCOUNT+TARGET, or the id of a grant", Hint: "grant ls shows the ids"}
			}
			remove.Grant = events.GrantID{UUID: id}
		} else {
			scope, err := readScope(args[1])
			if err != nil {
				return err
			}
			remove.User, remove.Account, remove.Target, remove.Selector = args[0], scope.account, scope.target, scope.selector
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

package console

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/site"
)

var _ = noun(func(c *call) *cobra.Command {
	return group("mesh", "Sites that share what they decide and record", c.meshInvite(), c.meshJoin(), c.meshSetRole(), c.meshStatus(),
		c.meshTakeover(), c.meshHandback(), c.meshDrain(), c.meshLeave(), c.meshFence(), c.meshExposed(), c.meshReconcile(), c.meshHistory(),
		c.meshMatrix(), c.meshLag(), c.meshTop(), c.meshCopies(), c.meshSetCopies(),
		c.meshSuccessor(), c.meshLease())
})

var meshColumns = []column[site.MeshSite]{
	{"site", func(m site.MeshSite) string { return m.Site }},
	{"state", func(m site.MeshSite) string { return m.State }},
	{"role", func(m site.MeshSite) string { return string(m.Role) }},
	{"work", func(m site.MeshSite) string { return m.Work }},
	{"scheduled", func(m site.MeshSite) string { return m.Scheduled }},
	{"lag", func(m site.MeshSite) string { return strconv.FormatUint(m.Lag, 10) }},
	{"behind", func(m site.MeshSite) string { return strconv.FormatUint(m.Behind, 10) }},
	{"masked", func(m site.MeshSite) string { return strconv.FormatUint(m.Masked, 10) }},
	{"pair", func(m site.MeshSite) string { return m.Pair }},
	{"trouble", func(m site.MeshSite) string { return m.Trouble }},
	{"last seen", func(m site.MeshSite) string { return stamp(m.LastSeen) }},
	{"addr", func(m site.MeshSite) string { return m.Addr }},
	{"id", func(m site.MeshSite) string { return m.ID.String() }},
}

func (c *call) meshStatus() *cobra.Command {
	cmd := c.verb("status", "Show how the members of the mesh stand, as this site sees them", read, func([]string) error {
		sites, err := c.cfg.Site.Mesh(c.ctx)
		if err != nil {
			return err
		}
		return list(c, "mesh", sites, meshColumns)
	})
	cmd.Long = cmd.Short + ".\n\nLag counts the decisions held here that a site is not known to hold, behind those that\n" +
		"it holds and this site does not. A site that is unreachable goes on by itself.\n" +
		"Work is where that is carried out what the site began: itself, or the site that took it over;\n" +
		"scheduled where its rotations are (mesh lease says by which lease).\n" +
		"Masked counts what a site decided beyond what it was admitted for: it has no effect; see audit tail --type mesh.masked."
	return cmd
}

// invitation is what a newcomer needs to join.
type invitation struct {
	Token   string            `json:"token"`
	Name    string            `json:"name"`
	Expires time.Time         `json:"expires"`
	ID      string            `json:"event"` // that made it
	Role    events.MemberRole `json:"role"`
}

func (c *call) meshInvite() *cobra.Command {
	var addr, role string
	var scopes []string
	var valid time.Duration
	var custodian bool
	cmd := c.verb("invite NAME", "Print a token that lets one new site join, once", change, func(args []string) error {
		if addr == "" {
			return usageError("name with --addr where the newcomer reaches this site's mesh port")
		}
		var areas []events.Area
		for _, scope := range scopes {
			areas = append(areas, events.Area(scope))
		}
		token, r, err := c.cfg.Site.Invite(c.from(), c.by.actor(), commands.InviteSite{
			Name: args[0], Valid: valid, Role: events.MemberRole(role), Scopes: areas, Custodian: custodian,
		}, addr)
		if err != nil {
			return err
		}
		if c.json {
			return writeJSON(c.stdout, c.answer("invitation", invitation{
				Token: token, Name: args[0], Expires: r.Header.Time().Add(valid), ID: r.Header.ID.String(), Role: events.MemberRole(role),
			}))
		}
		if c.onlySteward(events.MemberRole(role)) {
			c.note("this site is the only steward: were it lost, nobody could take sites in or fence them; mesh set-role makes another one")
		}
		c.note("the token is good once, for site %s, for %s; whoever has it can join as that site", Printable(args[0]), valid)
		_, err = io.WriteString(c.stdout, token+"\n")
		return err
	})
	cmd.Flags().StringVar(&addr, "addr", "", "HOST:PORT at which the newcomer reaches this site's mesh port")
	cmd.Flags().DurationVar(&valid, "valid", time.Hour, "how long the token is good")
	cmd.Flags().StringVar(&role, "role", string(events.PeerSite), "what the site may decide for all: steward, peer or edge")
	cmd.Flags().StringSliceVar(&scopes, "scope", nil, "less than the role: access, targets, secrets, sessions, mesh; repeatable")
	cmd.Flags().BoolVar(&custodian, "custodian", true, "whether it will be able to open credentials and recordings")
	cmd.Long = cmd.Short + ".\n\nThe newcomer is started with --site-name NAME and --mesh-listen, and there mesh join takes the token.\n" +
		"A steward decides on everything, members included; a peer on everything else; an edge runs sessions only.\n" +
		"Scopes narrow that down: access (users, grants, requests), targets, secrets, sessions, mesh (members).\n" +
		"What a site writes beyond it is kept, has no effect anywhere, and raises an alarm (mesh status, mesh.masked)."
	return cmd
}

func (c *call) meshJoin() *cobra.Command {
	cmd := c.verb("join TOKEN", "Make this site a member of the mesh that the token is from", change, func(args []string) error {
		mesh, err := c.cfg.Site.Join(c.from(), c.by.actor(), args[0])
		if err != nil {
			return err
		}
		if c.json {
			return writeJSON(c.stdout, c.answer("mesh", struct {
				Mesh events.SiteID `json:"mesh"` // the site that founded it
			}{mesh}))
		}
		_, err = fmt.Fprintf(c.stdout, "joined the mesh of site %s; mesh status shows how much of it is here\n", mesh)
		return err
	})
	cmd.Long = cmd.Short + ".\n\nUsers, keys, groups, grants and authorities that this site made by itself do not count from then on:\n" +
		"those of the mesh do. Its targets, accounts and recordings stay."
	return cmd
}

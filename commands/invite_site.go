package commands

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// InviteSite allows one site to join the mesh of this one, once.
type InviteSite struct {
	Site       events.SiteID // that invites
	Name       string        // that the newcomer has
	SecretHash []byte        // SHA-256 of what the newcomer has to show
	Valid      time.Duration // how long the invitation is good
	Role       events.MemberRole
	Scopes     []events.Area // of the role's areas; empty for all
	Custodian  bool          // it will be able to open credentials and recordings
}

var _ = register[InviteSite]("InviteSite", byAdmin)

// maxInvitation bounds how long an invitation is good.
const maxInvitation = 30 * 24 * time.Hour

// Decide refuses a name that a site has, and sites that may not admit others.
func (c InviteSite) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkName("site", c.Name); err != nil {
		return nil, err
	}
	switch c.Role {
	case events.Steward, events.PeerSite, events.EdgeSite:
	default:
		return nil, invalid("use one of: steward peer edge", "%s is no role that a site can have", quoted(string(c.Role)))
	}
	for _, scope := range c.Scopes {
		if !slices.Contains(c.Role.Areas(), scope) {
			return nil, invalid("role "+string(c.Role)+" has: "+words(c.Role.Areas()), "%s is no area that a site of role %s decides on", quoted(string(scope)), c.Role)
		}
	}
	if m, member := s.MeshSite(c.Site); member && m.Role != events.Steward {
		return nil, conflict("do it at a steward site (mesh status)", "this site has role %s in the mesh: it may not take others in", m.Role)
	}
	for _, area := range c.Role.Areas() {
		if (len(c.Scopes) == 0 || slices.Contains(c.Scopes, area)) && !slices.Contains(s.DecidesOn(c.Site), area) {
			return nil, conflict("name with --scope less than that", "this site was not admitted to decide on %s, so it can't let others", area)
		}
	}
	if c.Valid <= 0 || c.Valid > maxInvitation {
		return nil, invalid("use a length of time such as 1h", "an invitation is good for up to 30 days, not %s", c.Valid)
	}
	if len(c.SecretHash) != 32 {
		return nil, invalid("", "an invitation needs the SHA-256 of a secret")
	}
	for _, m := range s.MeshSites() {
		if m.Name == c.Name {
			return nil, conflict("give the newcomer another name (up --site-name)", "site %s is a member already", quoted(c.Name))
		}
	}
	d := newDecision(by, env)
	d.add(d.id(), events.SiteInvited{
		Name: c.Name, SecretHash: c.SecretHash, Expires: env.Now.Add(c.Valid).UTC().Truncate(time.Second), Role: c.Role, Scopes: c.Scopes, Custodian: c.Custodian,
	})
	return d.done()
}

func words[T ~string](all []T) string {
	var out []string
	for _, v := range all {
		out = append(out, string(v))
	}
	return strings.Join(out, " ")
}

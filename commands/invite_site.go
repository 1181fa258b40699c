package commands

import (
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
	if err := mayGive(s, c.Site, c.Role, c.Scopes); err != nil {
		return nil, err
	}
	if c.Valid <= 0 || c.Valid > maxInvitation {
		return nil, invalid("use a length of time such as 1h", "an invitation is good for up to 30 days, not %s", c.Valid)
	}
	if len(c.SecretHash) != 32 {
		return nil, invalid("", "an invitation needs the SHA-256 of a secret")
	}
	if self, known := s.Site(c.Site); known && self.Name == c.Name {
		return nil, conflict("give the newcomer another name (up --site-name)", "this site itself is %s", quoted(c.Name))
	}
	for _, m := range s.MeshSites() {
		if m.Name == c.Name && !s.Left(m.Site) {
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

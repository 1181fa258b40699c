package commands

import (
	"slices"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// SetSiteRole changes what a member of the mesh may decide: it is admitted again,
// by the keys that it has. What the member writes from then on, knowing of it, is
// judged by that; a member that acts as if it did not know takes a fence.
type SetSiteRole struct {
	Site      string // name or id
	Role      events.MemberRole
	Scopes    []events.Area // of the role's areas; empty for all
	Custodian *bool         // whether it may open credentials and recordings; nil for as now
}

var _ = register[SetSiteRole]("SetSiteRole", byAdmin)

// Decide refuses more than this site may decide itself, and what changes nothing.
func (c SetSiteRole) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := mayGive(s, env.Log.Site, c.Role, c.Scopes); err != nil {
		return nil, err
	}
	m, err := FindMember(s, c.Site)
	if err != nil {
		return nil, err
	}
	switch {
	case m.Founder:
		return nil, conflict("mesh fence or mesh leave ends what it decides", "site %s made the mesh, and decides on everything in it", quoted(m.Name))
	case s.Left(m.Site):
		return nil, conflict("begin a new site in another data directory and invite that (mesh invite); it may have the same name", "site %s has left the mesh, for good", quoted(m.Name))
	case s.Fenced(m.Site):
		return nil, conflict("mesh reconcile takes a fence back", "site %s is not in the mesh any more", quoted(m.Name))
	case len(m.Identity) == 0:
		return nil, conflict("fence it, and take it in under another name", "site %s was admitted by two keys, and neither is believed", quoted(m.Name))
	}
	last := s.Admission(m.Site)
	e := events.SiteAdmitted{
		Name: m.Name, Identity: m.Identity, Addr: m.AdmittedAt, SealingKey: m.SealingKey, HostKey: m.HostKey,
		Role: c.Role, Scopes: c.Scopes, Custodian: m.Custodian, Before: last.Before,
	}
	if c.Custodian != nil {
		e.Custodian = *c.Custodian
	}
	if last.Agreed && last.Role == e.Role && last.Custodian == e.Custodian && slices.Equal(last.Scopes, e.Scopes) {
		return nil, conflict("", "site %s has that role already", quoted(m.Name))
	}
	d := newDecision(by, env)
	d.add(m.Site.UUID, e)
	return d.done()
}

// mayGive refuses a role, or scopes of it, that a site may not give to another one.
func mayGive(s *aggregate.State, self events.SiteID, role events.MemberRole, scopes []events.Area) error {
	switch role {
	case events.Steward, events.PeerSite, events.EdgeSite:
	default:
		return invalid("use one of: steward peer edge", "%s is no role that a site can have", quoted(string(role)))
	}
	for _, scope := range scopes {
		if !slices.Contains(role.Areas(), scope) {
			return invalid("role "+string(role)+" has: "+words(role.Areas()), "%s is no area that a site of role %s decides on", quoted(string(scope)), role)
		}
	}
	if m, member := s.MeshSite(self); member && m.Role != events.Steward {
		return conflict("do it at a steward site (mesh status)", "this site has role %s in the mesh: it may not say who may decide what", m.Role)
	}
	for _, area := range role.Areas() {
		if (len(scopes) == 0 || slices.Contains(scopes, area)) && !slices.Contains(s.DecidesOn(self), area) {
			return conflict("name with --scope less than that", "this site was not admitted to decide on %s, so it can't let others", area)
		}
	}
	return nil
}

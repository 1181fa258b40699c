package aggregate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// Member is a site of the mesh as it was last admitted.
type Member struct {
	ID       events.SiteID
	Admitted *Mark
	events.SiteAdmitted
}

// admission is one time that a site was admitted.
type admission struct {
	at *Mark
	events.SiteAdmitted
}

// Invitation lets a site join the mesh.
type Invitation struct {
	ID   events.InvitationID
	Made *Mark
	events.SiteInvited
	Used    *Mark // the admission that it was used for; nil while it was not
	Revoked bool
}

// Open reports whether the invitation can be used at a time.
func (i *Invitation) Open(now time.Time) bool {
	return i.Used == nil && !i.Revoked && now.Before(i.Expires)
}

// Masked counts records of one site that are kept and have no effect.
type Masked struct {
	Site  events.SiteID
	Type  string // of the events
	Why   string
	Count uint64
	Last  *Mark
}

// In makes s the state of a site in a mesh: call it before any record is
// applied, with the site that founded the mesh. Without it the state is that of
// a site alone, in which everything counts, until that site founds a mesh
// itself.
func (s *State) In(mesh events.SiteID) *State {
	s.mesh = mesh
	return s
}

// Mesh is the site that founded the mesh; zero for a site alone.
func (s *State) Mesh() events.SiteID { return s.mesh }

// Masks reports whether a record that was applied has no effect (see MaskOf).
func (s *State) Masks(h *events.Header, clock events.Clock) bool {
	return s.MaskOf(markOf(h, clock), h.Type) != ""
}

// MaskOf says why a record of a ctl log has no effect, "" if it has one. It
// depends on nothing but what the record's site knew when it wrote it, so all
// sites agree. Everything that the record knew of must have been applied.
func (s *State) MaskOf(at *Mark, eventType string) string {
	site := at.Origin.Site
	if s.mesh.IsZero() || site == s.mesh {
		return ""
	}
	var known []*admission
	for _, a := range s.admissions[site] {
		if at.Knows(a.at) {
			known = slices.DeleteFunc(known, func(b *admission) bool { return a.at.Knows(b.at) })
			if !slices.ContainsFunc(known, func(b *admission) bool { return b.at.Knows(a.at) }) {
				known = append(known, a)
			}
		}
	}
	if len(known) == 0 {
		return "written before its site was admitted to the mesh"
	}
	area, own := areaOf(eventType)
	switch {
	case own && at.Stream == site.UUID:
		return ""
	case own:
		return "speaks for another site"
	case area == "":
		return "" // of a newer version: nothing here folds it
	}
	for _, a := range known {
		if !slices.Contains(a.Areas, area) {
			return "its site was not admitted for " + string(area)
		}
	}
	return ""
}

// areas are the areas of event types by the noun before their dot.
var areas = map[string]events.Area{
	"user": events.Access, "group": events.Access, "role": events.Access, "grant": events.Access, "request": events.Access,
	"approval": events.Access, "policy": events.Access, "factor": events.Access,
	"target": events.Targets, "account": events.Targets,
	"credential": events.Secrets, "secret": events.Secrets, "rotation": events.Secrets,
	"session": events.Sessions, "access": events.Sessions,
	"mesh": events.Mesh,
}

// exceptions are event types that belong elsewhere than others of their noun.
var exceptions = map[string]events.Area{
	"site.admitted": events.Mesh, "ca.trusted": events.Access, "ca.distrusted": events.Access, "ca.certificate_revoked": events.Access,
	"target.host_key_refused": events.Sessions,
}

// areaOf gives the area of an event type, and whether it is instead one that
// each site writes of itself.
func areaOf(eventType string) (area events.Area, own bool) {
	if area, ok := exceptions[eventType]; ok {
		return area, false
	}
	noun, _, _ := strings.Cut(eventType, ".")
	switch noun {
	case "site", "log", "ca", "vault":
		return "", true
	}
	return areas[noun], false
}

// mask notes a record that has no effect.
func (s *State) mask(at *Mark, eventType, why string) {
	key := maskKey{at.Origin.Site, eventType, why}
	m := s.masks[key]
	if m == nil {
		m = &Masked{Site: key.site, Type: eventType, Why: why}
		s.masks[key] = m
	}
	m.Count++
	if m.Last == nil || at.Compare(m.Last) > 0 {
		m.Last = at
	}
}

type maskKey struct {
	site           events.SiteID
	eventType, why string
}

// Masked lists what was kept without effect, by site and type.
func (s *State) Masked() []*Masked {
	return slices.SortedFunc(maps.Values(s.masks), func(a, b *Masked) int {
		if c := slices.Compare(a.Site.UUID[:], b.Site.UUID[:]); c != 0 {
			return c
		}
		return strings.Compare(a.Type+a.Why, b.Type+b.Why)
	})
}

var _ = fold(func(s *State, at *Mark, _ events.MeshFounded) bool {
	if s.mesh.IsZero() {
		s.mesh = at.Origin.Site
	}
	return s.mesh == at.Origin.Site
})

var _ = fold(func(s *State, at *Mark, e events.SiteInvited) bool {
	id := events.InvitationID{UUID: at.Stream}
	if s.invitations[id] != nil {
		return false
	}
	s.invitations[id] = &Invitation{ID: id, Made: at, SiteInvited: e}
	return true
})

var _ = foldAway(func(s *State, at *Mark, _ events.InvitationRevoked) bool {
	i := s.invitations[events.InvitationID{UUID: at.Stream}]
	if i == nil {
		return false
	}
	i.Revoked = true
	return true
})

var _ = fold(func(s *State, at *Mark, e events.SiteAdmitted) bool {
	id := events.SiteID{UUID: at.Stream}
	if i := s.invitations[e.Invitation]; i != nil && (i.Used == nil || at.Compare(i.Used) < 0) {
		i.Used = at
	}
	s.admissions[id] = append(s.admissions[id], &admission{at, e})
	t := s.sites[id]
	if t == nil { // what it wrote of itself before does not count
		t = &Site{ID: id, Created: at, full: map[events.Kind]*heads[bool]{}}
		s.sites[id] = t
	}
	if at.Compare(t.Created) < 0 {
		t.Created = at
	}
	m, _ := s.MeshMember(id)
	t.Name, t.HostKey = m.Name, m.HostKey
	t.sealing.put(at, sealingKeys{current: e.SealingKey})
	return true
})

// MeshMember finds a site of the mesh. Of admissions that did not know of each
// other the newest one's address and keys are shown.
func (s *State) MeshMember(id events.SiteID) (*Member, bool) {
	all := s.admissions[id]
	if len(all) == 0 {
		return nil, false
	}
	last := slices.MaxFunc(all, func(a, b *admission) int { return a.at.Compare(b.at) })
	return &Member{ID: id, Admitted: last.at, SiteAdmitted: last.SiteAdmitted}, true
}

// MeshMembers lists the sites of the mesh in the order in which they were admitted.
func (s *State) MeshMembers() []*Member {
	var all []*Member
	for id := range s.admissions {
		m, _ := s.MeshMember(id)
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *Member) int { return a.Admitted.Compare(b.Admitted) })
	return all
}

// Invitation finds an invitation by id.
func (s *State) Invitation(id events.InvitationID) (*Invitation, bool) {
	i, ok := s.invitations[id]
	return i, ok
}

// Invitations lists all invitations in the order in which they were made.
func (s *State) Invitations() []*Invitation {
	return slices.SortedFunc(maps.Values(s.invitations), func(a, b *Invitation) int { return a.Made.Compare(b.Made) })
}

// meshLines is the mesh's part of the digest.
func (s *State) meshLines() []string {
	all := []string{fmt.Sprintf("mesh %s\n", s.mesh)}
	for id, of := range s.admissions {
		for _, a := range of {
			all = append(all, fmt.Sprintf("admitted %s %s %+v\n", id, show(a.at), a.SiteAdmitted))
		}
	}
	for id, i := range s.invitations {
		all = append(all, fmt.Sprintf("invitation %s %s %+v used %s revoked %t\n", id, show(i.Made), i.SiteInvited, show(i.Used), i.Revoked))
	}
	for _, m := range s.masks {
		all = append(all, fmt.Sprintf("masked %s %s %q %d last %s\n", m.Site, m.Type, m.Why, m.Count, show(m.Last)))
	}
	return all
}

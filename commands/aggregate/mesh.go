package aggregate

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// MeshSite is a site of the mesh.
type MeshSite struct {
	Site       events.SiteID
	Name       string
	Identity   []byte
	Addr       string
	SealingKey []byte
	HostKey    string
	Role       events.MemberRole
	Custodian  bool
	Founder    bool
	Before     events.Clock // what it had decided before it joined
	Admitted   *Mark
}

// Invitation allows one site to join, once.
type Invitation struct {
	ID         events.InvitationID
	Name       string
	SecretHash []byte
	Expires    time.Time
	Role       events.MemberRole
	Custodian  bool
	Made       *Mark

	withdrawn bool
	used      []events.SiteID
}

// Open reports whether the invitation can still be used: by nobody yet, or again
// by the site that did.
func (v *Invitation) Open(site events.SiteID, now time.Time) bool {
	return !v.withdrawn && now.Before(v.Expires) && !slices.ContainsFunc(v.used, func(id events.SiteID) bool { return id != site })
}

// Used reports whether a site joined by the invitation.
func (v *Invitation) Used() bool { return len(v.used) > 0 }

// mesh is what a site knows of the mesh that it is in.
type mesh struct {
	self, founder events.SiteID // where this site has joined a mesh

	members     map[events.SiteID]heads[events.SiteAdmitted]
	invitations map[events.InvitationID]*Invitation
	forks       map[events.Origin]events.ForkProved // the one that leaves least
}

var _ = fold(func(s *State, at *Mark, e events.SiteInvited) bool {
	id := events.InvitationID{UUID: at.Stream}
	if s.mesh.invitations[id] != nil {
		return false
	}
	if s.mesh.invitations == nil {
		s.mesh.invitations = map[events.InvitationID]*Invitation{}
	}
	s.mesh.invitations[id] = &Invitation{
		ID: id, Name: e.Name, SecretHash: e.SecretHash, Expires: e.Expires, Role: e.Role, Custodian: e.Custodian, Made: at,
	}
	return true
})

var _ = foldAway(func(s *State, at *Mark, _ events.InvitationWithdrawn) bool {
	v := s.mesh.invitations[events.InvitationID{UUID: at.Stream}]
	if v != nil {
		v.withdrawn = true
	}
	return v != nil
})

var _ = fold(func(s *State, at *Mark, e events.SiteAdmitted) bool {
	id := events.SiteID{UUID: at.Stream}
	if e.Founder && at.Origin.Site != id {
		return false // nobody founds a mesh for another site
	}
	if s.mesh.members == nil {
		s.mesh.members = map[events.SiteID]heads[events.SiteAdmitted]{}
	}
	h := s.mesh.members[id]
	h.put(at, e)
	s.mesh.members[id] = h
	if v := s.mesh.invitations[e.Invitation]; v != nil {
		v.used = append(v.used, id)
	}
	for _, before := range e.Before {
		s.joined(before)
	}
	return true
})

// joined notes up to where a site's decisions are from before it joined.
func (s *State) joined(before events.ClockEntry) {
	if s.before == nil {
		s.before = map[events.Origin]uint64{}
	}
	s.before[before.Origin] = max(s.before[before.Origin], before.Position)
}

// Joined tells the state that a site, whose state it is, joined the mesh of a
// founder after having decided so much. It is told before anything is applied, so
// that identities of before are never taken for the mesh's.
func (s *State) Joined(self, founder events.SiteID, before events.Clock) {
	s.mesh.self, s.mesh.founder = self, founder
	for _, e := range before.Entries() {
		s.joined(e)
	}
}

// stranger reports whether a site is in the mesh and its admission was not
// applied yet, which says what of it counts. What it wrote before it was admitted
// knows nothing of that.
func (s *State) stranger(site events.SiteID) bool {
	if len(s.mesh.members) == 0 && s.mesh.founder.IsZero() || site == s.mesh.self || site == s.mesh.founder {
		return false
	}
	return len(s.mesh.members[site]) == 0
}

// identities are the types of events, by their first word, that make or change
// who may do what. A site's own from before it joined a mesh do not count in it.
var identities = []string{"user", "group", "grant", "ca", "role", "factor"}

// Masked reports whether an event counts for nothing, by where it comes from:
// views leave it out as well.
func (s *State) Masked(h *events.Header) bool { return s.masked(h) }

// masked reports whether an event counts for nothing, by where it comes from.
func (s *State) masked(h *events.Header) bool {
	word, _, _ := strings.Cut(h.Type, ".")
	if h.Position <= s.before[h.Origin()] && (slices.Contains(identities, word) || meshDecisions[h.Type]) {
		return true
	}
	if len(s.mesh.members) == 0 {
		return false
	}
	m, member := s.MeshSite(h.Site)
	if !member || m.Founder {
		return false
	}
	switch m.Role {
	case events.Steward:
		return false
	case events.PeerSite:
		return meshDecisions[h.Type]
	}
	return meshDecisions[h.Type] || !edgeDecisions[word]
}

// meshDecisions are the events by which members come and go.
var meshDecisions = map[string]bool{
	"site.invited": true, "site.invitation_withdrawn": true, "site.admitted": true,
}

// edgeDecisions are the first words of what a site of role edge may decide.
var edgeDecisions = map[string]bool{"site": true, "log": true, "session": true, "access": true, "sync": true, "fork": true, "backup": true}

// MeshSite finds a site of the mesh. Of admissions that did not know of each
// other the least one counts.
func (s *State) MeshSite(id events.SiteID) (*MeshSite, bool) {
	h := s.mesh.members[id]
	if len(h) == 0 {
		return nil, false
	}
	last := h.newest()
	e := last.value
	m := MeshSite{
		Site: id, Name: e.Name, Identity: e.Identity, Addr: e.Addr, SealingKey: e.SealingKey, HostKey: e.HostKey, Role: e.Role,
		Custodian: e.Custodian, Founder: e.Founder, Before: events.NewClock(e.Before...), Admitted: last.at,
	}
	for _, other := range h {
		m.Role = stricterRole(m.Role, other.value.Role)
		m.Custodian = m.Custodian && other.value.Custodian
		if !bytes.Equal(m.Identity, other.value.Identity) {
			m.Identity = nil // two keys for one site: neither is believed
		}
	}
	return &m, true
}

func stricterRole(a, b events.MemberRole) events.MemberRole {
	order := []events.MemberRole{events.EdgeSite, events.PeerSite, events.Steward}
	return order[max(0, min(slices.Index(order, a), slices.Index(order, b)))]
}

// MeshSites lists the sites of the mesh by id; none where there is no mesh.
func (s *State) MeshSites() []*MeshSite {
	var all []*MeshSite
	for id := range s.mesh.members {
		m, _ := s.MeshSite(id)
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *MeshSite) int { return bytes.Compare(a.Site.UUID[:], b.Site.UUID[:]) })
	return all
}

// Founder is the site that made the mesh; the zero id where there is none.
func (s *State) Founder() events.SiteID {
	for _, m := range s.MeshSites() {
		if m.Founder {
			return m.Site
		}
	}
	return events.SiteID{}
}

// Invitation finds an invitation by id.
func (s *State) Invitation(id events.InvitationID) (*Invitation, bool) {
	v, ok := s.mesh.invitations[id]
	return v, ok
}

// Invitations lists the invitations by id.
func (s *State) Invitations() []*Invitation {
	var all []*Invitation
	for _, v := range s.mesh.invitations {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b *Invitation) int { return bytes.Compare(a.ID.UUID[:], b.ID.UUID[:]) })
	return all
}

// ForkOf is up to where a log counts that was written twice.
func (s *State) ForkOf(o events.Origin) (uint64, bool) {
	f, ok := s.mesh.forks[o]
	return f.Size, ok
}

// Forks lists the proofs that logs were written twice, by log.
func (s *State) Forks() []events.ForkProved {
	var all []events.ForkProved
	for _, o := range slices.SortedFunc(maps.Keys(s.mesh.forks), events.Origin.Compare) {
		all = append(all, s.mesh.forks[o])
	}
	return all
}

var _ = fold(func(s *State, _ *Mark, e events.ForkProved) bool {
	if known, ok := s.mesh.forks[e.Log]; ok && known.Size <= e.Size {
		return true
	}
	if s.mesh.forks == nil {
		s.mesh.forks = map[events.Origin]events.ForkProved{}
	}
	s.mesh.forks[e.Log] = e
	return true
})

func (s *State) meshLines(add func(format string, args ...any)) {
	for id, h := range s.mesh.members {
		add("member %s %s", id, showHeads(h))
	}
	for o, f := range s.mesh.forks {
		add("fork %s at %d", o, f.Size)
	}
	for id, v := range s.mesh.invitations {
		used := slices.SortedFunc(slices.Values(v.used), func(a, b events.SiteID) int { return bytes.Compare(a.UUID[:], b.UUID[:]) })
		add("invitation %s %q %x %s %s %t made %s withdrawn %t used %v", id, v.Name, v.SecretHash, v.Expires, v.Role, v.Custodian, show(v.Made), v.withdrawn, used)
	}
}

package aggregate

import (
	"bytes"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// MeshSite is a site of the mesh.
type MeshSite struct {
	Site       events.SiteID
	Name       string
	Identity   []byte
	Addr       string // of its mesh port, as it said at its last start, or else AdmittedAt
	AdmittedAt string // its address when it was admitted: where it was seen, if it knew none
	SealingKey []byte
	HostKey    string
	Role       events.MemberRole
	Custodian  bool
	Founder    bool
	Areas      []events.Area // in which its decisions count
	Before     events.Clock  // what it had decided before it joined
	Admitted   *Mark
}

// Invitation allows one site to join, once.
type Invitation struct {
	ID         events.InvitationID
	Name       string
	SecretHash []byte
	Expires    time.Time
	Role       events.MemberRole
	Scopes     []events.Area // empty for all of the role
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

// UsedBy reports whether a site joined by the invitation.
func (v *Invitation) UsedBy(site events.SiteID) bool { return slices.Contains(v.used, site) }

// Used reports whether any site joined by the invitation.
func (v *Invitation) Used() bool { return len(v.used) > 0 }

// mesh is what a site knows of the mesh that it is in.
type mesh struct {
	founder     events.SiteID // zero for a site alone
	admissions  map[events.SiteID][]*admission
	masks       map[maskKey]*Masked
	told        map[toldKey]uint64
	members     map[events.SiteID]heads[events.SiteAdmitted]
	invitations map[events.InvitationID]*Invitation
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
		ID: id, Name: e.Name, SecretHash: e.SecretHash, Expires: e.Expires, Role: e.Role, Scopes: e.Scopes, Custodian: e.Custodian, Made: at,
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
	if e.Founder && (at.Origin.Site != id || !s.mesh.founder.IsZero() && s.mesh.founder != id) {
		return false // nobody founds a mesh for another site, nor a second one
	}
	if e.Founder {
		s.mesh.founder = id
	}
	if s.mesh.members == nil {
		s.mesh.members = map[events.SiteID]heads[events.SiteAdmitted]{}
	}
	if !IsMeshAddr(e.Addr) {
		e.Addr = ""
	}
	h := s.mesh.members[id]
	h.put(at, e)
	s.mesh.members[id] = h
	if v := s.mesh.invitations[e.Invitation]; v != nil {
		v.used = append(v.used, id)
	}
	others := s.mesh.admissions[id]
	if !slices.ContainsFunc(others, func(a *admission) bool { return at.Knows(a.at) }) { // else its past is known
		s.joined(e.Before, id)
	}
	if s.mesh.admissions == nil {
		s.mesh.admissions = map[events.SiteID][]*admission{}
	}
	s.mesh.admissions[id] = append(others, &admission{at: at, areas: s.admittedFor(at, e), past: past(e.Before, id), custodian: e.Custodian})
	for o := range s.cuts.forks {
		if o.Site == id {
			s.proveForks(o)
		}
	}
	return true
})

// maxMeshAddr is longer than any host name with a port.
const maxMeshAddr = 300

// IsMeshAddr reports whether a text may be the address of a mesh port, HOST:PORT. What
// is none is not taken from any log: all members keep it, dial it, and give it to
// newcomers in one message of a bounded size.
func IsMeshAddr(text string) bool {
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" || len(text) > maxMeshAddr || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

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
		Site: id, Name: e.Name, Identity: e.Identity, Addr: e.Addr, AdmittedAt: e.Addr, SealingKey: e.SealingKey, HostKey: e.HostKey, Role: e.Role,
		Custodian: e.Custodian, Founder: id == s.mesh.founder, Areas: s.DecidesOn(id), Before: events.NewClock(e.Before...), Admitted: last.at,
	}
	if t := s.sites[id]; t != nil && len(t.mesh) > 0 {
		m.Addr = t.mesh.newest().value
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

// Admission is how a member was admitted.
type Admission struct {
	Role      events.MemberRole
	Scopes    []events.Area
	Custodian bool
	Before    []events.ClockEntry // what all say that it had decided before
	Agreed    bool                // no two stewards say different things
}

// Admission tells how a member was admitted last.
func (s *State) Admission(id events.SiteID) Admission {
	h := s.mesh.members[id]
	if len(h) == 0 {
		return Admission{}
	}
	e := h.newest().value
	a := Admission{Role: e.Role, Scopes: e.Scopes, Custodian: e.Custodian, Agreed: len(h) == 1}
	for _, b := range e.Before {
		for _, other := range h {
			b.Position = min(b.Position, events.NewClock(other.value.Before...).At(b.Origin))
		}
		if b.Position > 0 {
			a.Before = append(a.Before, b)
		}
	}
	return a
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
func (s *State) Founder() events.SiteID { return s.mesh.founder }

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

func (s *State) meshLines(add func(format string, args ...any)) {
	s.memberLines(add)
	for id, h := range s.mesh.members {
		add("member %s %s", id, showHeads(h))
	}
	s.cutLines(add)
	s.recordingLines(add)
	for id, v := range s.mesh.invitations {
		used := slices.SortedFunc(slices.Values(v.used), func(a, b events.SiteID) int { return bytes.Compare(a.UUID[:], b.UUID[:]) })
		add("invitation %s %q %x %s %s %v %t made %s withdrawn %t used %v", id, v.Name, v.SecretHash, v.Expires, v.Role, v.Scopes, v.Custodian, show(v.Made), v.withdrawn, used)
	}
}

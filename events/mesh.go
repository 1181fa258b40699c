package events

import "time"

// Area is a part of what can be decided. What a site of a mesh writes outside
// the areas that it was admitted for is kept and has no effect.
type Area string

const (
	// Access is who may do what: users, groups, roles, grants, requests, authorities.
	Access Area = "access"
	// Targets is what there is to reach: targets and accounts.
	Targets Area = "targets"
	// Secrets is credentials, their versions and rotation.
	Secrets Area = "secrets"
	// Sessions is what happens at the door and in sessions.
	Sessions Area = "sessions"
	// Mesh is who belongs to the mesh.
	Mesh Area = "mesh"
)

// Areas lists all areas.
func Areas() []Area { return []Area{Access, Targets, Secrets, Sessions, Mesh} }

// MeshFounded makes the site that writes it the first of a mesh. Whatever it
// decided before counts in the mesh.
type MeshFounded struct{}

var _ = define[MeshFounded]("mesh.founded", 1)

// SiteInvited lets a site join once. The stream is the invitation; the secret
// in the token proves that its holder was given it, and only its hash is here.
type SiteInvited struct {
	Name      string    `json:"name"` // of the newcomer, which can take no other
	Addr      string    `json:"addr"` // host:port of the newcomer's mesh listener, "" if it is not to be dialled
	Proof     Hash      `json:"proof"`
	Expires   time.Time `json:"expires"` // UTC
	Areas     []Area    `json:"areas"`
	Custodian bool      `json:"custodian,omitempty"` // data keys are wrapped for it too
}

var _ = define[SiteInvited]("mesh.site_invited", 1)

// InvitationRevoked ends an invitation that was not used.
type InvitationRevoked struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[InvitationRevoked]("mesh.invitation_revoked", 1)

// SiteAdmitted takes a site into the mesh and pins its keys. Its stream is the
// site. What that site wrote without knowing of it does not count in the mesh;
// a later admission replaces the areas of one that it knows of.
type SiteAdmitted struct {
	Name       string       `json:"name"`
	Addr       string       `json:"addr,omitempty"` // host:port of its mesh listener
	Identity   []byte       `json:"identity"`       // Ed25519 public key that its links and the keys of its logs answer to
	SealingKey []byte       `json:"sealing_key"`    // public key that data keys are wrapped to
	HostKey    string       `json:"host_key"`       // of its gateway, authorized_keys form
	Areas      []Area       `json:"areas"`
	Custodian  bool         `json:"custodian,omitempty"`
	Invitation InvitationID `json:"invitation,omitzero"` // that it came by; zero for the founder
}

var _ = define[SiteAdmitted]("site.admitted", 1)

// SiteJoined is written by a site that has become a member of a mesh, in its
// own log. Its earlier decisions stay on record and count no more.
type SiteJoined struct {
	Mesh       SiteID       `json:"mesh"` // the site that founded the mesh
	Sponsor    SiteID       `json:"sponsor"`
	Invitation InvitationID `json:"invitation"`
}

var _ = define[SiteJoined]("site.joined", 1)

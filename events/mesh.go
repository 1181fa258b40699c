package events

import (
	"time"

	"github.com/google/uuid"
)

// MemberRole says what a site of the mesh may decide for all of them.
type MemberRole string

const (
	// Steward sites decide on everything, members included.
	Steward MemberRole = "steward"
	// PeerSite sites decide on everything but members.
	PeerSite MemberRole = "peer"
	// EdgeSite sites run sessions, and decide on nothing that others go by.
	EdgeSite MemberRole = "edge"
)

// Area is a part of what can be decided.
type Area string

// The areas.
const (
	AreaAccess   Area = "access"   // who may do what: users, groups, roles, grants, requests, authorities
	AreaTargets  Area = "targets"  // what there is to reach: targets and accounts
	AreaSecrets  Area = "secrets"  // credentials, their versions and rotation
	AreaSessions Area = "sessions" // what happens at the door and in sessions
	AreaMesh     Area = "mesh"     // who belongs to the mesh
)

// Areas lists all areas.
func Areas() []Area {
	return []Area{AreaAccess, AreaTargets, AreaSecrets, AreaSessions, AreaMesh}
}

// Areas lists the areas in which a site of the role may decide; none for a role
// of a newer version.
func (r MemberRole) Areas() []Area {
	switch r {
	case Steward:
		return Areas()
	case PeerSite:
		return []Area{AreaAccess, AreaTargets, AreaSecrets, AreaSessions}
	case EdgeSite:
		return []Area{AreaSessions}
	}
	return nil
}

// SiteInvited allows one site to join the mesh, once. Its stream is the
// invitation.
type SiteInvited struct {
	Name       string     `json:"name"`        // that the newcomer must have
	SecretHash []byte     `json:"secret_hash"` // SHA-256 of what the newcomer has to show
	Expires    time.Time  `json:"expires"`
	Role       MemberRole `json:"role"`
	Scopes     []Area     `json:"scopes,omitempty"`    // of the role's areas; empty for all
	Custodian  bool       `json:"custodian,omitempty"` // it will be able to open credentials and recordings
}

var _ = define[SiteInvited]("site.invited", 1)

// InvitationWithdrawn ends an invitation that nobody has used.
type InvitationWithdrawn struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[InvitationWithdrawn]("site.invitation_withdrawn", 1)

// SiteAdmitted makes a site a member of the mesh and pins its keys. Its stream
// is the site. The first one of a mesh is by the site itself, its founder.
type SiteAdmitted struct {
	Name       string       `json:"name"`
	Identity   []byte       `json:"identity"`         // Ed25519 public key that its links and log keys answer to
	Addr       string       `json:"addr,omitempty"`   // of its mesh port; empty when it can't be dialled
	SealingKey []byte       `json:"sealing_key"`      // public key that data keys are wrapped to
	HostKey    string       `json:"host_key"`         // of its gateway, authorized_keys form
	Role       MemberRole   `json:"role"`             //
	Scopes     []Area       `json:"scopes,omitempty"` // of the role's areas; empty for all
	Custodian  bool         `json:"custodian,omitempty"`
	Founder    bool         `json:"founder,omitempty"` // it made the mesh
	Invitation InvitationID `json:"invitation,omitzero"`
	// Before is what the site had decided before it joined. Identities in it
	// are its own, and not the mesh's.
	Before []ClockEntry `json:"before,omitempty"`
}

var _ = define[SiteAdmitted]("site.admitted", 1)

// SyncDegraded records that the other half of a pair was not heard in time; what
// is written from then on may be held by one site only.
type SyncDegraded struct {
	Peer SiteID       `json:"peer"`
	From []ClockEntry `json:"from"` // what it had of each log
}

var _ = define[SyncDegraded]("sync.degraded", 1)

// SyncRestored records that the other half of a pair holds everything again. What
// lies between From and To was held by one site only.
type SyncRestored struct {
	Peer SiteID       `json:"peer"`
	From []ClockEntry `json:"from"`
	To   []ClockEntry `json:"to"`
}

var _ = define[SyncRestored]("sync.restored", 1)

// ForkProved records that a log was written twice. Records after Size are masked
// until somebody settles which of them stand. Its stream is the log's site.
type ForkProved struct {
	Log   Origin `json:"log"`
	Size  uint64 `json:"size"`  // records up to which there is one history
	Proof []byte `json:"proof"` // as the mesh exchanges it
}

var _ = define[ForkProved]("fork.proved", 1)

// MemberMasked records that a member wrote something that it was not admitted to
// decide. It has no effect. It is recorded for the first such record of a sort,
// and then each time that there are ten times as many. Its stream is the site
// that records it.
type MemberMasked struct {
	Site  SiteID `json:"site"` // that wrote it
	Type  string `json:"type"` // of the events
	Why   string `json:"why"`
	Count uint64 `json:"count"` // of them by then
	Last  Origin `json:"log"`   // of the newest
	At    uint64 `json:"position"`
}

var _ = define[MemberMasked]("mesh.masked", 1)

// SitePresent says that its site was there, for sites that it has no link to. It
// is written where a role is strict.
type SitePresent struct{}

var _ = define[SitePresent]("mesh.present", 1)

// ProjectionRevised says that what other sites had decided a while ago came in
// late: what was shown or reported here as of a time since then has changed. Its
// stream is the site that records it.
type ProjectionRevised struct {
	From       []ClockEntry `json:"from"`       // what had been applied before
	To         []ClockEntry `json:"to"`         // and with it
	Since      time.Time    `json:"since"`      // when the earliest of it was decided, by that site's clock
	Records    uint64       `json:"records"`    // that came late
	Aggregates []uuid.UUID  `json:"aggregates"` // that they are about, the first hundred
	Because    uuid.UUID    `json:"because"`    // the earliest of them
}

var _ = define[ProjectionRevised]("projection.revised", 1)

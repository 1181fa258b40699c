package events

import "time"

// GrantAdded allows a user, or everybody in a group, to open sessions as an
// account, or as every account that a selector takes in.
type GrantAdded struct {
	User    UserID    `json:"user"`             // zero where Group is set
	Account AccountID `json:"account"`          // zero where Selector is set
	Expires time.Time `json:"expires,omitzero"` // UTC; zero means no end
	Terms   Terms     `json:"terms,omitzero"`

	Group    GroupID   `json:"group,omitzero"`
	Selector Selector  `json:"selector,omitempty"`
	From     time.Time `json:"from,omitzero"`     // UTC; zero means at once
	Windows  []Window  `json:"windows,omitempty"` // one of them must be open; none is always
}

// Terms is what sessions under a grant may do beside shells, commands and
// files, and how much of it. The zero value allows no forwarding and sets no
// limit.
type Terms struct {
	Allow       []Way    `json:"allow,omitempty"`
	To          []string `json:"to,omitempty"`           // where Local may lead: rules as package destination writes them
	Listen      []string `json:"listen,omitempty"`       // what Remote may listen on; such rules too
	MaxTime     uint64   `json:"max_time,omitempty"`     // seconds that a session may last
	Idle        uint64   `json:"idle,omitempty"`         // seconds without user input that end a session
	MaxSessions uint32   `json:"max_sessions,omitempty"` // at once, under this grant

	Services []Service  `json:"services,omitempty"` // of the target's; empty for all
	Deny     []Transfer `json:"deny,omitempty"`     // where files may not go by SFTP, scp, rsync and git
}

// Transfer is a way that files take.
type Transfer string

const (
	// Upload is from the client to the target. Changes to files there count as uploads.
	Upload Transfer = "upload"
	// Download is from the target to the client.
	Download Transfer = "download"
)

// Service is what a session channel may be used for.
type Service string

const (
	// ShellService is a login shell.
	ShellService Service = "shell"
	// ExecService is a command, also the one that scp, rsync or git starts.
	ExecService Service = "exec"
	// SFTPService is the subsystem of that name.
	SFTPService Service = "sftp"
	// SubsystemService is every other subsystem.
	SubsystemService Service = "subsystem"
)

// Way is one that a session may open beside its shells, commands and files.
type Way string

const (
	// Local is a connection that the target makes for the client: ssh -L, -D and -W, to a host or a unix socket.
	Local Way = "local"
	// Remote is a listener of the target whose connections come to the client: ssh -R.
	Remote Way = "remote"
	// Agent lets the target ask the client's agent: ssh -A.
	Agent Way = "agent"
)

var _ = define[GrantAdded]("grant.added", 1)

// GrantRemoved takes a grant away for good; a new grant is a new aggregate. It
// names the right that it ends, since every other grant of the same user and
// account whose site did not know of it falls with it (rule R8).
type GrantRemoved struct {
	User    UserID    `json:"user,omitzero"`
	Account AccountID `json:"account,omitzero"`
	Reason  string    `json:"reason,omitempty"`

	Group    GroupID  `json:"group,omitzero"`
	Selector Selector `json:"selector,omitempty"`
}

var _ = define[GrantRemoved]("grant.removed", 1)

package events

import (
	"time"

	"github.com/google/uuid"
)

// SiteCreated is the first event of a site: one running holdfast with its own
// logs and keys.
type SiteCreated struct {
	Name       string `json:"name"`
	SealingKey []byte `json:"sealing_key"` // public key that data keys are wrapped to
	HostKey    string `json:"host_key"`    // the gateway's SSH host key, authorized_keys form
}

var _ = define[SiteCreated]("site.created", 1)

// SiteStarted records that the site began to serve.
type SiteStarted struct {
	Version string `json:"version"`        // of the software
	Listen  string `json:"listen"`         // address of the SSH gateway
	Mesh    string `json:"mesh,omitempty"` // HOST:PORT at which other sites reach its mesh port, where it knows that
	Sealed  bool   `json:"sealed,omitempty"`
}

var _ = define[SiteStarted]("site.started", 1)

// SiteStopped records an orderly stop. A site.started without a site.stopped
// before it means that the site before it was lost, not stopped.
type SiteStopped struct {
	Reason string `json:"reason"`
}

var _ = define[SiteStopped]("site.stopped", 1)

// SiteBackedUp records that a backup of the site was asked for, durable before
// its first byte is given.
type SiteBackedUp struct {
	Backup     uuid.UUID `json:"backup"`
	Recipients []string  `json:"recipients"` // who can open it: age recipients, or fingerprints of SSH keys
}

var _ = define[SiteBackedUp]("site.backed_up", 1)

// SiteRestored records that the site goes on from a backup, in new epochs of
// its logs. What it wrote after the backup may exist elsewhere.
type SiteRestored struct {
	Backup uuid.UUID `json:"backup"`
	Made   time.Time `json:"made"` // of the backup, UTC
}

var _ = define[SiteRestored]("site.restored", 1)

// SiteDoubted records that a site could not be sure that its disk is the one that
// it left, at the state in which it left it. It set its logs aside and goes on in
// new epochs, which their log.opened ties to those before (rule R15).
type SiteDoubted struct {
	Why string `json:"why"`
}

var _ = define[SiteDoubted]("site.doubted", 1)

// LogOpened is the first record of every log epoch, in that log itself.
type LogOpened struct {
	Key      string `json:"key"`                // C2SP note verifier key of the log's heads
	Previous uint32 `json:"previous,omitempty"` // epoch before this one, 0 for none
	Size     uint64 `json:"size,omitempty"`     // records of the previous epoch
	Root     []byte `json:"root,omitempty"`     // its root hash
}

var _ = define[LogOpened]("log.opened", 1)

// LogTailDropped says that recovery cut off bytes at the end of a log that may
// have been written and cannot have been acknowledged, and opened a new epoch
// so that no position is used twice. It follows log.opened in the new epoch.
type LogTailDropped struct {
	Epoch   uint32 `json:"epoch"`   // the epoch that lost its tail
	Size    uint64 `json:"size"`    // records that it keeps
	Root    []byte `json:"root"`    // root hash over them
	File    string `json:"file"`    // segment file, relative to the log
	Offset  int64  `json:"offset"`  // where the dropped bytes began
	Dropped int64  `json:"dropped"` // bytes from there to the last one that was not zero
}

var _ = define[LogTailDropped]("log.tail_dropped", 1)

// StorageFull records that a log stopped taking records other than those that
// its head-room is kept for.
type StorageFull struct {
	Log    Kind   `json:"log"`
	Reason string `json:"reason"`
}

var _ = define[StorageFull]("site.storage_full", 1)

// StorageRecovered records that a log takes records again.
type StorageRecovered struct {
	Log Kind `json:"log"`
}

var _ = define[StorageRecovered]("site.storage_recovered", 1)

// LogDamageFound says that stored bytes of a log were read and are not what
// was written. Nothing was changed: what is damaged is for people to restore.
type LogDamageFound struct {
	Log      Kind   `json:"log"`
	Epoch    uint32 `json:"epoch"`
	Position uint64 `json:"position"` // of the first record that is not as it was written
	File     string `json:"file,omitempty"`
	Offset   int64  `json:"offset,omitempty"` // in the file
	What     string `json:"what"`
}

var _ = define[LogDamageFound]("log.damage_found", 1)

// ClockJumped says that the site's clock was set while the site ran. Times of
// records before and after it do not compare; their order does.
type ClockJumped struct {
	By int64 `json:"by"` // milliseconds; negative when it was set back
}

var _ = define[ClockJumped]("site.clock_jumped", 1)

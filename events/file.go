package events

// SessionFileAccessed records what a session did to a file of its target by
// SFTP or scp, once the outcome is known. It is decoded from what is recorded,
// beside the data path, so it comes a moment later. A session makes a bounded
// number of these; SessionEnded has the sum of all, and the recording the rest.
type SessionFileAccessed struct {
	Serial    uint64 `json:"serial"`              // counts the operations of the session, from 0, those without an event too
	Channel   uint64 `json:"channel"`             // its place in the order of opening
	Kind      string `json:"kind"`                // "upload", "download", "remove", "rename", "mkdir", ...; "rsync" and "git" are opaque bytes
	Direction string `json:"direction,omitempty"` // "upload": towards the target, changes there included; or "download"
	Path      string `json:"path"`                // as in a Go string literal, bounded
	Target    string `json:"target,omitempty"`    // second name, or paths of the command
	Detail    string `json:"detail,omitempty"`    // how it was opened, what was set
	Bytes     uint64 `json:"bytes"`               // of content that moved
	SHA256    string `json:"sha256,omitempty"`    // hex, of the whole content; "" if it did not all move, once, in order
	OK        bool   `json:"ok"`                  // the other side said that it is done
	Status    string `json:"status,omitempty"`    // what it said instead
	Note      string `json:"note,omitempty"`      // why there is no hash, or what else to know
	Started   uint64 `json:"started"`             // microseconds since session start
	Ended     uint64 `json:"ended"`
}

var _ = define[SessionFileAccessed]("session.file_accessed", 1)

// FileTotals sums up what a session did to files, including what is beyond the
// number that makes events of its own.
type FileTotals struct {
	Operations    uint64 `json:"operations"`
	Uploads       uint64 `json:"uploads"` // files of which content moved
	UploadBytes   uint64 `json:"upload_bytes"`
	Downloads     uint64 `json:"downloads"`
	DownloadBytes uint64 `json:"download_bytes"`
	Untold        uint64 `json:"untold,omitempty"` // operations without an event
	Unread        bool   `json:"unread,omitempty"` // the recording was not decoded to its end
}

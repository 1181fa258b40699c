package transfer

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-pam/holdfast/replay"
)

// Kind says what an [Operation] is.
type Kind string

// The kinds of operations. SFTP has all of them but error, rsync and git; the others of a protocol's requests only ask, and
// make no operation.
const (
	KindOpen      Kind = "open"      // a file was opened, or not
	KindFile      Kind = "file"      // content moved, told when the file is closed: one per direction
	KindReadDir   Kind = "readdir"   // a directory was listed; Entries counts
	KindDirectory Kind = "directory" // scp goes into a directory
	KindMkdir     Kind = "mkdir"
	KindRmdir     Kind = "rmdir"
	KindRemove    Kind = "remove"
	KindRename    Kind = "rename"
	KindSetStat   Kind = "setstat"
	KindSymlink   Kind = "symlink"   // Target is what Path points to from now on
	KindHardlink  Kind = "hardlink"  // Target is the new name of Path
	KindCopy      Kind = "copy"      // Bytes of Path were copied into Target, at the target
	KindExtension Kind = "extension" // a request that is not known here; Detail names it
	KindError     Kind = "error"     // scp: a side reported one that belongs to no file
	KindRsync     Kind = "rsync"     // a run of rsync; its protocol is not decoded
	KindGit       Kind = "git"       // a fetch or a push, likewise
	KindUndecoded Kind = "undecoded" // from here on the channel is not understood; Note says why
)

// Direction is where content moves.
type Direction string

const (
	// Upload is from the client to the target; requests that change something there count as well.
	Upload Direction = "upload"
	// Download is from the target to the client.
	Download Direction = "download"
)

// Extent is a run of bytes of a file.
type Extent struct {
	Offset uint64 `json:"offset"`
	Length uint64 `json:"length"`
}

// Operation is one thing that a client did to files, told when its outcome is known.
//
// Names are bytes that the sides chose. Path and Target are those bytes as they stand in a Go string literal: valid,
// printable text that keeps different names apart. The raw forms are there where that text isn't the name itself. A name
// longer than 4096 bytes is cut, and Note says so.
type Operation struct {
	Channel   int            `json:"channel"` // its place in the order of opening
	Kind      Kind           `json:"kind"`
	Path      string         `json:"path"` // of scp: the names sent, joined by "/"
	PathRaw   []byte         `json:"path_raw,omitempty"`
	Target    string         `json:"target,omitempty"` // second name; of scp and rsync, the paths of the command
	TargetRaw []byte         `json:"target_raw,omitempty"`
	Direction Direction      `json:"direction,omitempty"`
	Detail    string         `json:"detail,omitempty"`  // how it was opened, what was set
	Bytes     uint64         `json:"bytes"`             // content that moved; written bytes count once the target took them
	Entries   uint64         `json:"entries,omitempty"` // of a directory
	SHA256    string         `json:"sha256,omitempty"`  // hex, of the whole content; there if, and only if, a file is Complete
	Complete  bool           `json:"complete"`          // everything moved, from the first byte to the last, once
	Extents   []Extent       `json:"extents,omitempty"` // of a file that is not complete: what moved, the first 16 runs
	OK        bool           `json:"ok"`                // the other side said that it is done
	Code      uint32         `json:"code"`              // of the answer: SSH_FX_*, or 1 and 2 of scp
	Status    string         `json:"status,omitempty"`  // its text, if it is not OK
	Note      string         `json:"note,omitempty"`    // why there is no hash, or what else to know
	Started   replay.Seconds `json:"started"`           // since session start
	Ended     replay.Seconds `json:"ended"`
}

// Bounds on the texts of an operation, in bytes before they are escaped.
const (
	maxPath   = 4096
	maxStatus = 256
)

// quote writes bytes as they stand in a Go string literal; raw is nil where that changes nothing.
func quote(name string) (text string, raw []byte) {
	if plain(name) {
		return name, nil
	}
	q := strconv.Quote(name)
	return q[1 : len(q)-1], []byte(name)
}

// plain is the quick answer for most names.
func plain(name string) bool {
	for _, c := range []byte(name) {
		if c < ' ' || c >= utf8.RuneSelf || c == 0x7f || c == '"' || c == '\\' {
			return quotesToItself(name)
		}
	}
	return true
}

func quotesToItself(name string) bool {
	q := strconv.Quote(name)
	return q[1:len(q)-1] == name
}

func clean(text string) string {
	s, _ := quote(text[:min(len(text), maxStatus)])
	return s
}

func (o *Operation) setPath(name string)   { o.Path, o.PathRaw = quote(o.cut(name)) }
func (o *Operation) setTarget(name string) { o.Target, o.TargetRaw = quote(o.cut(name)) }

func (o *Operation) cut(name string) string {
	if len(name) <= maxPath {
		return name
	}
	o.note(fmt.Sprintf("a name is cut at %d bytes", maxPath))
	return name[:maxPath]
}

// note adds a remark.
func (o *Operation) note(text string) {
	switch {
	case text == "":
	case o.Note == "":
		o.Note = text
	default:
		o.Note += "; " + text
	}
}

// take fills in what moved.
func (o *Operation) take(c *content) {
	o.Bytes = c.bytes
	if c.why == "" {
		o.Complete = true
		o.SHA256 = hex.EncodeToString(c.sum.Sum(nil))
		return
	}
	o.note(c.why)
	o.Extents = c.extents
	if c.omitted {
		o.note("more extents than are listed")
	}
}

// list joins the words that apply.
func list(words ...string) string {
	kept := words[:0]
	for _, w := range words {
		if w != "" {
			kept = append(kept, w)
		}
	}
	return strings.Join(kept, ",")
}

func word(on bool, w string) string {
	if on {
		return w
	}
	return ""
}

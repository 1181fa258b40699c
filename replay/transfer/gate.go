package transfer

import (
	"encoding/binary"
	"fmt"
)

// Gate says which directions a session's transfers may take. The package comment says how a refusal is delivered and
// what a Gate can't hold back.
type Gate struct {
	Upload   bool // also all that changes something at the target: rename, remove, mkdir, setstat, ...
	Download bool
}

// Open says that the gate refuses nothing: no [Guard] is needed.
func (g Gate) Open() bool { return g.Upload && g.Download }

func (g Gate) allows(d Direction) bool { return d == Upload && g.Upload || d == Download && g.Download }

// Refusal is why something may not pass.
type Refusal struct {
	What   string // what was refused: "request exec", "sftp open"
	Detail string // the name that it is about: escaped text of at most 1 KiB
	Reason string // for people
	Told   bool   // it only follows from an earlier one: no event of its own

	fatal bool // the request can't be answered in the target's place: the client's half ends
	mute  bool // the target's own answer says enough
}

func notAllowed(d Direction) string { return fmt.Sprintf("%s of files is not allowed", d) }

// maxDetail bounds Refusal.Detail, in bytes.
const maxDetail = 1 << 10

// maxGuarded is the longest name in a request that a Guard lets through, in bytes: PATH_MAX is 4096.
const maxGuarded = 8 << 10

// NewGuard guards a channel that was just opened.
func NewGuard(g Gate) *Guard { return &Guard{gate: g} }

// Request decides on a request for a program: "exec", "subsystem" or "shell" with its command. Anything else passes.
// A refused one is to be answered with CHANNEL_FAILURE, and [Guard.Answered] not called for it.
func (g *Guard) Request(kind, command string) *Refusal {
	if !starts(kind) {
		return nil
	}
	refuse := func(reason string) *Refusal {
		g.failed = true
		return &Refusal{What: "request " + kind, Detail: detail(command), Reason: reason}
	}
	if g.state != guardIdle {
		return refuse("a channel runs one program")
	}
	p := ProgramOf(kind, command)
	switch {
	case p.Protocol == NoTransfer:
		g.state = guardAsked
	case !g.gate.Upload && !g.gate.Download:
		return refuse("transfers of files are not allowed")
	case p.Protocol == SFTP:
		g.state = guardAskedSFTP
	case !g.gate.allows(p.Direction):
		return refuse(notAllowed(p.Direction))
	case !p.Certain:
		return refuse("only one direction is allowed, and which one this takes is not certain")
	default:
		g.state = guardAsked
	}
	return nil
}

// Answered takes the target's reply to the request that passed last.
func (g *Guard) Answered(ok bool) {
	switch {
	case g.state != guardAsked && g.state != guardAskedSFTP:
	case !ok:
		*g = Guard{gate: g.gate, failed: true}
	default:
		g.state++
	}
}

// guardHead is how much of a request a verdict needs, with the four bytes of its length, as far as buf, its beginning,
// tells: ask again with that much.
func guardHead(buf []byte) (int, error) {
	length := binary.BigEndian.Uint32(buf)
	need, most := int64(9), int64(maxHandle)
	switch buf[4] {
	case fxpOpen, fxpSetstat, fxpOpendir, fxpRemove, fxpMkdir, fxpRmdir, fxpRename, fxpSymlink:
		most = maxGuarded
		fallthrough
	case fxpExtended:
		if need = 13; len(buf) >= 13 {
			n := int64(binary.BigEndian.Uint32(buf[9:]))
			if n > most {
				return 0, malformed("a name of %d bytes", n)
			}
			if need += n; buf[4] == fxpOpen {
				need += 4
			}
		}
	}
	if need > 4+int64(length) {
		return 0, malformed("packet type %d of %d bytes", buf[4], length)
	}
	return int(need), nil
}

// byType decides on a request by its type alone, which is what its first bytes tell.
func (g *Guard) byType(kind byte) *Refusal {
	switch kind {
	case fxpRead:
		return g.refuse(Download, "sftp read", "")
	case fxpWrite:
		return g.refuse(Upload, "sftp write", "")
	case fxpFsetstat:
		return g.refuse(Upload, "sftp setstat", "")
	}
	if name, ok := changing[kind]; ok {
		return g.refuse(Upload, "sftp "+name, "")
	}
	return nil
}

// packet decides on the head of a request, without its length.
func (g *Guard) packet(head []byte) *Refusal {
	kind, f := head[0], fields{rest: head[1:]}
	if !g.begun {
		v, ok := versionOf(head)
		if kind != fxpInit || !ok {
			return &Refusal{What: "sftp", Reason: "it does not begin with SSH_FXP_INIT", fatal: true}
		}
		g.asked, g.begun = v, true
		return nil
	}
	if g.asked > sftpVersion && len(g.version) < versionLength {
		return &Refusal{What: "sftp", Reason: "a request before both sides settled on a version", fatal: true}
	}
	f.uint32()
	if r := g.byType(kind); r != nil {
		if _, named := changing[kind]; named {
			r.Detail = detail(f.string())
		}
		return r
	}
	switch kind {
	case fxpOpen:
		return g.open(f.string(), f.uint32())
	case fxpExtended:
		return g.extended(string(f.bytes()))
	case fxpRead, fxpWrite, fxpClose, fxpLstat, fxpFstat, fxpSetstat, fxpFsetstat, fxpOpendir, fxpReaddir, fxpRemove, fxpMkdir, fxpRmdir,
		fxpRealpath, fxpStat, fxpRename, fxpReadlink, fxpSymlink:
		return nil
	}
	return &Refusal{What: fmt.Sprintf("sftp packet type %d", kind), Reason: "it is not known", fatal: true}
}

// changing names the requests, other than those on handles, that change something.
var changing = map[byte]string{
	fxpSetstat: "setstat", fxpRemove: "remove", fxpMkdir: "mkdir", fxpRmdir: "rmdir", fxpRename: "rename", fxpSymlink: "symlink",
}

func (g *Guard) refuse(d Direction, what, name string) *Refusal {
	if g.gate.allows(d) {
		return nil
	}
	return &Refusal{What: what, Detail: detail(name), Reason: notAllowed(d)}
}

// open decides on opening a file. One that is to be written may be opened for reading as well, as some clients always
// do: the reads themselves are refused.
func (g *Guard) open(name string, flags uint32) *Refusal {
	if changes(flags) {
		if r := g.refuse(Upload, "sftp open", name); r != nil {
			return r
		}
	}
	if flags&openWrite == 0 {
		return g.refuse(Download, "sftp open", name)
	}
	return nil
}

// extended decides on a request by its name (OpenSSH's PROTOCOL file, section 4). One that is not known may do anything.
func (g *Guard) extended(name string) *Refusal {
	switch name {
	case "statvfs@openssh.com", "fstatvfs@openssh.com", "limits@openssh.com", "expand-path@openssh.com",
		"home-directory", "users-groups-by-id@openssh.com", "space-available", "vendor-id", "fsync@openssh.com":
		return nil
	case "posix-rename@openssh.com", "hardlink@openssh.com", "lsetstat@openssh.com", "copy-data":
		return g.refuse(Upload, "sftp extension", name)
	}
	return &Refusal{What: "sftp extension", Detail: detail(name), Reason: "it is not known", mute: true}
}

func detail(name string) string {
	text, _ := quote(name[:min(len(name), maxDetail)])
	return text[:min(len(text), maxDetail)]
}

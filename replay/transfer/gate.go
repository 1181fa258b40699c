package transfer

import (
	"encoding/binary"
	"errors"
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
}

func notAllowed(d Direction) string { return fmt.Sprintf("%s of files is not allowed", d) }

// Guard holds one session channel to a gate that is not open. It looks at what the client sends before it is passed on,
// and keeps no content. It has no clock and starts nothing; its state can be written out at any point.
// The client's bytes must not be passed on once it has refused some.
type Guard struct {
	gate    Gate
	state   guardState
	client  framer
	version []byte // what is known of the target's first packet
	asked   uint32 // SFTP version that the client begins with
	begun   bool   // it has
	failed  bool   // a program was refused, by the gate or the target: clients send on without waiting for the answer
}

// guardState is what the channel runs.
type guardState byte

const (
	guardIdle  guardState = iota // nothing yet
	guardAsked                   // a program was asked for, which is no SFTP, and not answered
	guardOther                   // it runs
	guardAskedSFTP
	guardSFTP
	guardRefused // bytes were refused
)

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

// FromClient decides on channel data of the client. On a refusal none of data may be passed on.
func (g *Guard) FromClient(data []byte) *Refusal {
	switch g.state {
	case guardIdle:
		g.state = guardRefused
		return &Refusal{What: "data", Reason: "it was sent with no program to take it", Told: g.failed}
	case guardRefused:
		return &Refusal{What: "data", Reason: "it was sent after a refusal", Told: true}
	case guardAskedSFTP, guardSFTP:
	default:
		return nil
	}
	var refusal *Refusal
	err := g.client.feed(data, g.head, func(packet []byte, _ uint64) error {
		refusal = g.packet(packet)
		if refusal != nil {
			return errRefused
		}
		return nil
	}, nil)
	if err == nil {
		return nil
	}
	g.state, g.client = guardRefused, framer{}
	if refusal == nil {
		refusal = &Refusal{What: "sftp", Reason: err.Error()}
	}
	return refusal
}

var errRefused = errors.New("refused")

// FromTarget looks at channel data of the target, which passes in any case. A refusal says that the client's may not.
func (g *Guard) FromTarget(data []byte) *Refusal {
	if (g.state != guardAskedSFTP && g.state != guardSFTP) || len(g.version) == versionLength {
		return nil
	}
	g.version = append(g.version, data[:min(len(data), versionLength-len(g.version))]...)
	if len(g.version) < versionLength || g.asked <= sftpVersion {
		return nil
	}
	v, _ := versionOf(g.version[4:])
	if g.version[4] == fxpVersion && v <= sftpVersion {
		return nil
	}
	g.state = guardRefused
	return &Refusal{What: "sftp version", Reason: fmt.Sprintf("only version %d can be held to one direction", sftpVersion)}
}

// versionLength is how much of the target's first packet matters: length, type and version.
const versionLength = 9

// head is the headLength of a guard: as much as its verdict needs, which is never the whole of a request that has an
// effect at the target, or, where the name comes last, its end in the same data that is refused with it.
func (g *Guard) head(buf []byte) (int, error) {
	length := binary.BigEndian.Uint32(buf)
	need, most := int64(5), int64(maxHandle)
	switch buf[4] {
	case fxpInit:
		need = 9
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

// packet decides on the head of a request.
func (g *Guard) packet(head []byte) *Refusal {
	kind, f := head[0], fields{rest: head[1:]}
	if !g.begun {
		v, ok := versionOf(head)
		if kind != fxpInit || !ok {
			return &Refusal{What: "sftp", Reason: "it does not begin with SSH_FXP_INIT"}
		}
		g.asked, g.begun = v, true
		return nil
	}
	if g.asked > sftpVersion && len(g.version) < versionLength {
		return &Refusal{What: "sftp", Reason: "a request before both sides settled on a version"}
	}
	f.uint32()
	switch kind {
	case fxpOpen:
		return g.open(f.string(), f.uint32())
	case fxpRead:
		return g.refuse(Download, "sftp read", "")
	case fxpExtended:
		return g.extended(string(f.bytes()))
	case fxpClose, fxpLstat, fxpFstat, fxpOpendir, fxpReaddir, fxpRealpath, fxpStat, fxpReadlink:
		return nil
	case fxpWrite:
		return g.refuse(Upload, "sftp write", "")
	case fxpFsetstat:
		return g.refuse(Upload, "sftp setstat", "")
	}
	if name, ok := changing[kind]; ok {
		return g.refuse(Upload, "sftp "+name, f.string())
	}
	return &Refusal{What: fmt.Sprintf("sftp packet type %d", kind), Reason: "it is not known"}
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
	return &Refusal{What: "sftp extension", Detail: detail(name), Reason: "it is not known"}
}

func detail(name string) string {
	text, _ := quote(name[:min(len(name), maxDetail)])
	return text[:min(len(text), maxDetail)]
}

package transfer

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-pam/holdfast/replay"
)

// Bounds on what is held for one channel. Beyond the first the decoding ends, beyond the second hashes are given up.
const (
	maxHeld  = 4 << 20 // bytes of requests that wait for their replies, of open handles and of their names
	maxAhead = 4 << 20 // bytes of content that came before its turn
)

// sftp decodes one channel that speaks SFTP.
type sftp struct {
	emit   func(Operation)
	now    time.Duration
	client framer
	target framer

	begun   bool   // the client has said its version
	asked   uint32 // that version
	settled bool   // the target has said its own

	pending map[uint32]*request // by id, the oldest; ids may be used again before their reply
	handles map[string]*handle
	sizes   [8]told // what the target said of paths that may be opened next
	told    int
	count   uint64 // requests, for their order
	held    int    // what is left of maxHeld
	ahead   int    // what is left of maxAhead
	stray   [2]content

	upload   stream // what the client's body bytes are
	download stream // and the target's
}

// told is a size that the target gave for a path.
type told struct {
	path string
	size uint64
}

// stream says where the bytes go that follow a head.
type stream struct {
	to     *content // nil: nowhere
	offset uint64
	count  bool // bytes count when they come; else when they are confirmed
}

// request waits for its reply.
type request struct {
	next   *request // same id, later
	last   *request // of the first: the latest with its id
	serial uint64
	kind   byte
	at     time.Duration
	cost   int

	file   *handle // what it is about, if that was certain when it came
	handle string  // else its name
	offset uint64
	length uint64

	op           Kind // operation that its reply makes; "" for none
	path, target string
	detail       string
	flags        uint32 // of open
	attributes   attributes
	destination  string // handle that copy-data writes to
}

// handle is an open file or directory.
type handle struct {
	name, path string
	serial     uint64
	opened     time.Duration
	directory  bool
	listed     bool // to its end
	entries    uint64
	closing    bool // a close was asked for: what its name means from here on is uncertain

	flags    uint32
	size     uint64 // that the target told
	hasSize  bool
	ends     uint64 // where it told a read that the file ends
	hasEnd   bool
	setSize  uint64 // that the client set
	hasSet   bool
	failure  *answer // of a write or read
	up, down *content
}

// answer is a status.
type answer struct {
	code uint32
	text string
}

func newSFTP(emit func(Operation)) *sftp {
	return &sftp{
		emit: emit, pending: map[uint32]*request{}, handles: map[string]*handle{}, held: maxHeld, ahead: maxAhead,
	}
}

func (s *sftp) fromClient(at time.Duration, data []byte) error {
	s.now = at
	return s.client.feed(data, decoderHead, s.request, func(b []byte) { s.upload.take(&s.ahead, b) })
}

func (s *sftp) fromTarget(at time.Duration, data []byte) error {
	s.now = at
	return s.target.feed(data, decoderHead, s.reply, func(b []byte) { s.download.take(&s.ahead, b) })
}

func (t *stream) take(room *int, b []byte) {
	if t.to == nil {
		return
	}
	t.to.hash(room, t.offset, b)
	if t.count {
		t.to.moved(t.offset, uint64(len(b)))
	}
	t.offset += uint64(len(b))
}

// request takes a packet of the client.
func (s *sftp) request(packet []byte, rest uint64) error {
	s.upload = stream{}
	f := fields{rest: packet[1:]}
	if !s.begun {
		return s.init(packet[0], f)
	}
	if !s.settled && s.asked > sftpVersion {
		return malformed("a request before both sides settled on a version")
	}
	id := f.uint32()
	s.count++
	r := &request{serial: s.count, kind: packet[0], at: s.now}
	if err := s.read(r, &f, rest); err != nil {
		return err
	}
	if f.bad {
		return malformed("request of type %d", r.kind)
	}
	r.cost = 256 + len(r.handle) + len(r.path) + len(r.target) + len(r.detail) + len(r.destination)
	if s.held -= r.cost; s.held < 0 {
		return errors.New("too many requests wait for their replies, or too many files are open")
	}
	s.push(id, r)
	return nil
}

func (s *sftp) init(kind byte, f fields) error {
	s.asked = f.uint32()
	if kind != fxpInit || f.bad {
		return malformed("the client does not begin with SSH_FXP_INIT: not SFTP")
	}
	s.begun = true
	return nil
}

func (s *sftp) push(id uint32, r *request) {
	first := s.pending[id]
	if first == nil {
		s.pending[id], r.last = r, r
		return
	}
	first.last.next, first.last = r, r
}

func (s *sftp) pop(id uint32) *request {
	r := s.pending[id]
	if r == nil {
		return nil
	}
	if r.next == nil {
		delete(s.pending, id)
	} else {
		s.pending[id], r.next.last = r.next, r.last
	}
	s.held += r.cost
	return r
}

// read takes the fields of a request.
func (s *sftp) read(r *request, f *fields, rest uint64) error {
	switch r.kind {
	case fxpWrite:
		return s.readWrite(r, f, rest)
	case fxpRead:
		s.about(r, f.bytes())
		r.offset, r.length = f.uint64(), uint64(f.uint32())
	case fxpOpen:
		r.op, r.path, r.flags = KindOpen, f.string(), f.uint32()
		r.detail = openDetail(r.flags)
	case fxpOpendir:
		r.path = f.string()
	case fxpClose:
		s.about(r, f.bytes())
		if r.file != nil {
			r.handle, r.file.closing = r.file.name, true
		}
	case fxpFstat, fxpReaddir:
		s.about(r, f.bytes())
	case fxpFsetstat:
		s.about(r, f.bytes())
		r.op, r.attributes = KindSetStat, f.attributes()
		r.detail = r.attributes.text
	case fxpSetstat:
		r.op, r.path, r.attributes = KindSetStat, f.string(), f.attributes()
		r.detail = r.attributes.text
	case fxpMkdir:
		r.op, r.path, r.detail = KindMkdir, f.string(), f.attributes().text
	case fxpRemove:
		r.op, r.path = KindRemove, f.string()
	case fxpRmdir:
		r.op, r.path = KindRmdir, f.string()
	case fxpRename:
		r.op, r.path, r.target = KindRename, f.string(), f.string()
	case fxpSymlink: // the draft says link first; OpenSSH has it the other way round, and all others followed
		r.op, r.target, r.path = KindSymlink, f.string(), f.string()
	case fxpStat, fxpLstat:
		r.path = f.string()
	case fxpRealpath, fxpReadlink:
	case fxpExtended:
		s.readExtended(r, f)
	default:
		r.op, r.detail = KindExtension, fmt.Sprintf("packet type %d", r.kind)
	}
	return nil
}

// readExtended takes the requests of OpenSSH's PROTOCOL file, section 4. What only asks makes no operation.
func (s *sftp) readExtended(r *request, f *fields) {
	switch name := f.string(); name {
	case "posix-rename@openssh.com":
		r.op, r.path, r.target = KindRename, f.string(), f.string()
	case "hardlink@openssh.com":
		r.op, r.path, r.target = KindHardlink, f.string(), f.string()
	case "lsetstat@openssh.com":
		r.op, r.path, r.attributes = KindSetStat, f.string(), f.attributes()
		r.detail = r.attributes.text
	case "copy-data":
		s.about(r, f.bytes())
		r.op, r.offset, r.length = KindCopy, f.uint64(), f.uint64()
		r.destination = string(f.bytes())
		if offset := f.uint64(); r.offset > 0 || offset > 0 || r.length > 0 {
			r.detail = fmt.Sprintf("from %d, %d bytes, to %d", r.offset, r.length, offset)
		}
	case "statvfs@openssh.com", "fstatvfs@openssh.com", "fsync@openssh.com", "limits@openssh.com",
		"expand-path@openssh.com", "home-directory", "users-groups-by-id@openssh.com", "space-available", "vendor-id":
	default:
		r.op, r.detail = KindExtension, clean(name)
	}
}

// readWrite takes what stands before the content of a write, which follows.
func (s *sftp) readWrite(r *request, f *fields, rest uint64) error {
	s.about(r, f.bytes())
	r.offset, r.length = f.uint64(), uint64(f.uint32())
	if r.length != rest {
		return malformed("a write of %d bytes in a packet with %d", r.length, rest)
	}
	switch h := r.file; {
	case h == nil:
	case h.flags&openAppend != 0:
		h.writing().giveUp(&s.ahead, whyAppended)
	default:
		s.upload = stream{to: h.writing(), offset: r.offset}
	}
	return nil
}

// about notes the handle of a request. A client may guess a handle and use it before it is told, or use one whose
// close it has asked for; then what it means shows with the reply.
func (s *sftp) about(r *request, name []byte) {
	if h := s.handles[string(name)]; h != nil && !h.closing {
		r.file = h
		return
	}
	r.handle = string(name[:min(len(name), maxHandle)])
}

func (h *handle) writing() *content {
	if h.up == nil {
		h.up = newContent()
	}
	return h.up
}

func (h *handle) reading() *content {
	if h.down == nil {
		h.down = newContent()
	}
	return h.down
}

func openDetail(flags uint32) string {
	return list(
		word(reads(flags), "read"), word(flags&openWrite != 0, "write"), word(flags&openAppend != 0, "append"),
		word(flags&openCreate != 0, "create"), word(flags&openTruncate != 0, "truncate"), word(flags&openExclude != 0, "exclusive"),
	)
}

// operation is what the reply to r makes.
func (s *sftp) operation(r *request, a *answer) Operation {
	o := Operation{Kind: r.op, Detail: r.detail, Started: replay.Seconds(r.at), Ended: replay.Seconds(s.now)}
	o.setPath(r.path)
	if r.target != "" {
		o.setTarget(r.target)
	}
	switch {
	case r.op == KindOpen && !changes(r.flags):
		o.Direction = Download
	case r.op != KindExtension:
		o.Direction = Upload
	}
	o.answer(a)
	return o
}

// answer fills in how it went; nil is a success.
func (o *Operation) answer(a *answer) {
	if a == nil || a.code == statusOK {
		o.OK = true
		return
	}
	o.Code, o.Status = a.code, a.text
	if o.Status == "" {
		o.Status = statusName(a.code)
	}
}

// end tells what was still open or unanswered when the channel ended, in the order of the requests.
func (s *sftp) end(at time.Duration) {
	s.now = at
	var waiting []*request
	for _, r := range s.pending {
		for ; r != nil; r = r.next {
			waiting = append(waiting, r)
		}
	}
	slices.SortFunc(waiting, func(a, b *request) int { return cmp.Compare(a.serial, b.serial) })
	for _, r := range waiting {
		if r.op != "" {
			o := s.operation(r, nil)
			o.OK = false
			o.note("no reply")
			s.emit(o)
		}
	}
	open := slices.SortedFunc(maps.Values(s.handles), func(a, b *handle) int { return cmp.Compare(a.serial, b.serial) })
	for _, h := range open {
		if h.up != nil {
			h.up.giveUp(&s.ahead, whyCutOff)
		}
		s.finish(h, nil, whyCutOff)
	}
	for i, d := range []Direction{Upload, Download} {
		if c := &s.stray[i]; c.bytes > 0 {
			o := Operation{Kind: KindFile, Direction: d, Started: replay.Seconds(at), Ended: replay.Seconds(at)}
			c.why = "moved on handles that nobody opened"
			o.take(c)
			s.emit(o)
		}
	}
	s.pending, s.handles = nil, nil
}

// versionOf reads the version of an INIT or VERSION packet.
func versionOf(packet []byte) (uint32, bool) {
	if len(packet) < 5 {
		return 0, false
	}
	return binary.BigEndian.Uint32(packet[1:]), true
}

// cloneText is a status text worth keeping.
func cloneText(b []byte) string { return clean(string(bytes.TrimSpace(b[:min(len(b), maxStatus)]))) }

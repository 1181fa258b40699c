package transfer

import (
	"fmt"

	"github.com/holdfast-pam/holdfast/replay"
)

// reply takes a packet of the target.
func (s *sftp) reply(packet []byte, rest uint64) error {
	s.download = stream{}
	kind, f := packet[0], fields{rest: packet[1:]}
	if !s.settled {
		return s.version(packet)
	}
	id := f.uint32()
	r := s.pop(id)
	if r == nil {
		return malformed("a reply of type %d to no request", kind)
	}
	if r.file == nil && r.handle != "" {
		r.file = s.handles[r.handle]
	}
	switch kind {
	case fxpStatus:
		a := answer{code: f.uint32()}
		if len(f.rest) > 0 { // before version 3 there was no text
			a.text = cloneText(f.bytes())
		}
		if f.bad {
			break
		}
		s.status(r, &a)
		return nil
	case fxpHandle:
		if name := f.bytes(); !f.bad && len(name) <= maxHandle {
			return s.open(r, string(name))
		}
	case fxpData:
		if n := uint64(f.uint32()); !f.bad && n == rest {
			s.data(r, n)
			return nil
		}
	case fxpName:
		count := f.uint32()
		if f.bad {
			break
		}
		if r.kind == fxpReaddir && r.file != nil {
			r.file.entries += uint64(count)
		}
		return nil
	case fxpAttrs:
		if a := f.attributes(); !f.bad {
			s.sized(r, a)
			return nil
		}
	case fxpExtendedReply:
		s.emitFor(r, nil)
		return nil
	}
	return malformed("a reply of type %d", kind)
}

func (s *sftp) version(packet []byte) error {
	v, ok := versionOf(packet)
	if packet[0] != fxpVersion || !ok {
		return malformed("the target does not begin with SSH_FXP_VERSION: not SFTP")
	}
	if !s.begun {
		return malformed("the target speaks before the client")
	}
	if v = min(v, s.asked); v > sftpVersion {
		return fmt.Errorf("the sides speak SFTP version %d, and version %d is decoded", v, sftpVersion)
	}
	s.settled = true
	return nil
}

// status takes the answer of most requests.
func (s *sftp) status(r *request, a *answer) {
	ok := a.code == statusOK
	switch r.kind {
	case fxpWrite:
		s.wrote(r, a)
	case fxpRead:
		s.noData(r, a)
	case fxpReaddir:
		if r.file != nil && a.code == statusEOF {
			r.file.listed = true
		}
	case fxpClose:
		if h := r.file; h != nil && s.handles[h.name] == h {
			s.drop(h)
			s.finish(h, a, "")
		}
	case fxpFsetstat:
		if h := r.file; h != nil {
			r.path = h.path
			if ok && r.attributes.hasSize {
				h.resize(&s.ahead, r.attributes.size)
			}
		}
		s.emitFor(r, a)
	case fxpOpendir:
		if !ok {
			r.op = KindReadDir
			o := s.operation(r, a)
			o.Direction = ""
			s.emit(o)
		}
	default:
		if r.op == KindCopy {
			s.copied(r, ok)
		}
		s.emitFor(r, a)
	}
}

func (s *sftp) emitFor(r *request, a *answer) {
	if r.op == "" {
		return
	}
	o := s.operation(r, a)
	if r.op == KindCopy && o.OK {
		o.Bytes = r.length
		if r.length == 0 {
			o.note("to its end")
		}
	}
	s.emit(o)
}

// wrote counts what the target took.
func (s *sftp) wrote(r *request, a *answer) {
	h := r.file
	switch {
	case a.code != statusOK && h == nil:
	case a.code != statusOK:
		h.writing().giveUp(&s.ahead, whyFailed)
		h.fail(a)
	case h == nil:
		s.stray[0].moved(r.offset, r.length)
	default:
		if r.handle != "" {
			h.writing().giveUp(&s.ahead, whyUnseen)
		}
		h.writing().moved(r.offset, r.length)
	}
}

func (s *sftp) noData(r *request, a *answer) {
	switch h := r.file; {
	case h == nil:
	case a.code != statusEOF:
		h.reading()
		h.fail(a)
	case !h.hasEnd || r.offset < h.ends:
		h.reading()
		h.ends, h.hasEnd = r.offset, true
	}
}

func (h *handle) fail(a *answer) {
	if h.failure == nil {
		h.failure = a
	}
}

// data counts and hashes what was read; the bytes follow.
func (s *sftp) data(r *request, n uint64) {
	if r.kind != fxpRead {
		return
	}
	to := &s.stray[1]
	if r.file != nil {
		to = r.file.reading()
	} else {
		to.why = whyUnseen
	}
	s.download = stream{to: to, offset: r.offset, count: true}
	if n > r.length { // more than was asked for: which bytes they are is the target's secret
		to.giveUp(&s.ahead, whyRandom)
	}
}

// sized notes the size of a file, by which it may show that all of it was read.
func (s *sftp) sized(r *request, a attributes) {
	switch {
	case !a.hasSize:
	case r.kind == fxpFstat && r.file != nil:
		r.file.size, r.file.hasSize = a.size, true
	case r.kind == fxpStat || r.kind == fxpLstat:
		s.sizes[s.told%len(s.sizes)] = told{r.path, a.size}
		s.told++
	}
}

// open notes a handle that the target gave.
func (s *sftp) open(r *request, name string) error {
	if r.kind != fxpOpen && r.kind != fxpOpendir {
		return malformed("a handle for a request of type %d", r.kind)
	}
	if old := s.handles[name]; old != nil { // its close was not answered yet
		s.drop(old)
		s.finish(old, nil, "its handle was given anew")
	}
	h := &handle{
		name: name, path: r.path, serial: r.serial, opened: r.at, flags: r.flags, directory: r.kind == fxpOpendir,
	}
	s.recall(h)
	s.handles[name] = h
	s.held -= h.cost()
	if s.emitFor(r, nil); s.held < 0 {
		return fmt.Errorf("too many files are open: %d", len(s.handles))
	}
	return nil
}

// recall looks up what the target said of the size of a file, by its path: clients ask before or after they open it.
func (s *sftp) recall(h *handle) {
	if h.hasSize {
		return
	}
	for i := range s.sizes {
		if t := s.sizes[(s.told+i)%len(s.sizes)]; t.path == h.path && t.path != "" {
			h.size, h.hasSize = t.size, true // the latest stays
		}
	}
}

func (h *handle) cost() int { return 1500 + len(h.name) + len(h.path) }

func (s *sftp) drop(h *handle) {
	delete(s.handles, h.name)
	s.held += h.cost()
}

// resize notes that the client set a file's size.
func (h *handle) resize(room *int, size uint64) {
	if h.up != nil && size < h.up.next {
		h.up.giveUp(room, whyCut)
	}
	h.setSize, h.hasSet = size, true
}

// copied notes a copy that the target made from one open file to another.
func (s *sftp) copied(r *request, ok bool) {
	if r.file != nil {
		r.path = r.file.path
	}
	to := s.handles[r.destination]
	if to == nil {
		return
	}
	r.target = to.path
	if ok {
		to.writing().giveUp(&s.ahead, whyCopied)
	}
}

// finish tells what became of a handle. a is the answer to its close, nil if there was none.
func (s *sftp) finish(h *handle, a *answer, note string) {
	o := Operation{Kind: KindFile, Started: replay.Seconds(h.opened), Ended: replay.Seconds(s.now)}
	o.setPath(h.path)
	o.note(note)
	if h.failure != nil {
		a = h.failure
	}
	if o.answer(a); note != "" {
		o.OK = false
	}
	if h.directory {
		o.Kind, o.Entries, o.Complete = KindReadDir, h.entries, h.listed
		s.emit(o)
		return
	}
	if h.up == nil && h.flags&openWrite != 0 && (!reads(h.flags) || h.flags&openTruncate != 0) {
		h.up = newContent() // opened to be written, and left empty
	}
	s.recall(h)
	s.finishContent(o, h.up, Upload, h.wroteWhole)
	s.finishContent(o, h.down, Download, h.readWhole)
}

func (s *sftp) finishContent(o Operation, c *content, d Direction, whole func(uint64) string) {
	if c == nil {
		return
	}
	o.Direction = d
	if c.finish(&s.ahead, whole); c.why == whyCutOff {
		c.why, o.Note = whyPartial, whyCutOff
	}
	if o.take(c); o.Complete && d == Download {
		o.OK = o.Code == statusOK // closing it adds nothing
	}
	s.emit(o)
}

// wroteWhole says what is uncertain about a file of which the first end bytes were written.
func (h *handle) wroteWhole(end uint64) string {
	switch {
	case h.hasSet && h.setSize == end:
		return ""
	case h.hasSet:
		return whyCut
	case h.flags&(openTruncate|openExclude) == 0:
		return whyKept
	}
	return ""
}

// readWhole says what is uncertain about a file of which the first end bytes were read.
func (h *handle) readWhole(end uint64) string {
	switch {
	case h.failure != nil:
		return whyPartial
	case h.hasEnd && h.ends == end:
		return ""
	case h.hasSize && h.size == end && end > 0:
		return ""
	}
	return whyPartial
}

package transfer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-pam/holdfast/replay"
)

// Bounds of scp. A line of OpenSSH's has at most 16 KiB.
const (
	maxLine  = 16 << 10
	maxNames = 8 << 10 // bytes of the names of the directories that it is in
	maxWaits = 256     // answers that are awaited
)

// scp decodes the protocol that scp spoke before it took to SFTP. Nobody specified it; this follows OpenSSH's scp.c.
// The source sends a line for each file (C), directory (D), its end (E) and for times (T), and content behind a C;
// the sink answers each with a zero byte, or with 1 or 2 and a text.
type scp struct {
	emit      func(Operation)
	now       time.Duration
	direction Direction
	base      string // of the command

	line []byte // being gathered, of the source
	left uint64 // bytes of content still to come
	tail bool   // the byte behind the content comes next
	file *scpFile
	dirs []string
	size int // bytes of dirs
	sent uint64

	reply []byte // being gathered, of the sink: an error
	waits []scpWait
	over  bool // a side gave up: what follows means nothing
}

// scpFile is a file under way.
type scpFile struct {
	op      Operation
	size    uint64
	sum     hash.Hash
	failure *answer // that the source reported
}

// scpWait is something that the sink has to answer.
type scpWait struct {
	kind byte // C, D, E, T; c for content; 0 for the start
	file *scpFile
	op   Operation // of a directory
	sent uint64    // by the source when it began to wait
}

func newSCP(emit func(Operation), p Program) *scp {
	return &scp{
		emit: emit, direction: p.Direction, base: p.Paths, waits: []scpWait{{}},
	}
}

func (s *scp) fromClient(at time.Duration, data []byte) error {
	return s.take(at, data, s.direction == Upload)
}

func (s *scp) fromTarget(at time.Duration, data []byte) error {
	return s.take(at, data, s.direction == Download)
}

func (s *scp) take(at time.Duration, data []byte, fromSource bool) error {
	s.now = at
	for len(data) > 0 && !s.over {
		var n int
		var err error
		if fromSource {
			n, err = s.source(data)
			s.sent += uint64(n)
		} else {
			n, err = s.sink(data)
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// source takes bytes of the source and returns how many. A line counts as sent only after it was acted on, so that
// what waits for its answer knows everything sent since.
func (s *scp) source(data []byte) (int, error) {
	switch {
	case s.left > 0:
		n := int(min(s.left, uint64(len(data))))
		s.file.sum.Write(data[:n])
		s.file.op.Bytes += uint64(n)
		if s.left -= uint64(n); s.left == 0 {
			s.tail = true
		}
		return n, nil
	case s.tail && data[0] == 0:
		s.tail = false
		return 1, s.contentSent()
	}
	n := bytes.IndexByte(data, '\n') + 1
	whole := n > 0
	if !whole {
		n = len(data)
	}
	if len(s.line)+n > maxLine {
		return 0, malformed("a line of more than %d bytes", maxLine)
	}
	s.line = append(s.line, data[:n]...)
	if !whole {
		return n, nil
	}
	line := string(s.line[:len(s.line)-1])
	s.line = s.line[:0]
	return n, s.message(line, s.sent+uint64(n))
}

// message takes a line of the source.
func (s *scp) message(line string, sent uint64) error {
	if line == "" {
		return malformed("an empty line")
	}
	kind, rest := line[0], line[1:]
	switch {
	case kind == 1 || kind == 2:
		return s.sourceError(&answer{uint32(kind), clean(rest)})
	case s.tail:
		return malformed("content that is longer than was said")
	case kind == 'T':
		return s.wait(scpWait{kind: kind, sent: sent})
	case kind == 'E':
		if len(s.dirs) == 0 {
			return malformed("the end of a directory that was not begun")
		}
		s.leave()
		return s.wait(scpWait{kind: kind, sent: sent})
	case kind != 'C' && kind != 'D':
		return malformed("a line that begins with %q", kind)
	}
	mode, size, name, err := parseEntry(rest)
	if err != nil {
		return err
	}
	o := Operation{
		Kind: KindFile, Direction: s.direction, Detail: "mode=" + mode, Started: replay.Seconds(s.now),
	}
	o.setPath(strings.Join(append(s.dirs[:len(s.dirs):len(s.dirs)], name), "/"))
	o.setTarget(s.base)
	if kind == 'D' {
		o.Kind = KindDirectory
		return s.enter(name, scpWait{kind: kind, op: o, sent: sent})
	}
	s.file = &scpFile{op: o, size: size, sum: sha256.New()}
	s.left, s.tail = size, size == 0
	return s.wait(scpWait{kind: kind, file: s.file, sent: sent})
}

// parseEntry reads "0644 123 name".
func parseEntry(rest string) (mode string, size uint64, name string, err error) {
	mode, rest, _ = strings.Cut(rest, " ")
	digits, name, _ := strings.Cut(rest, " ")
	if _, err := strconv.ParseUint(mode, 8, 16); err != nil {
		return "", 0, "", malformed("a mode of %q", cutText(mode))
	}
	if size, err = strconv.ParseUint(digits, 10, 63); err != nil {
		return "", 0, "", malformed("a size of %q", cutText(digits))
	}
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return "", 0, "", malformed("a file named %q", cutText(name))
	}
	return mode, size, name, nil
}

func cutText(s string) string { return s[:min(len(s), 64)] }

func (s *scp) enter(name string, w scpWait) error {
	if s.size += len(name) + 1; s.size > maxNames {
		return errors.New("directories are too deep")
	}
	s.dirs = append(s.dirs, name)
	return s.wait(w)
}

func (s *scp) leave() {
	last := len(s.dirs) - 1
	s.size -= len(s.dirs[last]) + 1
	s.dirs = s.dirs[:last]
}

func (s *scp) wait(w scpWait) error {
	if len(s.waits) == maxWaits {
		return fmt.Errorf("more than %d answers are awaited", maxWaits)
	}
	s.waits = append(s.waits, w)
	return nil
}

// sourceError takes what the source could not do: with the file whose content it has just sent, or on its own.
func (s *scp) sourceError(a *answer) error {
	if s.tail {
		s.tail = false
		s.file.failure = a
		return s.contentSent()
	}
	s.error(a, "the sender reported it")
	s.over = a.code == 2
	return nil
}

func (s *scp) error(a *answer, note string) {
	o := Operation{
		Kind: KindError, Direction: s.direction, Note: note, Started: replay.Seconds(s.now), Ended: replay.Seconds(s.now),
	}
	o.setTarget(s.base)
	o.answer(a)
	s.emit(o)
}

func (s *scp) contentSent() error {
	file := s.file
	s.file = nil
	return s.wait(scpWait{kind: 'c', file: file})
}

// sink takes bytes of the sink and returns how many.
func (s *scp) sink(data []byte) (int, error) {
	if len(s.reply) == 0 {
		switch data[0] {
		case 0:
			return 1, s.answered(nil)
		case 1, 2:
		default:
			return 0, malformed("an answer that begins with %q", data[0])
		}
	}
	n := bytes.IndexByte(data, '\n') + 1
	whole := n > 0
	if !whole {
		n = len(data)
	}
	if len(s.reply)+n > maxLine {
		return 0, malformed("an answer of more than %d bytes", maxLine)
	}
	if s.reply = append(s.reply, data[:n]...); !whole {
		return n, nil
	}
	a := &answer{uint32(s.reply[0]), clean(strings.TrimSpace(string(s.reply[1:])))}
	s.reply = s.reply[:0]
	s.over = a.code == 2
	return n, s.answered(a)
}

// answered takes the sink's answer to what waits longest; nil is a success.
func (s *scp) answered(a *answer) error {
	if len(s.waits) == 0 {
		if a != nil {
			s.error(a, "the receiver reported it")
		}
		return nil
	}
	w := s.waits[0]
	s.waits = s.waits[1:]
	sentOn := s.sent != w.sent
	switch {
	case w.kind == 'c':
		s.finish(w.file, a, "")
	case w.kind == 'D':
		w.op.Ended = replay.Seconds(s.now)
		w.op.answer(a)
		s.emit(w.op)
	case w.kind == 'C' && a != nil:
		s.finish(w.file, a, "refused before it was sent")
	case a != nil:
		s.error(a, "the receiver reported it")
	}
	if a == nil || w.kind != 'C' && w.kind != 'D' {
		return nil
	}
	if sentOn {
		s.file, s.waits = nil, nil // what was taken for content may have been lines
		return errors.New("the receiver refused a name, and the sender had sent on: what that meant is uncertain")
	}
	if w.kind == 'D' {
		s.leave()
	}
	s.file, s.left, s.tail = nil, 0, false
	return nil
}

// noteUnanswered is the note of a file that was sent in full, and nothing was heard of it. Some clients end so.
const noteUnanswered = "not acknowledged"

// finish tells what became of a file. a is the sink's answer; the source's own error comes first. A file that was sent
// in full is whole even if the answer is lacking, as the note then says.
func (s *scp) finish(f *scpFile, a *answer, note string) {
	o := f.op
	o.Ended = replay.Seconds(s.now)
	o.note(note)
	if f.failure != nil {
		a = f.failure
	}
	o.answer(a)
	switch {
	case o.OK && (note == "" || note == noteUnanswered):
		o.Complete, o.SHA256 = true, hex.EncodeToString(f.sum.Sum(nil))
		o.OK = note == ""
	case note == "":
		o.note("it failed")
	default:
		o.OK = false
	}
	s.emit(o)
}

// end tells what was under way when the channel ended.
func (s *scp) end(at time.Duration) {
	s.now = at
	var told *scpFile
	for _, w := range s.waits {
		switch {
		case w.file != nil && w.file != told:
			told = w.file
			s.unfinished(w.file)
		case w.kind == 'D':
			w.op.Ended = replay.Seconds(at)
			w.op.note("no reply")
			s.emit(w.op)
		}
	}
	if s.file != nil && s.file != told {
		s.unfinished(s.file)
	}
	s.waits, s.file = nil, nil
}

func (s *scp) unfinished(f *scpFile) {
	note := whyPartial
	if f.op.Bytes == f.size {
		note = noteUnanswered
	}
	s.finish(f, nil, note)
}

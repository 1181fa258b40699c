package transfer

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"
)

// said is bytes that one side of a conversation sent.
type said struct {
	target bool
	bytes  []byte
}

// talk is a conversation over SFTP, in the order in which a relay has it.
type talk struct {
	all  []said
	next uint32
}

// packet lays out an SFTP packet of uint32, uint64, byte, string and []byte values; strings get their length, bytes don't.
func packet(kind byte, values ...any) []byte {
	b := []byte{0, 0, 0, 0, kind}
	for _, v := range values {
		switch v := v.(type) {
		case int:
			b = binary.BigEndian.AppendUint32(b, uint32(v))
		case uint32:
			b = binary.BigEndian.AppendUint32(b, v)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, v)
		case string:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
		case []byte:
			b = append(b, v...)
		default:
			panic(fmt.Sprintf("%T", v))
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// hello is a conversation that has begun.
func hello() *talk {
	t := &talk{}
	t.send(packet(fxpInit, 3))
	t.answer(packet(fxpVersion, 3, "posix-rename@openssh.com", "1"))
	return t
}

func (t *talk) send(b []byte)   { t.all = append(t.all, said{false, b}) }
func (t *talk) answer(b []byte) { t.all = append(t.all, said{true, b}) }

// ask sends a request and returns its id.
func (t *talk) ask(kind byte, values ...any) uint32 {
	t.next++
	t.send(packet(kind, append([]any{t.next}, values...)...))
	return t.next
}

func (t *talk) status(id uint32, code int) {
	t.answer(packet(fxpStatus, id, code, "Words of the server", ""))
}

// do asks and lets the target answer with a status.
func (t *talk) do(code int, kind byte, values ...any) *talk {
	t.status(t.ask(kind, values...), code)
	return t
}

// open opens a file by the handle given.
func (t *talk) open(path string, flags int, handle string) *talk {
	t.answer(packet(fxpHandle, t.ask(fxpOpen, path, flags, 0), handle))
	return t
}

func (t *talk) write(handle string, offset int, data string) *talk {
	return t.do(0, fxpWrite, handle, uint64(offset), data)
}

func (t *talk) read(handle string, offset int, data string) *talk {
	t.answer(packet(fxpData, t.ask(fxpRead, handle, uint64(offset), 32768), data))
	return t
}

func (t *talk) close(handle string) *talk { return t.do(0, fxpClose, handle) }

const (
	creating = openWrite | openCreate | openTruncate
	nothing  = 0 // attributes
)

// decode is what a decoder makes of a conversation; each piece comes a millisecond after the one before.
func decode(p Program, all []said) []Operation {
	var ops []Operation
	d := NewDecoder(p, 7, func(o Operation) { ops = append(ops, o) })
	at := time.Duration(0)
	for _, s := range all {
		if at += time.Millisecond; s.target {
			d.FromTarget(at, slices.Clone(s.bytes))
		} else {
			d.FromClient(at, slices.Clone(s.bytes))
		}
	}
	d.End(at)
	return ops
}

var overSFTP = Program{Protocol: SFTP, Certain: true}

func (t *talk) operations() []Operation { return decode(overSFTP, t.all) }

// cutUp cuts what was said into random pieces; the order stays.
func cutUp(r *rapid.T, all []said) (pieces []said) {
	for _, s := range all {
		for rest := s.bytes; len(rest) > 0; {
			n := len(rest)
			if rapid.IntRange(0, 3).Draw(r, "cut") == 0 {
				n = rapid.IntRange(1, len(rest)).Draw(r, "piece")
			}
			pieces = append(pieces, said{s.target, rest[:n]})
			rest = rest[n:]
		}
	}
	return pieces
}

// untimed is operations without their times.
func untimed(ops []Operation) []Operation {
	ops = slices.Clone(ops)
	for i := range ops {
		ops[i].Started, ops[i].Ended = 0, 0
	}
	return ops
}

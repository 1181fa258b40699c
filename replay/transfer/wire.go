package transfer

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Packet types of draft-ietf-secsh-filexfer-02, section 3.
const (
	fxpInit          = 1
	fxpVersion       = 2
	fxpOpen          = 3
	fxpClose         = 4
	fxpRead          = 5
	fxpWrite         = 6
	fxpLstat         = 7
	fxpFstat         = 8
	fxpSetstat       = 9
	fxpFsetstat      = 10
	fxpOpendir       = 11
	fxpReaddir       = 12
	fxpRemove        = 13
	fxpMkdir         = 14
	fxpRmdir         = 15
	fxpRealpath      = 16
	fxpStat          = 17
	fxpRename        = 18
	fxpReadlink      = 19
	fxpSymlink       = 20
	fxpStatus        = 101
	fxpHandle        = 102
	fxpData          = 103
	fxpName          = 104
	fxpAttrs         = 105
	fxpExtended      = 200
	fxpExtendedReply = 201
)

// Flags of SSH_FXP_OPEN, section 6.3.
const (
	openRead     = 1 << 0
	openWrite    = 1 << 1
	openAppend   = 1 << 2
	openCreate   = 1 << 3
	openTruncate = 1 << 4
	openExclude  = 1 << 5
)

// reads says whether a file opened so can be read: servers take no flag at all for reading.
func reads(flags uint32) bool { return flags&openRead != 0 || flags&openWrite == 0 }

// changes says whether opening a file so may change something, then or later.
func changes(flags uint32) bool { return flags&(openWrite|openAppend|openCreate|openTruncate) != 0 }

// Status codes, section 7.
const (
	statusOK  = 0
	statusEOF = 1
)

var statusNames = []string{
	"ok", "end of file", "no such file", "permission denied", "failure", "bad message", "no connection",
	"connection lost", "operation unsupported",
}

func statusName(code uint32) string {
	if code < uint32(len(statusNames)) {
		return statusNames[code]
	}
	return fmt.Sprintf("status %d", code)
}

// sftpVersion is the one that is understood: what OpenSSH and most others speak. Servers that speak 4 to 6 lay out
// their packets otherwise.
const sftpVersion = 3

// Bounds of SFTP packets. OpenSSH takes no packet above maxPacket. WRITE and DATA are read as they come and may be longer,
// as some servers agree on with their clients.
const (
	maxPacket = 256 << 10
	maxStream = 64 << 20
	maxHandle = 256 // section 6.3
)

// errMalformed is wrapped by every error about bytes that are no SFTP.
var errMalformed = errors.New("malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errMalformed, fmt.Sprintf(format, args...))
}

// framer cuts a byte stream into packets. Its state is small and can be written down: it holds the head of the packet
// that is being gathered, never its content.
type framer struct {
	buf  []byte // what was gathered of the head, with the four bytes of the length
	need int    // bytes that buf must have before it can be looked at again
	rest uint64 // bytes of the packet that follow its head, which was given out
}

// headLength says how long the head of a packet is that begins with buf: with more than len(buf), gather that many and
// ask again. It errs on what can't be a packet.
type headLength func(buf []byte) (int, error)

// feed gives out the head of each packet in data with the number of its bytes that follow, and then those, in pieces.
// What it gives is valid during the call. After an error it must not be used again.
func (f *framer) feed(data []byte, length headLength, head func(packet []byte, rest uint64) error, body func([]byte)) error {
	for {
		if f.rest > 0 {
			n := min(f.rest, uint64(len(data)))
			if n == 0 {
				return nil
			}
			if body != nil {
				body(data[:n])
			}
			f.rest -= n
			data = data[n:]
			continue
		}
		if n := min(max(f.need-len(f.buf), 0), len(data)); n > 0 {
			f.buf = append(f.buf, data[:n]...)
			data = data[n:]
		}
		if len(f.buf) < max(f.need, 5) {
			if f.need = max(f.need, 5); len(data) == 0 {
				return nil
			}
			continue
		}
		need, err := length(f.buf)
		if err != nil {
			return err
		}
		if f.need = need; need > len(f.buf) {
			continue
		}
		f.rest = 4 + uint64(binary.BigEndian.Uint32(f.buf)) - uint64(len(f.buf))
		packet := f.buf[4:]
		f.need, f.buf = 5, f.buf[:0]
		if cap(packet) > maxKeptHead {
			f.buf = nil
		}
		if err := head(packet, f.rest); err != nil {
			return err
		}
	}
}

// maxKeptHead is the largest buffer that is kept between packets.
const maxKeptHead = 4 << 10

// decoderHead is the headLength of a decoder: of packets that carry content it is what stands before the content, of
// lists of names their count, of all others everything.
func decoderHead(buf []byte) (int, error) {
	length := binary.BigEndian.Uint32(buf)
	if length == 0 {
		return 0, malformed("a packet of no bytes")
	}
	need := 4 + int64(length)
	switch buf[4] {
	case fxpWrite: // id, handle, offset, data
		need = 13
		if len(buf) >= 13 {
			n := binary.BigEndian.Uint32(buf[9:])
			if n > maxHandle {
				return 0, malformed("a handle of %d bytes", n)
			}
			need = 13 + int64(n) + 12
		}
	case fxpData, fxpName: // id, data; or count
		need = 13
	default:
		if length > maxPacket {
			return 0, malformed("a packet of %d bytes", length)
		}
	}
	if length > maxStream || need > 4+int64(length) {
		return 0, malformed("packet type %d of %d bytes", buf[4], length)
	}
	return int(need), nil
}

// fields takes values off the front of a packet; what is missing makes it bad.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) take(n uint64) []byte {
	if f.bad || n > uint64(len(f.rest)) {
		f.bad, f.rest = true, nil
		return nil
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) uint32() uint32 {
	if b := f.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (f *fields) uint64() uint64 {
	if b := f.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (f *fields) bytes() []byte { return f.take(uint64(f.uint32())) }

// string is the next string, of which a name's worth is kept and marked as longer where it is.
func (f *fields) string() string {
	b := f.bytes()
	return string(b[:min(len(b), maxPath+1)])
}

// attributes is what a setstat asks for, as text, and the size in it (section 5).
type attributes struct {
	text    string
	size    uint64
	hasSize bool
}

func (f *fields) attributes() (a attributes) {
	flags := f.uint32()
	var size, owner, mode, times string
	if a.hasSize = flags&1 != 0; a.hasSize {
		a.size = f.uint64()
		size = fmt.Sprintf("size=%d", a.size)
	}
	if flags&2 != 0 {
		owner = fmt.Sprintf("owner=%d:%d", f.uint32(), f.uint32())
	}
	if flags&4 != 0 {
		mode = fmt.Sprintf("mode=%04o", f.uint32()&0o7777)
	}
	if flags&8 != 0 {
		f.uint32()
		times = fmt.Sprintf("modified=%d", f.uint32())
	}
	a.text = list(size, owner, mode, times)
	return a
}

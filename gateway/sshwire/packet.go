package sshwire

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/bits"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// The binary packet protocol, RFC 4253 section 6: packet_length, padding_length, payload, padding, tag.
const (
	minPadding  = 4
	minPacket   = 16
	smallBuffer = 4 << 10
	largeBuffer = 256 << 10
	secretBlock = 128 // packets that carry a secret are padded to a multiple of it, to hide its length
)

// direction is one direction's whole state: keys and counters. It is plain data apart from guard, which Keys make: the
// nonce of AES-GCM is IV plus Packets, that of chacha20 is Sequence, the place in AES-CTR's key stream follows from
// Bytes and Packets.
type direction struct {
	Keys     keys
	Sequence uint32 // number of the next packet, RFC 4253 section 6.4
	Packets  uint64 // sealed or opened with Keys
	Bytes    uint64 // the same, on the wire
	guard    guard
	layout   layout
}

// install takes new keys into use at a NEWKEYS. Strict key exchange restarts the packet numbers.
func (d *direction) install(k keys, strict bool) error {
	g, err := k.guard()
	if err != nil {
		return err
	}
	d.use(g)
	d.Keys = k
	if strict {
		d.Sequence = 0
	}
	return nil
}

func (d *direction) use(g guard) {
	d.guard, d.layout = g, g.layout()
	d.Packets, d.Bytes = 0, 0
}

func (d *direction) count(wire int) {
	d.Sequence++
	d.Packets++
	d.Bytes += uint64(wire)
}

// worn says that the keys have carried as much as Config allows.
func (d *direction) worn(c *Config) bool {
	return d.Bytes >= c.RekeyBytes || d.Packets >= c.RekeyPackets
}

// receiver reads packets into a buffer and opens them there. While it waits with nothing buffered, and no bulk has just
// come, it holds no buffer, so that an idle connection needs none. It belongs to the goroutine in ReadPacket. After an error of src it can be called
// again: nothing is lost (preferring GCM relies on it).
type receiver struct {
	direction
	src     io.Reader
	raw     syscall.RawConn       // of src; nil where there is none
	attempt func(fd uintptr) bool // for raw.Read: sets got
	got     struct {
		n   int
		err error
	}
	beforeRead func()  // TCP_QUICKACK
	size       int     // of the next buffer
	buf        []byte  // nil while nothing is buffered
	lent       *[]byte // buf, where it is one of buffers
	start, end int     // what is buffered and not yet opened
	need       int     // bytes on the wire of the packet at start; 0 while its length is unknown
	maxPayload uint32  // bytes
	last       int     // bytes that the last read gave
	idle       int     // small reads in a row
	total      atomic.Uint64
}

// next returns the payload of the next packet, valid until the next call.
func (r *receiver) next() ([]byte, error) {
	for {
		payload, err := r.take()
		if payload != nil || err != nil {
			return payload, err
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// take opens the next packet if it is buffered whole; nil when it isn't.
func (r *receiver) take() ([]byte, error) {
	if r.need == 0 {
		if r.end-r.start < r.layout.head {
			return nil, nil
		}
		if err := r.measure(); err != nil {
			return nil, err
		}
	}
	if r.end-r.start < r.need {
		return nil, nil
	}
	wire := r.buf[r.start : r.start+r.need : r.start+r.need]
	if err := r.guard.open(r.Sequence, wire); err != nil {
		return nil, violation(ReasonMACError, "packet %d: %w", r.Sequence, err)
	}
	r.start += r.need
	r.need = 0
	r.count(len(wire))
	body := wire[4 : len(wire)-r.layout.tag]
	padding := int(body[0])
	if padding < minPadding || padding+2 > len(body) {
		return nil, violation(ReasonProtocolError, "padding of %d bytes in a packet of %d: %w", padding, len(body), ErrMalformed)
	}
	return body[1 : len(body)-padding : len(body)-padding], nil
}

// measure reads and checks the length of the packet at start.
func (r *receiver) measure() error {
	n := r.guard.length(r.Sequence, r.buf[r.start:r.start+r.layout.head])
	aligned := n
	if r.layout.whole {
		aligned += 4
	}
	if n < 1+1+minPadding || n > r.maxPayload+1+255 {
		return violation(ReasonProtocolError, "packet length %d; at most %d bytes of payload are accepted: %w",
			n, r.maxPayload, ErrMalformed)
	}
	if aligned%uint32(r.layout.block) != 0 {
		return violation(ReasonProtocolError, "packet length %d is not a multiple of the block: %w", n, ErrMalformed)
	}
	r.need = 4 + int(n) + r.layout.tag
	return nil
}

// fill waits for more bytes.
func (r *receiver) fill() error {
	if r.beforeRead != nil {
		r.beforeRead()
	}
	n, err := r.read()
	r.end, r.last = r.end+n, n
	r.total.Add(uint64(n))
	if n > 0 {
		r.adapt(n)
		return nil
	}
	if err == io.EOF && r.end > r.start {
		return io.ErrUnexpectedEOF
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// read waits for bytes and reads what there is into the free part of the buffer.
func (r *receiver) read() (int, error) {
	if r.raw == nil {
		r.makeRoom()
		return r.src.Read(r.buf[r.end:])
	}
	if err := r.raw.Read(r.attempt); err != nil {
		return 0, err
	}
	if r.got.n == 0 && r.got.err == nil {
		return 0, io.EOF
	}
	return r.got.n, r.got.err
}

// poll makes the receiver read from the descriptor of raw, so that it can wait without a buffer.
func (r *receiver) poll(raw syscall.RawConn) {
	if r.raw = raw; raw == nil {
		return
	}
	r.attempt = func(fd uintptr) bool {
		r.makeRoom()
		for r.got.err = unix.EINTR; r.got.err == unix.EINTR; {
			r.got.n, r.got.err = unix.Read(int(fd), r.buf[r.end:])
		}
		if r.got.err != unix.EAGAIN {
			r.got.n = max(r.got.n, 0)
			return true
		}
		if r.start == r.end && r.last <= smallBuffer { // bulk, which comes again at once, keeps its buffer warm
			giveBuffer(r.lent)
			r.start, r.end, r.buf, r.lent, r.size = 0, 0, nil, nil, smallBuffer
		}
		return false
	}
}

// makeRoom leaves free space after end, enough for the packet at start.
func (r *receiver) makeRoom() {
	if r.buf == nil {
		r.lent = takeBuffer(r.size)
		r.buf = *r.lent
	}
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	if r.start > 0 && (len(r.buf)-r.end < len(r.buf)/4 || r.start+r.need > len(r.buf)) {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.need > len(r.buf) || r.end == len(r.buf) {
		r.resize(max(2*len(r.buf), r.need+smallBuffer))
	}
}

// adapt lets the buffer grow while reads fill it, and shrink after many small ones, so that an idle session is small.
func (r *receiver) adapt(n int) {
	if n > len(r.buf)/2 && len(r.buf) < largeBuffer {
		r.resize(2 * len(r.buf))
	}
	if n > smallBuffer/4 || len(r.buf) == smallBuffer {
		r.idle = 0
		return
	}
	if r.idle++; r.idle >= 64 && r.end-r.start+r.need <= smallBuffer/2 {
		r.resize(smallBuffer)
		r.idle = 0
	}
}

func (r *receiver) resize(n int) {
	other := takeBuffer(n)
	r.end = copy(*other, r.buf[r.start:r.end])
	giveBuffer(r.lent)
	r.start, r.lent, r.buf, r.size = 0, other, *other, len(*other)
}

// buffers recycles receive buffers between connections, by their size: smallBuffer, twice that, and so on up to
// largeBuffer.
var buffers [7]sync.Pool

// bufferClass is the place of the smallest buffer that holds n bytes; ok says that there is one.
func bufferClass(n int) (class int, ok bool) {
	class = max(bits.Len(uint(n-1))-bits.Len(uint(smallBuffer-1)), 0)
	return class, class < len(buffers)
}

// takeBuffer gives a buffer of at least n bytes with any content.
func takeBuffer(n int) *[]byte {
	if class, ok := bufferClass(n); ok {
		if b, ok := buffers[class].Get().(*[]byte); ok {
			return b
		}
		n = smallBuffer << class
	}
	b := make([]byte, n)
	return &b
}

// giveBuffer gives one back; nil and those of other sizes are forgotten.
func giveBuffer(b *[]byte) {
	if b == nil {
		return
	}
	if class, ok := bufferClass(len(*b)); ok && len(*b) == smallBuffer<<class {
		buffers[class].Put(b)
	}
}

// line reads a line of the version exchange, without its LF or CR LF, of at most limit bytes in all.
func (r *receiver) line(limit int) (string, error) {
	for {
		have := r.buf[r.start:r.end]
		if i := bytes.IndexByte(have, '\n'); i >= 0 && i < limit {
			r.start += i + 1
			return string(bytes.TrimSuffix(have[:i], []byte("\r"))), nil
		}
		if len(have) >= limit {
			return "", violation(ReasonProtocolError, "line of over %d bytes in the version exchange: %w", limit, ErrMalformed)
		}
		if err := r.fill(); err != nil {
			return "", err
		}
	}
}

// outputs recycles output buffers between connections, so that an idle one holds none.
var outputs = sync.Pool{New: func() any { b := make([]byte, 0, smallBuffer); return &b }}

// sender seals packets into an output buffer. It is guarded by Conn.mu.
type sender struct {
	direction
	pending *[]byte
}

// seal appends payload as a packet, padded to a multiple of at least block bytes.
//
// Padding is zeros. RFC 4253 section 6 recommends random bytes, for the sake of ciphers in CBC mode, which are not
// here: every cipher used is a stream under a nonce that never repeats, so padding reveals nothing whatever it holds. And
// a standby that must compute the very same packets can't share our randomness.
func (s *sender) seal(payload []byte, block int) {
	if s.pending == nil {
		s.pending = outputs.Get().(*[]byte)
	}
	block = max(block, s.layout.block)
	covered := 1 + len(payload)
	if s.layout.whole {
		covered += 4
	}
	padding := block - covered%block
	for padding < minPadding || 4+1+len(payload)+padding < minPacket {
		padding += block
	}
	out := *s.pending
	at := len(out)
	out = binary.BigEndian.AppendUint32(out, uint32(1+len(payload)+padding))
	out = append(append(out, byte(padding)), payload...)
	out = append(out, zeros[:padding+s.layout.tag]...)
	s.guard.seal(s.Sequence, out[at:])
	s.count(len(out) - at)
	*s.pending = out
}

var zeros [255 + 64]byte

// buffered is how many bytes wait to be written.
func (s *sender) buffered() int {
	if s.pending == nil {
		return 0
	}
	return len(*s.pending)
}

// recycle gives a written buffer back.
func recycle(b *[]byte) {
	if cap(*b) <= 2*largeBuffer {
		*b = (*b)[:0]
		outputs.Put(b)
	}
}

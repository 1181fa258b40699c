package transfer

import (
	"encoding/binary"
	"errors"
)

// ErrBadState is the error about bytes that are no guard's state.
var ErrBadState = errors.New("not the state of a transfer guard")

// guardVersion begins the written form of a guard. Its rest: the gate (1 upload, 2 download), the state, flags (1 the
// client has begun, 2 a program was refused), its version; the client's scan and the target's, each its mode, as uvarints
// what the head needs, what was seen and the size, and the head with its length before it; the target's first bytes with
// their length; the number of refused ids, and those.
const guardVersion = 2

// AppendBinary appends the state. It never fails.
func (g *Guard) AppendBinary(b []byte) ([]byte, error) {
	flag := func(on bool, bit byte) byte {
		if on {
			return bit
		}
		return 0
	}
	b = append(b, guardVersion, flag(g.gate.Upload, 1)|flag(g.gate.Download, 2), byte(g.state), flag(g.begun, 1)|flag(g.failed, 2))
	b = binary.BigEndian.AppendUint32(b, g.asked)
	for _, s := range []*scan{&g.client, &g.target} {
		b = append(b, byte(s.mode))
		for _, v := range []uint64{uint64(s.need), s.seen, s.size} {
			b = binary.AppendUvarint(b, v)
		}
		b = append(binary.AppendUvarint(b, uint64(len(s.head))), s.head...)
	}
	b = append(binary.AppendUvarint(b, uint64(len(g.version))), g.version...)
	b = binary.AppendUvarint(b, uint64(len(g.refused)))
	for _, id := range g.refused {
		b = binary.BigEndian.AppendUint32(b, id)
	}
	return b, nil
}

// MarshalBinary writes the state.
func (g *Guard) MarshalBinary() ([]byte, error) { return g.AppendBinary(nil) }

// UnmarshalBinary replaces g by the state in b. After an error g is unchanged.
func (g *Guard) UnmarshalBinary(b []byte) error {
	f := fields{rest: b}
	first := f.take(4)
	if f.bad || first[0] != guardVersion || first[1] > 3 || first[2] > byte(guardEnded) || first[3] > 3 {
		return ErrBadState
	}
	n := Guard{
		gate:  Gate{Upload: first[1]&1 != 0, Download: first[1]&2 != 0},
		state: guardState(first[2]), begun: first[3]&1 != 0, failed: first[3]&2 != 0, asked: f.uint32(),
	}
	n.client, n.target = f.scan(maxGuarded+atText), f.scan(atText)
	n.version = append(n.version, f.take(f.uvarint())...)
	count := f.uvarint()
	for i := uint64(0); i < count && !f.bad; i++ {
		n.refused = append(n.refused, f.uint32())
	}
	if f.bad || len(f.rest) > 0 || len(n.version) > versionLength || count > maxRefused {
		return ErrBadState
	}
	*g = n
	return nil
}

// scan reads the state of a scan whose head has at most so many bytes.
func (f *fields) scan(most uint64) (s scan) {
	if b := f.take(1); b != nil {
		s.mode = scanMode(b[0])
	}
	need, seen, size := f.uvarint(), f.uvarint(), f.uvarint()
	s.head = append(s.head, f.take(f.uvarint())...)
	begun := uint64(len(s.head))
	if s.mode > scanReply || need > most || begun > max(need, atRest) || seen < begun || seen > max(size, atRest) || size > 1<<32+4 ||
		(s.mode != scanHead || need > 0) && (begun < atType+1 || size < atType) {
		f.bad = true
	}
	s.need, s.seen, s.size = int(need), seen, size
	return s
}

func (f *fields) uvarint() uint64 {
	v, n := binary.Uvarint(f.rest)
	if f.bad || n <= 0 {
		f.bad, f.rest = true, nil
		return 0
	}
	f.rest = f.rest[n:]
	return v
}

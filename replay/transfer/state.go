package transfer

import (
	"encoding/binary"
	"errors"
)

// ErrBadState is the error about bytes that are no guard's state.
var ErrBadState = errors.New("not the state of a transfer guard")

// guardVersion begins the written form of a guard. Its rest: the gate (1 upload, 2 download), the state, flags (1 the
// client has begun, 2 a program was refused), its version, then as uvarints what the packet at hand needs and still lacks, and with their lengths
// before them the head of that packet and the target's first bytes.
const guardVersion = 1

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
	b = binary.AppendUvarint(b, uint64(g.client.need))
	b = binary.AppendUvarint(b, g.client.rest)
	for _, s := range [][]byte{g.client.buf, g.version} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b, nil
}

// MarshalBinary writes the state.
func (g *Guard) MarshalBinary() ([]byte, error) { return g.AppendBinary(nil) }

// UnmarshalBinary replaces g by the state in b. After an error g is unchanged.
func (g *Guard) UnmarshalBinary(b []byte) error {
	f := fields{rest: b}
	first := f.take(4)
	if f.bad || first[0] != guardVersion || first[1] > 3 || first[2] > byte(guardRefused) || first[3] > 3 {
		return ErrBadState
	}
	n := Guard{
		gate:  Gate{Upload: first[1]&1 != 0, Download: first[1]&2 != 0},
		state: guardState(first[2]), begun: first[3]&1 != 0, failed: first[3]&2 != 0, asked: f.uint32(),
	}
	need := f.uvarint()
	n.client.need, n.client.rest = int(need), f.uvarint()
	n.client.buf = append(n.client.buf, f.take(f.uvarint())...)
	n.version = append(n.version, f.take(f.uvarint())...)
	if f.bad || len(f.rest) > 0 || need > maxGuarded+17 || len(n.client.buf) > int(need) || len(n.version) > versionLength ||
		n.client.rest > 1<<32+4 {
		return ErrBadState
	}
	*g = n
	return nil
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

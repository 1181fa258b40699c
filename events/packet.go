package events

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Direction is one of the two packet sequences of a session.
type Direction string

const (
	// In runs from the client to the target.
	In Direction = "in"
	// Out runs from the target to the client.
	Out Direction = "out"
)

// Packet is one connection-layer packet of a session as the gateway received
// it: message number first, no padding.
type Packet struct {
	Number uint64        // place in its direction, from 0 after authentication
	At     time.Duration // since session start, to the microsecond
	Bytes  []byte
}

// ErrBadBlock says that the bytes of a packet block do not decode.
var ErrBadBlock = errors.New("not a valid packet block")

// AppendPacket appends one packet to the block of a [SessionPackets] event. A
// block is a sequence of (time since the packet before in microseconds,
// length), both uvarint, and the bytes; the first packet's time counts from
// SessionPackets.At. Times never go back: an earlier one counts as prev.
func AppendPacket(block []byte, prev, at time.Duration, packet []byte) []byte {
	block = binary.AppendUvarint(block, uint64(max(0, at.Microseconds()-prev.Microseconds())))
	block = binary.AppendUvarint(block, uint64(len(packet)))
	return append(block, packet...)
}

// AppendPackets appends the stored payload of e to dst, as [EncodeEvent] would
// give it for e with the size bytes that seal appends as Sealed. So session
// bytes are encoded without being copied. seal's error is returned as it is.
func AppendPackets(dst []byte, e SessionPackets, size int, seal func(dst []byte) ([]byte, error)) ([]byte, error) {
	// The map of five keys in the order of RFC 8949 section 4.2.1: by the
	// keys' encodings, so shorter ones first.
	dst = append(dst, cborMap|5)
	dst = appendHead(appendText(dst, "at"), cborUint, e.At)
	dst = appendHead(appendText(dst, "count"), cborUint, e.Count)
	dst = appendHead(appendText(dst, "first"), cborUint, e.First)
	dst = appendHead(appendText(dst, "sealed"), cborBytes, uint64(size))
	before := len(dst)
	dst, err := seal(dst)
	if err != nil {
		return nil, err
	}
	if len(dst)-before != size {
		return nil, fmt.Errorf("encode session.packets: %d sealed bytes where %d were announced", len(dst)-before, size)
	}
	return appendText(appendText(dst, "direction"), string(e.Direction)), nil
}

// Packets decodes the opened block of p, count and order checked. The packets
// refer into block.
func (p *SessionPackets) Packets(block []byte) ([]Packet, error) {
	at := time.Duration(p.At) * time.Microsecond
	out := make([]Packet, 0, min(p.Count, uint64(len(block))/2+1))
	for len(block) > 0 {
		step, w := binary.Uvarint(block)
		if w <= 0 || step > uint64(1<<53) {
			return nil, fmt.Errorf("%w: time of packet %d", ErrBadBlock, p.First+uint64(len(out)))
		}
		size, v := binary.Uvarint(block[w:])
		if v <= 0 || size > uint64(len(block)-w-v) {
			return nil, fmt.Errorf("%w: length of packet %d", ErrBadBlock, p.First+uint64(len(out)))
		}
		at += time.Duration(step) * time.Microsecond
		block = block[w+v:]
		out = append(out, Packet{Number: p.First + uint64(len(out)), At: at, Bytes: block[:size:size]})
		block = block[size:]
	}
	if uint64(len(out)) != p.Count {
		return nil, fmt.Errorf("%w: %d packets where %d are declared", ErrBadBlock, len(out), p.Count)
	}
	return out, nil
}

// Edit is bytes that took the place of as many others in a packet.
type Edit struct {
	At     uint64 `json:"at"` // place of the first one
	Bytes  []byte `json:"bytes"`
	Repeat uint64 `json:"repeat,omitempty"` // how many times Bytes stand there; 0 is once
}

// ErrBadEdit says that an edit reaches beyond its packet.
var ErrBadEdit = errors.New("an edit does not fit its packet")

// ApplyEdits gives a copy of packet with the edits made.
func ApplyEdits(packet []byte, edits []Edit) ([]byte, error) {
	packet = bytes.Clone(packet)
	for _, e := range edits {
		times := max(1, e.Repeat)
		if len(e.Bytes) == 0 || e.At > uint64(len(packet)) || times > (uint64(len(packet))-e.At)/uint64(len(e.Bytes)) {
			return nil, ErrBadEdit
		}
		for i := range times {
			copy(packet[e.At+i*uint64(len(e.Bytes)):], e.Bytes)
		}
	}
	return packet, nil
}

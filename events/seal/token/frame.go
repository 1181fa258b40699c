package token

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Op is what a request asks of the helper.
type Op byte

// The requests. All fields are byte strings.
const (
	Login   Op = 1 // module path, token label, PIN; first, and once
	Create  Op = 2 // CKA_ID, CKA_LABEL: makes a P-256 key pair that never leaves the token; answers its point
	Public  Op = 3 // CKA_ID: answers the key's point, uncompressed (SEC 1)
	Derive  Op = 4 // CKA_ID, peer's point: answers the x coordinate of the shared point
	Destroy Op = 5 // CKA_ID: destroys the key pair; answers whether there was one
)

// Status begins an answer.
type Status byte

// The answers. One that is not OK has one field, the text.
const (
	OK       Status = 0
	Failed   Status = 1
	BadPIN   Status = 2 // the PIN is wrong
	Locked   Status = 3 // the token takes no PIN any more
	NoToken  Status = 4 // no slot holds a token of that label
	NoKey    Status = 5 // the token holds no key of that id
	maxFrame        = 64 << 10
)

// Frames are four bytes of length, big-endian, and as many bytes: one that says
// what it is (an [Op] or a [Status]), then fields, each with two bytes of length.

// WriteFrame writes one frame, and overwrites the memory that it was put
// together in.
func WriteFrame(w io.Writer, head byte, fields ...[]byte) error {
	size := 1
	for _, f := range fields {
		if len(f) > maxFrame {
			return errors.New("write to the PKCS#11 helper: a field is too long")
		}
		size += 2 + len(f)
	}
	b := make([]byte, 0, 4+size)
	defer func() { clear(b[:cap(b)]) }()
	b = binary.BigEndian.AppendUint32(b, uint32(size)) //nolint:gosec // bounded
	b = append(b, head)
	for _, f := range fields {
		b = binary.BigEndian.AppendUint16(b, uint16(len(f))) //nolint:gosec // bounded
		b = append(b, f...)
	}
	if size > maxFrame {
		return errors.New("write to the PKCS#11 helper: the frame is too long")
	}
	_, err := w.Write(b)
	return err
}

// ReadFrame reads one frame. The fields are parts of one slice.
func ReadFrame(r io.Reader) (head byte, fields [][]byte, err error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n == 0 || n > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes is out of range", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, fmt.Errorf("a frame ends early: %w", err)
	}
	head, b = b[0], b[1:]
	for len(b) > 0 {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return 0, nil, errors.New("a field ends behind its frame")
		}
		n := int(binary.BigEndian.Uint16(b))
		fields = append(fields, b[2:2+n:2+n])
		b = b[2+n:]
	}
	return head, fields, nil
}

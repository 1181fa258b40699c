package events

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/fxamacker/cbor/v2"
)

// encMode writes RFC 8949 section 4.2.1 core deterministic CBOR; an empty
// slice and a nil one are stored alike; times are RFC 3339 UTC text.
var encMode = must(func() (cbor.EncMode, error) {
	o := cbor.CoreDetEncOptions()
	o.Time = cbor.TimeRFC3339NanoUTC
	o.NilContainers = cbor.NilContainerAsEmpty
	return o.EncMode()
}())

// headerMode and payloadMode are strict and bounded: no duplicate keys, no
// indefinite lengths, no tags, no invalid UTF-8. Unknown payload fields pass, since a
// newer site may have added them; an unknown header field is refused.
var (
	headerMode  = decMode(cbor.ExtraDecErrorUnknownField)
	payloadMode = decMode(cbor.ExtraDecErrorNone)
)

func decMode(extra cbor.ExtraDecErrorCond) cbor.DecMode {
	return must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		UTF8:              cbor.UTF8RejectInvalid,
		ExtraReturnErrors: extra,
		MaxNestedLevels:   16,
		MaxArrayElements:  1 << 16,
		MaxMapPairs:       1 << 10,
	}.DecMode())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the options above are constants
	}
	return v
}

// EncodeHeader gives the bytes of a header that are stored and hashed.
func EncodeHeader(h *Header) ([]byte, error) {
	b, err := encMode.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode header of %s position %d: %w", h.Origin(), h.Position, err)
	}
	if len(b) > MaxHeaderSize {
		return nil, fmt.Errorf("encode header of %s position %d: %d bytes are over the limit of %d", h.Origin(), h.Position, len(b), MaxHeaderSize)
	}
	return b, nil
}

// DecodeHeader decodes a stored header. Only the canonical encoding of a known
// header version passes, so that bytes and meaning are one to one.
func DecodeHeader(b []byte) (Header, error) {
	var h Header
	if len(b) > MaxHeaderSize {
		return h, fmt.Errorf("%w: header of %d bytes is over the limit of %d", ErrBadRecord, len(b), MaxHeaderSize)
	}
	if err := headerMode.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("%w: header: %w", ErrBadRecord, err)
	}
	if h.V != HeaderVersion {
		return h, fmt.Errorf("%w: header version %d, this holdfast reads %d; a newer one wrote it", ErrBadRecord, h.V, HeaderVersion)
	}
	if !h.Kind.Valid() || h.Position == 0 || h.Epoch == 0 || h.PayloadSize > MaxPayloadSize {
		return h, fmt.Errorf("%w: header of %s position %d has a field out of range", ErrBadRecord, h.Origin(), h.Position)
	}
	again, err := encMode.Marshal(&h)
	if err != nil || !bytes.Equal(again, b) {
		return h, fmt.Errorf("%w: header of %s position %d is not canonical", ErrBadRecord, h.Origin(), h.Position)
	}
	return h, nil
}

func decodePayload(b []byte, v any) error {
	if err := payloadMode.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrBadRecord, err)
	}
	return nil
}

// Major types of RFC 8949 section 3.1, shifted to their place.
const (
	cborUint  = 0 << 5
	cborBytes = 2 << 5
	cborText  = 3 << 5
	cborMap   = 5 << 5
)

// appendHead appends an initial byte and its argument in the shortest form.
func appendHead(dst []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n <= math.MaxUint8:
		return append(dst, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), n)
}

func appendText(dst []byte, s string) []byte {
	return append(appendHead(dst, cborText, uint64(len(s))), s...)
}

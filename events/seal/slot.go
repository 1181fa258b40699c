package seal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/google/uuid"
)

// The file is an array of 256-byte slots. Slot 0 is the header; the others hold
// one wrap each or are zero. DESIGN.md draws them.
const (
	slotSize  = 256
	chunkSize = 64 << 10 // the file grows by this much
	maxSealed = crcAt - sealedAt

	headAt   = 0 // state word
	magicAt  = 4
	idAt     = 8
	siteAt   = 24
	keyAt    = 40
	lenAt    = 44
	sealedAt = 46
	crcAt    = 248 // CRC-32C of everything between the two state words
	tailAt   = 252 // state word again
)

// State words. They differ from each other and from zero in every byte, so any
// mixture that a torn write leaves still tells which writes it is made of.
var (
	wordPut   = [4]byte{'P', 'U', 'T', '_'} // written, perhaps not yet durable
	wordLive  = [4]byte{'L', 'I', 'V', 'E'} // was durable before this word was written
	wordErase = [4]byte{'D', 'E', 'A', 'D'} // being erased
	wordZero  = [4]byte{}
)

var (
	slotMagic  = []byte("HFK1")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	zeroSlot   = make([]byte, slotSize)
)

type slotState int

const (
	slotFree    slotState = iota // all zeros
	slotPending                  // a whole put that may not have been acknowledged
	slotLive                     // an acknowledged put
	slotTorn                     // part of a put that was not acknowledged
	slotErasing                  // an erasure under way
	slotDamaged                  // none of these
)

type entry struct {
	id   uuid.UUID
	wrap Wrap
}

// encodeSlot returns the slot of e with the given state word at both ends.
func encodeSlot(word [4]byte, e entry) ([]byte, error) {
	if e.id == uuid.Nil {
		return nil, fmt.Errorf("store data key: its id is zero")
	}
	if n := len(e.wrap.Sealed); n == 0 || n > maxSealed {
		return nil, fmt.Errorf("store data key %s: its wrap has %d bytes; a slot takes 1 to %d", e.id, n, maxSealed)
	}
	b := make([]byte, slotSize)
	copy(b[magicAt:], slotMagic)
	copy(b[idAt:], e.id[:])
	copy(b[siteAt:], e.wrap.To.Site[:])
	binary.BigEndian.PutUint32(b[keyAt:], e.wrap.To.Key)
	binary.BigEndian.PutUint16(b[lenAt:], uint16(len(e.wrap.Sealed)))
	copy(b[sealedAt:], e.wrap.Sealed)
	binary.BigEndian.PutUint32(b[crcAt:], slotCRC(b))
	setWord(b, word)
	return b, nil
}

func setWord(slot []byte, word [4]byte) {
	copy(slot[headAt:], word[:])
	copy(slot[tailAt:], word[:])
}

func slotCRC(slot []byte) uint32 { return crc32.Checksum(slot[magicAt:crcAt], castagnoli) }

// decodeSlot classifies one slot of slotSize bytes. The entry is meaningful for
// slotPending and slotLive; detail says what is wrong with slotDamaged.
//
// The rule, from the order of writes (DESIGN.md): a body is durable before LIVE
// is written, and DEAD is durable at both ends before zeros are. So a bad body is
// a crash's work only if neither state word holds anything but parts of
// PUT_ or parts of DEAD; with LIVE or foreign bytes in one it is damage.
func decodeSlot(b []byte) (state slotState, e entry, detail string) {
	if bytes.Equal(b, zeroSlot) {
		return slotFree, entry{}, ""
	}
	head, tail := [4]byte(b[headAt:]), [4]byte(b[tailAt:])
	if partOf(head, wordErase) && partOf(tail, wordErase) {
		return slotErasing, entry{}, "" // DEAD, or its zeros came first
	}
	put := partOf(head, wordPut) && partOf(tail, wordPut)
	if binary.BigEndian.Uint32(b[crcAt:]) != slotCRC(b) {
		if put {
			return slotTorn, entry{}, ""
		}
		return slotDamaged, entry{}, "checksum does not match"
	}
	e, detail = decodeBody(b)
	switch {
	case detail != "":
		return slotDamaged, entry{}, detail
	case head == wordErase || tail == wordErase:
		return slotErasing, entry{}, ""
	case head == wordLive && tail == wordLive:
		return slotLive, e, ""
	}
	return slotPending, e, "" // a whole body: keeping it is safe whatever the words went through
}

// partOf says whether every byte of got is that of word or zero.
func partOf(got, word [4]byte) bool {
	for i, c := range got {
		if c != 0 && c != word[i] {
			return false
		}
	}
	return true
}

func decodeBody(b []byte) (e entry, detail string) {
	n := int(binary.BigEndian.Uint16(b[lenAt:]))
	switch {
	case !bytes.Equal(b[magicAt:magicAt+len(slotMagic)], slotMagic):
		return entry{}, "not a slot of this version"
	case uuid.UUID(b[idAt:siteAt]) == uuid.Nil:
		return entry{}, "key id is zero"
	case n == 0 || n > maxSealed:
		return entry{}, fmt.Sprintf("wrap length %d is not 1 to %d", n, maxSealed)
	case !bytes.Equal(b[sealedAt+n:crcAt], zeroSlot[:maxSealed-n]):
		return entry{}, "bytes after the wrap are not zero"
	}
	return entry{
		id: uuid.UUID(b[idAt:siteAt]),
		wrap: Wrap{
			To:     Recipient{Site: uuid.UUID(b[siteAt:keyAt]), Key: binary.BigEndian.Uint32(b[keyAt:])},
			Sealed: bytes.Clone(b[sealedAt : sealedAt+n]),
		},
	}, ""
}

// The header slot: magic, version, slot size, zeros, CRC-32C at the same place.
var headerMagic = []byte("holdfast key table\x00\x01")

func encodeHeader() []byte {
	b := make([]byte, slotSize)
	copy(b, headerMagic)
	binary.BigEndian.PutUint16(b[len(headerMagic):], slotSize)
	binary.BigEndian.PutUint32(b[crcAt:], crc32.Checksum(b[:crcAt], castagnoli))
	return b
}

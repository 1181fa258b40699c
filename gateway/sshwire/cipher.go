package sshwire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/poly1305" //lint:ignore SA1019 SSH's own construction (PROTOCOL.chacha20poly1305) differs from the AEAD
)

// keys is what protects one direction between two NEWKEYS. With a direction's counters it is all that a second
// process needs to go on where this one stopped.
type keys struct {
	Cipher, MAC     string
	IV, Key, MACKey []byte
}

// guard protects the packets of one direction: RFC 4253 section 6. Packets are sealed and opened in place.
type guard interface {
	// layout is fixed for a guard's life.
	layout() layout
	// length gives packet_length from the first layout.head bytes of a packet. It is called once per packet and may
	// decrypt those bytes where they stand.
	length(seq uint32, head []byte) uint32
	// open checks and decrypts a whole packet, tag included.
	open(seq uint32, wire []byte) error
	// seal encrypts a whole packet and fills in its last layout.tag bytes.
	seal(seq uint32, wire []byte)
}

type layout struct {
	head  int  // bytes that must be there to know the length
	block int  // padding makes packets a multiple of it
	tag   int  // bytes of MAC or AEAD tag after the packet
	whole bool // whether the length field counts towards that multiple
}

type cipherSpec struct {
	key, iv int // bytes
	aead    bool
	make    func(k keys) (guard, error)
}

var ciphers = map[string]cipherSpec{
	"aes128-gcm@openssh.com":        {16, 12, true, newGCM}, // RFC 5647, OpenSSH PROTOCOL section 1.6
	"aes256-gcm@openssh.com":        {32, 12, true, newGCM},
	"chacha20-poly1305@openssh.com": {64, 0, true, newChaCha}, // OpenSSH PROTOCOL.chacha20poly1305
	"aes128-ctr":                    {16, 16, false, newCTR},  // RFC 4344 section 4
	"aes192-ctr":                    {24, 16, false, newCTR},
	"aes256-ctr":                    {32, 16, false, newCTR},
}

type macSpec struct {
	key, tag int // bytes
	hash     func() hash.Hash
	etm      bool // encrypt-then-MAC, OpenSSH PROTOCOL section 1.5
}

var macs = map[string]macSpec{
	"hmac-sha2-256-etm@openssh.com": {32, 32, sha256.New, true}, // RFC 6668
	"hmac-sha2-512-etm@openssh.com": {64, 64, sha512.New, true},
	"hmac-sha2-256":                 {32, 32, sha256.New, false},
	"hmac-sha2-512":                 {64, 64, sha512.New, false},
	"hmac-sha1":                     {20, 20, sha1.New, false}, // legacy, RFC 4253 section 6.4
	"hmac-sha1-96":                  {20, 12, sha1.New, false}, // legacy
}

// guard makes the working state out of keys.
func (k keys) guard() (guard, error) {
	spec, ok := ciphers[k.Cipher]
	if !ok {
		return nil, fmt.Errorf("unknown SSH cipher %q", k.Cipher)
	}
	return spec.make(k)
}

// plain is the protection before the first NEWKEYS: none.
type plain struct{}

func (plain) layout() layout                      { return layout{head: 4, block: 8, whole: true} }
func (plain) length(_ uint32, head []byte) uint32 { return binary.BigEndian.Uint32(head) }
func (plain) open(uint32, []byte) error           { return nil }
func (plain) seal(uint32, []byte)                 {}

// gcm is AES-GCM. The length is authenticated but not encrypted; the nonce counts packets from the IV.
type gcm struct {
	aead  cipher.AEAD
	nonce [12]byte
}

func newGCM(k keys) (guard, error) {
	block, err := aes.NewCipher(k.Key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	g := &gcm{aead: aead}
	copy(g.nonce[:], k.IV)
	return g, nil
}

func (g *gcm) layout() layout                      { return layout{head: 4, block: 16, tag: 16} }
func (g *gcm) length(_ uint32, head []byte) uint32 { return binary.BigEndian.Uint32(head) }

// step moves the invocation counter of RFC 5647 section 7.1 on; it wraps over 64 bits.
func (g *gcm) step() {
	n := g.nonce[4:]
	binary.BigEndian.PutUint64(n, binary.BigEndian.Uint64(n)+1)
}

func (g *gcm) open(_ uint32, wire []byte) error {
	if _, err := g.aead.Open(wire[4:4], g.nonce[:], wire[4:], wire[:4]); err != nil {
		return ErrForged
	}
	g.step()
	return nil
}

func (g *gcm) seal(_ uint32, wire []byte) {
	g.aead.Seal(wire[4:4], g.nonce[:], wire[4:len(wire)-16], wire[:4])
	g.step()
}

// chacha is chacha20-poly1305@openssh.com: one key for the length, one for the rest; the nonce is the packet's number.
type chacha struct {
	content, size [32]byte
}

func newChaCha(k keys) (guard, error) {
	c := &chacha{}
	copy(c.content[:], k.Key[:32])
	copy(c.size[:], k.Key[32:])
	return c, nil
}

func (c *chacha) layout() layout { return layout{head: 4, block: 8, tag: 16} }

func chachaXOR(key *[32]byte, seq, counter uint32, dst, src []byte) {
	var nonce [12]byte
	binary.BigEndian.PutUint32(nonce[8:], seq)
	s, err := chacha20.NewUnauthenticatedCipher(key[:], nonce[:])
	if err != nil {
		panic(err) // key and nonce sizes are fixed above
	}
	s.SetCounter(counter)
	s.XORKeyStream(dst, src)
}

// length leaves the head as it came: the tag covers its encrypted form.
func (c *chacha) length(seq uint32, head []byte) uint32 {
	var n [4]byte
	chachaXOR(&c.size, seq, 0, n[:], head[:4])
	return binary.BigEndian.Uint32(n[:])
}

func (c *chacha) open(seq uint32, wire []byte) error {
	end := len(wire) - 16
	var once [32]byte
	chachaXOR(&c.content, seq, 0, once[:], once[:])
	if !poly1305.Verify((*[16]byte)(wire[end:]), wire[:end], &once) {
		return ErrForged
	}
	chachaXOR(&c.content, seq, 1, wire[4:end], wire[4:end])
	return nil
}

func (c *chacha) seal(seq uint32, wire []byte) {
	end := len(wire) - 16
	chachaXOR(&c.size, seq, 0, wire[:4], wire[:4])
	chachaXOR(&c.content, seq, 1, wire[4:end], wire[4:end])
	var once [32]byte
	chachaXOR(&c.content, seq, 0, once[:], once[:])
	poly1305.Sum((*[16]byte)(wire[end:]), wire[:end], &once)
}

// ctr is AES-CTR with an HMAC: over the plain packet (RFC 4253 section 6.4), or over length and ciphertext (etm).
type ctr struct {
	stream cipher.Stream
	mac    hash.Hash
	tag    int
	etm    bool
	sum    []byte
	number [4]byte
}

func newCTR(k keys) (guard, error) {
	block, err := aes.NewCipher(k.Key)
	if err != nil {
		return nil, err
	}
	spec, ok := macs[k.MAC]
	if !ok {
		return nil, fmt.Errorf("unknown SSH MAC %q", k.MAC)
	}
	mac := hmac.New(spec.hash, k.MACKey)
	return &ctr{stream: cipher.NewCTR(block, k.IV), mac: mac, tag: spec.tag, etm: spec.etm,
		sum: make([]byte, 0, mac.Size())}, nil
}

func (c *ctr) layout() layout {
	if c.etm {
		return layout{head: 4, block: aes.BlockSize, tag: c.tag}
	}
	return layout{head: aes.BlockSize, block: aes.BlockSize, tag: c.tag, whole: true}
}

func (c *ctr) length(_ uint32, head []byte) uint32 {
	if !c.etm {
		c.stream.XORKeyStream(head, head)
	}
	return binary.BigEndian.Uint32(head)
}

func (c *ctr) authenticate(seq uint32, packet []byte) []byte {
	binary.BigEndian.PutUint32(c.number[:], seq)
	c.mac.Reset()
	c.mac.Write(c.number[:])
	c.mac.Write(packet)
	c.sum = c.mac.Sum(c.sum[:0])
	return c.sum[:c.tag]
}

func (c *ctr) open(seq uint32, wire []byte) error {
	packet, tag := wire[:len(wire)-c.tag], wire[len(wire)-c.tag:]
	if !c.etm {
		c.stream.XORKeyStream(packet[aes.BlockSize:], packet[aes.BlockSize:])
	}
	if subtle.ConstantTimeCompare(c.authenticate(seq, packet), tag) != 1 {
		return ErrForged
	}
	if c.etm {
		c.stream.XORKeyStream(packet[4:], packet[4:])
	}
	return nil
}

func (c *ctr) seal(seq uint32, wire []byte) {
	packet, tag := wire[:len(wire)-c.tag], wire[len(wire)-c.tag:]
	if c.etm {
		c.stream.XORKeyStream(packet[4:], packet[4:])
		copy(tag, c.authenticate(seq, packet))
		return
	}
	copy(tag, c.authenticate(seq, packet))
	c.stream.XORKeyStream(packet, packet)
}

package sshwire

import (
	"crypto"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	_ "crypto/sha1" // the hash of diffie-hellman-group14-sha1, legacy
	"crypto/sha256"
	_ "crypto/sha512"
	"errors"
	"fmt"
	"io"
	"math/big"
)

// exchange is one way to agree on a secret: the body of messages 30 and 31. Public values are the contents of the
// string (or mpint, whose wire form is the same) that carries them; the secret comes encoded as it enters the hashes.
type exchange interface {
	// offer makes the client's public value.
	offer() ([]byte, error)
	// finish takes the server's public value; it follows offer on the same exchange.
	finish(reply []byte) (secret []byte, err error)
	// answer takes the client's public value and makes the server's.
	answer(peer []byte) (public, secret []byte, err error)
}

type exchangeSpec struct {
	hash crypto.Hash
	make func(random io.Reader) exchange
}

var exchanges = map[string]exchangeSpec{
	// draft-ietf-sshm-mlkem-hybrid-kex
	"mlkem768x25519-sha256": {crypto.SHA256, func(io.Reader) exchange { return &hybrid{} }},
	// RFC 8731
	"curve25519-sha256":            {crypto.SHA256, func(io.Reader) exchange { return &curve{curve: ecdh.X25519()} }},
	"curve25519-sha256@libssh.org": {crypto.SHA256, func(io.Reader) exchange { return &curve{curve: ecdh.X25519()} }},
	// RFC 5656 section 4
	"ecdh-sha2-nistp256": {crypto.SHA256, func(io.Reader) exchange { return &curve{curve: ecdh.P256()} }},
	// Only when named in a Config; the last one is legacy.
	"ecdh-sha2-nistp384":            {crypto.SHA384, func(io.Reader) exchange { return &curve{curve: ecdh.P384()} }},
	"ecdh-sha2-nistp521":            {crypto.SHA512, func(io.Reader) exchange { return &curve{curve: ecdh.P521()} }},
	"diffie-hellman-group14-sha256": {crypto.SHA256, func(r io.Reader) exchange { return &group14{random: r} }}, // RFC 8268
	"diffie-hellman-group14-sha1":   {crypto.SHA1, func(r io.Reader) exchange { return &group14{random: r} }},   // RFC 4253 section 8.2
}

// appendMpint appends a non-negative big-endian integer as RFC 4251 section 5 has it.
func appendMpint(dst, v []byte) []byte { return appendString(dst, mpintBytes(v)) }

func mpintBytes(v []byte) []byte {
	for len(v) > 0 && v[0] == 0 {
		v = v[1:]
	}
	if len(v) > 0 && v[0]&0x80 != 0 {
		return append([]byte{0}, v...)
	}
	return v
}

// curve is ECDH over a curve of crypto/ecdh, which checks points and refuses an all-zero X25519 secret.
type curve struct {
	curve ecdh.Curve
	own   *ecdh.PrivateKey
}

func (c *curve) offer() ([]byte, error) {
	var err error
	if c.own, err = c.curve.GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	return c.own.PublicKey().Bytes(), nil
}

// shared gives the raw secret with the peer's public value.
func (c *curve) shared(peer []byte) ([]byte, error) {
	p, err := c.curve.NewPublicKey(peer)
	if err != nil {
		return nil, fmt.Errorf("peer's public value: %w", err)
	}
	return c.own.ECDH(p)
}

func (c *curve) finish(reply []byte) ([]byte, error) {
	s, err := c.shared(reply)
	return appendMpint(nil, s), err
}

func (c *curve) answer(peer []byte) ([]byte, []byte, error) {
	public, err := c.offer()
	if err != nil {
		return nil, nil, err
	}
	secret, err := c.finish(peer)
	return public, secret, err
}

// hybrid is ML-KEM-768 beside X25519: the secret is the hash of both, encoded as a string.
type hybrid struct {
	x   curve
	own *mlkem.DecapsulationKey768
}

func hybridSecret(post, classic []byte) []byte {
	sum := sha256.Sum256(append(append(make([]byte, 0, 64), post...), classic...))
	return appendString(nil, sum[:])
}

func (h *hybrid) offer() ([]byte, error) {
	var err error
	if h.own, err = mlkem.GenerateKey768(); err != nil {
		return nil, err
	}
	h.x.curve = ecdh.X25519()
	classic, err := h.x.offer()
	return append(h.own.EncapsulationKey().Bytes(), classic...), err
}

func (h *hybrid) finish(reply []byte) ([]byte, error) {
	if len(reply) != mlkem.CiphertextSize768+32 {
		return nil, fmt.Errorf("peer's public value of %d bytes; want %d", len(reply), mlkem.CiphertextSize768+32)
	}
	post, err := h.own.Decapsulate(reply[:mlkem.CiphertextSize768])
	if err != nil {
		return nil, err
	}
	classic, err := h.x.shared(reply[mlkem.CiphertextSize768:])
	if err != nil {
		return nil, err
	}
	return hybridSecret(post, classic), nil
}

func (h *hybrid) answer(peer []byte) ([]byte, []byte, error) {
	if len(peer) != mlkem.EncapsulationKeySize768+32 {
		return nil, nil, fmt.Errorf("peer's public value of %d bytes; want %d", len(peer), mlkem.EncapsulationKeySize768+32)
	}
	theirs, err := mlkem.NewEncapsulationKey768(peer[:mlkem.EncapsulationKeySize768])
	if err != nil {
		return nil, nil, fmt.Errorf("peer's public value: %w", err)
	}
	h.x.curve = ecdh.X25519()
	public, err := h.x.offer()
	if err != nil {
		return nil, nil, err
	}
	classic, err := h.x.shared(peer[mlkem.EncapsulationKeySize768:])
	if err != nil {
		return nil, nil, err
	}
	post, sealed := theirs.Encapsulate()
	return append(sealed, public...), hybridSecret(post, classic), nil
}

// group14 is finite-field Diffie-Hellman in the 2048-bit group of RFC 3526 section 3.
type group14 struct {
	random io.Reader
	own    *big.Int
}

var group14Prime, _ = new(big.Int).SetString("FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD1"+
	"29024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245"+
	"E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3D"+
	"C2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB9ED529077096966D"+
	"670C354E4ABC9804F1746C08CA18217C32905E462E36CE3BE39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9"+
	"DE2BCBF6955817183995497CEA956AE515D2261898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF", 16)

func (g *group14) offer() ([]byte, error) {
	x, err := rand.Int(g.random, new(big.Int).Sub(group14Prime, big.NewInt(3)))
	if err != nil {
		return nil, err
	}
	g.own = x.Add(x, big.NewInt(2))
	return mpintBytes(new(big.Int).Exp(big.NewInt(2), g.own, group14Prime).Bytes()), nil
}

var errOutsideGroup = errors.New("peer's public value is not a canonical number between 2 and p-2")

func (g *group14) finish(reply []byte) ([]byte, error) {
	y := new(big.Int).SetBytes(reply)
	canonical := string(mpintBytes(y.Bytes())) == string(reply)
	top := new(big.Int).Sub(group14Prime, big.NewInt(1))
	if !canonical || y.Cmp(big.NewInt(1)) <= 0 || y.Cmp(top) >= 0 {
		return nil, errOutsideGroup
	}
	return appendMpint(nil, new(big.Int).Exp(y, g.own, group14Prime).Bytes()), nil
}

func (g *group14) answer(peer []byte) ([]byte, []byte, error) {
	public, err := g.offer()
	if err != nil {
		return nil, nil, err
	}
	secret, err := g.finish(peer)
	return public, secret, err
}

package seal

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cloudflare/circl/dh/x25519"
	"github.com/google/uuid"
)

const (
	scalarSize = x25519.Size
	maxKeys    = 64 // of one PrivateKey: a rekey needs two
	prefixSize = 5  // tink's: 1, then the key id
)

// PrivateKey is the private half of a site key, or of several, held in memory.
// It does the work for every Provider that can get at the key itself (file,
// passphrase, credential, shares). Safe for concurrent use.
//
// The scalars live in memory of their own outside the Go heap, which is kept out
// of core dumps and, where the process may, out of swap, and is overwritten by
// Close. X25519 is circl's because it works on such memory in place; crypto/ecdh
// copies the key to where nobody can overwrite it.
type PrivateKey struct {
	mu      sync.RWMutex // held for reading while the memory is in use
	memory  []byte       // the scalars, in the order of keys; nil once closed
	keys    []halfKey
	primary int // index into keys: the one that Public gives
}

// halfKey is one key of a PrivateKey without its scalar.
type halfKey struct {
	id     uint32
	public *ecdh.PublicKey
}

// GeneratePrivateKey makes a new X25519 site key.
func GeneratePrivateKey() (*PrivateKey, error) {
	scalar := newKeyBytes() // 32 bytes too
	defer scalar.Wipe()
	var id [4]byte
	for binary.BigEndian.Uint32(id[:]) == 0 {
		_, _ = rand.Read(id[:])
	}
	return NewPrivateKey(binary.BigEndian.Uint32(id[:]), scalar)
}

// NewPrivateKey takes the key with an id from its X25519 scalar (RFC 7748), as
// [PrivateKey.Scalar] gave it. The scalar stays the caller's, to wipe.
func NewPrivateKey(id uint32, scalar Secret) (*PrivateKey, error) {
	k := &PrivateKey{}
	if err := k.add(id, scalar.Bytes()); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// add appends a key; k is not shared yet.
func (k *PrivateKey) add(id uint32, scalar []byte) error {
	if len(scalar) != scalarSize || id == 0 {
		return errors.New("parse site key: not an X25519 key with an id")
	}
	if len(k.keys) == maxKeys || slices.ContainsFunc(k.keys, func(h halfKey) bool { return h.id == id }) {
		return errors.New("parse site key: too many keys, or the same id twice")
	}
	if k.memory == nil {
		memory, err := lockedMemory(maxKeys * scalarSize)
		if err != nil {
			return fmt.Errorf("keep site key: %w", err)
		}
		k.memory = memory
	}
	place := k.scalar(len(k.keys))
	copy(place[:], scalar)
	var public x25519.Key
	x25519.KeyGen(&public, place)
	point, err := ecdh.X25519().NewPublicKey(public[:])
	if err != nil {
		return fmt.Errorf("derive public key: %w", err)
	}
	k.keys = append(k.keys, halfKey{id, point})
	return nil
}

// scalar is the i-th scalar, in place.
func (k *PrivateKey) scalar(i int) *x25519.Key {
	return (*x25519.Key)(k.memory[i*scalarSize : (i+1)*scalarSize])
}

// Add takes the keys of another one in, behind those that are there. The other
// stays as it is.
func (k *PrivateKey) Add(other *PrivateKey) error {
	other.mu.RLock()
	defer other.mu.RUnlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.memory == nil || other.memory == nil {
		return ErrSealed
	}
	for i, h := range other.keys {
		if err := k.add(h.id, other.scalar(i)[:]); err != nil {
			return err
		}
	}
	return nil
}

// Only gives a new PrivateKey that holds one of the keys, or ErrMismatch.
func (k *PrivateKey) Only(id uint32) (*PrivateKey, error) {
	scalar, err := k.Scalar(id)
	if err != nil {
		return nil, err
	}
	defer scalar.Wipe()
	return NewPrivateKey(id, scalar)
}

// Scalar gives the secret of one of the keys for safekeeping, or ErrMismatch.
func (k *PrivateKey) Scalar(id uint32) (Secret, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.memory == nil {
		return Secret{}, ErrSealed
	}
	for i, h := range k.keys {
		if h.id == id {
			return NewSecret(bytes.Clone(k.scalar(i)[:])), nil
		}
	}
	return Secret{}, fmt.Errorf("key %08x is not among them: %w", id, ErrMismatch)
}

// IDs lists the keys' ids, that of the one that Public gives first.
func (k *PrivateKey) IDs() []uint32 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	ids := make([]uint32, 0, len(k.keys))
	for i := range k.keys {
		ids = append(ids, k.keys[(k.primary+i)%len(k.keys)].id)
	}
	return ids
}

// Public returns the public half, as the key of site.
func (k *PrivateKey) Public(site uuid.UUID) (*PublicKey, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.memory == nil {
		return nil, ErrSealed
	}
	return NewPublicKey(site, k.keys[k.primary].id, k.keys[k.primary].public)
}

// Unwrap decrypts what PublicKey.Wrap made; see Provider.
func (k *PrivateKey) Unwrap(_ context.Context, sealed, info []byte) (Secret, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.memory == nil {
		return Secret{}, ErrSealed
	}
	for i, h := range k.keys {
		if IsWrappedTo(h.id, sealed) {
			return OpenWrap(&inMemory{k.scalar(i), h.public}, sealed, info)
		}
	}
	return Secret{}, ErrMismatch
}

// Close overwrites the key and gives its memory back.
func (k *PrivateKey) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.memory == nil {
		return nil
	}
	err := freeLocked(k.memory)
	k.memory = nil
	return err
}

// inMemory is one key as HPKE uses it.
type inMemory struct {
	scalar *x25519.Key
	public *ecdh.PublicKey
}

func (m *inMemory) PublicKey() *ecdh.PublicKey { return m.public }
func (m *inMemory) Curve() ecdh.Curve          { return ecdh.X25519() }

// ECDH is RFC 7748 section 6.1; the all-zero result is an error as RFC 9180
// section 7.1.4 asks.
func (m *inMemory) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	var theirs, shared x25519.Key
	copy(theirs[:], peer.Bytes())
	if !x25519.Shared(&shared, m.scalar, &theirs) {
		return nil, errors.New("the peer's key is of low order")
	}
	return shared[:], nil
}

// IsWrappedTo reports whether wrapped bytes name the key with an id.
func IsWrappedTo(id uint32, sealed []byte) bool {
	return len(sealed) > prefixSize && sealed[0] == 1 && binary.BigEndian.Uint32(sealed[1:]) == id
}

// OpenWrap opens what PublicKey.Wrap made, for providers: the private half is
// asked for one key exchange. What it answers with is returned as it is;
// ErrMismatch means that the bytes are not for the key, or were altered.
func OpenWrap(key ecdh.KeyExchanger, sealed, info []byte) (Secret, error) {
	if len(sealed) < prefixSize {
		return Secret{}, ErrMismatch
	}
	asked := &exchange{KeyExchanger: key}
	private, err := hpke.NewDHKEMPrivateKey(asked)
	if err != nil {
		return Secret{}, fmt.Errorf("open a wrapped data key: %w", err)
	}
	raw, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed[prefixSize:])
	clear(asked.shared)
	switch {
	case asked.err != nil:
		return Secret{}, asked.err
	case err != nil:
		return Secret{}, ErrMismatch
	}
	return NewSecret(raw), nil
}

// exchange keeps what a key exchange gave: the error, which hpke would hide,
// and the secret, to be overwritten.
type exchange struct {
	ecdh.KeyExchanger
	shared []byte
	err    error
}

func (e *exchange) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	e.shared, e.err = e.KeyExchanger.ECDH(peer)
	return e.shared, e.err
}

// NewPublicKey makes the public key of a site from its point, X25519 or P-256.
func NewPublicKey(site uuid.UUID, id uint32, point *ecdh.PublicKey) (*PublicKey, error) {
	kem := byte(kemX25519)
	if point.Curve() == ecdh.P256() {
		kem = kemP256
	}
	content := keysetJSON(id, "HpkePublicKey", "ASYMMETRIC_PUBLIC", hpkePublic(kem, point.Bytes()))
	return ParsePublicKey(site, content)
}

// The stored form is a tink keyset in JSON (tink.proto, hpke.proto), written and
// read here so that the private half is never in memory that can't be
// overwritten. Tests have tink read what is written here, and the other way round.
const (
	kemX25519 = 1 // HpkeKem
	kemP256   = 2
	typeURL   = "type.googleapis.com/google.crypto.tink."
)

func hpkePublic(kem byte, point []byte) []byte {
	params := []byte{1 << 3, kem, 2 << 3, 1, 3 << 3, 2} // kem, HKDF_SHA256, AES_256_GCM
	b := append([]byte{2<<3 | 2, byte(len(params))}, params...)
	b = append(b, 3<<3|2, byte(len(point)))
	return append(b, point...)
}

func keysetJSON(id uint32, kind, material string, value []byte) []byte {
	return fmt.Appendf(nil, `{"primaryKeyId":%d,"key":[%s]}`, id, keyJSON(id, kind, material, value))
}

func keyJSON(id uint32, kind, material string, value []byte) []byte {
	b := fmt.Appendf(nil, `{"keyData":{"typeUrl":"%s%s","value":"`, typeURL, kind)
	b = base64.StdEncoding.AppendEncode(slices.Grow(b, 1024), value)
	return fmt.Appendf(b, `","keyMaterialType":"%s"},"status":"ENABLED","keyId":%d,"outputPrefixType":"TINK"}`, material, id)
}

// MarshalSecret returns the key for safekeeping: whoever has it reads everything.
func (k *PrivateKey) MarshalSecret() (Secret, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.memory == nil {
		return Secret{}, ErrSealed
	}
	// All at once, so that no growing leaves a copy behind.
	out := make([]byte, 0, 64+1024*len(k.keys))
	out = fmt.Appendf(out, `{"primaryKeyId":%d,"key":[`, k.keys[k.primary].id)
	for i, h := range k.keys {
		if i > 0 {
			out = append(out, ',')
		}
		public := hpkePublic(kemX25519, h.public.Bytes())
		value := make([]byte, 0, 256)
		value = append(value, 2<<3|2, byte(len(public)))
		value = append(value, public...)
		value = append(value, 3<<3|2, scalarSize)
		value = append(value, k.scalar(i)[:]...)
		one := keyJSON(h.id, "HpkePrivateKey", "ASYMMETRIC_PRIVATE", value)
		out = append(out, one...)
		clear(value)
		clear(one)
	}
	return NewSecret(append(out, "]}"...)), nil
}

// ParsePrivateKey reads a private tink keyset (JSON) as MarshalSecret gave it.
// The keyset may hold older keys too: what was wrapped to them still opens.
// Errors never quote the content.
func ParsePrivateKey(content Secret) (*PrivateKey, error) {
	var set struct {
		PrimaryKeyID uint32 `json:"primaryKeyId"`
		Key          []struct {
			KeyData struct {
				TypeURL string `json:"typeUrl"`
				Value   []byte `json:"value"`
			} `json:"keyData"`
			Status           string `json:"status"`
			KeyID            uint32 `json:"keyId"`
			OutputPrefixType string `json:"outputPrefixType"`
		} `json:"key"`
	}
	err := json.Unmarshal(content.Bytes(), &set)
	defer func() {
		for _, key := range set.Key {
			clear(key.KeyData.Value)
		}
	}()
	if err != nil || len(set.Key) == 0 {
		return nil, errors.New("parse site key: not a tink keyset in JSON")
	}
	k, primary := &PrivateKey{}, -1
	for i, key := range set.Key {
		if key.KeyData.TypeURL != typeURL+"HpkePrivateKey" || key.Status != "ENABLED" || key.OutputPrefixType != "TINK" {
			return nil, errors.Join(errors.New("parse site key: no private key for hybrid decryption in it"), k.Close())
		}
		scalar, err := parseHPKEPrivate(key.KeyData.Value)
		if err == nil {
			err = k.add(key.KeyID, scalar)
		}
		if err != nil {
			return nil, errors.Join(err, k.Close())
		}
		if key.KeyID == set.PrimaryKeyID {
			primary = i
		}
	}
	if k.primary = primary; primary < 0 {
		return nil, errors.Join(errors.New("parse site key: its primary key is missing"), k.Close())
	}
	return k, nil
}

// parseHPKEPrivate gives the scalar in an encoded HpkePrivateKey, where it lies.
func parseHPKEPrivate(b []byte) ([]byte, error) {
	bad := errors.New("parse site key: not an X25519 key for HPKE")
	version, fields, ok := protoFields(b)
	if !ok || version != 0 || len(fields[3]) != scalarSize {
		return nil, bad
	}
	version, public, ok := protoFields(fields[2])
	if !ok || version != 0 {
		return nil, bad
	}
	var point x25519.Key
	x25519.KeyGen(&point, (*x25519.Key)(fields[3]))
	if !bytes.Equal(public[2], hpkePublic(kemX25519, nil)[2:8]) || subtle.ConstantTimeCompare(point[:], public[3]) != 1 {
		return nil, bad
	}
	return fields[3], nil
}

// protoFields splits a protobuf message whose field 1 is a number, its version,
// and whose other fields, of numbers up to 3, are byte strings.
func protoFields(b []byte) (version uint64, fields [4][]byte, ok bool) {
	for len(b) > 0 {
		tag, rest := b[0], b[1:]
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return 0, fields, false
		}
		rest = rest[n:]
		switch {
		case tag == 1<<3:
			version = v
		case (tag == 2<<3|2 || tag == 3<<3|2) && v <= uint64(len(rest)):
			fields[tag>>3] = rest[:v]
			rest = rest[v:]
		default:
			return 0, fields, false
		}
		b = rest
	}
	return version, fields, true
}

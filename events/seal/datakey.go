package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/google/uuid"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"
)

const (
	// Overhead is how many bytes longer sealed bytes are than their plaintext:
	// a 12-byte nonce before and a 16-byte tag after (RFC 5116 AEAD_AES_256_GCM).
	Overhead = 28

	keySize    = 32
	maxPurpose = 255

	// Random 96-bit nonces may be used 2^32 times under one key (NIST SP
	// 800-38D section 8.3). A loaded key can't know how often it was used
	// before, so each load gets a share: 65,536 loads of 65,536 messages.
	freshSeals  = 1 << 32
	loadedSeals = 1 << 16
)

// Binding is the place that sealed bytes belong to. It is authenticated and not
// stored with them: Open needs the same one, so bytes moved to another record,
// object or number are refused.
type Binding struct {
	Purpose string    // what it is: "session.packets", "credential.secret"; at most 255 bytes
	ID      uuid.UUID // the session, credential... it belongs to
	Number  uint64    // place within it: packet number, version number...
}

// encode is injective: the purpose's length, the purpose, the id, the number.
func (b Binding) encode() ([]byte, error) {
	if b.Purpose == "" || len(b.Purpose) > maxPurpose {
		return nil, fmt.Errorf("binding of %s/%d: purpose must have 1 to %d bytes, not %d",
			b.ID, b.Number, maxPurpose, len(b.Purpose))
	}
	ad := make([]byte, 0, 64)
	ad = append(ad, byte(len(b.Purpose)))
	ad = append(ad, b.Purpose...)
	ad = append(ad, b.ID[:]...)
	return binary.BigEndian.AppendUint64(ad, b.Number), nil
}

// DataKey seals and opens the payloads of one session or one credential with
// AES-256-GCM. It is a handle on a key that the Sealer holds: Release it when
// done. Safe for concurrent use.
type DataKey struct {
	sealer   *Sealer
	key      *heldKey
	sites    []uuid.UUID // of a handle that NewKey gave
	released atomic.Bool
}

// heldKey is the key behind all handles of one id.
type heldKey struct {
	id     uuid.UUID
	refs   int                       // guarded by Sealer.mu
	fresh  atomic.Bool               // made in this process, so nobody can have planted it
	proven atomic.Bool               // it opened something that was sealed before
	left   atomic.Int64              // messages it may still seal
	cipher atomic.Pointer[cipherSet] // never nil
}

// takeAway removes the key from memory; its holders get why from then on.
func (k *heldKey) takeAway(why error) { k.cipher.Store(&cipherSet{gone: why}) }

// trust lifts the limits of a loaded key from one that was made here.
func (k *heldKey) trust() {
	k.fresh.Store(true)
	k.left.Store(freshSeals)
}

// cipherSet is one key in two implementations of the same format, nonce ‖
// ciphertext ‖ tag. Opening is tink's. Sealing is the standard library's
// random-nonce GCM, because it appends to the caller's buffer: tink's AEAD
// interface allocates each result, which makes it three times slower for
// session-sized payloads (measured: DESIGN.md).
type cipherSet struct {
	seal cipher.AEAD
	open tink.AEAD
	gone error // set when the key was taken away; the others are nil then
}

func newHeldKey(id uuid.UUID, key Secret) (*heldKey, error) {
	if key.Len() != keySize {
		return nil, fmt.Errorf("data key %s has %d bytes, not %d: %w", id, key.Len(), keySize, ErrMismatch)
	}
	block, err := aes.NewCipher(key.Bytes())
	if err != nil {
		return nil, fmt.Errorf("data key %s: %w", id, err)
	}
	sealing, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("data key %s: %w", id, err)
	}
	opening, err := tinkaead.NewAESGCM(key.Bytes())
	if err != nil {
		return nil, fmt.Errorf("data key %s: %w", id, err)
	}
	k := &heldKey{id: id}
	k.cipher.Store(&cipherSet{seal: sealing, open: opening})
	k.left.Store(loadedSeals)
	return k, nil
}

// newKeyBytes draws a data key. crypto/rand does not fail: it ends the process.
func newKeyBytes() Secret {
	b := make([]byte, keySize)
	_, _ = rand.Read(b)
	return NewSecret(b)
}

func equalSecrets(a, b Secret) bool { return subtle.ConstantTimeCompare(a.Bytes(), b.Bytes()) == 1 }

// ID names the key, as in the key table.
func (k *DataKey) ID() uuid.UUID { return k.key.id }

// Sites are those that the key was wrapped to when it was made, of a handle that
// [Sealer.NewKey] gave.
func (k *DataKey) Sites() []uuid.UUID { return k.sites }

// Seal appends the sealed plaintext to dst (nil for a new slice) and returns the
// result, Overhead bytes longer than the plaintext. dst's spare room must not
// overlap the plaintext.
//
// A key that came from the table returns ErrUnproven until it has opened
// something: wraps are made with a public key, so whoever can write the table
// could plant a key of their own, and only opening older bytes, which the log's
// hash protects, tells the two apart. A key from NewKey needs no proof and also
// seals on a sealed site. ErrExhausted: 2^32 messages are the limit of a new
// key, 2^16 that of each load from the table.
func (k *DataKey) Seal(dst, plaintext []byte, at Binding) ([]byte, error) {
	c, err := k.usable()
	if err != nil {
		return nil, err
	}
	if !k.key.fresh.Load() && !k.key.proven.Load() {
		return nil, fmt.Errorf("seal with data key %s: %w", k.key.id, ErrUnproven)
	}
	ad, err := at.encode()
	if err != nil {
		return nil, err
	}
	if k.key.left.Add(-1) < 0 {
		k.key.left.Store(-1) // stays spent however often it is asked
		return nil, fmt.Errorf("seal with data key %s: %w", k.key.id, ErrExhausted)
	}
	return c.seal.Seal(dst, nil, plaintext, ad), nil
}

// Open returns the plaintext in a new slice, or ErrMismatch if the bytes, the
// binding or the key are not those of Seal. On a sealed site it returns ErrSealed.
func (k *DataKey) Open(sealed []byte, at Binding) ([]byte, error) {
	c, err := k.usable()
	if err != nil {
		return nil, err
	}
	if k.sealer.Sealed() {
		return nil, fmt.Errorf("open with data key %s: %w", k.key.id, ErrSealed)
	}
	ad, err := at.encode()
	if err != nil {
		return nil, err
	}
	plaintext, err := c.open.Decrypt(sealed, ad)
	if err != nil {
		return nil, fmt.Errorf("open %s %s/%d with data key %s: %w", at.Purpose, at.ID, at.Number, k.key.id, ErrMismatch)
	}
	k.key.proven.Store(true)
	return plaintext, nil
}

// Release gives the handle back; the last one removes the key from memory.
// Further uses of this handle return ErrReleased. Releasing twice is harmless.
func (k *DataKey) Release() {
	if !k.released.Swap(true) {
		k.sealer.drop(k.key)
	}
}

func (k *DataKey) usable() (*cipherSet, error) {
	if k.released.Load() {
		return nil, fmt.Errorf("data key %s: %w", k.key.id, ErrReleased)
	}
	c := k.key.cipher.Load()
	if c.gone != nil {
		return nil, fmt.Errorf("data key %s: %w", k.key.id, c.gone)
	}
	return c, nil
}

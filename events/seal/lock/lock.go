// Package lock keeps the private half of a site key under something that people
// or the service manager hold: a passphrase, a systemd credential, or k of n
// shares. A [Lock] is safe on disk; it opens with what it was made from.
//
//	passphrase   argon2id (RFC 9106)   ─┐
//	credential   as it is               ├─ HKDF-SHA256 ─ AES-256-GCM ─ the scalar
//	shares       a scalar of ristretto255 shared among n (Shamir), with
//	             commitments (Feldman), so that a false share is named ─┘
//
// The key's id, the site and every parameter are authenticated with it.
package lock

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events/seal"
)

// ErrWrong says that what was given does not open the lock: a wrong passphrase,
// another credential. Errors never repeat it.
var ErrWrong = errors.New("it does not open the site's key")

// MinCredential is the least length of a credential's content, in bytes: it is
// taken for random.
const MinCredential = 32

// Lock is a site key's private half, sealed. Exactly one of Passphrase, Shares
// and Credential says under what.
type Lock struct {
	Passphrase *Argon2id `json:"passphrase,omitempty"`
	Shares     *Sharing  `json:"shares,omitempty"`
	Credential bool      `json:"credential,omitempty"`

	Salt   []byte `json:"salt"`
	Sealed []byte `json:"sealed"` // nonce, ciphertext, tag
}

// For names the key that is locked.
type For struct {
	Site uuid.UUID
	Key  uint32
}

// ByCredential locks a key's scalar under the content of a systemd credential.
func ByCredential(at For, scalar, credential seal.Secret) (*Lock, error) {
	l := &Lock{Credential: true}
	if err := checkCredential(credential); err != nil {
		return nil, err
	}
	return l, l.close(at, scalar, credential.Bytes())
}

// OpenCredential opens what ByCredential made.
func (l *Lock) OpenCredential(at For, credential seal.Secret) (*seal.PrivateKey, error) {
	if !l.Credential {
		return nil, errors.New("this key is not locked by a credential")
	}
	if err := checkCredential(credential); err != nil {
		return nil, err
	}
	return l.open(at, credential.Bytes())
}

func checkCredential(credential seal.Secret) error {
	if credential.Len() < MinCredential {
		return fmt.Errorf("the credential has %d bytes, and %d random ones are the least; make one with: head -c 32 /dev/urandom | systemd-creds encrypt --name=NAME - FILE",
			credential.Len(), MinCredential)
	}
	return nil
}

// close seals the scalar under what secret stretches to.
func (l *Lock) close(at For, scalar seal.Secret, secret []byte) error {
	l.Salt = make([]byte, 16)
	_, _ = rand.Read(l.Salt)
	return l.closeSalted(at, scalar, secret)
}

func (l *Lock) closeSalted(at For, scalar seal.Secret, secret []byte) error {
	aead, ad, err := l.cipher(at, secret)
	if err != nil {
		return err
	}
	l.Sealed = aead.Seal(nil, nil, scalar.Bytes(), ad)
	return nil
}

func (l *Lock) open(at For, secret []byte) (*seal.PrivateKey, error) {
	aead, ad, err := l.cipher(at, secret)
	if err != nil {
		return nil, err
	}
	raw, err := aead.Open(nil, nil, l.Sealed, ad)
	if err != nil {
		return nil, ErrWrong
	}
	scalar := seal.NewSecret(raw)
	defer scalar.Wipe()
	return seal.NewPrivateKey(at.Key, scalar)
}

// cipher makes the key that the scalar is sealed under, and what is
// authenticated with it.
func (l *Lock) cipher(at For, secret []byte) (cipher.AEAD, []byte, error) {
	header := *l
	header.Sealed = nil
	params, err := json.Marshal(header)
	if err != nil {
		return nil, nil, fmt.Errorf("lock site key: %w", err)
	}
	ad := append([]byte("holdfast site key lock\x00"), at.Site[:]...)
	ad = binary.BigEndian.AppendUint32(ad, at.Key)
	ad = append(ad, params...)
	key, err := hkdf.Key(sha256.New, secret, l.Salt, "holdfast site key lock", 32)
	if err != nil {
		return nil, nil, fmt.Errorf("lock site key: %w", err)
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, fmt.Errorf("lock site key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, nil, fmt.Errorf("lock site key: %w", err)
	}
	return aead, ad, nil
}

package seal

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/hybrid/hpke"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Recipient names one public key of one site.
type Recipient struct {
	Site uuid.UUID `json:"site"`
	Key  uint32    `json:"key"` // tink key id; distinguishes the site's keys across a rekey
}

// Wrap is a data key encrypted to one recipient. It is safe on disk and on the wire.
type Wrap struct {
	To     Recipient `json:"to"`
	Sealed []byte    `json:"sealed"` // tink key prefix (5), encapsulated key (X25519: 32, P-256: 65), ciphertext and tag (48)
}

// PublicKey is the public half of a site key. It is immutable.
type PublicKey struct {
	to     Recipient
	keyset []byte
	seal   tink.HybridEncrypt
}

// ParsePublicKey reads a public tink keyset (JSON) of site. It refuses a keyset
// that holds private material and any key that is not HPKE over X25519, or over
// P-256, the curve that tokens have.
func ParsePublicKey(site uuid.UUID, keysetJSON []byte) (*PublicKey, error) {
	handle, err := keyset.ReadWithNoSecrets(keyset.NewJSONReader(bytes.NewReader(keysetJSON)))
	if err != nil {
		return nil, fmt.Errorf("parse public key of site %s: %w", site, err)
	}
	primary, err := handle.Primary()
	if err != nil {
		return nil, fmt.Errorf("parse public key of site %s: %w", site, err)
	}
	if err := checkHPKE(primary); err != nil {
		return nil, fmt.Errorf("parse public key of site %s: %w", site, err)
	}
	enc, err := hybrid.NewHybridEncrypt(handle)
	if err != nil {
		return nil, fmt.Errorf("parse public key of site %s: %w", site, err)
	}
	return &PublicKey{
		to:     Recipient{Site: site, Key: primary.KeyID()},
		keyset: bytes.Clone(keysetJSON),
		seal:   enc,
	}, nil
}

func checkHPKE(e *keyset.Entry) error {
	k, ok := e.Key().(*hpke.PublicKey)
	if !ok {
		return errors.New("not an HPKE public key")
	}
	p, ok := k.Parameters().(*hpke.Parameters)
	switch {
	case !ok || p.Variant() != hpke.VariantTink:
		return errors.New("not a key with a key id in its output")
	case p.KEMID() != hpke.DHKEM_X25519_HKDF_SHA256 && p.KEMID() != hpke.DHKEM_P256_HKDF_SHA256:
		return errors.New("neither an X25519 nor a P-256 key")
	case p.KDFID() != hpke.HKDFSHA256 || p.AEADID() != hpke.AES256GCM:
		return errors.New("not a key for HKDF-SHA256 and AES-256-GCM")
	}
	return nil
}

// Recipient names this key.
func (k *PublicKey) Recipient() Recipient { return k.to }

// Bytes is the key as ParsePublicKey takes it, to be published in an event.
func (k *PublicKey) Bytes() []byte { return bytes.Clone(k.keyset) }

// WriteFile creates path (site.pub) durably, mode 0644. It never replaces a file.
func (k *PublicKey) WriteFile(path string) error { return createFile(path, 0o644, k.keyset) }

// ReadPublicKeyFile reads what WriteFile wrote. Whoever can change this file can
// have new data keys wrapped to themselves, so it must not be writable by
// group or others, and a caller should compare Bytes with the event that
// published the key.
func ReadPublicKeyFile(path string, site uuid.UUID) (*PublicKey, error) {
	b, err := readFile(path, 0o022)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	return ParsePublicKey(site, b)
}

// Wrap encrypts the data key named id to this site. Name and recipient are
// bound in, so a wrap moved under another name does not open.
func (k *PublicKey) Wrap(id uuid.UUID, key Secret) (Wrap, error) {
	sealed, err := k.seal.Encrypt(key.Bytes(), wrapInfo(id, k.to))
	if err != nil {
		return Wrap{}, fmt.Errorf("wrap data key %s to site %s: %w", id, k.to.Site, err)
	}
	return Wrap{To: k.to, Sealed: sealed}, nil
}

// wrapInfo is the HPKE info string (RFC 9180 section 5) of a wrapped data key.
func wrapInfo(id uuid.UUID, to Recipient) []byte {
	info := append([]byte("holdfast data key\x00"), id[:]...)
	info = append(info, to.Site[:]...)
	return append(info, byte(to.Key>>24), byte(to.Key>>16), byte(to.Key>>8), byte(to.Key))
}

// Package vault seals the secrets of credentials and opens them again. What is
// sealed here goes into secret.staged events; what is opened goes to targets
// and nowhere else.
//
// A credential begins with a data key named by the credential's id; it gets
// another one, of a name of its own, once a site is gone that can open the one
// before. A version of its secret is bound to the credential and to the version's
// own id (that of the event that stages it, chosen before sealing). So sealed bytes
// that are moved to another version, credential or purpose don't open.
package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

const (
	// MaxPassword bounds a password, in bytes.
	MaxPassword = 1024
	// MaxPrivateKey bounds a private key file, in bytes.
	MaxPrivateKey = 64 << 10
)

// ErrBadSecret is the class of errors for a secret that can't be presented to
// any target. The errors never repeat the secret.
var ErrBadSecret = errors.New("the secret can't be used")

// Sealed is one version of a credential's secret, unreadable without the
// credential's data key.
type Sealed struct {
	Credential events.CredentialID
	Version    events.SecretID // also the id of the event that stages it
	Kind       events.SecretKind
	Bytes      []byte
	Public     string // for a private key: its public half, authorized_keys form

	Key     uuid.UUID   // names the data key; zero for the first one, which has the credential's id
	Exposed bool        // a site may open the data key that must not: nothing is sealed under it any more
	Sites   []uuid.UUID // that the data key was wrapped to, where it was made for this version

	Probe []byte // of a credential without versions: what its data key has sealed (see [Empty])
}

// DataKey names the data key.
func (s Sealed) DataKey() uuid.UUID {
	if s.Key == uuid.Nil {
		return s.Credential.UUID
	}
	return s.Key
}

// Add checks the first secret of a new credential and seals it under a data
// key made for it, which is durable when Add returns. The secret stays the
// caller's, to wipe. If nothing comes of the credential, the key is left in the
// key table and protects nothing.
func Add(ctx context.Context, sealer *seal.Sealer, kind events.SecretKind, secret seal.Secret) (Sealed, error) {
	public, err := check(kind, secret)
	if err != nil {
		return Sealed{}, err
	}
	credential, err := events.NewID()
	if err != nil {
		return Sealed{}, err
	}
	version, err := events.NewID()
	if err != nil {
		return Sealed{}, err
	}
	key, err := sealer.NewKey(ctx, credential)
	if err != nil {
		return Sealed{}, fmt.Errorf("seal a secret: %w", err)
	}
	defer key.Release()
	sealed, err := key.Seal(nil, secret.Bytes(), binding(credential, version))
	if err != nil {
		return Sealed{}, fmt.Errorf("seal a secret: %w", err)
	}
	return Sealed{
		Credential: events.CredentialID{UUID: credential}, Version: events.SecretID{UUID: version},
		Kind: kind, Bytes: sealed, Public: public, Sites: key.Sites(),
	}, nil
}

// Open gives the secret in the clear, for the caller to use and wipe. Errors
// are those of [seal.Sealer] and [seal.DataKey]: sealed site, erased key,
// bytes that were altered or moved.
func Open(ctx context.Context, sealer *seal.Sealer, s Sealed) (seal.Secret, error) {
	key, err := sealer.Key(ctx, s.DataKey())
	if err != nil {
		return seal.Secret{}, fmt.Errorf("open secret %s of credential %s: %w", s.Version, s.Credential, err)
	}
	defer key.Release()
	b, err := key.Open(s.Bytes, binding(s.Credential.UUID, s.Version.UUID))
	if err != nil {
		return seal.Secret{}, fmt.Errorf("open secret %s of credential %s: %w", s.Version, s.Credential, err)
	}
	return seal.NewSecret(b), nil
}

// Opens reports whether a data key is the one that a version was sealed with.
func Opens(key *seal.DataKey, s Sealed) bool {
	b, err := key.Open(s.Bytes, binding(s.Credential.UUID, s.Version.UUID))
	seal.NewSecret(b).Wipe()
	return err == nil
}

func binding(credential, version uuid.UUID) seal.Binding {
	return seal.Binding{Purpose: "credential.secret " + version.String(), ID: credential}
}

// check tells whether a secret can be presented, and gives a private key's
// public half.
func check(kind events.SecretKind, secret seal.Secret) (string, error) {
	switch kind {
	case events.Password:
		return "", checkPassword(secret.Bytes())
	case events.PrivateKey:
		return checkPrivateKey(secret.Bytes())
	}
	return "", fmt.Errorf("%w: %q is not a kind of secret", ErrBadSecret, kind)
}

// checkPassword: RFC 4252 section 8 wants UTF-8; a control character is a
// mistake of the input, and no login prompt takes it.
func checkPassword(b []byte) error {
	switch {
	case len(b) == 0:
		return fmt.Errorf("%w: the password is empty", ErrBadSecret)
	case len(b) > MaxPassword:
		return fmt.Errorf("%w: the password has more than %d bytes", ErrBadSecret, MaxPassword)
	case !utf8.Valid(b):
		return fmt.Errorf("%w: the password is not valid UTF-8", ErrBadSecret)
	case bytes.ContainsFunc(b, unicode.IsControl):
		return fmt.Errorf("%w: the password contains a line break or another control character", ErrBadSecret)
	}
	return nil
}

func checkPrivateKey(b []byte) (string, error) {
	if len(b) > MaxPrivateKey {
		return "", fmt.Errorf("%w: the private key has more than %d bytes", ErrBadSecret, MaxPrivateKey)
	}
	signer, err := ssh.ParsePrivateKey(b)
	if errors.As(err, new(*ssh.PassphraseMissingError)) {
		return "", fmt.Errorf("%w: the private key is protected by a passphrase; remove it with `ssh-keygen -p -N '' -f COPY`, the vault encrypts it", ErrBadSecret)
	}
	if err != nil { // the cause may quote the content
		return "", fmt.Errorf("%w: not a private key in OpenSSH or PEM form", ErrBadSecret)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), nil
}

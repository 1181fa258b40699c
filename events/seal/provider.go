package seal

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// Provider holds, or stands before, the private half of the site key.
//
// The cut is "unwrap these bytes" and not "give me the key", because a key in a
// PKCS#11 token never comes out: such a provider passes the bytes to its helper.
// Providers that can have the key in memory (file, passphrase, credential of
// the service manager, k-of-n shares) embed a PrivateKey. A provider is made
// unlocked: what unlocks it (path, passphrase, shares) is its constructor's
// business, and sealing the site closes it.
type Provider interface {
	// Name says what kind and where, for status and errors: "key file /etc/holdfast/site.key".
	// It never contains a secret.
	Name() string

	// Unwrap opens one HPKE ciphertext (RFC 9180 base mode, behind tink's
	// five-byte key prefix) under its info string. It returns ErrMismatch if
	// the bytes are not for this key, ErrSealed after Close, and is safe for
	// concurrent use. Any other error means that the provider is out of reach.
	Unwrap(ctx context.Context, sealed, info []byte) (Secret, error)

	// Close forgets the key. Unwraps under way may still finish.
	Close() error
}

// KeyFile is the provider that keeps the site key in a file of mode 0600.
// It protects against whoever gets the data directory or a backup of it without
// this file, so the file belongs on another volume than the data.
type KeyFile struct {
	*PrivateKey
	path string
}

// CreateKeyFile makes a new site key and stores it durably at path, mode 0600.
// It never replaces a file: an existing one is fs.ErrExist.
func CreateKeyFile(path string) (*KeyFile, error) {
	key, err := GeneratePrivateKey()
	if err != nil {
		return nil, err
	}
	content, err := key.MarshalSecret()
	if err != nil {
		return nil, err
	}
	defer content.Wipe()
	if err := createFile(path, 0o600, content.Bytes()); err != nil {
		return nil, fmt.Errorf("store site key: %w", err)
	}
	return &KeyFile{PrivateKey: key, path: path}, nil
}

// OpenKeyFile reads the site key at path. It refuses a symlink, another owner
// than this process or root, and a mode that gives group or others anything.
func OpenKeyFile(path string) (*KeyFile, error) {
	b, err := readFile(path, 0o077)
	if err != nil {
		return nil, fmt.Errorf("read site key: %w", err)
	}
	content := NewSecret(b)
	defer content.Wipe()
	key, err := ParsePrivateKey(content)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return &KeyFile{PrivateKey: key, path: path}, nil
}

// Name is "key file" and the path.
func (f *KeyFile) Name() string { return "key file " + f.path }

// checkProvider proves that p opens what is wrapped to site: it wraps a probe
// and has p unwrap it. A mixed-up key file or a replaced site.pub shows here
// and not at the first secret somebody needs.
func checkProvider(ctx context.Context, p Provider, site *PublicKey) error {
	probe := newKeyBytes()
	w, err := site.Wrap(uuid.Nil, probe)
	if err != nil {
		return err
	}
	got, err := p.Unwrap(ctx, w.Sealed, wrapInfo(uuid.Nil, w.To))
	if errors.Is(err, ErrMismatch) {
		return fmt.Errorf("%s does not hold the private half of key %08x of site %s: %w; "+
			"give the key file made together with this site.pub", p.Name(), w.To.Key, w.To.Site, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name(), err)
	}
	defer got.Wipe()
	if !equalSecrets(got, probe) {
		return fmt.Errorf("%s answered a probe with other bytes than were wrapped; do not trust it", p.Name())
	}
	return nil
}

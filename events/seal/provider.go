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

// CheckProvider proves that p opens what is wrapped to site: it wraps a probe
// and has p unwrap it. A mixed-up key file or a replaced public key shows here
// and not at the first secret somebody needs.
func CheckProvider(ctx context.Context, p Provider, site *PublicKey) error {
	probe := newKeyBytes()
	w, err := site.Wrap(uuid.Nil, probe)
	if err != nil {
		return err
	}
	got, err := p.Unwrap(ctx, w.Sealed, wrapInfo(uuid.Nil, w.To))
	if errors.Is(err, ErrMismatch) {
		return fmt.Errorf("%s does not hold the private half of key %08x of site %s: %w; "+
			"give the one that was made together with this public key", p.Name(), w.To.Key, w.To.Site, err)
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

package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// Stage checks a further secret of a credential and seals it as a version of its
// own, under the data key of known: any version of the credential, or what [Empty]
// gave. The key has to open known before it seals anything, so that a key table
// which was tampered with can't make the new secret unreadable. Where the key of
// known is exposed, or not this site's to open, another one is made, for whoever is a
// custodian now. The secret stays the caller's, to wipe. Errors are those of [Add]
// and [Open].
func Stage(ctx context.Context, sealer *seal.Sealer, known Sealed, secret seal.Secret) (Sealed, error) {
	public, err := check(known.Kind, secret)
	if err != nil {
		return Sealed{}, err
	}
	version, err := events.NewID()
	if err != nil {
		return Sealed{}, err
	}
	next := Sealed{Credential: known.Credential, Version: events.SecretID{UUID: version}, Kind: known.Kind, Public: public, Key: known.Key}
	key, err := provenKey(ctx, sealer, known)
	if known.Exposed || errors.Is(err, seal.ErrNotRecipient) {
		if next.Key, err = events.NewID(); err == nil {
			key, err = sealer.NewKey(ctx, next.Key)
		}
	}
	if err == nil {
		defer key.Release()
		next.Sites = key.Sites()
		next.Bytes, err = key.Seal(nil, secret.Bytes(), binding(known.Credential.UUID, version))
	}
	if err != nil {
		return Sealed{}, fmt.Errorf("seal a secret of credential %s: %w", known.Credential, err)
	}
	return next, nil
}

// provenKey gives the data key of a version, or of a credential without any, that
// has opened what it is said to have sealed; nil where it may seal nothing more.
func provenKey(ctx context.Context, sealer *seal.Sealer, known Sealed) (*seal.DataKey, error) {
	if known.Exposed {
		return nil, nil
	}
	key, err := sealer.Key(ctx, known.DataKey())
	if err != nil {
		return nil, err
	}
	proof, at := known.Bytes, binding(known.Credential.UUID, known.Version.UUID)
	if len(proof) == 0 {
		proof, at = known.Probe, probeBinding(known.Credential.UUID)
	}
	b, err := key.Open(proof, at)
	if err != nil {
		key.Release()
		return nil, err
	}
	clear(b)
	return key, nil
}

package vault

import (
	"context"
	"fmt"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// Stage checks a further secret of a credential and seals it under the
// credential's data key, as a version of its own. known is any version of the
// credential, or what [Empty] gave: the key has to open it before it seals anything, so that a key
// table which was tampered with can't make the new secret unreadable. The secret
// stays the caller's, to wipe. Errors are those of [Add] and [Open].
func Stage(ctx context.Context, sealer *seal.Sealer, known Sealed, secret seal.Secret) (Sealed, error) {
	public, err := check(known.Kind, secret)
	if err != nil {
		return Sealed{}, err
	}
	version, err := events.NewID()
	if err != nil {
		return Sealed{}, err
	}
	fail := func(err error) (Sealed, error) {
		return Sealed{}, fmt.Errorf("seal a secret of credential %s: %w", known.Credential, err)
	}
	key, err := sealer.Key(ctx, known.Credential.UUID)
	if err != nil {
		return fail(err)
	}
	defer key.Release()
	proof, at := known.Bytes, binding(known.Credential.UUID, known.Version.UUID)
	if len(proof) == 0 {
		proof, at = known.Probe, probeBinding(known.Credential.UUID)
	}
	b, err := key.Open(proof, at)
	if err != nil {
		return fail(err)
	}
	clear(b)
	sealed, err := key.Seal(nil, secret.Bytes(), binding(known.Credential.UUID, version))
	if err != nil {
		return fail(err)
	}
	return Sealed{Credential: known.Credential, Version: events.SecretID{UUID: version}, Kind: known.Kind, Bytes: sealed, Public: public}, nil
}

package vault

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// Empty makes the data key of a new credential whose secret nobody knows yet;
// the key is durable when Empty returns. What it gives has no version; its probe
// lets a first one be sealed (see [Stage]).
func Empty(ctx context.Context, sealer *seal.Sealer, kind events.SecretKind) (Sealed, error) {
	if kind != events.Password && kind != events.PrivateKey {
		return Sealed{}, fmt.Errorf("%w: %.40q is not a kind of secret", ErrBadSecret, kind)
	}
	credential, err := events.NewID()
	if err != nil {
		return Sealed{}, err
	}
	key, err := sealer.NewKey(ctx, credential)
	if err != nil {
		return Sealed{}, fmt.Errorf("make a credential: %w", err)
	}
	defer key.Release()
	probe, err := key.Seal(nil, nil, probeBinding(credential))
	if err != nil {
		return Sealed{}, fmt.Errorf("make a credential: %w", err)
	}
	return Sealed{Credential: events.CredentialID{UUID: credential}, Kind: kind, Probe: probe, Sites: key.Sites()}, nil
}

func probeBinding(credential uuid.UUID) seal.Binding {
	return seal.Binding{Purpose: "credential.probe", ID: credential}
}

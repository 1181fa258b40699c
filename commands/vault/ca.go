package vault

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// CA is a key that signs user certificates, its private half sealed under a data
// key of its own, so that a sealed site can't sign.
type CA struct {
	ID     events.CAID
	Public string // authorized_keys form
	Sealed []byte

	Sites []uuid.UUID // that the data key was wrapped to, of a new one
}

// ByCertificate makes a credential that keeps no secret: each session gets a
// certificate of its own. It has no data key, since nothing of it is sealed.
func ByCertificate() (Sealed, error) {
	credential, err := events.NewID()
	if err != nil {
		return Sealed{}, err
	}
	return Sealed{Credential: events.CredentialID{UUID: credential}, Kind: events.UserCertificate}, nil
}

func caBinding(id events.CAID) seal.Binding { return seal.Binding{Purpose: "ca.user", ID: id.UUID} }

// NewCA makes an Ed25519 key to sign user certificates with.
func NewCA(ctx context.Context, sealer *seal.Sealer) (CA, error) {
	id, err := events.NewID()
	if err != nil {
		return CA{}, err
	}
	ca := CA{ID: events.CAID{UUID: id}}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return CA{}, fmt.Errorf("make a certificate authority: %w", err)
	}
	defer clear(private)
	shown, err := ssh.NewPublicKey(public)
	if err != nil {
		return CA{}, fmt.Errorf("make a certificate authority: %w", err)
	}
	ca.Public = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(shown)))
	key, err := sealer.NewKey(ctx, id)
	if err != nil {
		return CA{}, fmt.Errorf("make a certificate authority: %w", err)
	}
	defer key.Release()
	seed := private.Seed()
	defer clear(seed)
	ca.Sites = key.Sites()
	ca.Sealed, err = key.Seal(nil, seed, caBinding(ca.ID))
	if err != nil {
		return CA{}, fmt.Errorf("make a certificate authority: %w", err)
	}
	return ca, nil
}

// SignCertificate signs a certificate with an authority, whose key is in the
// clear for that moment only. Errors are those of [seal.Sealer]: on a sealed site
// nothing is signed.
func SignCertificate(ctx context.Context, sealer *seal.Sealer, ca CA, cert *ssh.Certificate) error {
	key, err := sealer.Key(ctx, ca.ID.UUID)
	if err != nil {
		return fmt.Errorf("open certificate authority %s: %w", ca.ID, err)
	}
	defer key.Release()
	seed, err := key.Open(ca.Sealed, caBinding(ca.ID))
	if err != nil {
		return fmt.Errorf("open certificate authority %s: %w", ca.ID, err)
	}
	defer clear(seed)
	if len(seed) != ed25519.SeedSize {
		return fmt.Errorf("open certificate authority %s: it is not an Ed25519 key", ca.ID)
	}
	private := ed25519.NewKeyFromSeed(seed)
	defer clear(private)
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return fmt.Errorf("open certificate authority %s: %w", ca.ID, err)
	}
	if got := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))); got != ca.Public {
		return fmt.Errorf("certificate authority %s holds another key than the one on record: %w", ca.ID, seal.ErrMismatch)
	}
	if err := cert.SignCert(rand.Reader, signer); err != nil {
		return fmt.Errorf("sign a certificate: %w", err)
	}
	return nil
}

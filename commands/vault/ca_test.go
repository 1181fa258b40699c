package vault_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events/seal"
)

func userCertificate(t *testing.T) *ssh.Certificate {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return &ssh.Certificate{Key: key, CertType: ssh.UserCert, ValidPrincipals: []string{"root"}, ValidBefore: ssh.CertTimeInfinity}
}

// TestAttackSealedSiteSignsNothing: an authority's key opens on an unsealed site
// only, in its own place only, and only if it is the one on record.
func TestAttackSealedSiteSignsNothing(t *testing.T) {
	s := newSealer(t)
	ca, err := vault.NewCA(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	other, err := vault.NewCA(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	cert := userCertificate(t)
	if err := vault.SignCertificate(t.Context(), s, ca, cert); err != nil {
		t.Fatal(err)
	}
	check := &ssh.CertChecker{}
	if err := check.CheckCert("root", cert); err != nil || string(ssh.MarshalAuthorizedKey(cert.SignatureKey)) != ca.Public+"\n" {
		t.Errorf("signed by %s: %v", ssh.FingerprintSHA256(cert.SignatureKey), err)
	}
	moved, renamed := other, ca
	moved.Sealed, renamed.Public = ca.Sealed, other.Public
	for name, wrong := range map[string]vault.CA{"moved to another authority": moved, "another key on record": renamed} {
		cert := userCertificate(t)
		if err := vault.SignCertificate(t.Context(), s, wrong, cert); !errors.Is(err, seal.ErrMismatch) || cert.Signature != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Seal(); err != nil {
		t.Fatal(err)
	}
	cert = userCertificate(t)
	if err := vault.SignCertificate(t.Context(), s, ca, cert); !errors.Is(err, seal.ErrSealed) || cert.Signature != nil {
		t.Errorf("on a sealed site: %v", err)
	}
}

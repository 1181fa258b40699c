package vault_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// newSealer gives an unsealed sealer over a real key table.
func newSealer(t *testing.T) *seal.Sealer {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "keys")
	if err := seal.CreateKeyTable(path); err != nil {
		t.Fatal(err)
	}
	table, err := seal.OpenKeyTable(path, seal.TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.Close() })
	file, err := seal.CreateKeyFile(filepath.Join(dir, "site.key"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := file.Public(uuid.New())
	if err != nil {
		t.Fatal(err)
	}
	s, err := seal.NewSealer(seal.Config{Table: table, Site: public})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unseal(context.Background(), file); err != nil {
		t.Fatal(err)
	}
	return s
}

func secretOf(s string) seal.Secret { return seal.NewSecret([]byte(s)) }

func privateKey(t *testing.T, passphrase string) []byte {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block)
}

func TestWhatIsAddedOpensAgain(t *testing.T) {
	s := newSealer(t)
	key := privateKey(t, "")
	for kind, text := range map[events.SecretKind]string{events.Password: "pä ss'wörd", events.PrivateKey: string(key)} {
		sealed, err := vault.Add(t.Context(), s, kind, secretOf(text))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(sealed.Bytes, []byte(text[:6])) {
			t.Error("the sealed bytes contain the secret")
		}
		if (kind == events.PrivateKey) != strings.HasPrefix(sealed.Public, "ssh-ed25519 ") {
			t.Errorf("%s: public half %q", kind, sealed.Public)
		}
		opened, err := vault.Open(t.Context(), s, sealed)
		if err != nil || string(opened.Bytes()) != text {
			t.Errorf("%s: opened %d bytes, %v", kind, opened.Len(), err)
		}
	}
}

// Whoever can write the log or the state must not be able to have one
// account's secret presented for another one.
func TestAttackMovedBytesDoNotOpen(t *testing.T) {
	s := newSealer(t)
	add := func() vault.Sealed {
		sealed, err := vault.Add(t.Context(), s, events.Password, secretOf("the password"))
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	one, two := add(), add()
	otherVersion, otherCredential, otherBytes, flipped := one, one, one, one
	otherVersion.Version = two.Version
	otherCredential.Credential = two.Credential
	otherBytes.Bytes = two.Bytes
	flipped.Bytes = bytes.Clone(one.Bytes)
	flipped.Bytes[len(flipped.Bytes)/2] ^= 1
	for name, moved := range map[string]vault.Sealed{
		"another version": otherVersion, "another credential": otherCredential, "another's bytes": otherBytes, "a flipped bit": flipped,
	} {
		if _, err := vault.Open(t.Context(), s, moved); !errors.Is(err, seal.ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	unknown := one
	unknown.Credential = events.CredentialID{UUID: uuid.New()}
	if _, err := vault.Open(t.Context(), s, unknown); !errors.Is(err, seal.ErrNotFound) {
		t.Errorf("unknown credential: %v", err)
	}
}

func TestASealedSiteOpensNothing(t *testing.T) {
	s := newSealer(t)
	sealed, err := vault.Add(t.Context(), s, events.Password, secretOf("the password"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Seal(); err != nil {
		t.Fatal(err)
	}
	if _, err := vault.Open(t.Context(), s, sealed); !errors.Is(err, seal.ErrSealed) {
		t.Errorf("got %v", err)
	}
}

func TestUnusableSecretsAreRefusedWithoutRepeatingThem(t *testing.T) {
	s := newSealer(t)
	for name, c := range map[string]struct {
		kind events.SecretKind
		text string
	}{
		"empty":               {events.Password, ""},
		"line break":          {events.Password, "hunter2\n"},
		"nul":                 {events.Password, "hunter2\x00"},
		"escape":              {events.Password, "hunter2\x1b[A"},
		"not UTF-8":           {events.Password, "hunter2\xff"},
		"too long":            {events.Password, strings.Repeat("hunter2", 200)},
		"no key":              {events.PrivateKey, "hunter2"},
		"public key":          {events.PrivateKey, "ssh-ed25519 AAAAhunter2"},
		"broken key":          {events.PrivateKey, "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----\n"},
		"key with passphrase": {events.PrivateKey, string(privateKey(t, "hunter2"))},
		"key too long":        {events.PrivateKey, strings.Repeat("k", vault.MaxPrivateKey+1)},
		"no such kind":        {"retina", "hunter2"},
	} {
		_, err := vault.Add(t.Context(), s, c.kind, secretOf(c.text))
		if !errors.Is(err, vault.ErrBadSecret) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "hunter2") {
			t.Errorf("%s: the error repeats the secret: %v", name, err)
		}
	}
}

// A further version opens with its own id only, and stands beside the first.
func TestStagedVersions(t *testing.T) {
	s := newSealer(t)
	first, err := vault.Add(t.Context(), s, events.Password, secretOf("the first one"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := vault.Stage(t.Context(), s, first, secretOf("the second one"))
	if err != nil || second.Credential != first.Credential || second.Version == first.Version {
		t.Fatalf("staged %+v: %v", second, err)
	}
	for want, v := range map[string]vault.Sealed{"the first one": first, "the second one": second} {
		if got, err := vault.Open(t.Context(), s, v); err != nil || string(got.Bytes()) != want {
			t.Errorf("%s: %v", want, err)
		}
	}
	moved := second
	moved.Version = first.Version
	if _, err := vault.Open(t.Context(), s, moved); !errors.Is(err, seal.ErrMismatch) {
		t.Errorf("moved to another version: %v", err)
	}
	if _, err := vault.Stage(t.Context(), s, moved, secretOf("a third one")); !errors.Is(err, seal.ErrMismatch) {
		t.Errorf("beside a version that does not open: %v", err)
	}
}

// A credential whose secret nobody knew gets its first version later, in
// another process than the one that made its key.
func TestFirstVersionOfAnEmptyCredential(t *testing.T) {
	s := newSealer(t)
	empty, err := vault.Empty(t.Context(), s, events.Password)
	if err != nil {
		t.Fatal(err)
	}
	v, err := vault.Stage(t.Context(), s, empty, secretOf("the first one"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := vault.Open(t.Context(), s, v); err != nil || string(got.Bytes()) != "the first one" {
		t.Errorf("opened %v", err)
	}
	other, err := vault.Empty(t.Context(), s, events.Password)
	if err != nil {
		t.Fatal(err)
	}
	other.Probe = empty.Probe
	if _, err := vault.Stage(t.Context(), s, other, secretOf("x")); !errors.Is(err, seal.ErrMismatch) {
		t.Errorf("another credential's probe: %v", err)
	}
}

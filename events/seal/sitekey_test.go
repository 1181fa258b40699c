package seal

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
)

func TestKeyFileGuard(t *testing.T) {
	for name, c := range map[string]struct {
		mode    fs.FileMode
		spoil   func(t *testing.T, path string) string
		refused string // part of the error, "" if it opens
	}{
		"as created":         {mode: 0o600},
		"read-only":          {mode: 0o400},
		"group may read":     {mode: 0o640, refused: "chmod it to 0600"},
		"others may read":    {mode: 0o604, refused: "mode 0604"},
		"group may write":    {mode: 0o620, refused: "mode 0620"},
		"everything allowed": {mode: 0o777, refused: "mode 0777"},
		"symbolic link":      {mode: 0o600, spoil: linked, refused: "symbolic link"},
		"directory":          {mode: 0o600, spoil: directory, refused: "not a regular file"},
		"another owner":      {mode: 0o600, spoil: chowned, refused: "owned by user 12345"},
		"absent":             {mode: 0o600, spoil: absent, refused: "no such file"},
		"not a key":          {mode: 0o600, spoil: garbage, refused: "not a tink keyset"},
		"too long":           {mode: 0o600, spoil: huge, refused: "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "site.key")
			_, err := CreateKeyFile(path)
			must(t, err)
			must(t, os.Chmod(path, c.mode))
			if c.spoil != nil {
				path = c.spoil(t, path)
			}
			_, err = OpenKeyFile(path)
			if c.refused == "" {
				must(t, err)
			} else if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("got error %v, want one with %q", err, c.refused)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error quotes the file: %v", err)
			}
		})
	}
}

func linked(t *testing.T, path string) string {
	must(t, os.Symlink(path, path+".link"))
	return path + ".link"
}

func directory(_ *testing.T, path string) string { return filepath.Dir(path) }

func chowned(t *testing.T, path string) string {
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Skipf("can't give a file away without root: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to open a file of somebody else")
	}
	return path
}

func absent(_ *testing.T, path string) string { return path + ".absent" }

func garbage(t *testing.T, path string) string {
	must(t, os.WriteFile(path, []byte(`{"hunter2": [`), 0o600))
	return path
}

func huge(t *testing.T, path string) string {
	must(t, os.Truncate(path, maxKeyFile+1))
	return path
}

func TestKeyFilesAreNeverReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "site.key")
	key, err := CreateKeyFile(path)
	must(t, err)
	before, err := os.ReadFile(path)
	must(t, err)
	_, err = CreateKeyFile(path)
	wantErr(t, err, fs.ErrExist)
	public, err := key.Public(uuid.New())
	must(t, err)
	wantErr(t, public.WriteFile(path), fs.ErrExist)
	wantErr(t, CreateKeyTable(path), fs.ErrExist)
	after, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the key file changed")
	}
	left, err := os.ReadDir(dir)
	must(t, err)
	if len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := CreateKeyFile(filepath.Join(dir, "absent", "site.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a missing directory: %v", err)
	}
}

func TestPublicKeyFileMustNotBeWritableByOthers(t *testing.T) {
	s := newTestSite(t)
	path := filepath.Join(s.dir, "site.pub")
	must(t, os.Chmod(path, 0o664))
	if _, err := ReadPublicKeyFile(path, s.id); err == nil || !strings.Contains(err.Error(), "mode 0664") {
		t.Errorf("got %v", err)
	}
}

func TestPublicKeyHoldsNothingPrivate(t *testing.T) {
	key, err := GeneratePrivateKey()
	must(t, err)
	site := uuid.New()
	public, err := key.Public(site)
	must(t, err)
	secret, err := key.MarshalSecret()
	must(t, err)
	if _, err := ParsePublicKey(site, secret.Bytes()); err == nil {
		t.Error("a private keyset passed as a public key")
	}
	again, err := ParsePublicKey(site, public.Bytes())
	must(t, err)
	if again.Recipient() != public.Recipient() || again.Recipient().Site != site || again.Recipient().Key == 0 {
		t.Errorf("recipient %v became %v", public.Recipient(), again.Recipient())
	}
	if _, err := ParsePrivateKey(NewSecret(public.Bytes())); err == nil {
		t.Error("a public keyset passed as a private key")
	}
}

func TestParsePublicKeyRefusesOtherKinds(t *testing.T) {
	site := uuid.New()
	for name, template := range map[string]*tinkpb.KeyTemplate{
		"AES-128":   hybrid.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_128_GCM_Key_Template(),
		"no prefix": hybrid.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM_Raw_Key_Template(),
		"ECIES":     hybrid.ECIESHKDFAES128GCMKeyTemplate(),
	} {
		private, err := keyset.NewHandle(template)
		must(t, err)
		public, err := private.Public()
		must(t, err)
		var out bytes.Buffer
		must(t, public.WriteWithNoSecrets(keyset.NewJSONWriter(&out)))
		if _, err := ParsePublicKey(site, out.Bytes()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	symmetric, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	must(t, err)
	var out bytes.Buffer
	must(t, insecurecleartextkeyset.Write(symmetric, keyset.NewJSONWriter(&out)))
	if _, err := ParsePrivateKey(NewSecret(out.Bytes())); err == nil {
		t.Error("a symmetric key passed as a site key")
	}
}

// TestOlderKeysStillOpen: a keyset with a new primary key opens what was wrapped
// to the one before, which is what a rekey relies on.
func TestOlderKeysStillOpen(t *testing.T) {
	ctx, site, id := context.Background(), uuid.New(), uuid.New()
	key, err := GeneratePrivateKey()
	must(t, err)
	old, err := key.Public(site)
	must(t, err)
	raw := newKeyBytes()
	w, err := old.Wrap(id, raw)
	must(t, err)

	rekeyed, err := GeneratePrivateKey()
	must(t, err)
	must(t, rekeyed.Add(key))
	public, err := rekeyed.Public(site)
	must(t, err)
	if public.Recipient() == old.Recipient() {
		t.Error("the new key has the old one's name")
	}
	stored, err := rekeyed.MarshalSecret()
	must(t, err)
	rekeyed, err = ParsePrivateKey(stored)
	must(t, err)
	if again, err := rekeyed.Public(site); err != nil || again.Recipient() != public.Recipient() {
		t.Errorf("another primary key came back: %v", err)
	}
	got, err := rekeyed.Unwrap(ctx, w.Sealed, wrapInfo(id, w.To))
	must(t, err)
	if !equalSecrets(got, raw) {
		t.Error("the older wrap opened to something else")
	}
}

// TestTinkAgrees: tink reads the keysets written here and the other way round,
// and each opens what the other wrapped.
func TestTinkAgrees(t *testing.T) {
	ctx, site, id := context.Background(), uuid.New(), uuid.New()
	raw := newKeyBytes()
	theirs, err := keyset.NewHandle(hybrid.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM_Key_Template())
	must(t, err)
	var out bytes.Buffer
	must(t, insecurecleartextkeyset.Write(theirs, keyset.NewJSONWriter(&out)))
	key, err := ParsePrivateKey(NewSecret(bytes.Clone(out.Bytes())))
	must(t, err)
	public, err := key.Public(site)
	must(t, err)
	wrapped, err := public.Wrap(id, raw)
	must(t, err)
	for range 2 {
		dec, err := hybrid.NewHybridDecrypt(theirs)
		must(t, err)
		got, err := dec.Decrypt(wrapped.Sealed, wrapInfo(id, wrapped.To))
		must(t, err)
		if !bytes.Equal(got, raw.Bytes()) {
			t.Error("tink opened something else")
		}
		ours, err := key.Unwrap(ctx, wrapped.Sealed, wrapInfo(id, wrapped.To))
		must(t, err)
		if !equalSecrets(ours, raw) {
			t.Error("we opened something else")
		}
		stored, err := key.MarshalSecret() // and once more with what we write
		must(t, err)
		theirs, err = insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(stored.Bytes())))
		must(t, err)
	}
	_, err = key.Unwrap(ctx, wrapped.Sealed, wrapInfo(uuid.New(), wrapped.To))
	wantErr(t, err, ErrMismatch)
	for bit := range len(wrapped.Sealed) * 8 {
		altered := bytes.Clone(wrapped.Sealed)
		altered[bit/8] ^= 1 << (bit % 8)
		if _, err := key.Unwrap(ctx, altered, wrapInfo(id, wrapped.To)); !errors.Is(err, ErrMismatch) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
	}
}

// FuzzPrivateKey: no key file makes the reader panic, and what it takes it gives
// back the same.
func FuzzPrivateKey(f *testing.F) {
	key, err := GeneratePrivateKey()
	must(f, err)
	content, err := key.MarshalSecret()
	must(f, err)
	f.Add(content.Bytes())
	f.Add([]byte(`{"primaryKeyId":1,"key":[{"keyData":{"typeUrl":"type.googleapis.com/google.crypto.tink.HpkePrivateKey","value":"EgA="},"status":"ENABLED","keyId":1,"outputPrefixType":"TINK"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := ParsePrivateKey(NewSecret(b))
		if err != nil {
			return
		}
		defer key.Close()
		content, err := key.MarshalSecret()
		must(t, err)
		again, err := ParsePrivateKey(content)
		must(t, err)
		defer again.Close()
		if !slices.Equal(again.IDs(), key.IDs()) {
			t.Errorf("keys %v became %v", key.IDs(), again.IDs())
		}
	})
}

func TestClosedPrivateKey(t *testing.T) {
	key, err := GeneratePrivateKey()
	must(t, err)
	must(t, key.Close())
	_, err = key.Unwrap(context.Background(), nil, nil)
	wantErr(t, err, ErrSealed)
	_, err = key.Public(uuid.New())
	wantErr(t, err, ErrSealed)
	_, err = key.MarshalSecret()
	wantErr(t, err, ErrSealed)
}

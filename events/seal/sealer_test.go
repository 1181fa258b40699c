package seal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead/subtle"
	"pgregory.net/rapid"
)

// testSite is a site with its key file, public half, key table and sealer.
type testSite struct {
	dir    string
	id     uuid.UUID
	public *PublicKey
	table  *KeyTable
	sealer *Sealer
}

// newTestSite makes a site that is still sealed.
func newTestSite(t testing.TB) *testSite {
	t.Helper()
	s := &testSite{dir: t.TempDir(), id: uuid.Must(uuid.NewV7())}
	key, err := CreateKeyFile(filepath.Join(s.dir, "site.key"))
	must(t, err)
	s.public, err = key.Public(s.id)
	must(t, err)
	must(t, s.public.WriteFile(filepath.Join(s.dir, "site.pub")))
	must(t, CreateKeyTable(s.tablePath()))
	s.start(t)
	t.Cleanup(func() { _ = s.table.Close() })
	return s
}

func (s *testSite) tablePath() string { return filepath.Join(s.dir, "keys") }

// start opens the site as a new process would: sealed, and with site.pub only.
func (s *testSite) start(t testing.TB, custodians ...*PublicKey) {
	t.Helper()
	var err error
	s.public, err = ReadPublicKeyFile(filepath.Join(s.dir, "site.pub"), s.id)
	must(t, err)
	s.table, err = OpenKeyTable(s.tablePath(), TableOptions{})
	must(t, err)
	s.sealer, err = NewSealer(Config{Table: s.table, Site: s.public, Custodians: func() []*PublicKey { return custodians }})
	must(t, err)
}

func (s *testSite) restart(t testing.TB) {
	t.Helper()
	must(t, s.table.Close())
	s.start(t)
}

func (s *testSite) unseal(t testing.TB) {
	t.Helper()
	key, err := OpenKeyFile(filepath.Join(s.dir, "site.key"))
	must(t, err)
	must(t, s.sealer.Unseal(context.Background(), key))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

var here = Binding{Purpose: "test.payload", ID: uuid.MustParse("018f0000-0000-7000-8000-000000000001"), Number: 7}

func TestSealedSiteRecordsAndOpensNothing(t *testing.T) {
	ctx, s := context.Background(), newTestSite(t)
	id := uuid.New()
	k, err := s.sealer.NewKey(ctx, id)
	must(t, err)
	sealed, err := k.Seal(nil, []byte("typed while sealed"), here)
	must(t, err)
	_, err = k.Open(sealed, here)
	wantErr(t, err, ErrSealed)
	_, err = s.sealer.Key(ctx, id)
	wantErr(t, err, ErrSealed)

	s.restart(t)
	_, err = s.sealer.Key(ctx, id)
	wantErr(t, err, ErrSealed)
	s.unseal(t)
	if got := s.sealer.Provider(); got != "key file "+filepath.Join(s.dir, "site.key") {
		t.Errorf("provider %q", got)
	}
	k, err = s.sealer.Key(ctx, id)
	must(t, err)
	got, err := k.Open(sealed, here)
	must(t, err)
	if string(got) != "typed while sealed" {
		t.Errorf("opened %q", got)
	}
}

func TestSealTakesLoadedKeysAway(t *testing.T) {
	ctx, s := context.Background(), newTestSite(t)
	s.unseal(t)
	loadedID, freshID := uuid.New(), uuid.New()
	k, err := s.sealer.NewKey(ctx, loadedID)
	must(t, err)
	sealed, err := k.Seal(nil, []byte("x"), here)
	must(t, err)
	k.Release()
	loaded, err := s.sealer.Key(ctx, loadedID)
	must(t, err)
	_, err = loaded.Open(sealed, here)
	must(t, err)
	fresh, err := s.sealer.NewKey(ctx, freshID)
	must(t, err)

	must(t, s.sealer.Seal())
	if !s.sealer.Sealed() || s.sealer.Provider() != "" {
		t.Error("the site does not say that it is sealed")
	}
	_, err = loaded.Open(sealed, here)
	wantErr(t, err, ErrSealed)
	_, err = loaded.Seal(nil, []byte("x"), here)
	wantErr(t, err, ErrSealed)
	under, err := fresh.Seal(nil, []byte("goes on"), here)
	must(t, err)
	_, err = fresh.Open(under, here)
	wantErr(t, err, ErrSealed)

	s.unseal(t)
	_, err = fresh.Open(under, here)
	must(t, err)
	loaded.Release()
	fresh.Release()
	if n := len(s.sealer.held); n != 0 {
		t.Errorf("%d keys are still in memory after the last release", n)
	}
}

func TestLoadedKeyMustProveItself(t *testing.T) {
	ctx, s := context.Background(), newTestSite(t)
	s.unseal(t)
	id := uuid.New()
	k, err := s.sealer.NewKey(ctx, id)
	must(t, err)
	sealed, err := k.Seal(nil, []byte("version 1"), here)
	must(t, err)
	s.restart(t)
	s.unseal(t)
	k, err = s.sealer.Key(ctx, id)
	must(t, err)
	_, err = k.Seal(nil, []byte("version 2"), here)
	wantErr(t, err, ErrUnproven)
	_, err = k.Open(sealed, here)
	must(t, err)
	_, err = k.Seal(nil, []byte("version 2"), here)
	must(t, err)

	// A planted key, wrapped with the public half as anybody could, seals nothing.
	planted := newKeyBytes()
	w, err := s.public.Wrap(id, planted)
	must(t, err)
	must(t, s.table.Erase(id))
	must(t, s.table.Put(id, w))
	s.restart(t)
	s.unseal(t)
	k, err = s.sealer.Key(ctx, id)
	must(t, err)
	_, err = k.Open(sealed, here)
	wantErr(t, err, ErrMismatch)
	_, err = k.Seal(nil, []byte("version 3"), here)
	wantErr(t, err, ErrUnproven)
}

func TestSealLimits(t *testing.T) {
	ctx, s := context.Background(), newTestSite(t)
	k, err := s.sealer.NewKey(ctx, uuid.New())
	must(t, err)
	if got := k.key.left.Load(); got != 1<<32 {
		t.Errorf("a new key may seal %d messages, want 2^32", got)
	}
	k.key.left.Store(1)
	_, err = k.Seal(nil, nil, here)
	must(t, err)
	for range 3 {
		_, err = k.Seal(nil, nil, here)
		wantErr(t, err, ErrExhausted)
	}
	s.unseal(t)
	k.Release()
	loaded, err := s.sealer.Key(ctx, k.ID())
	must(t, err)
	if got := loaded.key.left.Load(); got != 1<<16 {
		t.Errorf("a loaded key may seal %d messages, want 2^16", got)
	}
}

func TestReleasedKeyIsUnusable(t *testing.T) {
	s := newTestSite(t)
	s.unseal(t)
	a, err := s.sealer.NewKey(context.Background(), uuid.New())
	must(t, err)
	b, err := s.sealer.Key(context.Background(), a.ID())
	must(t, err)
	a.Release()
	a.Release() // must not take b's hold
	_, err = a.Seal(nil, nil, here)
	wantErr(t, err, ErrReleased)
	_, err = b.Seal(nil, nil, here)
	must(t, err)
	b.Release()
	_, err = b.Open(make([]byte, 40), here)
	wantErr(t, err, ErrReleased)
}

func TestErasedKeyIsGone(t *testing.T) {
	ctx, s := context.Background(), newTestSite(t)
	s.unseal(t)
	k, err := s.sealer.NewKey(ctx, uuid.New())
	must(t, err)
	sealed, err := k.Seal(nil, []byte("x"), here)
	must(t, err)
	must(t, s.sealer.Erase(k.ID()))
	must(t, s.sealer.Erase(k.ID()))
	_, err = k.Open(sealed, here)
	wantErr(t, err, ErrNotFound)
	_, err = s.sealer.Key(ctx, k.ID())
	wantErr(t, err, ErrNotFound)
}

func TestNewKeyNeverReplaces(t *testing.T) {
	s := newTestSite(t)
	k, err := s.sealer.NewKey(context.Background(), uuid.New())
	must(t, err)
	_, err = s.sealer.NewKey(context.Background(), k.ID())
	wantErr(t, err, ErrExists)
	_, err = s.sealer.NewKey(context.Background(), uuid.Nil)
	if err == nil {
		t.Error("a key without a name was made")
	}
}

func TestCustodiansOpenAndOthersDoNot(t *testing.T) {
	ctx := context.Background()
	a, b, c := newTestSite(t), newTestSite(t), newTestSite(t)
	must(t, a.table.Close())
	a.start(t, b.public)
	k, err := a.sealer.NewKey(ctx, uuid.New())
	must(t, err)
	sealed, err := k.Seal(nil, []byte("shared"), here)
	must(t, err)
	wraps, err := a.table.Get(k.ID())
	must(t, err)
	if len(wraps) != 2 {
		t.Fatalf("%d wraps, want one for each of two sites", len(wraps))
	}
	for _, s := range []*testSite{b, c} {
		must(t, s.table.Put(k.ID(), wraps...))
		s.unseal(t)
	}
	kb, err := b.sealer.Key(ctx, k.ID())
	must(t, err)
	got, err := kb.Open(sealed, here)
	must(t, err)
	if string(got) != "shared" {
		t.Errorf("custodian opened %q", got)
	}
	_, err = c.sealer.Key(ctx, k.ID())
	wantErr(t, err, ErrNotRecipient)

	// Even relabelled as c's own, it does not open there.
	forged := Wrap{To: c.public.Recipient(), Sealed: wraps[0].Sealed}
	must(t, c.table.Erase(k.ID()))
	must(t, c.table.Put(k.ID(), forged))
	_, err = c.sealer.Key(ctx, k.ID())
	wantErr(t, err, ErrMismatch)
}

func TestWrapUnderAnotherNameDoesNotOpen(t *testing.T) {
	s := newTestSite(t)
	s.unseal(t)
	k, err := s.sealer.NewKey(context.Background(), uuid.New())
	must(t, err)
	wraps, err := s.table.Get(k.ID())
	must(t, err)
	other := uuid.New()
	must(t, s.table.Put(other, wraps...))
	_, err = s.sealer.Key(context.Background(), other)
	wantErr(t, err, ErrMismatch)
}

func TestUnsealRefusesAnotherSitesKey(t *testing.T) {
	a, b := newTestSite(t), newTestSite(t)
	key, err := OpenKeyFile(filepath.Join(b.dir, "site.key"))
	must(t, err)
	err = a.sealer.Unseal(context.Background(), key)
	wantErr(t, err, ErrMismatch)
	if !a.sealer.Sealed() {
		t.Error("unsealed by a key that does not fit")
	}
}

// TestSealOpenProperties: what is sealed opens to the same bytes in its place
// only, by its key only, and only unaltered; and the format is tink's own.
func TestSealOpenProperties(t *testing.T) {
	ctx, s := context.Background(), newTestSite(t)
	s.unseal(t)
	raw := newKeyBytes()
	id := uuid.New()
	w, err := s.public.Wrap(id, raw)
	must(t, err)
	must(t, s.table.Create(id, w))
	k, err := s.sealer.Key(ctx, id)
	must(t, err)
	k.key.trust()
	other, err := s.sealer.NewKey(ctx, uuid.New())
	must(t, err)
	direct, err := tinkaead.NewAESGCM(raw.Bytes())
	must(t, err)

	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "plain")
		prefix := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "dst")
		at := Binding{
			Purpose: rapid.StringN(1, 60, 255).Draw(t, "purpose"),
			ID:      uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")),
			Number:  rapid.Uint64().Draw(t, "number"),
		}
		out, err := k.Seal(bytes.Clone(prefix), plain, at)
		if err != nil || !bytes.HasPrefix(out, prefix) || len(out) != len(prefix)+len(plain)+Overhead {
			t.Fatalf("seal: %d bytes, %v", len(out), err)
		}
		sealed := out[len(prefix):]
		if got, err := k.Open(sealed, at); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("open: %x, %v", got, err)
		}
		ad, _ := at.encode()
		if got, err := direct.Decrypt(sealed, ad); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("tink does not open it: %v", err)
		}
		refuse := func(what string, k *DataKey, sealed []byte, at Binding) {
			if _, err := k.Open(sealed, at); !errors.Is(err, ErrMismatch) {
				t.Fatalf("%s: got %v, want ErrMismatch", what, err)
			}
		}
		refuse("other key", other, sealed, at)
		refuse("other purpose", k, sealed, Binding{at.Purpose[:len(at.Purpose)-1] + "\x01x", at.ID, at.Number})
		refuse("other number", k, sealed, Binding{at.Purpose, at.ID, at.Number + 1})
		refuse("other id", k, sealed, Binding{at.Purpose, uuid.New(), at.Number})
		flipped := bytes.Clone(sealed)
		flipped[rapid.IntRange(0, len(sealed)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		refuse("flipped bit", k, flipped, at)
		refuse("cut", k, sealed[:rapid.IntRange(0, len(sealed)-1).Draw(t, "cut")], at)
	})
}

func TestBindingsAreDistinct(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) Binding {
			return Binding{
				Purpose: rapid.StringOfN(rapid.RuneFrom([]rune{0, 1, 'a'}), 1, 3, -1).Draw(t, label+" purpose"),
				ID:      uuid.UUID(rapid.SliceOfN(rapid.ByteRange(0, 1), 16, 16).Draw(t, label+" id")),
				Number:  rapid.Uint64Range(0, 2).Draw(t, label+" number"),
			}
		}
		a, b := draw("a"), draw("b")
		x, err := a.encode()
		if err != nil {
			t.Fatal(err)
		}
		y, err := b.encode()
		if err != nil {
			t.Fatal(err)
		}
		if (a == b) != bytes.Equal(x, y) {
			t.Fatalf("%v and %v encode to %x and %x", a, b, x, y)
		}
	})
	for _, purpose := range []string{"", string(make([]byte, 256))} {
		if _, err := (Binding{Purpose: purpose}).encode(); err == nil {
			t.Errorf("purpose of %d bytes accepted", len(purpose))
		}
	}
}

// TestNothingReadableOnDisk greps every file of a site for what was sealed and
// for the keys that sealed it.
func TestNothingReadableOnDisk(t *testing.T) {
	s := newTestSite(t)
	k, err := s.sealer.NewKey(context.Background(), uuid.New())
	must(t, err)
	secret := []byte("correct horse battery staple")
	sealed, err := k.Seal(nil, secret, here)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(s.dir, "payload"), sealed, 0o600))
	s.unseal(t)
	wraps, err := s.table.Get(k.ID())
	must(t, err)
	raw, err := s.sealer.provider.Unwrap(context.Background(), wraps[0].Sealed, wrapInfo(k.ID(), wraps[0].To))
	must(t, err)
	if raw.Len() != keySize {
		t.Fatalf("data key of %d bytes", raw.Len())
	}
	files, err := filepath.Glob(filepath.Join(s.dir, "*"))
	must(t, err)
	if len(files) != 4 {
		t.Fatalf("files %v, want key, public key, table, payload and nothing temporary", files)
	}
	for _, f := range files {
		content, err := os.ReadFile(f)
		must(t, err)
		if bytes.Contains(content, secret) || bytes.Contains(content, raw.Bytes()) {
			t.Errorf("%s holds a secret in the clear", f)
		}
	}
}

// What is erased by decision is not opened, wrapped for anybody, renewed or taken in
// from that moment on, though the table still has it; and when it is destroyed, nobody
// who was opening it just then keeps it.
func TestAttackErasedKeyComesBack(t *testing.T) {
	ctx := context.Background()
	s, other, next := newTestSite(t), newTestSite(t), newTestSite(t)
	s.unseal(t)
	other.unseal(t)
	id := uuid.New()
	k, err := s.sealer.NewKey(ctx, id)
	must(t, err)
	k.Release()
	kept, err := s.sealer.WrapFor(ctx, id, other.public)
	must(t, err)
	_, err = other.sealer.Accept(ctx, id, kept)
	must(t, err)
	back, err := other.sealer.WrapFor(ctx, id, s.public)
	must(t, err)

	var erased atomic.Bool
	s.sealer.Forget(func(x uuid.UUID) bool { return erased.Load() && x == id })
	held, err := s.sealer.Key(ctx, id)
	must(t, err)
	erased.Store(true)
	s.sealer.LeadTo(next.public)
	refused := func(when string) {
		t.Helper()
		for name, try := range map[string]func() error{
			"opened":  func() error { _, err := s.sealer.Key(ctx, id); return err },
			"wrapped": func() error { _, err := s.sealer.WrapFor(ctx, id, next.public); return err },
			"sent":    func() error { _, err := s.sealer.WrapFor(ctx, id, other.public); return err },
			"taken":   func() error { _, err := s.sealer.Accept(ctx, id, back); return err },
			"renewed": func() error { _, err := s.sealer.Rewrap(ctx, id); return err },
			"contested": func() error {
				_, err := s.sealer.Contest(ctx, id, back, func(*DataKey) bool { return true })
				return err
			},
		} {
			if err := try(); !errors.Is(err, ErrErased) {
				t.Errorf("%s: it is %s: %v", when, name, err)
			}
		}
	}
	refused("before it is destroyed")
	must(t, s.sealer.Erase(id))
	refused("after that")
	_, err = held.Open(make([]byte, 64), here)
	wantErr(t, err, ErrNotFound)
	if s.sealer.Has(id) {
		t.Error("the table has it")
	}
}

// slowProvider waits in the middle of opening a data key.
type slowProvider struct {
	Provider
	began, proceed chan struct{}
}

func (p *slowProvider) Unwrap(ctx context.Context, sealed, info []byte) (Secret, error) {
	if p.began != nil {
		close(p.began)
		p.began = nil
		select {
		case <-p.proceed:
		case <-time.After(100 * time.Millisecond):
		}
	}
	return p.Provider.Unwrap(ctx, sealed, info)
}

// A key that is being opened when it is destroyed is not held afterwards.
func TestAttackErasedKeyWhileItIsOpened(t *testing.T) {
	ctx, s := context.Background(), newTestSite(t)
	own, err := OpenKeyFile(filepath.Join(s.dir, "site.key"))
	must(t, err)
	slow := &slowProvider{Provider: own}
	must(t, s.sealer.Unseal(ctx, slow))
	id := uuid.New()
	k, err := s.sealer.NewKey(ctx, id)
	must(t, err)
	sealed, err := k.Seal(nil, []byte("x"), here)
	must(t, err)
	k.Release()
	began, erased := make(chan struct{}), make(chan struct{})
	slow.began, slow.proceed = began, erased
	go func() {
		<-began
		_ = s.sealer.Erase(id)
		close(erased)
	}()
	got, err := s.sealer.Key(ctx, id)
	<-erased
	if err == nil {
		_, err = got.Open(sealed, here)
		got.Release()
	}
	wantErr(t, err, ErrNotFound)
	_, err = s.sealer.Key(ctx, id)
	wantErr(t, err, ErrNotFound)
}

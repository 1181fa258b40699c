package token_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/seal/token"
	"github.com/holdfast-pam/holdfast/events/seal/token/tokentest"
)

var site = uuid.MustParse("018f0000-0000-7000-8000-0000000000aa")

func pin(text string) seal.Secret { return seal.NewSecret([]byte(text)) }

// TestRealToken makes, uses and destroys a key in SoftHSM.
func TestRealToken(t *testing.T) {
	cfg := tokentest.New(t)
	id := []byte("0123456789abcdef")
	public, err := token.CreateKey(t.Context(), cfg, pin(tokentest.PIN), id, site, 7)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.CreateKey(t.Context(), cfg, pin(tokentest.PIN), id, site, 7); err == nil {
		t.Error("a second key of the same id was made")
	}
	p, err := token.Open(t.Context(), cfg, pin(tokentest.PIN), id, public)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	raw := seal.NewSecret(bytes.Repeat([]byte{9}, 32))
	w, err := public.Wrap(uuid.Nil, raw)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				if err := seal.CheckProvider(t.Context(), p, public); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	w.Sealed[len(w.Sealed)-1] ^= 1
	if _, err := p.Unwrap(t.Context(), w.Sealed, nil); !errors.Is(err, seal.ErrMismatch) {
		t.Errorf("altered bytes: %v", err)
	}
	other, err := seal.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	strange, err := other.Public(site)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.Open(t.Context(), cfg, pin(tokentest.PIN), id, strange); !errors.Is(err, seal.ErrMismatch) {
		t.Errorf("a token whose key is another one: %v", err)
	}
	if err := p.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := token.Open(t.Context(), cfg, pin(tokentest.PIN), id, public); !errors.Is(err, token.ErrAbsent) {
		t.Errorf("after its destruction: %v", err)
	}
	if err := token.DestroyKey(t.Context(), cfg, pin(tokentest.PIN), id); err != nil {
		t.Errorf("destroyed twice: %v", err)
	}
}

// TestAttackToken: wrong PINs, another label, another library, a helper that
// others could replace, one that dies.
func TestAttackToken(t *testing.T) {
	cfg := tokentest.New(t)
	id := []byte("0123456789abcdef")
	public, err := token.CreateKey(t.Context(), cfg, pin(tokentest.PIN), id, site, 7)
	if err != nil {
		t.Fatal(err)
	}
	open := func(edit func(*token.Config), with string) error {
		c := cfg
		edit(&c)
		p, err := token.Open(t.Context(), c, pin(with), id, public)
		if err == nil {
			return p.Close()
		}
		if strings.Contains(err.Error(), with) {
			t.Errorf("the error has the PIN in it: %v", err)
		}
		return err
	}
	same := func(*token.Config) {}
	if err := open(same, "not-the-pin"); !errors.Is(err, token.ErrPIN) {
		t.Errorf("a wrong PIN: %v", err)
	}
	if err := open(func(c *token.Config) { c.Label = "another" }, tokentest.PIN); !errors.Is(err, token.ErrAbsent) {
		t.Errorf("another token: %v", err)
	}
	if err := open(func(c *token.Config) { c.Module = cfg.Helper }, tokentest.PIN); err == nil {
		t.Error("a program was taken for a PKCS#11 library")
	}
	if err := open(func(c *token.Config) { c.Helper = "/bin/false" }, tokentest.PIN); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a helper that ends at once: %v", err)
	}
	if err := os.Chmod(cfg.Helper, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := open(same, tokentest.PIN); err == nil || !strings.Contains(err.Error(), "replaced by others") {
		t.Errorf("a helper that others may replace: %v", err)
	}
	if err := os.Chmod(cfg.Helper, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := open(same, tokentest.PIN); err != nil {
		t.Error(err)
	}
	p, err := token.Open(t.Context(), cfg, pin(tokentest.PIN), id, public)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := seal.CheckProvider(gone, p, public); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that was given up: %v", err)
	}
	if err := seal.CheckProvider(t.Context(), p, public); err == nil || !strings.Contains(err.Error(), "unseal the site again") {
		t.Errorf("a dead helper: %v", err)
	}
}

// FuzzReadFrame: nothing that a helper writes makes the reader panic, and what it
// reads is what was written.
func FuzzReadFrame(f *testing.F) {
	var b bytes.Buffer
	if err := token.WriteFrame(&b, 3, []byte("a"), nil, []byte("bc")); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0, 0, 0, 1, 9})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		head, fields, err := token.ReadFrame(bytes.NewReader(in))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := token.WriteFrame(&out, head, fields...); err != nil || !bytes.HasPrefix(in, out.Bytes()) {
			t.Errorf("%x was read and written as %x: %v", in, out.Bytes(), err)
		}
	})
}

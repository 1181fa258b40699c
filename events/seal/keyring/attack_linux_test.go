package keyring

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/seal/lock"
	"github.com/holdfast-pam/holdfast/events/seal/token/tokentest"
)

// TestToken goes into a real token, from one key there to the next, and out of it.
func TestToken(t *testing.T) {
	cfg := tokentest.New(t)
	p := newPlace(t, File)
	k := p.unsealed(File, "")
	k.cfg.Token = cfg
	p.fill(k, 5)
	for _, to := range []Kind{Token, Token, Passphrase} {
		k.cfg.Provider = to
		entered := tokentest.PIN
		if to == Passphrase {
			entered = phrase
		}
		out, err := k.Rekey(t.Context(), secret(entered), &journal{}, none)
		p.must(err)
		if out.Stage != Finished || out.DataKeys != len(p.sealed) {
			t.Fatalf("rekeyed: %+v", out)
		}
		p.fill(k, 3)
		p.opensAll(k)
		p.onlyKey(k)
		p.must(k.Seal())
		p.unseal(k, entered+"\n")
		p.opensAll(k)
		if to == Token {
			onNoCommandLine(t, tokentest.PIN)
		}
	}
	p.must(k.Close())
	p.opensAll(p.unsealed(Passphrase, phrase))
}

// TestPINFile: a site whose token's PIN lies in a file unseals itself, also as a
// new site, and nobody but its owner may read the file.
func TestPINFile(t *testing.T) {
	cfg := config(t.TempDir(), Token)
	cfg.Token, cfg.PINFile = tokentest.New(t), filepath.Join(cfg.Dir, "pin")
	p := &place{T: t, dir: cfg.Dir, sealed: map[uuid.UUID][]byte{}}
	p.must(os.WriteFile(cfg.PINFile, []byte(tokentest.PIN+"\n"), 0o600))
	p.must(Create(t.Context(), cfg))
	k, err := Open(cfg)
	p.must(err)
	defer k.Close()
	p.unseal(k, "")
	p.fill(k, 2)
	p.opensAll(k)
	p.must(k.Seal())
	p.must(os.Chmod(cfg.PINFile, 0o644))
	if _, err := k.Open(t.Context(), seal.Secret{}); err == nil || !strings.Contains(err.Error(), "lets others in") {
		t.Errorf("a PIN file that others may read: %v", err)
	}
	if _, err := os.Stat(cfg.KeyFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key file was made: %v", err)
	}
}

// TestWhatDoesNotOpen: every provider refuses what is not its own, says so, and
// the site stays sealed.
func TestWhatDoesNotOpen(t *testing.T) {
	for _, c := range []struct {
		kind    Kind
		entered string
		spoil   func(p *place)
		want    error
		says    string
	}{
		{Passphrase, "another passphrase", nil, lock.ErrWrong, ""},
		{Passphrase, "", nil, ErrNeedsSecret, ""},
		{Shares, "", nil, ErrNeedsSecret, ""},
		{Shares, "not a share\n", nil, nil, "not a share"},
		{Credential, "", func(p *place) { p.must(os.Remove(filepath.Join(p.dir, "credential"))) }, ErrAbsent, ""},
		{Credential, "", func(p *place) {
			p.must(os.Remove(filepath.Join(p.dir, "credential")))
			p.must(os.WriteFile(filepath.Join(p.dir, "credential"), bytes.Repeat([]byte("d"), 32), 0o400))
		}, lock.ErrWrong, ""},
		{Credential, "", func(p *place) { p.must(os.Chmod(filepath.Join(p.dir, "credential"), 0o444)) }, nil, "lets others in"},
		{File, "", func(p *place) { p.must(os.Remove(filepath.Join(p.dir, "site.key"))) }, ErrAbsent, ""},
		{File, "", func(p *place) {
			p.must(os.Remove(filepath.Join(p.dir, "site.key")))
			_, err := seal.CreateKeyFile(filepath.Join(p.dir, "site.key"))
			p.must(err)
		}, seal.ErrMismatch, "made together with this site"},
	} {
		p := newPlace(t, File)
		k := p.unsealed(File, "")
		p.rekeyTo(k, c.kind)
		p.must(k.Seal())
		if c.spoil != nil {
			c.spoil(p)
		}
		_, err := k.Open(t.Context(), secret(c.entered))
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s with %q: %v", c.kind, c.entered, err)
		}
		if c.entered != "" && strings.Contains(err.Error(), c.entered) {
			t.Errorf("%s: the error repeats what was entered: %v", c.kind, err)
		}
		if !k.Status().Sealed {
			t.Errorf("%s: the site is unsealed", c.kind)
		}
	}
}

// TestAttackRing: a ring whose key is another one than the site published is not
// taken, and one that is damaged is an error with its name.
func TestAttackRing(t *testing.T) {
	p, stranger := newPlace(t, File), newPlace(t, File)
	k := p.open(File)
	published := k.Status().Public
	p.must(k.Published(published, nil))
	p.must(k.Published([]byte("older"), published))
	p.must(k.Close())
	ring, err := os.ReadFile(filepath.Join(stranger.dir, "ring"))
	p.must(err)
	path := filepath.Join(p.dir, "ring")
	p.must(os.WriteFile(path, ring, 0o600))
	k = p.open(File)
	if err := k.Published(published, nil); err == nil || !strings.Contains(err.Error(), "never published") {
		t.Errorf("a planted key: %v", err)
	}
	p.must(k.Close())
	for _, bad := range []string{"", "{", "{}", `{"version":1}`, `{"version":1,"current":{"provider":"file","public":{}}}`, `{"version":2,"current":{}}`} {
		p.must(os.WriteFile(path, []byte(bad), 0o600))
		if k, err := Open(config(p.dir, File)); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", bad, err)
			if err == nil {
				_ = k.Close()
			}
		}
	}
	p.must(os.Chmod(path, 0o666))
	if _, err := Open(config(p.dir, File)); err == nil || !strings.Contains(err.Error(), "lets others in") {
		t.Errorf("a ring that others may write: %v", err)
	}
}

// TestAbandon: a rekey that is given up leaves the site as it was, and the next
// one begins anew.
func TestAbandon(t *testing.T) {
	p := newPlace(t, File)
	k := p.unsealed(File, "")
	p.fill(k, 4)
	before := k.Status().Key
	k.cfg.Provider = Shares
	j := &journal{}
	out, err := k.Rekey(t.Context(), seal.Secret{}, j, none)
	p.must(err)
	if out.Stage != Unproven || k.Status().Next == "" {
		t.Fatalf("%+v", out)
	}
	p.fill(k, 2)
	if _, err := k.Abandon(t.Context(), seal.Secret{}, j, none); err != nil {
		t.Fatal(err)
	}
	p.fill(k, 2)
	p.onlyKey(k)
	if s := k.Status(); s.Key != before || s.Next != "" || s.Rekey != "" {
		t.Errorf("after it: %+v", s)
	}
	p.opensAll(k)
	p.rekeyTo(k, Passphrase)
	p.opensAll(k)
	if _, err := k.Abandon(t.Context(), seal.Secret{}, j, none); err == nil {
		t.Error("a finished rekey was abandoned")
	}
}

// TestUnrecordedRekeyStops: what can't be recorded does not happen, and goes on later.
func TestUnrecordedRekeyStops(t *testing.T) {
	for _, step := range []string{"began", "finished", "destroyed"} {
		p := newPlace(t, File)
		k := p.unsealed(File, "")
		p.fill(k, 3)
		k.cfg.Provider = Passphrase
		if _, err := k.Rekey(t.Context(), secret(phrase), &journal{fail: step}, none); err == nil || !strings.Contains(err.Error(), "log is full") {
			t.Errorf("%s: %v", step, err)
		}
		p.fill(k, 3)
		p.opensAll(k)
		if out, err := k.Rekey(t.Context(), secret(phrase), &journal{}, none); err != nil || out.Stage != Finished {
			t.Errorf("%s, again: %+v, %v", step, out, err)
		}
		p.opensAll(k)
		p.onlyKey(k)
	}
}

// TestErasedStaysErased: a data key that is erased while a rekey runs does not
// come back by it.
func TestErasedStaysErased(t *testing.T) {
	p := newPlace(t, File)
	k := p.unsealed(File, "")
	p.fill(k, 40)
	erased := map[uuid.UUID]bool{}
	k.cfg.Provider = Passphrase
	k.step = func(step string) {
		if step != "began" {
			return
		}
		for id := range p.sealed {
			if len(erased) < 20 {
				p.must(k.Sealer().Erase(id))
				erased[id] = true
			}
		}
	}
	_, err := k.Rekey(t.Context(), secret(phrase), &journal{}, none)
	p.must(err)
	for id := range erased {
		if k.table.Has(id) {
			t.Errorf("data key %s came back", id)
		}
		delete(p.sealed, id)
	}
	p.opensAll(k)
}

// TestLostDataKeyDoesNotStopARekey: a wrap that the old key can't open is counted,
// and nothing else suffers.
func TestLostDataKeyDoesNotStopARekey(t *testing.T) {
	p := newPlace(t, File)
	k := p.unsealed(File, "")
	p.fill(k, 3)
	public, err := k.now().Current.public(site)
	p.must(err)
	planted := uuid.New()
	w, err := public.Wrap(uuid.New(), secret(strings.Repeat("x", 32)))
	p.must(err)
	p.must(k.table.Put(planted, w))
	k.cfg.Provider = Passphrase
	out, err := k.Rekey(t.Context(), secret(phrase), &journal{}, none)
	p.must(err)
	if out.Unopened != 1 || out.DataKeys != 3 {
		t.Errorf("rekeyed: %+v", out)
	}
	p.opensAll(k)
}

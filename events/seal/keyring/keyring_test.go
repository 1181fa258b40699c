package keyring

import (
	"bytes"
	"context"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/seal/lock"
)

var site = uuid.MustParse("018f0000-0000-7000-8000-0000000000aa")

// journal keeps what it was told.
type journal struct {
	told []string
	fail string // the step that can't be recorded
}

func (j *journal) note(step string, c Change) error {
	if j.fail == step {
		return errors.New("the log is full")
	}
	j.told = append(j.told, fmt.Sprintf("%s %s>%s", step, c.FromKind, c.ToKind))
	return nil
}

func (j *journal) Began(_ context.Context, c Change) error     { return j.note("began", c) }
func (j *journal) Finished(_ context.Context, c Change) error  { return j.note("finished", c) }
func (j *journal) Abandoned(_ context.Context, c Change) error { return j.note("abandoned", c) }
func (j *journal) Destroyed(_ context.Context, c Change) error { return j.note("destroyed", c) }

func none(string, int, int) {}

func secret(text string) seal.Secret { return seal.NewSecret([]byte(text)) }

func config(dir string, kind Kind) Config {
	return Config{
		Dir: dir, Site: site, Provider: kind, KeyFile: filepath.Join(dir, "site.key"),
		Credential: filepath.Join(dir, "credential"), Threshold: 2, Count: 3, Cost: lock.Argon2id{Passes: 1, Memory: 8, Threads: 1},
	}
}

// place is a keys directory with some data keys, and what each of them sealed.
type place struct {
	*testing.T
	dir    string
	sealed map[uuid.UUID][]byte
}

var here = seal.Binding{Purpose: "test", ID: site}

func newPlace(t *testing.T, kind Kind) *place {
	p := &place{T: t, dir: t.TempDir(), sealed: map[uuid.UUID][]byte{}}
	p.must(os.WriteFile(filepath.Join(p.dir, "credential"), bytes.Repeat([]byte("c"), 32), 0o400))
	p.must(Create(t.Context(), config(p.dir, kind)))
	return p
}

func (p *place) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *place) open(kind Kind) *Keyring {
	p.Helper()
	k, err := Open(config(p.dir, kind))
	p.must(err)
	p.Cleanup(func() { _ = k.Close() })
	return k
}

// unsealed opens the ring and unseals it.
func (p *place) unsealed(kind Kind, entered string) *Keyring {
	p.Helper()
	k := p.open(kind)
	p.unseal(k, entered)
	return k
}

func (p *place) unseal(k *Keyring, entered string) {
	p.Helper()
	o, err := k.Open(p.Context(), secret(entered))
	p.must(err)
	p.must(o.Use(p.Context()))
}

// fill makes data keys that each seal something.
func (p *place) fill(k *Keyring, n int) {
	p.Helper()
	for range n {
		id := uuid.New()
		key, err := k.Sealer().NewKey(p.Context(), id)
		p.must(err)
		p.sealed[id], err = key.Seal(nil, id[:], here)
		p.must(err)
		key.Release()
	}
}

// opensAll wants everything that was ever sealed to open.
func (p *place) opensAll(k *Keyring) {
	p.Helper()
	for id, sealed := range p.sealed {
		key, err := k.Sealer().Key(p.Context(), id)
		p.must(err)
		got, err := key.Open(sealed, here)
		p.must(err)
		if !bytes.Equal(got, id[:]) {
			p.Fatalf("data key %s opened something else", id)
		}
		key.Release()
	}
}

const phrase = "four words make a passphrase"

// TestEveryWay goes from each kind of provider to each other that needs no
// token, with everything opening on the way, also after a restart.
func TestEveryWay(t *testing.T) {
	kinds := []Kind{File, Passphrase, Credential, Shares}
	for _, from := range kinds {
		for _, to := range kinds {
			t.Run(string(from)+" to "+string(to), func(t *testing.T) {
				t.Parallel()
				p := newPlace(t, File)
				k := p.unsealed(File, "")
				p.fill(k, 5)
				entered := p.rekeyTo(k, from)
				p.must(k.Close())
				k = p.unsealed(to, entered)
				p.fill(k, 5)
				p.opensAll(k)
				before := k.Status()
				if before.Provider != from || before.Configured != to {
					t.Fatalf("before: %+v", before)
				}
				entered = p.rekeyTo(k, to)
				p.fill(k, 5)
				p.opensAll(k)
				after := k.Status()
				if after.Provider != to || after.Key == before.Key || after.Rekey != "" || after.Next != "" {
					t.Fatalf("after: %+v", after)
				}
				p.onlyKey(k)
				p.must(k.Close())
				p.opensAll(p.unsealed(to, entered))
				_, err := os.Stat(filepath.Join(p.dir, "site.key"))
				if gone := errors.Is(err, fs.ErrNotExist); gone != (to != File) {
					t.Errorf("the key file is gone: %t", gone)
				}
			})
		}
	}
}

// rekeyTo rekeys to a kind, and gives what opens the new key.
func (p *place) rekeyTo(k *Keyring, kind Kind) string {
	p.Helper()
	k.cfg.Provider = kind
	entered := ""
	if kind == Passphrase {
		entered = phrase
	}
	j := &journal{}
	out, err := k.Rekey(p.Context(), secret(entered), j, none)
	p.must(err)
	if kind == Shares {
		if out.Stage != Unproven || len(out.Shares) != 3 {
			p.Fatalf("stage %s with %d shares", out.Stage, len(out.Shares))
		}
		var b bytes.Buffer
		p.must(WriteShares(&b, out.Shares[1:]))
		entered = b.String()
		out, err = k.Rekey(p.Context(), secret(entered), j, none)
		p.must(err)
		p.nowhere(entered)
	}
	if out.Stage != Finished || out.DataKeys != len(p.sealed) || out.Unopened != 0 {
		p.Fatalf("rekeyed: %+v of %d data keys", out, len(p.sealed))
	}
	if told := strings.Join(j.told, " "); !strings.Contains(told, "began") || !strings.Contains(told, "finished") || !strings.Contains(told, "destroyed") {
		p.Errorf("told %s", told)
	}
	return entered
}

// onlyKey wants every data key to be wrapped to the site's key and nothing else.
func (p *place) onlyKey(k *Keyring) {
	p.Helper()
	n := 0
	for id := range k.table.Keys() {
		wraps, err := k.table.Get(id)
		p.must(err)
		if n++; len(wraps) != 1 || keyName(wraps[0].To.Key) != k.Status().Key {
			p.Fatalf("data key %s has wraps %v", id, wraps)
		}
	}
	if n != len(p.sealed) {
		p.Errorf("%d data keys, want %d", n, len(p.sealed))
	}
}

// nowhere wants no share in any file of the site's keys, as it is written or as
// the bytes that it stands for.
func (p *place) nowhere(shares string) {
	p.Helper()
	for share := range strings.Lines(shares) {
		_, text, _ := strings.Cut(strings.TrimSpace(share), "-")
		plain := strings.ReplaceAll(text, "-", "")
		raw, err := base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding).DecodeString(plain)
		p.must(err)
		value := raw[6:38] // behind version, set and index
		p.must(filepath.WalkDir(p.dir, func(file string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(file)
			for _, form := range []string{text, plain, string(value), hex.EncodeToString(value), base64.StdEncoding.EncodeToString(value)} {
				if bytes.Contains(b, []byte(form)) {
					p.Errorf("%s holds a share", file)
				}
			}
			return err
		}))
	}
}

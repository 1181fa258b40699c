package evidence

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/holdfast-pam/holdfast/events"
)

func testOrigin(epoch uint32) events.Origin {
	return events.Origin{Site: events.SiteID{UUID: uuid.MustParse("01900000-0000-7000-8000-0000000000aa")}, Epoch: epoch, Kind: events.Ctl}
}

func newKey(t testing.TB, epoch uint32) (*Key, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	k, err := CreateKey(path, testOrigin(epoch), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k, path
}

func TestKeyFile(t *testing.T) {
	k, path := newKey(t, 1)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v, %v; want mode 0600", info.Mode(), err)
	}
	again, err := LoadKey(path, testOrigin(1))
	if err != nil || again.Public() != k.Public() {
		t.Fatalf("LoadKey = %v, %v; want %v", again, err, k)
	}
	private, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.SplitN(strings.TrimSpace(string(private)), "+", 5)[4]
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		if s := fmt.Sprintf(verb, k); s != k.Public() || strings.Contains(s, secret) {
			t.Errorf("Sprintf(%s) shows %q", verb, s)
		}
	}
	if _, err := CreateKey(path, testOrigin(1), rand.Reader); !errors.Is(err, os.ErrExist) {
		t.Errorf("CreateKey over a key: %v, want ErrExist", err)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != string(private) {
		t.Error("the existing key was changed")
	}
	if left, err := filepath.Glob(path + ".*"); err != nil || len(left) > 0 {
		t.Errorf("files left behind: %v", left)
	}
	if _, err := LoadKey(path, testOrigin(2)); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("key of another epoch: %v", err)
	}
}

func TestLoadKeyRefuses(t *testing.T) {
	_, path := newKey(t, 1)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o601} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKey(path, testOrigin(1)); !errors.Is(err, ErrKeyExposed) {
			t.Errorf("mode %o: %v, want ErrKeyExposed", mode, err)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "x", "PRIVATE+KEY+a+b", "PRIVATE+KEY+holdfast/x+00000000+SECRETSECRET"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKey(path, testOrigin(1)); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("key file %q: %v", text, err)
		}
	}
}

func TestHeadSignAndOpen(t *testing.T) {
	k, _ := newKey(t, 3)
	tree := grow(11)
	h, err := k.Sign(tree.Size(), tree.Root())
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenHead(h.Note, k.Public())
	if err != nil {
		t.Fatal(err)
	}
	if got.Origin != testOrigin(3) || got.Size != 11 || got.Root != tree.Root() {
		t.Errorf("OpenHead = %+v", got)
	}
	if err := got.Check(tree); err != nil {
		t.Errorf("Check against its own tree: %v", err)
	}
	if err := got.Check(grow(12)); err == nil || errors.Is(err, ErrInconsistent) {
		t.Errorf("Check at another size: %v; want an error that is no verdict", err)
	}
	other := grow(10)
	other.Append(LeafHash([]byte("rewritten")))
	if err := got.Check(other); !errors.Is(err, ErrInconsistent) {
		t.Errorf("Check against a rewritten log: %v", err)
	}
}

// TestHeadIsACheckpoint reads a head with the library of the format alone.
func TestHeadIsACheckpoint(t *testing.T) {
	k, _ := newKey(t, 1)
	h, err := k.Sign(4, grow(4).Root())
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(h.Note, note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%s\n4\n%s\n", OriginLine(testOrigin(1)), tlog.Hash(grow(4).Root()))
	if n.Text != want {
		t.Errorf("checkpoint text %q, want %q", n.Text, want)
	}
}

func TestOpenHeadRefuses(t *testing.T) {
	k, _ := newKey(t, 1)
	stranger, _ := newKey(t, 1)
	h, err := k.Sign(4, grow(4).Root())
	if err != nil {
		t.Fatal(err)
	}
	for i := range h.Note {
		for bit := range 8 {
			b := append([]byte(nil), h.Note...)
			b[i] ^= 1 << bit
			if got, err := OpenHead(b, k.Public()); err == nil && (got.Size != 4 || got.Root != h.Root || got.Origin != h.Origin) {
				t.Fatalf("bit %d of byte %d flipped: accepted as %+v", bit, i, got)
			} else if err == nil && i < len(OriginLine(h.Origin))+48 {
				t.Fatalf("bit %d of byte %d of the text flipped: accepted", bit, i)
			}
		}
	}
	if _, err := OpenHead(h.Note, stranger.Public()); !errors.Is(err, ErrBadHead) {
		t.Errorf("another key of the same name: %v", err)
	}
	if _, err := OpenHead(make([]byte, maxHeadSize+1), k.Public()); !errors.Is(err, ErrBadHead) {
		t.Errorf("oversized: %v", err)
	}
	root := "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	line := OriginLine(testOrigin(1))
	for _, text := range []string{
		line + "\n04\n" + root + "\n",
		line + "\n-1\n" + root + "\n",
		line + "\n4\nAAAA\n",
		line + "\n4\n" + root + "\nextension\n",
		line + "\n4\n",
		OriginLine(testOrigin(2)) + "\n4\n" + root + "\n",
		strings.ToUpper(line) + "\n4\n" + root + "\n",
	} {
		signed, err := note.Sign(&note.Note{Text: text}, k.signer)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenHead(signed, k.Public()); !errors.Is(err, ErrBadHead) {
			t.Errorf("signed text %q: %v, want ErrBadHead", text, err)
		}
	}
}

func TestHeadFile(t *testing.T) {
	k, _ := newKey(t, 1)
	path := filepath.Join(t.TempDir(), "head")
	if _, err := LoadHead(path, k.Public()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no head yet: %v", err)
	}
	for n := range 3 {
		h, err := k.Sign(uint64(n), grow(n).Root())
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Save(path); err != nil {
			t.Fatal(err)
		}
		got, err := LoadHead(path, k.Public())
		if err != nil || got.Size != uint64(n) {
			t.Fatalf("LoadHead = %+v, %v", got, err)
		}
	}
	if left, err := filepath.Glob(path + ".*"); err != nil || len(left) > 0 {
		t.Errorf("files left behind: %v", left)
	}
}

func FuzzParseCheckpoint(f *testing.F) {
	f.Add(OriginLine(testOrigin(1)) + "\n4\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseCheckpoint(text)
		if err != nil {
			return
		}
		again := fmt.Sprintf("%s\n%d\n%s\n", OriginLine(h.Origin), h.Size, tlog.Hash(h.Root))
		if again != text {
			t.Errorf("%q was read as %q", text, again)
		}
	})
}

func FuzzOpenHead(f *testing.F) {
	k, _ := newKey(f, 1)
	h, err := k.Sign(4, grow(4).Root())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(h.Note)
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := OpenHead(b, k.Public()); err == nil && (got.Size != 4 || got.Root != h.Root) {
			t.Errorf("%q verified as size %d", b, got.Size)
		}
	})
}

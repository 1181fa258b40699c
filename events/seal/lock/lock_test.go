package lock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/holdfast-pam/holdfast/events/seal"
)

var at = For{Site: uuid.MustParse("018f0000-0000-7000-8000-0000000000aa"), Key: 7}

func scalar(t testing.TB) seal.Secret {
	t.Helper()
	key, err := seal.GeneratePrivateKey()
	must(t, err)
	defer key.Close()
	s, err := key.Scalar(key.IDs()[0])
	must(t, err)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// holds wants a key to have a scalar.
func holds(t testing.TB, key *seal.PrivateKey, err error, want seal.Secret) {
	t.Helper()
	must(t, err)
	defer key.Close()
	got, err := key.Scalar(at.Key)
	must(t, err)
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Fatal("another key came out")
	}
}

func text(s string) seal.Secret { return seal.NewSecret([]byte(s)) }

// stored is a lock as it comes back from disk.
func stored(t testing.TB, l *Lock) *Lock {
	t.Helper()
	b, err := json.Marshal(l)
	must(t, err)
	var out Lock
	must(t, json.Unmarshal(b, &out))
	return &out
}

// cheap is for tests that are not about the cost of a guess.
var cheap = Argon2id{Passes: 1, Memory: 8, Threads: 1}

func TestPassphrase(t *testing.T) {
	s := scalar(t)
	l, err := ByPassphrase(at, s, text("correct horse battery"), cheap)
	must(t, err)
	l = stored(t, l)
	key, err := l.OpenPassphrase(at, text("correct horse battery"))
	holds(t, key, err, s)
	if p := Calibrate(); p.Memory < 64<<10 || p.Passes < 3 || p.Threads < 1 {
		t.Errorf("weak parameters: %+v", p)
	}
	for _, wrong := range []string{"correct horse batter", "Correct horse battery", "correct horse battery ", "", strings.Repeat("x", 5000)} {
		if _, err := l.OpenPassphrase(at, text(wrong)); !errors.Is(err, ErrWrong) {
			t.Errorf("%.20q: %v", wrong, err)
		}
	}
	for _, weak := range []string{"", "short", "elevenchars", strings.Repeat("x", 5000)} {
		if _, err := ByPassphrase(at, s, text(weak), cheap); err == nil || weak != "" && strings.Contains(err.Error(), weak) {
			t.Errorf("%.20q: %v", weak, err)
		}
	}
}

func TestCredential(t *testing.T) {
	s, credential := scalar(t), strings.Repeat("c", 32)
	l, err := ByCredential(at, s, text(credential))
	must(t, err)
	key, err := stored(t, l).OpenCredential(at, text(credential))
	holds(t, key, err, s)
	if _, err := l.OpenCredential(at, text(strings.Repeat("d", 32))); !errors.Is(err, ErrWrong) {
		t.Errorf("another credential: %v", err)
	}
	if _, err := ByCredential(at, s, text("too short")); err == nil {
		t.Error("a short credential was taken")
	}
}

// TestAttackAlteredLock: a lock that somebody altered, or moved to another site
// or key, does not open, whatever is right about the secret.
func TestAttackAlteredLock(t *testing.T) {
	credential := strings.Repeat("c", 32)
	l, err := ByCredential(at, scalar(t), text(credential))
	must(t, err)
	for name, alter := range map[string]func(*Lock, *For){
		"another site": func(_ *Lock, f *For) { f.Site = uuid.New() },
		"another key":  func(_ *Lock, f *For) { f.Key++ },
		"salt":         func(l *Lock, _ *For) { l.Salt[0] ^= 1 },
		"sealed":       func(l *Lock, _ *For) { l.Sealed[len(l.Sealed)-1] ^= 1 },
		"cut":          func(l *Lock, _ *For) { l.Sealed = l.Sealed[:5] },
		"empty":        func(l *Lock, _ *For) { l.Sealed = nil },
		"parameters":   func(l *Lock, _ *For) { l.Passphrase = &Argon2id{Passes: 1, Memory: 8, Threads: 1} },
	} {
		altered, where := stored(t, l), at
		alter(altered, &where)
		if _, err := altered.OpenCredential(where, text(credential)); !errors.Is(err, ErrWrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
	huge := &Lock{Passphrase: &Argon2id{Passes: 1, Memory: 1 << 31, Threads: 1}, Salt: l.Salt, Sealed: l.Sealed}
	if _, err := huge.OpenPassphrase(at, text("x")); err == nil || !strings.Contains(err.Error(), "out of range") {
		t.Errorf("parameters that would exhaust memory: %v", err)
	}
}

// TestShares: any k of n open it, in any order; fewer never do.
func TestShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 5).Draw(t, "n")
		k := rapid.IntRange(2, n).Draw(t, "k")
		raw := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "scalar")
		l, shares, err := ByShares(at, seal.NewSecret(raw), k, n)
		if err != nil {
			t.Fatal(err)
		}
		rand.Shuffle(n, func(i, j int) { shares[i], shares[j] = shares[j], shares[i] })
		given := rapid.IntRange(1, n).Draw(t, "given")
		key, err := l.OpenShares(at, shares[:given])
		if given < k {
			if !errors.Is(err, ErrTooFew) {
				t.Fatalf("%d of %d: %v", given, k, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer key.Close()
		got, err := key.Scalar(at.Key)
		if err != nil || !bytes.Equal(got.Bytes(), raw) {
			t.Fatalf("another key came out: %v", err)
		}
	})
	for _, c := range [][2]int{{1, 3}, {0, 0}, {4, 3}, {2, 65}, {-1, 2}} {
		if _, _, err := ByShares(at, scalar(t), c[0], c[1]); err == nil {
			t.Errorf("%d of %d was taken", c[0], c[1])
		}
	}
}

// TestAttackShares: every mistyped character is found and the share named; a
// share with a right checksum and a false value is named too, and so is one of
// another sharing. No error repeats a share.
func TestAttackShares(t *testing.T) {
	l, shares, err := ByShares(at, scalar(t), 2, 3)
	must(t, err)
	_, others, err := ByShares(at, scalar(t), 2, 3)
	must(t, err)
	written := string(shares[1].Text().Bytes())
	loose := strings.ToLower(strings.ReplaceAll(written[2:], "-", " "))
	if s, err := ParseShare([]byte(" 2-" + loose + "\r\n")); err != nil || s.Index != 2 || l.Check(s) != nil {
		t.Errorf("written loosely: %v", err)
	}
	missed := 0
	for i := 2; i < len(written); i++ {
		for _, c := range "0123456789ABCDEFGHJKMNPQRSTVWXYZ%-" {
			typed := written[:i] + string(c) + written[i+1:]
			s, err := ParseShare([]byte(typed))
			if err == nil && bytes.Equal(s.value.Bytes(), shares[1].value.Bytes()) {
				continue // the same character, or the unused bits of the last one
			}
			if err == nil {
				missed++
				continue
			}
			if !strings.Contains(err.Error(), "share 2 is mistyped") || strings.Contains(err.Error(), written[8:13]) {
				t.Fatalf("%s: %v", typed, err)
			}
		}
	}
	if missed > 0 {
		t.Errorf("%d mistyped shares went unnoticed", missed)
	}
	for _, swapped := range []string{"3" + written[1:], "-1" + written[1:], "x", "", "2", "999-AAAA", written[:20], written + "AAAA"} {
		if _, err := ParseShare([]byte(swapped)); err == nil {
			t.Errorf("%q was taken for a share", swapped)
		}
	}
	forged := Share{Set: shares[2].Set, Index: 3, value: shares[1].value}
	for want, given := range map[string][]Share{
		"share 3 is false":          {shares[0], forged},
		"share 2 was given twice":   {shares[1], shares[1]},
		"share 1 is of another key": {shares[1], others[0]},
		"there is no share 9":       {shares[1], {Set: shares[0].Set, Index: 9, value: shares[0].value}},
	} {
		if _, err := l.OpenShares(at, given); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v", shares[0], shares[0], shares); strings.Contains(text, fmt.Sprint(shares[0].value.Bytes())) {
		t.Error("a share prints its value")
	}
}

// FuzzParseShare: nothing typed makes the reader panic, and what it takes it
// writes the same.
func FuzzParseShare(f *testing.F) {
	_, shares, err := ByShares(at, scalar(f), 2, 2)
	must(f, err)
	f.Add(shares[0].Text().Bytes())
	f.Add([]byte("3-"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseShare(b)
		if err != nil {
			return
		}
		again, err := ParseShare(s.Text().Bytes())
		if err != nil || again.Index != s.Index || again.Set != s.Set || !bytes.Equal(again.value.Bytes(), s.value.Bytes()) {
			t.Errorf("share %d was written as another: %v", s.Index, err)
		}
	})
}

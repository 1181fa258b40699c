package factor

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// The vectors of RFC 4226 appendix D, and those of RFC 6238 appendix B for SHA-1, of which six digits count.
func TestCodesOfTheRFCs(t *testing.T) {
	secret := seal.NewSecret([]byte("12345678901234567890"))
	for n, want := range strings.Fields("755224 287082 359152 969429 338314 254676 287922 162583 399871 520489") {
		if got := string(codeOf(secret, uint64(n))); got != want {
			t.Errorf("counter %d: %s, want %s", n, got, want)
		}
	}
	for at, want := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130",
	} {
		if step, ok := Match(secret, want[2:], time.Unix(at, 0)); !ok || step != uint64(at)/30 {
			t.Errorf("time %d: step %d, %t", at, step, ok)
		}
	}
}

func TestMatchKeepsToTheWindow(t *testing.T) {
	secret := seal.NewSecret([]byte("12345678901234567890"))
	now := time.Unix(1_800_000_000, 0)
	for offset := -5; offset <= 5; offset++ {
		at := now.Add(time.Duration(offset) * Step)
		code := string(codeOf(secret, StepAt(at)))
		step, ok := Match(secret, code[:3]+" "+code[3:], now)
		if inside := offset >= -1 && offset <= 1; ok != inside || inside && step != StepAt(at) || Near(StepAt(at), now) != inside {
			t.Errorf("%d steps off: step %d, %t", offset, step, ok)
		}
	}
	for _, bad := range []string{"", "0", "12345", "1234567", "abcdef", "١٢٣٤٥٦", strings.Repeat("9", 1<<16)} {
		if _, ok := Match(secret, bad, now); ok {
			t.Errorf("%.20q is taken", bad)
		}
	}
	if _, ok := Match(secret, "755224", time.Unix(0, 0)); !ok {
		t.Error("the first step is not taken at its time")
	}
}

// oathtool is somebody else's RFC 6238.
func TestCodesOfOathtool(t *testing.T) {
	if _, err := exec.LookPath("oathtool"); err != nil {
		if os.Getenv("HOLDFAST_REQUIRE_CLIENTS") != "" {
			t.Fatal(err)
		}
		t.Skip("needs oathtool: ", err)
	}
	sealer := newSealer(t)
	for n := range 20 {
		_, secret, err := Add(context.Background(), sealer)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Unix(1_700_000_000+int64(n)*7919, 0)
		cmd := exec.Command("oathtool", "--totp", "-b", "--now", now.UTC().Format("2006-01-02 15:04:05 UTC"), "-")
		cmd.Stdin = strings.NewReader(Text(secret))
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if step, ok := Match(secret, strings.TrimSpace(string(out)), now); !ok || step != StepAt(now) {
			t.Errorf("oathtool's code %s of %s is not taken", out, now)
		}
	}
}

func newSealer(t *testing.T) *seal.Sealer {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	site := uuid.New()
	file, err := seal.CreateKeyFile(filepath.Join(t.TempDir(), "site.key"))
	must(err)
	public, err := file.Public(site)
	must(err)
	path := filepath.Join(t.TempDir(), "keys")
	must(seal.CreateKeyTable(path))
	table, err := seal.OpenKeyTable(path, seal.TableOptions{})
	must(err)
	t.Cleanup(func() { table.Close() })
	sealer, err := seal.NewSealer(seal.Config{Table: table, Site: public})
	must(err)
	must(sealer.Unseal(context.Background(), file))
	return sealer
}

func TestSecretsAreSealedToTheirFactor(t *testing.T) {
	ctx, sealer := context.Background(), newSealer(t)
	one, secret, err := Add(ctx, sealer)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(one.Bytes), string(secret.Bytes())) || secret.Len() != 20 {
		t.Error("the secret is not sealed")
	}
	opened, err := Open(ctx, sealer, one)
	if err != nil || string(opened.Bytes()) != string(secret.Bytes()) {
		t.Fatalf("opened %v", err)
	}
	other, _, err := Add(ctx, sealer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, sealer, Sealed{Factor: one.Factor, Bytes: other.Bytes}); !errors.Is(err, seal.ErrMismatch) {
		t.Errorf("another factor's secret: %v", err)
	}
	if err := sealer.Seal(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, sealer, one); !errors.Is(err, seal.ErrSealed) {
		t.Errorf("on a sealed site: %v", err)
	}
}

func TestURI(t *testing.T) {
	secret := seal.NewSecret([]byte("12345678901234567890"))
	u, err := url.Parse(URI("site: one & two", "ann/b?", secret))
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/site: one & two:ann/b?" {
		t.Fatalf("%v, %v", u, err)
	}
	q := u.Query()
	if b, err := base32.StdEncoding.DecodeString(q.Get("secret")); err != nil || string(b) != "12345678901234567890" {
		t.Errorf("secret %q", q.Get("secret"))
	}
	if got := fmt.Sprint(q["issuer"], q["algorithm"], q["digits"], q["period"]); got != "[site: one & two] [SHA1] [6] [30]" {
		t.Error(got)
	}
}

func TestRecoveryCodes(t *testing.T) {
	id, other := events.FactorID{UUID: uuid.New()}, events.FactorID{UUID: uuid.New()}
	codes, hashes := NewRecovery(id)
	if len(codes) != 10 || len(hashes) != 10 {
		t.Fatalf("%d codes, %d hashes", len(codes), len(hashes))
	}
	seen := map[string]bool{}
	for n, code := range codes {
		seen[code] = true
		if LooksLikeCode(code) || len(code) != 19 {
			t.Errorf("%q is no recovery code", code)
		}
		typed := strings.ToLower(strings.ReplaceAll(code, "-", " "))
		if !slices.Equal(HashRecovery(id, typed), hashes[n]) {
			t.Errorf("%q is not %q", typed, code)
		}
		if slices.Equal(HashRecovery(other, code), hashes[n]) {
			t.Error("a code is good for another factor")
		}
	}
	if len(seen) != len(codes) {
		t.Error("a code was made twice")
	}
	for typed, is := range map[string]bool{"123456": true, "123 456": true, "12345": false, "abcdef": false, "": false} {
		if LooksLikeCode(typed) != is {
			t.Errorf("LooksLikeCode(%q)", typed)
		}
	}
}

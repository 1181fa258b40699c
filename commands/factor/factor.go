// Package factor makes and checks second factors: time-based codes (RFC 6238)
// and the recovery codes that are given out beside them. What it seals goes
// into factor.enrolled events; what it opens is compared here and goes nowhere.
//
// A factor has one data key, named by the factor's id. A sealed site can open
// none, so it can check no code; recovery codes are held as hashes and need no
// key. Whether a code that is right was spent is for the commands to decide.
package factor

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6238: what every authenticator has
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// What every authenticator takes without being told (RFC 4226 section 4, RFC 6238 section 4).
const (
	Step   = 30 * time.Second // for which a code stands
	Digits = 6                // of a code
	// Window is how many steps before and after the present one a code may be of, for clocks that are not right.
	Window = 1

	secretSize = 20 // bytes: RFC 4226 section 4, R6
	modulus    = 1_000_000
)

// Sealed is a factor's secret, unreadable without its data key.
type Sealed struct {
	Factor events.FactorID
	Bytes  []byte

	Sites []uuid.UUID // that the data key was wrapped to, of a new one
}

// Add makes the secret of a new factor and seals it under a data key made for
// it, which is durable when Add returns. The caller shows the secret once and
// wipes it.
func Add(ctx context.Context, sealer *seal.Sealer) (Sealed, seal.Secret, error) {
	id, err := events.NewID()
	if err != nil {
		return Sealed{}, seal.Secret{}, err
	}
	key, err := sealer.NewKey(ctx, id)
	if err != nil {
		return Sealed{}, seal.Secret{}, fmt.Errorf("seal a second factor: %w", err)
	}
	defer key.Release()
	secret := make([]byte, secretSize)
	_, _ = rand.Read(secret) // crypto/rand does not fail: it ends the process
	sealed, err := key.Seal(nil, secret, binding(id))
	if err != nil {
		clear(secret)
		return Sealed{}, seal.Secret{}, fmt.Errorf("seal a second factor: %w", err)
	}
	return Sealed{Factor: events.FactorID{UUID: id}, Bytes: sealed, Sites: key.Sites()}, seal.NewSecret(secret), nil
}

// Open gives the secret in the clear, for the caller to use and wipe. Errors
// are those of [seal.Sealer] and [seal.DataKey].
func Open(ctx context.Context, sealer *seal.Sealer, s Sealed) (seal.Secret, error) {
	key, err := sealer.Key(ctx, s.Factor.UUID)
	if err != nil {
		return seal.Secret{}, fmt.Errorf("open second factor %s: %w", s.Factor, err)
	}
	defer key.Release()
	b, err := key.Open(s.Bytes, binding(s.Factor.UUID))
	if err != nil {
		return seal.Secret{}, fmt.Errorf("open second factor %s: %w", s.Factor, err)
	}
	return seal.NewSecret(b), nil
}

func binding(id uuid.UUID) seal.Binding { return seal.Binding{Purpose: "factor.secret", ID: id} }

// StepAt is the step that a time lies in: RFC 6238 section 4.2.
func StepAt(now time.Time) uint64 {
	return uint64(max(now.Unix(), 0)) / uint64(Step/time.Second) //nolint:gosec // not negative
}

// Near reports whether codes of a step are taken at a time.
func Near(step uint64, now time.Time) bool {
	at := StepAt(now)
	return step+Window >= at && step <= at+Window
}

// Match finds the step near a time whose code it is. Blanks in the code are
// passed over, since authenticators show them. It takes as long whether and
// where the code is right.
func Match(secret seal.Secret, code string, now time.Time) (step uint64, ok bool) {
	given := []byte(strings.ReplaceAll(code, " ", ""))
	found := 0
	at := StepAt(now)
	for s := at - min(at, Window); s <= at+Window; s++ {
		same := subtle.ConstantTimeCompare(given, codeOf(secret, s))
		step = uint64(subtle.ConstantTimeSelect(same, int(s), int(step))) //nolint:gosec // steps of this century
		found |= same
	}
	return step, found == 1
}

// codeOf is the HOTP value of RFC 4226 section 5.3 for a step.
func codeOf(secret seal.Secret, step uint64) []byte {
	mac := hmac.New(sha1.New, secret.Bytes())
	mac.Write(binary.BigEndian.AppendUint64(nil, step))
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0x0f
	value := binary.BigEndian.Uint32(sum[at:]) & 0x7fff_ffff
	return fmt.Appendf(nil, "%0*d", Digits, value%modulus)
}

// LooksLikeCode reports whether what was typed can be a code, and not a
// recovery code.
func LooksLikeCode(typed string) bool {
	typed = strings.ReplaceAll(typed, " ", "")
	return len(typed) == Digits && strings.Trim(typed, "0123456789") == ""
}

var letters = base32.StdEncoding.WithPadding(base32.NoPadding)

// Text is the secret as authenticators take it when it is typed: base32.
func Text(secret seal.Secret) string { return letters.EncodeToString(secret.Bytes()) }

// URI is the otpauth:// form that authenticators read as a picture. issuer and
// user are what they show.
func URI(issuer, user string, secret seal.Secret) string {
	label := url.PathEscape(issuer) + ":" + url.PathEscape(user)
	return "otpauth://totp/" + label + "?secret=" + Text(secret) + "&issuer=" + url.QueryEscape(issuer) +
		fmt.Sprintf("&algorithm=SHA1&digits=%d&period=%d", Digits, Step/time.Second)
}

const (
	recoveryCodes  = 10
	recoverySize   = 10 // bytes: 80 bits, so that a hash without cost gives nothing away
	recoveryLetter = 4  // characters between dashes
)

// NewRecovery makes the recovery codes of a factor, for the caller to show
// once, and their hashes.
func NewRecovery(id events.FactorID) (codes []string, hashes [][]byte) {
	for range recoveryCodes {
		b := make([]byte, recoverySize)
		_, _ = rand.Read(b)
		text := letters.EncodeToString(b)
		clear(b)
		var parts []string
		for at := 0; at < len(text); at += recoveryLetter {
			parts = append(parts, text[at:at+recoveryLetter])
		}
		code := strings.Join(parts, "-")
		codes, hashes = append(codes, code), append(hashes, HashRecovery(id, code))
	}
	return codes, hashes
}

// HashRecovery is what is stored of a recovery code. Case, blanks and dashes
// don't matter, nor does 0 for O or 1 for I, which base32 doesn't have.
func HashRecovery(id events.FactorID, typed string) []byte {
	clean := strings.NewReplacer(" ", "", "-", "", "0", "O", "1", "I").Replace(strings.ToUpper(typed))
	h := sha256.New()
	h.Write([]byte("holdfast recovery code\x00"))
	h.Write(id.UUID[:])
	h.Write([]byte(clean))
	return h.Sum(nil)
}

package mesh

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
)

// ErrNotVouched says that a site's identity did not sign for the key of a log.
var ErrNotVouched = errors.New("key of a log is not vouched for by its site")

// voucherText is what an identity signs: it names the log and its key, and
// cannot be taken for anything else that the identity signs.
func voucherText(o events.Origin, key string) []byte {
	return []byte("holdfast voucher 1\n" + evidence.OriginLine(o) + "\n" + key + "\n")
}

// Vouch introduces one of a site's logs under the site's identity. Each epoch
// has a key of its own; the identity is what site.admitted pins, so others
// accept a new epoch without asking anybody.
func Vouch(identity ed25519.PrivateKey, o events.Origin, key string) Key {
	return Key{Origin: o, Key: key, Voucher: ed25519.Sign(identity, voucherText(o, key))}
}

// CheckVoucher reports whether an identity signed for the key of a log.
func CheckVoucher(identity []byte, k Key) error {
	if len(identity) != ed25519.PublicKeySize || !ed25519.Verify(identity, voucherText(k.Origin, k.Key), k.Voucher) {
		return fmt.Errorf("%w: %s", ErrNotVouched, k.Origin)
	}
	return nil
}

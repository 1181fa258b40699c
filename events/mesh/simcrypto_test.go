package mesh_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/mesh"
)

// The simulation signs with a keyed hash, which is a hundred times cheaper than
// Ed25519 and as good here: nobody but simKeys knows the secrets, and a site
// signs only with keys that its own disk holds.
type simKeys struct{ trusting, unvouched bool }

const noteSize = 16 + 4 + 1 + 8 + 32 + 32

func simSecret(name string) [32]byte { return sha256.Sum256([]byte("secret of " + name)) }

func simMAC(name string, text []byte) [32]byte {
	secret := simSecret(name)
	h := sha256.New()
	h.Write(secret[:])
	h.Write(text)
	return [32]byte(h.Sum(nil))
}

func simNote(key string, o events.Origin, size uint64, root events.Hash) []byte {
	b := make([]byte, 0, noteSize)
	b = append(b, o.Site.UUID[:]...)
	b = binary.BigEndian.AppendUint32(b, o.Epoch)
	b = append(b, o.Kind[0])
	b = binary.BigEndian.AppendUint64(b, size)
	b = append(b, root[:]...)
	mac := simMAC(key, b)
	return append(b, mac[:]...)
}

func (k simKeys) open(note []byte, key string) (evidence.Head, error) {
	if len(note) != noteSize {
		return evidence.Head{}, fmt.Errorf("%w: %d bytes", evidence.ErrBadHead, len(note))
	}
	text, mac := note[:noteSize-32], [32]byte(note[noteSize-32:])
	if mac != simMAC(key, text) && !k.trusting {
		return evidence.Head{}, fmt.Errorf("%w: signature", evidence.ErrBadHead)
	}
	kind := events.Ctl
	if text[20] == 'r' {
		kind = events.Rec
	}
	return evidence.Head{
		Origin: events.Origin{Site: events.SiteID{UUID: uuid.UUID(text[:16])}, Epoch: binary.BigEndian.Uint32(text[16:]), Kind: kind},
		Size:   binary.BigEndian.Uint64(text[21:]),
		Root:   events.Hash(text[29:]),
		Note:   note,
	}, nil
}

// simKey makes a log key under a site's identity.
func simKey(identity []byte, o events.Origin, nonce uint64) mesh.Key {
	key := fmt.Sprintf("%s#%d", o, nonce)
	mac := simMAC(string(identity), []byte(key))
	return mesh.Key{Origin: o, Key: key, Voucher: mac[:]}
}

var errNotVouched = errors.New("not vouched for")

func (k simKeys) vouched(identity []byte, key mesh.Key) error {
	if mac := simMAC(string(identity), []byte(key.Key)); string(mac[:]) != string(key.Voucher) && !k.unvouched {
		return errNotVouched
	}
	return nil
}

func (k simKeys) crypto(sign func(events.Origin, uint64, events.Hash) (evidence.Head, error)) mesh.Crypto {
	return mesh.Crypto{Open: k.open, Vouched: k.vouched, Sign: sign}
}

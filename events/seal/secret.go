package seal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret holds bytes that must not be printed, logged or stored in the clear:
// passwords, private keys, data keys. Every printing verb and text encoder
// writes "[redacted]"; binary encoders (CBOR, gob) get an error.
//
// It is two pointers away from its bytes, because fmt can't call methods on
// unexported fields, and prints there what a slice holds and, for verbs that do
// not fit, what one pointer points to.
// Copies share the same bytes, so one Wipe ends all of them. The zero value is
// an empty secret.
type Secret struct{ box *secretBox }

type secretBox struct{ bytes *[]byte }

// NewSecret takes ownership of b: the caller must not use b afterwards.
func NewSecret(b []byte) Secret { return Secret{box: &secretBox{bytes: &b}} }

// Bytes reveals the secret. The slice is the secret's own memory: it is valid
// until Wipe and must not be kept, appended to or turned into a string that
// outlives the use.
func (s Secret) Bytes() []byte {
	if s.box == nil {
		return nil
	}
	return *s.box.bytes
}

// Len is the number of bytes held, 0 after Wipe.
func (s Secret) Len() int { return len(s.Bytes()) }

// Wipe overwrites the bytes with zeros and forgets them, in all copies.
// Copies that the runtime or a library made are out of its reach.
func (s Secret) Wipe() {
	if s.box == nil {
		return
	}
	clear(*s.box.bytes)
	*s.box.bytes = nil
}

// String returns "[redacted]".
func (s Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (s Secret) GoString() string { return redacted }

// Format writes "[redacted]" for every verb and flag.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]"; JSON and YAML encoders use it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalBinary always fails, so that no encoder of stored bytes can take a
// secret in the clear or silently store nothing in its place.
func (s Secret) MarshalBinary() ([]byte, error) {
	return nil, errors.New("encode a secret: it may not be stored in the clear; seal it with a data key")
}

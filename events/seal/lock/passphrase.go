package lock

import (
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/holdfast-pam/holdfast/events/seal"
)

// Argon2id are the parameters of one stretching (RFC 9106), stored beside what
// it locks.
type Argon2id struct {
	Passes  uint32 `json:"passes"`
	Memory  uint32 `json:"memory"` // KiB
	Threads uint8  `json:"threads"`
}

const (
	// MinPassphrase is the least length of a passphrase, in characters. MaxPassphrase
	// is the greatest, in bytes.
	MinPassphrase = 12
	MaxPassphrase = 1024

	// The floor is what RFC 9106 section 4 recommends second: 64 MiB, three passes.
	leastMemory = 64 << 10 // KiB
	leastPasses = 3
	mostMemory  = 4 << 20
	mostPasses  = 1 << 10

	// guess is how long one guess should take on the machine that locked the key.
	guess = 500 * time.Millisecond
)

// ByPassphrase locks a key's scalar under a passphrase, with the given parameters
// (see Calibrate).
func ByPassphrase(at For, scalar, passphrase seal.Secret, cost Argon2id) (*Lock, error) {
	if err := checkNewPassphrase(passphrase.Bytes()); err != nil {
		return nil, err
	}
	l := &Lock{Passphrase: &cost, Salt: make([]byte, 16)}
	_, _ = rand.Read(l.Salt)
	stretched := l.stretch(passphrase)
	defer stretched.Wipe()
	return l, l.closeSalted(at, scalar, stretched.Bytes())
}

// OpenPassphrase opens what ByPassphrase made: ErrWrong for another passphrase.
func (l *Lock) OpenPassphrase(at For, passphrase seal.Secret) (*seal.PrivateKey, error) {
	p := l.Passphrase
	switch {
	case p == nil:
		return nil, errors.New("this key is not locked by a passphrase")
	case p.Passes < 1 || p.Passes > mostPasses || p.Memory < 8 || p.Memory > mostMemory || p.Threads < 1:
		return nil, fmt.Errorf("the stored argon2id parameters are out of range: %d passes over %d KiB by %d threads", p.Passes, p.Memory, p.Threads)
	case passphrase.Len() == 0 || passphrase.Len() > MaxPassphrase:
		return nil, ErrWrong
	}
	stretched := l.stretch(passphrase)
	defer stretched.Wipe()
	return l.open(at, stretched.Bytes())
}

func checkNewPassphrase(b []byte) error {
	switch {
	case utf8.RuneCount(b) < MinPassphrase:
		return fmt.Errorf("the passphrase has less than %d characters; use several words", MinPassphrase)
	case len(b) > MaxPassphrase:
		return fmt.Errorf("the passphrase has more than %d bytes", MaxPassphrase)
	}
	return nil
}

// stretch gives the memory that it used back to the system, and with it what it
// held of the passphrase.
func (l *Lock) stretch(passphrase seal.Secret) seal.Secret {
	p := l.Passphrase
	defer debug.FreeOSMemory()
	return seal.NewSecret(argon2.IDKey(passphrase.Bytes(), l.Salt, p.Passes, p.Memory, p.Threads, 32))
}

// Calibrate finds parameters that make a guess take half a second on this
// machine, and never less than RFC 9106 recommends.
func Calibrate() Argon2id {
	p := Argon2id{Passes: leastPasses, Memory: leastMemory, Threads: uint8(min(4, runtime.NumCPU()))} //nolint:gosec // at most 4
	began := time.Now()
	argon2.IDKey([]byte("calibrate"), make([]byte, 16), p.Passes, p.Memory, p.Threads, 32)
	if one := time.Since(began) / leastPasses; one > 0 {
		p.Passes = uint32(max(leastPasses, min(int64(guess/one), 64))) //nolint:gosec // 3 to 64
	}
	return p
}

package rotator

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// The classes of characters. All are printable ASCII. Symbols leaves out
// everything that a shell, a URL, a connection string, a configuration file or a
// directory's filter takes for more than text: no quote, backslash, space, $, `,
// %, &, ;, |, <, >, #, !, :, /, @, =, *, ?, (, ), [, ], {, }, ~, or comma.
const (
	Lower   = "abcdefghijklmnopqrstuvwxyz"
	Upper   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	Digits  = "0123456789"
	Symbols = "+-._^"
)

// MinEntropy is the least that a generated password may be worth, in bits.
const MinEntropy = 80

// Policy is what a target demands of a password.
type Policy struct {
	Length    int      // characters
	Classes   []string // sets of characters; one of each at least
	Forbidden string   // characters that must not occur
}

// maxLengths are the longest passwords that targets tell apart; longer ones are
// cut or refused there.
var maxLengths = map[events.TargetKind]int{events.SSH: 255, events.Postgres: 255, events.MySQL: 79, events.LDAP: 127, events.Exec: 255}

// DefaultPolicy is what holds for a kind of target where nobody says more: about
// 180 bits, and something of each class, which Active Directory and PAM modules
// demand.
func DefaultPolicy(events.TargetKind) Policy {
	return Policy{Length: 30, Classes: []string{Lower, Upper, Digits, Symbols}}
}

// alphabets are the classes without what is forbidden.
func (p Policy) alphabets() (classes []string, all string) {
	for _, class := range p.Classes {
		left := strings.Map(func(r rune) rune {
			if strings.ContainsRune(p.Forbidden, r) {
				return -1
			}
			return r
		}, class)
		classes = append(classes, left)
		all += strings.Map(func(r rune) rune {
			if strings.ContainsRune(all, r) {
				return -1
			}
			return r
		}, left)
	}
	return classes, all
}

// Check refuses a policy that can't be met on the kind of target, or whose
// passwords would be worth less than [MinEntropy].
func (p Policy) Check(kind events.TargetKind) error {
	classes, all := p.alphabets()
	limit := maxLengths[kind]
	switch {
	case limit == 0:
		return fmt.Errorf("%q is not a kind of target", kind)
	case p.Length > limit:
		return fmt.Errorf("a password on a %s target has at most %d characters, not %d", kind, limit, p.Length)
	case len(classes) == 0 || slices.Contains(classes, ""):
		return errors.New("a class of characters is empty, or all of it is forbidden")
	case p.Length < len(classes):
		return fmt.Errorf("%d characters are too few for one of each of %d classes", p.Length, len(classes))
	}
	for _, r := range all {
		if r <= ' ' || r > '~' {
			return fmt.Errorf("%q can't be in a password: printable ASCII only, no space", r)
		}
	}
	if bits := p.entropy(); bits < MinEntropy {
		return fmt.Errorf("passwords of %d characters out of %d are worth %.0f bits, less than %d; make them longer", p.Length, len(all), bits, MinEntropy)
	}
	return nil
}

// entropy is a lower bound, in bits: one character of each class costs what it
// lacks of a free choice, and their order is not counted.
func (p Policy) entropy() float64 {
	classes, all := p.alphabets()
	bits := float64(p.Length-len(classes)) * math.Log2(float64(len(all)))
	for _, c := range classes {
		bits += math.Log2(float64(len(c)))
	}
	return bits
}

// NewPassword makes a password that meets the policy: one character of each
// class, the rest out of all, in random order. It begins with a letter or digit
// where the policy has one, since programs take a leading - for an option.
func NewPassword(kind events.TargetKind, p Policy) (Secret, error) {
	if err := p.Check(kind); err != nil {
		return Secret{}, err
	}
	classes, all := p.alphabets()
	b := make([]byte, 0, p.Length)
	for _, class := range classes {
		b = append(b, class[below(len(class))])
	}
	for len(b) < p.Length {
		b = append(b, all[below(len(all))])
	}
	for i := len(b) - 1; i > 0; i-- {
		j := below(i + 1)
		b[i], b[j] = b[j], b[i]
	}
	if plain := slices.IndexFunc(b, func(c byte) bool { return strings.IndexByte(Lower+Upper+Digits, c) >= 0 }); plain > 0 {
		b[0], b[plain] = b[plain], b[0]
	}
	return Secret{Kind: events.Password, Bytes: seal.NewSecret(b)}, nil
}

// below is a random number from 0 to n-1, each as likely as the others.
func below(n int) int {
	i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		panic(err) // crypto/rand never fails (it ends the program)
	}
	return int(i.Int64())
}

// KeyType is a sort of SSH key.
type KeyType string

// The sorts of keys that are made.
const (
	Ed25519 KeyType = "ed25519"
	RSA     KeyType = "rsa" // 3072 bits, for servers before OpenSSH 6.5
)

// rsaBits is what NIST SP 800-57 counts as 128 bits of strength.
const rsaBits = 3072

// NewKey makes an SSH key: private in OpenSSH form, without passphrase.
func NewKey(t KeyType) (Secret, error) {
	var private any
	var public any
	switch t {
	case Ed25519, "":
		pub, priv, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return Secret{}, fmt.Errorf("make a key: %w", err)
		}
		private, public = priv, pub
	case RSA:
		key, err := rsa.GenerateKey(rand.Reader, rsaBits)
		if err != nil {
			return Secret{}, fmt.Errorf("make a key: %w", err)
		}
		private, public = key, &key.PublicKey
	default:
		return Secret{}, fmt.Errorf("%q is not a type of key; use %s or %s", t, Ed25519, RSA)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return Secret{}, fmt.Errorf("encode a key: %w", err)
	}
	defer clear(block.Bytes)
	half, err := ssh.NewPublicKey(public)
	if err != nil {
		return Secret{}, fmt.Errorf("encode a key: %w", err)
	}
	return Secret{
		Kind: events.PrivateKey, Bytes: seal.NewSecret(pem.EncodeToMemory(block)),
		Public: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(half))),
	}, nil
}

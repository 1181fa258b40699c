package commands

import (
	"crypto/rsa"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

const (
	maxKeyText  = 16 << 10 // bytes
	minUserRSA  = 2048     // bits
	minHostRSA  = 1024     // bits; old targets have no better one
	maxRSA      = 16384    // bits
	maxHostKeys = 16
)

// keyTypes are the public keys that are taken.
var keyTypes = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSA,
	ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
}

// publicKey is a key as events hold it.
type publicKey struct {
	line        string // authorized_keys form without options and comment
	fingerprint string // "SHA256:..."
	comment     string // printable, bounded
}

// parseKey reads one public key in authorized_keys form.
func parseKey(text string, minRSA int) (publicKey, error) {
	text = strings.TrimSpace(text)
	if err := checkKeyText(text); err != nil {
		return publicKey{}, err
	}
	key, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		return publicKey{}, invalid("give the content of a .pub file: TYPE BASE64 [COMMENT]", "this is not a public key")
	}
	if len(options) > 0 {
		return publicKey{}, invalid("give TYPE BASE64 [COMMENT] only; what a key may do is a matter of grants",
			"the key has authorized_keys options, which would be ignored")
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return publicKey{}, invalid("give the plain public key", "this is a certificate")
	}
	if err := checkKey(key, minRSA); err != nil {
		return publicKey{}, err
	}
	return publicKey{
		line:        strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))),
		fingerprint: ssh.FingerprintSHA256(key),
		comment:     printable(comment),
	}, nil
}

func checkKeyText(text string) error {
	const hint = "give one line, the content of a .pub file"
	switch {
	case strings.Contains(text, "PRIVATE KEY"):
		return invalid(hint+"; keep the private key where it is", "this is a private key")
	case text == "":
		return invalid(hint, "the key is empty")
	case len(text) > maxKeyText:
		return invalid(hint, "the key has %d bytes, the limit is %d", len(text), maxKeyText)
	case strings.ContainsAny(text, "\r\n"):
		return invalid(hint, "there is more than one line")
	case strings.HasPrefix(text, "ssh-dss"):
		return invalid("make a new one: ssh-keygen -t ed25519", "DSA keys are not safe any more")
	}
	return nil
}

func checkKey(key ssh.PublicKey, minRSA int) error {
	const hint = "make a new one: ssh-keygen -t ed25519"
	if !slices.Contains(keyTypes, key.Type()) {
		return invalid(hint, "keys of type %s are not taken", quoted(key.Type()))
	}
	if key.Type() != ssh.KeyAlgoRSA {
		return nil
	}
	crypto, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return invalid(hint, "the RSA key can't be measured")
	}
	k, ok := crypto.CryptoPublicKey().(*rsa.PublicKey)
	if !ok || k.N.BitLen() < minRSA || k.N.BitLen() > maxRSA {
		return invalid(hint, "RSA keys must have %d to %d bits", minRSA, maxRSA)
	}
	return nil
}

// parseHostKeys reads the keys that a target may prove.
func parseHostKeys(texts []string) ([]string, error) {
	if len(texts) == 0 || len(texts) > maxHostKeys {
		return nil, invalid("give the target's public host key, or have it scanned",
			"a target needs 1 to %d host keys, not %d", maxHostKeys, len(texts))
	}
	var lines []string
	for _, text := range texts {
		key, err := parseKey(text, minHostRSA)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(lines, key.line) {
			lines = append(lines, key.line)
		}
	}
	return lines, nil
}

// printable keeps what can be shown of a comment.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unprintable(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	return bounded(s, maxText)
}

package erasure_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"strings"

	"golang.org/x/crypto/ssh"
)

// key makes the public key of a name, always the same one.
func key(name string) string {
	seed := sha256.Sum256([]byte(name))
	public, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(seed[:]).Public())
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
}

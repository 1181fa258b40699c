package commands

import (
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RevokeCertificate takes some certificates of an authority out of use, for
// good: by serial number, by key id or by the certified key; one of them.
type RevokeCertificate struct {
	CA     string // name or id
	Serial uint64
	KeyID  string
	Key    string // authorized_keys form, a certificate too, or "SHA256:..."
	Reason string
}

var _ = register[RevokeCertificate]("RevokeCertificate", byAdmin|headroom)

// Decide refuses a revocation that stands.
func (c RevokeCertificate) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := checkText("reason", c.Reason); err != nil {
		return nil, err
	}
	if err := checkText("key id", c.KeyID); err != nil {
		return nil, err
	}
	given := 0
	for _, is := range []bool{c.Serial != 0, c.KeyID != "", c.Key != ""} {
		if is {
			given++
		}
	}
	if given != 1 {
		return nil, invalid("give a serial number other than 0, a key id or a key", "what is to be revoked is not one thing but %d", given)
	}
	fingerprint, err := certifiedKey(c.Key)
	if err != nil {
		return nil, err
	}
	a, err := findCA(s, c.CA)
	if err != nil {
		return nil, err
	}
	e := events.CertificateRevoked{Serial: c.Serial, KeyID: c.KeyID, Fingerprint: fingerprint, Reason: c.Reason}
	if a.HasRevoked(e) {
		return nil, conflict("", "user-ca %s has revoked it", a.Name)
	}
	d := newDecision(by, env)
	d.add(a.ID.UUID, e)
	return d.done()
}

// certifiedKey gives the fingerprint of a key that is written as one, as its
// text, or with a certificate around it. Empty stays empty.
func certifiedKey(text string) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" || len(text) == len("SHA256:")+43 && strings.HasPrefix(text, "SHA256:") && !strings.ContainsFunc(text, unprintable) {
		return text, nil
	}
	if err := checkKeyText(text); err != nil {
		return "", err
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		return "", invalid("give the content of a .pub file, or SHA256:...", "this is neither a public key nor a fingerprint")
	}
	if cert, ok := key.(*ssh.Certificate); ok {
		key = cert.Key
	}
	return ssh.FingerprintSHA256(key), nil
}

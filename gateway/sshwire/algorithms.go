package sshwire

import (
	"slices"

	"golang.org/x/crypto/ssh"
)

// Preference lists. What is not here can only be had by naming it in a Config.
var (
	defaultKeyExchanges = []string{
		"mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256",
	}
	defaultCiphers = []string{
		"aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com",
		"aes128-ctr", "aes192-ctr", "aes256-ctr",
	}
	defaultMACs = []string{
		"hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512",
	}
	defaultHostKeyAlgorithms = []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
	}
	gcmCiphers = []string{"aes128-gcm@openssh.com", "aes256-gcm@openssh.com"}
	nistCurves = []string{"ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521"}
)

// Names that ride in the list of key exchanges of the first KEXINIT without being one.
const (
	strictClient  = "kex-strict-c-v00@openssh.com" // OpenSSH PROTOCOL section 1.9
	strictServer  = "kex-strict-s-v00@openssh.com"
	extInfoClient = "ext-info-c" // RFC 8308 section 2.1
)

// signatureScheme tells how one public key algorithm name of the wire is made: of which key format, signed how.
// RFC 4253 section 6.6, RFC 5656, RFC 8332, RFC 8709, OpenSSH PROTOCOL.certkeys and PROTOCOL.u2f.
type signatureScheme struct {
	keyFormat string // as in the key blob and ssh.PublicKey.Type
	signature string // as in the signature blob
}

var signatureSchemes = map[string]signatureScheme{
	ssh.KeyAlgoED25519:     {ssh.KeyAlgoED25519, ssh.KeyAlgoED25519},
	ssh.KeyAlgoECDSA256:    {ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA256},
	ssh.KeyAlgoECDSA384:    {ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA384},
	ssh.KeyAlgoECDSA521:    {ssh.KeyAlgoECDSA521, ssh.KeyAlgoECDSA521},
	ssh.KeyAlgoSKED25519:   {ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKED25519},
	ssh.KeyAlgoSKECDSA256:  {ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoSKECDSA256},
	ssh.KeyAlgoRSASHA512:   {ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA512},
	ssh.KeyAlgoRSASHA256:   {ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA256},
	ssh.KeyAlgoRSA:         {ssh.KeyAlgoRSA, ssh.KeyAlgoRSA}, // SHA-1: only where a Config names it
	ssh.CertAlgoED25519v01: {ssh.CertAlgoED25519v01, ssh.KeyAlgoED25519},
	ssh.CertAlgoECDSA256v01: {
		ssh.CertAlgoECDSA256v01, ssh.KeyAlgoECDSA256},
	ssh.CertAlgoECDSA384v01: {
		ssh.CertAlgoECDSA384v01, ssh.KeyAlgoECDSA384},
	ssh.CertAlgoECDSA521v01: {
		ssh.CertAlgoECDSA521v01, ssh.KeyAlgoECDSA521},
	ssh.CertAlgoSKED25519v01: {
		ssh.CertAlgoSKED25519v01, ssh.KeyAlgoSKED25519},
	ssh.CertAlgoSKECDSA256v01: {
		ssh.CertAlgoSKECDSA256v01, ssh.KeyAlgoSKECDSA256},
	ssh.CertAlgoRSASHA512v01: {ssh.CertAlgoRSAv01, ssh.KeyAlgoRSASHA512},
	ssh.CertAlgoRSASHA256v01: {ssh.CertAlgoRSAv01, ssh.KeyAlgoRSASHA256},
}

// userSignatures is announced in server-sig-algs and is all that a user may sign with.
var userSignatures = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
}

// schemesOf lists the algorithm names that a signer can serve, best first, without SHA-1.
func schemesOf(s ssh.Signer) []string {
	format := s.PublicKey().Type()
	var names []string
	switch format {
	case ssh.KeyAlgoRSA:
		names = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	case ssh.CertAlgoRSAv01:
		names = []string{ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01}
	default:
		if _, ok := signatureSchemes[format]; ok {
			names = []string{format}
		}
	}
	able, restricted := s.(ssh.MultiAlgorithmSigner)
	if !restricted {
		return names
	}
	return slices.DeleteFunc(names, func(n string) bool {
		return !slices.Contains(able.Algorithms(), signatureSchemes[n].signature)
	})
}

// Algorithms names what a connection has agreed on.
type Algorithms struct {
	KeyExchange string
	HostKey     string
	In, Out     DirectionAlgorithms
	Strict      bool // strict key exchange is in force
}

// DirectionAlgorithms names the protection of one direction. MAC is empty where the cipher authenticates.
type DirectionAlgorithms struct {
	Cipher string
	MAC    string
}

// first gives the first of the client's names that the server has too: RFC 4253 section 7.1.
func first(client, server []string) (string, bool) {
	for _, n := range client {
		if slices.Contains(server, n) {
			return n, true
		}
	}
	return "", false
}

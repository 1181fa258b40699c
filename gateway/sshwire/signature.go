package sshwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"
)

// sign signs data as scheme says, a name of the signature blob such as rsa-sha2-512.
func sign(s ssh.Signer, random io.Reader, data []byte, scheme string) (*ssh.Signature, error) {
	if able, ok := s.(ssh.AlgorithmSigner); ok {
		return able.SignWithAlgorithm(random, data, scheme)
	}
	sig, err := s.Sign(random, data)
	if err == nil && sig.Format != scheme {
		return nil, fmt.Errorf("signer can only sign as %s, not as %s", sig.Format, scheme)
	}
	return sig, err
}

// verify checks that blob is a public key (or certificate) of the algorithm agreed on, and that it made signature over
// data in that algorithm's way. Whether the key is to be trusted is not its business.
func verify(blob []byte, algorithm string, data, signature []byte) (ssh.PublicKey, error) {
	key, scheme, err := parseKey(blob, algorithm)
	if err != nil {
		return nil, err
	}
	var sig ssh.Signature
	if err := ssh.Unmarshal(signature, &sig); err != nil {
		return nil, malformed("signature", "cut short")
	}
	if sig.Format != scheme.signature {
		return nil, fmt.Errorf("signature is %q; %s needs %q", sig.Format, algorithm, scheme.signature)
	}
	if err := key.Verify(data, &sig); err != nil {
		return nil, errors.New("signature does not verify")
	}
	return key, nil
}

// parseKey reads a key blob that is to be used with algorithm.
func parseKey(blob []byte, algorithm string) (ssh.PublicKey, signatureScheme, error) {
	scheme, ok := signatureSchemes[algorithm]
	if !ok {
		return nil, scheme, fmt.Errorf("unknown public key algorithm %q", algorithm)
	}
	key, err := ssh.ParsePublicKey(bytes.Clone(blob)) // keys point into their blob, and this one is a read buffer's
	if err != nil {
		return nil, scheme, fmt.Errorf("public key: %w", err)
	}
	if key.Type() != scheme.keyFormat {
		return nil, scheme, fmt.Errorf("public key is %q; %s needs %q", key.Type(), algorithm, scheme.keyFormat)
	}
	return key, scheme, nil
}

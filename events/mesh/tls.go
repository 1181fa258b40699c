package mesh

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/holdfast-pam/holdfast/events"
)

// The protocols that are spoken on the mesh port (RFC 7301).
const (
	linkProtocol = "holdfast-mesh/1"
	joinProtocol = "holdfast-join/1"
	heldProtocol = "holdfast-held/1"
)

// ErrStranger says that the other end's key is not the one that is pinned.
var ErrStranger = errors.New("the other end does not hold the pinned key")

// certificate wraps an identity for TLS. Nothing in it counts but the key: no
// name, no date and no issuer is looked at.
func certificate(identity ed25519.PrivateKey, site events.SiteID) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: site.String()},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 section 4.1.2.5: no expiry
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, identity.Public(), identity)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the certificate of site %s: %w", site, err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: identity}, nil
}

// peerKey is the key that the other end of a connection has proven.
func peerKey(s tls.ConnectionState) (ed25519.PublicKey, error) {
	if len(s.PeerCertificates) != 1 {
		return nil, fmt.Errorf("%w: it sent %d certificates", ErrStranger, len(s.PeerCertificates))
	}
	key, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: it is not an Ed25519 key", ErrStranger)
	}
	return key, nil
}

// baseTLS is TLS 1.3 with both sides proving a key, and no resumption: every
// connection proves it anew.
func baseTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{cert},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // the key is checked below, against the pinned one; there is no authority
		SessionTicketsDisabled: true,
	}
}

// clientTLS dials who holds a key.
func clientTLS(cert tls.Certificate, protocol string, want ed25519.PublicKey) *tls.Config {
	c := baseTLS(cert)
	c.NextProtos = []string{protocol}
	c.VerifyConnection = func(s tls.ConnectionState) error {
		key, err := peerKey(s)
		if err == nil && !key.Equal(want) {
			err = fmt.Errorf("%w: it is another site, or one in between", ErrStranger)
		}
		if err == nil && s.NegotiatedProtocol != protocol {
			err = fmt.Errorf("it does not speak %s", protocol)
		}
		return err
	}
	return c
}

// serverTLS takes links from members, and whoever wants to join: a newcomer's
// key is not known yet, its invitation is looked at later.
func serverTLS(cert tls.Certificate, member func(key ed25519.PublicKey) bool) *tls.Config {
	c := baseTLS(cert)
	c.NextProtos = []string{linkProtocol, joinProtocol, heldProtocol}
	c.VerifyConnection = func(s tls.ConnectionState) error {
		key, err := peerKey(s)
		switch {
		case err != nil:
			return err
		case s.NegotiatedProtocol == joinProtocol:
			return nil
		case s.NegotiatedProtocol != linkProtocol && s.NegotiatedProtocol != heldProtocol:
			return fmt.Errorf("it speaks neither %s nor %s nor %s", linkProtocol, joinProtocol, heldProtocol)
		case !member(key):
			return fmt.Errorf("%w: no member of the mesh has it", ErrStranger)
		}
		return nil
	}
	return c
}

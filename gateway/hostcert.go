package gateway

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// hostCertLife is how long a host certificate is good. Clients look at it when they connect, so it only has to
	// outlast a slow login; a client remembers the authority and never the certificate.
	hostCertLife = time.Hour
	// hostCertSkew is how far a client's clock may be behind ours.
	hostCertSkew = 5 * time.Minute
)

// hostCertificate makes the host keys under which the gateway stands for a target towards one client: its own host key,
// certified by the site's authority for the name that the client asked for (OpenSSH PROTOCOL.certkeys), and the
// bare host keys for clients that know no certificates.
func (s *Server) hostCertificate(name string, now time.Time) ([]ssh.Signer, error) {
	host, ca := s.cfg.HostKeys[0], s.cfg.CA()
	if ca == nil {
		return nil, fmt.Errorf("make a host certificate for %s: the site has no authority for it", name)
	}
	var serial [8]byte
	if _, err := rand.Read(serial[:]); err != nil {
		return nil, fmt.Errorf("make a host certificate for %s: %w", name, err)
	}
	principals := []string{name}
	if lower := strings.ToLower(name); lower != name {
		principals = append(principals, lower) // OpenSSH compares in lower case
	}
	cert := &ssh.Certificate{
		Key: host.PublicKey(), Serial: binary.BigEndian.Uint64(serial[:]), CertType: ssh.HostCert,
		KeyId: fmt.Sprintf("holdfast %s for %s", s.cfg.Site, name), ValidPrincipals: principals,
		ValidAfter:  uint64(now.Add(-hostCertSkew).Unix()), //nolint:gosec // after 1970
		ValidBefore: uint64(now.Add(hostCertLife).Unix()),  //nolint:gosec // after 1970
	}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		return nil, fmt.Errorf("sign a host certificate for %s: %w", name, err)
	}
	signer, err := ssh.NewCertSigner(cert, host)
	if err != nil {
		return nil, fmt.Errorf("make a host certificate for %s: %w", name, err)
	}
	return append([]ssh.Signer{signer}, s.cfg.HostKeys...), nil
}

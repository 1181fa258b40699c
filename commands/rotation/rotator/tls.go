package rotator

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"github.com/holdfast-pam/holdfast/commands/targetkind"
)

// tlsConfig is how a target must prove itself, nil for a connection in the clear.
func tlsConfig(j Job) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(j.Addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", j.Addr, err)
	}
	c := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	switch mode := j.Params[targetkind.TLS]; mode {
	case targetkind.TLSDisable:
		return nil, nil
	case targetkind.TLSRequire:
		c.InsecureSkipVerify = true // what the administrator asked for
	case targetkind.TLSVerify:
		if ca := j.Params[targetkind.CA]; ca != "" {
			c.RootCAs = x509.NewCertPool()
			if !c.RootCAs.AppendCertsFromPEM([]byte(ca)) {
				return nil, errors.New("parameter ca holds no certificate that can be read")
			}
		}
	default:
		return nil, fmt.Errorf("parameter tls is %q", mode)
	}
	return c, nil
}

// verified reports whether the target has proven its name, so that it may see a
// password in the clear.
func verified(j Job) bool { return j.Params[targetkind.TLS] == targetkind.TLSVerify }
